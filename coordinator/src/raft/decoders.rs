//! What a disk or another replica may hand to this one, read as it reads it, for tests that hand over anything.
//!
//! Each says what it made of the bytes, written down again, or nothing when it refused them. None panics.

use std::path::Path;

use bytes::Bytes;
use flowyard_proto::peer;
use prost::Message;

use super::engine::LogPoint;
use super::engine::Record;
use super::entry_record::{decode_entry, decode_head, encode_entry, encode_head};
use super::snapshot::SnapshotFolder;
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

/// The record that says whose folder it is.
pub fn home(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(super::home::rewritten(std::str::from_utf8(bytes).ok()?)?.into_bytes())
}

/// What lies beside a log and says how far it was acknowledged.
pub fn witness(bytes: &[u8]) -> Option<Vec<u8>> {
    super::engine::noted(bytes)
}

/// A folder of snapshots: how many bytes the current one makes of a machine; nothing when there is none, or it is refused.
pub fn snapshot_folder(folder: &Path) -> Option<u64> {
    let (_, file) = SnapshotFolder::open(folder).ok()?.current()?;
    let mut bytes = 0;
    let restored = file.restore(|machine| {
        bytes = std::io::copy(machine, &mut std::io::sink())?;
        Ok(())
    });
    restored.ok().map(|()| bytes)
}

/// Makes a folder of snapshots with one of a machine of these bytes, after nothing at all.
///
/// # Errors
/// When it cannot be written.
pub fn make_snapshot_folder(folder: &Path, machine: &[u8]) -> Result<(), super::SnapshotError> {
    let meta = super::types::SnapshotMeta { last_log_id: None, last_membership: Default::default() };
    SnapshotFolder::open(folder)?.write(&meta, |out| out.write_all(machine)).map(drop)
}
