//! Bytes from anywhere are an error or a value, never a panic, and never a value that cannot be written.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::{agent, api, generators, request};
use crate::{decode_entry, decode_record, decode_spec, encode_entry, encode_record, encode_spec, read_records};

/// Tries every decoder. What one accepts must be accepted again once written.
fn read_as_everything(bytes: &[u8]) {
    if let Ok((time, command)) = decode_entry(bytes) {
        let again = encode_entry(time, &command).expect("what was read can be written");
        assert_eq!(decode_entry(&again), Ok((time, command)));
    }
    if let Ok(record) = decode_record(bytes) {
        assert_eq!(decode_record(&encode_record(&record)), Ok(record));
    }
    if let Ok(spec) = decode_spec(bytes) {
        assert_eq!(decode_spec(&encode_spec(&spec).unwrap()), Ok(spec));
    }
    if let Ok(records) = read_records(bytes) {
        let _ = records.count();
    }
    let _ = agent::Desired::decode(bytes).map(flowyard_model::Desired::try_from);
    let _ = agent::Hello::decode(bytes).map(request::hello);
    let _ = api::SubmitRequest::decode(bytes).map(request::submission);
    let _ = api::AttemptReport::decode(bytes).map(flowyard_model::AttemptReport::try_from);
}

/// Overwrites, cuts and lengthens.
fn damage(bytes: &mut Vec<u8>, hits: &[(prop::sample::Index, u8)], cut: Option<prop::sample::Index>) {
    for (at, byte) in hits {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
}

fn hits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn a_damaged_entry_does_no_harm(
        command in generators::command(), hits in hits(), cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = encode_entry(flowyard_model::TimeMs(1), &command).unwrap();
        damage(&mut bytes, &hits, cut);
        read_as_everything(&bytes);
    }

    #[test]
    fn a_damaged_record_does_no_harm(
        record in generators::record(), hits in hits(), cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = encode_record(&record);
        damage(&mut bytes, &hits, cut);
        read_as_everything(&bytes);
    }

    #[test]
    fn a_damaged_message_does_no_harm(
        desired in generators::desired(), hits in hits(), cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = agent::Desired::from(&desired).encode_to_vec();
        damage(&mut bytes, &hits, cut);
        read_as_everything(&bytes);
    }
}
