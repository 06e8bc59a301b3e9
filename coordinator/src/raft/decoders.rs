//! What a disk or another replica may hand to this one, read as it reads it, for tests that hand over anything.
//!
//! Each says what it made of the bytes, written down again, or nothing when it refused them. None panics.

use bytes::Bytes;
use flowyard_proto::peer;
use prost::Message;

use super::engine::LogPoint;
use super::engine::Record;
use super::entry_record::{decode_entry, decode_head, encode_entry, encode_head};
use super::wire;

/// An entry of the log.
pub fn entry(bytes: &[u8]) -> Option<Vec<u8>> {
    let record = Record { point: LogPoint { term: 1, index: 1 }, payload: Bytes::copy_from_slice(bytes) };
    Some(encode_entry(decode_entry(record).ok()?).payload.to_vec())
}

/// The head of a snapshot.
pub fn snapshot_head(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(encode_head(&decode_head(bytes).ok()?))
}

/// Entries that a leader sends.
pub fn append(bytes: &[u8]) -> Option<Vec<u8>> {
    let request = wire::append_of::<()>(peer::AppendRequest::decode(bytes).ok()?).ok()?;
    Some(wire::append_to_wire::<()>(None, request).encode_to_vec())
}

/// A call for a vote, an answer to it, or a leadership handed over.
pub fn ballot(bytes: &[u8]) -> Option<Vec<u8>> {
    if let Ok(reply) = peer::VoteReply::decode(bytes) {
        let _ = wire::vote_reply_of::<()>(reply).map(|reply| wire::vote_reply_to_wire::<()>(&reply));
    }
    if let Ok(request) = peer::TransferRequest::decode(bytes) {
        let _ = wire::transfer_of::<()>(request).map(|request| wire::transfer_to_wire::<()>(None, &request));
    }
    if let Ok(reply) = peer::AppendReply::decode(bytes) {
        let _ = wire::append_reply_of::<()>(reply).map(|reply| wire::append_reply_to_wire::<()>(&reply));
    }
    let request = wire::vote_request_of::<()>(peer::VoteRequest::decode(bytes).ok()?).ok()?;
    Some(wire::vote_request_to_wire::<()>(None, &request).encode_to_vec())
}

/// A value of the log in its frame, under the key of entry 7; and as a vote.
pub fn framed(bytes: &[u8]) -> bool {
    super::engine::is_framed(bytes)
}
