//! A snapshot is read whole or not at all.

use std::sync::LazyLock;

use flowyard_model::{ClusterVersion, JobId, Meta, NodeId, Record, Revision, TimeMs};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{SnapshotError, generators, read_records, write_records};

fn written(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert_eq!(write_records(ClusterVersion(1), records, &mut bytes).unwrap(), records.len() as u64);
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<Record>, SnapshotError> {
    read_records(bytes)?.collect()
}

static SMALL: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let meta = Meta {
        revision: Revision(9),
        time: TimeMs(1_000),
        version: ClusterVersion(1),
        next_job: JobId(3),
        next_node: NodeId(2),
        epoch: flowyard_model::Epoch(0),
    };
    vec![Record::Meta(meta), Record::Wait(JobId(2), JobId(1)), Record::Wait(JobId(2), JobId(0))]
});

proptest! {
    #[test]
    fn all_records_are_read_in_order(records in vec(generators::record(), 0..6)) {
        let bytes = written(&records);
        prop_assert_eq!(read(&bytes).unwrap(), records);
    }
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let whole = written(&SMALL);
    for at in 0..whole.len() {
        for flip in [1, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            assert!(read(&bytes).is_err(), "byte {at} was changed and nobody noticed");
        }
    }
}

#[test]
fn no_cut_goes_unnoticed() {
    let whole = written(&SMALL);
    for length in 0..whole.len() {
        match read(&whole[..length]).unwrap_err() {
            SnapshotError::NotASnapshot => assert!(length < 16),
            SnapshotError::Cut { records } => assert!(records <= 3 && length >= 16),
            other => panic!("cut at {length}: {other}"),
        }
    }
}

#[test]
fn a_record_that_was_moved_is_damage() {
    let (first, second) = (written(&SMALL[..2]), written(&[SMALL[1].clone(), SMALL[0].clone()]));
    let mut mixed = first[..16].to_vec();
    mixed.extend_from_slice(&second[16..]);
    assert!(read(&mixed).is_ok(), "the header is the same");
    let frame = 8 + crate::encode_record(&SMALL[0]).len();
    let mut swapped = first[..16].to_vec();
    swapped.extend_from_slice(&first[16 + frame..first.len() - 8]);
    swapped.extend_from_slice(&first[16..16 + frame]);
    swapped.extend_from_slice(&first[first.len() - 8..]);
    assert!(matches!(read(&swapped), Err(SnapshotError::Damaged { record: 0 })));
}

#[test]
fn a_newer_release_is_told_apart_from_damage() {
    let mut bytes = Vec::new();
    write_records(ClusterVersion(ClusterVersion::NEWEST.0 + 1), &*SMALL, &mut bytes).unwrap();
    let error = read(&bytes).unwrap_err();
    assert!(error.to_string().contains("newer release"), "{error}");
    let mut bytes = written(&SMALL);
    bytes[8] = 2;
    assert!(matches!(read(&bytes), Err(SnapshotError::Newer { format: 2, .. })));
    assert!(matches!(read(b"GIF89a and something else"), Err(SnapshotError::NotASnapshot)));
}

#[test]
fn after_an_error_there_is_nothing() {
    let bytes = written(&SMALL);
    let mut records = read_records(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(records.by_ref().filter(Result::is_ok).count(), 3);
    assert!(records.next().is_none());
}
