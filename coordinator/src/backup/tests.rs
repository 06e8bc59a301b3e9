//! What is written is read back, and nothing else is.

use bytes::Bytes;
use flowyard_cas::digest_bytes;
use flowyard_model::{ClusterVersion, Command};
use flowyard_proto::cluster::BackupRequest;
use flowyard_proto::peer::BackupHead;
use flowyard_state::{State, apply};

use super::*;
use crate::fixture;

fn head() -> BackupHead {
    BackupHead { cluster: "c".to_owned(), revision: 7, cluster_version: 1, ..BackupHead::default() }
}

/// A backup of an empty state, with a blob larger than one piece, an empty one, and a key.
fn written() -> Vec<u8> {
    let mut backup = BackupWriter::begin(Vec::new(), head()).unwrap();
    backup.state(&State::new().view()).unwrap();
    for blob in [Bytes::from(vec![7; PIECE_BYTES + 9]), Bytes::new()] {
        backup.blob(digest_bytes(&blob)).unwrap();
        backup.bytes(blob).unwrap();
    }
    backup.key("authority.pem", "secret".into()).unwrap();
    backup.finish(3).unwrap()
}

#[test]
fn everything_comes_back_in_order() {
    let bytes = written();
    let mut backup = BackupReader::open(bytes.as_slice()).unwrap();
    assert_eq!(backup.head(), &BackupHead { format: BACKUP_FORMAT, ..head() });
    let records = backup.state(|records| records.collect::<Result<Vec<_>, _>>()).unwrap().unwrap();
    assert_eq!(State::from_records(records).unwrap(), State::new());
    let first = backup.next_blob().unwrap().unwrap();
    assert_eq!(first.length as usize, PIECE_BYTES + 9);
    assert_eq!(backup.bytes().unwrap().map(|piece| piece.len()), Some(PIECE_BYTES));
    // The rest of it is passed over, and compared with its name all the same.
    assert_eq!(backup.next_blob().unwrap(), Some(digest_bytes(b"")));
    assert_eq!(backup.next_blob().unwrap(), None);
    assert_eq!(backup.next_key().unwrap().map(|key| key.content), Some("secret".into()));
    assert_eq!(backup.next_key().unwrap(), None);
    let summary = backup.finish().unwrap();
    assert_eq!((summary.tail.blobs, summary.tail.keys, summary.tail.lost_blobs), (2, 1, 3));
    assert_eq!(summary, verify(bytes.as_slice()).unwrap());
    assert_eq!(summary.bytes, bytes.len() as u64);
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_refused() {
    let whole = written();
    for end in (0..whole.len()).filter(|end| *end < 600 || whole.len() - end < 200 || end % 50_021 == 0) {
        let error = verify(&whole[..end]).expect_err("it lacks its end");
        let expected = matches!(error, BackupError::Cut { .. }) || end < MAGIC.len();
        assert!(expected, "cut to {end}: {error}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(matches!(verify(longer.as_slice()), Err(BackupError::Disorder { what: "bytes after its end", .. })));
}

#[test]
fn any_changed_byte_is_noticed() {
    let whole = written();
    for at in (0..whole.len()).filter(|at| *at < 600 || whole.len() - at < 200 || at % 50_021 == 0) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        assert!(verify(bytes.as_slice()).is_err(), "byte {at}");
    }
}

#[test]
fn a_newer_format_and_a_foreign_file_are_named_as_such() {
    let mut newer = written();
    newer[FORMAT_AT] = b'2';
    let told = verify(newer.as_slice()).unwrap_err().to_string();
    assert!(told.contains("a newer release of Flowyard wrote this backup (format 2;"), "{told}");
    let version = BackupHead { cluster_version: 99, ..head() };
    let bytes = BackupWriter::begin(Vec::new(), version).unwrap().finish(0).unwrap();
    assert!(matches!(verify(bytes.as_slice()), Err(BackupError::Newer { .. })));
    for foreign in [&b"PK\x03\x04 a zip file"[..], b"", b"FLOWSNAP and more"] {
        assert!(matches!(verify(foreign), Err(BackupError::NotABackup)));
    }
}

#[test]
fn parts_that_are_missing_are_missed() {
    let mut without_state = BackupWriter::begin(Vec::new(), head()).unwrap();
    without_state.blob(digest_bytes(b"")).unwrap();
    assert!(verify(without_state.finish(0).unwrap().as_slice()).is_err());
    let mut wrong = BackupWriter::begin(Vec::new(), head()).unwrap();
    wrong.state(&State::new().view()).unwrap();
    wrong.blob(digest_bytes(b"one")).unwrap();
    wrong.bytes(Bytes::from_static(b"two")).unwrap();
    assert!(matches!(verify(wrong.finish(0).unwrap().as_slice()), Err(BackupError::Blob { .. })));
}

/// A backup that a coordinator makes.
async fn made(shared: &crate::coordinator::Shared, with_log: bool, without_blobs: bool) -> Vec<u8> {
    let asked = BackupRequest { with_log, without_blobs, with_keys: false };
    let mut pieces = make(shared, asked).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.recv().await {
        bytes.extend(piece.unwrap().bytes);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_its_log_has_every_entry_whether_it_is_sealed_or_not() {
    let (coordinator, _folder) = fixture::coordinator().await;
    let shared = coordinator.shared();
    let raise = Command::RaiseVersion { version: ClusterVersion::ACCESS };
    shared.proposer.propose(&raise).await.unwrap();
    fixture::node(&coordinator, "n1").await;
    for name in ["a", "b"] {
        shared.proposer.propose(&fixture::submission(name)).await.unwrap();
        crate::sealing::seal(shared, shared.feed.view().revision().0).await.unwrap();
    }
    shared.proposer.propose(&fixture::submission("c")).await.unwrap();
    for without_blobs in [true, false] {
        let bytes = made(shared, true, without_blobs).await;
        let past = read_past(bytes.as_slice()).unwrap();
        assert_eq!((past.missing, past.summary.head.log), (0, true));
        assert!(past.stretches.len() >= 3, "two that are sealed, and what is not: {}", past.stretches.len());
        let mut state = State::new();
        for entry in past.stretches.into_iter().flat_map(|(_, _, entries)| entries) {
            apply(&mut state, entry);
        }
        assert!(state == past.state, "the log leads to another state");
        assert_eq!(past.summary, verify(bytes.as_slice()).unwrap());
        // Whoever restores it passes the log over.
        let mut backup = BackupReader::open(bytes.as_slice()).unwrap();
        backup.state(|records| records.for_each(drop)).unwrap();
        assert_eq!(backup.next_blob().unwrap().is_some(), !without_blobs);
    }
    let past = read_past(made(shared, false, true).await.as_slice()).unwrap();
    assert_eq!((past.missing, past.stretches.len()), (2, 0), "segments that the state names and the file has not");
    coordinator.shutdown().await;
}

#[test]
fn a_log_that_is_none_is_refused() {
    let mut backup = BackupWriter::begin(Vec::new(), head()).unwrap();
    backup.state(&State::new().view()).unwrap();
    let segment = Bytes::from_static(b"FYLOGSG9 and more");
    backup.log(digest_bytes(&segment), segment).unwrap();
    let bytes = backup.finish(0).unwrap();
    let told = read_past(bytes.as_slice()).unwrap_err().to_string();
    assert!(told.contains("written by a newer release"), "{told}");
}
