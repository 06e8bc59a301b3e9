//! Reading the past from a backup: the state at its revision, and what it has of the log that led there.

use std::collections::BTreeMap;
use std::io::Read;

use flowyard_model::{Digest, Entry, LogSegment, Revision};
use flowyard_proto::SnapshotError;
use flowyard_state::State;

use super::{BackupError, BackupReader, Summary};
use crate::raft::command_of;
use crate::sealing::{chain, decode};

/// What a backup says of the past.
#[derive(Debug)]
pub struct PastRead {
    /// What it is of.
    pub summary: Summary,
    /// The state at its revision.
    pub state: State,
    /// Stretches of the log without a hole: index of the first and last entry, and the commands among them.
    pub stretches: Vec<(u64, u64, Vec<Entry>)>,
    /// Segments that the state names and the file does not have.
    pub missing: u64,
}

/// Reads the state and the log of a backup; everything else is passed over, and checked all the same.
///
/// # Errors
/// What is wrong with it.
pub fn read_past(input: impl Read) -> Result<PastRead, BackupError> {
    let mut backup = BackupReader::open(input)?;
    let state = backup.state(|records| {
        let records = records.collect::<Result<Vec<_>, SnapshotError>>()?;
        State::from_records(records).map_err(|error| BackupError::Log(error.to_string()))
    })??;
    let mut sealed: BTreeMap<Digest, LogSegment> = state.segments().map(|segment| (segment.blob, *segment)).collect();
    let mut stretches = Vec::new();
    while let Some(digest) = backup.next_log()? {
        stretches.push(stretch(&backup.rest()?, sealed.remove(&digest))?);
    }
    while let Some(digest) = backup.next_blob()? {
        if let Some(segment) = sealed.remove(&digest) {
            stretches.push(stretch(&backup.rest()?, Some(segment))?);
        }
    }
    while backup.next_key()?.is_some() {}
    let summary = backup.finish()?;
    stretches.retain(|(first, last, _)| first <= last);
    stretches.sort_by_key(|(first, ..)| *first);
    Ok(PastRead { summary, state, stretches, missing: sealed.len() as u64 })
}

/// The entries of a segment; of a sealed one, its place and its chain are compared with what the state says.
fn stretch(bytes: &[u8], sealed: Option<LogSegment>) -> Result<(u64, u64, Vec<Entry>), BackupError> {
    let unusable = |why: String| BackupError::Log(why);
    let records = decode(bytes).map_err(|error| unusable(error.to_string()))?;
    let (first, last) = match (records.first(), records.last()) {
        (Some(first), Some(last)) => (first.point.index, last.point.index),
        _ => (1, 0),
    };
    if let Some(segment) = sealed
        && ((segment.first, segment.last) != (first, last)
            || segment.chain != chain(segment.before, &segment.blob.hash))
    {
        return Err(unusable(format!("the segment from entry {} on is not the one that was sealed", segment.first)));
    }
    let mut entries = Vec::with_capacity(records.len());
    for record in &records {
        let index = record.point.index;
        let Some(payload) = command_of(record).map_err(|error| unusable(format!("entry {index}: {error}")))? else {
            continue;
        };
        let read = flowyard_proto::decode_entry(&payload);
        let (time, command) = read.map_err(|error| unusable(format!("entry {index}: {error}")))?;
        entries.push(Entry { index: Revision(index), time, command });
    }
    Ok((first, last, entries))
}
