//! What the group commit asks of an engine's files, and the checks every opened log passes.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};

use super::engine_error::DiskError;
use super::frame::{self, Assembler, Kind};
use super::{Ballot, LogPoint, Op, Record};

/// Entries below the purge mark that one batch removes from the files at most, so that a purge never stalls a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sweep {
    pub(super) upto: u64,
    pub(super) values_max: usize,
}

/// The net effect of a run of operations, written atomically.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Everything on disk from this index on goes first; then `puts` are added.
    pub(super) truncate_from: Option<u64>,
    pub(super) puts: Vec<Record>,
    pub(super) vote: Option<Ballot>,
    pub(super) committed: Option<LogPoint>,
    pub(super) purged: Option<LogPoint>,
    /// Set when a log without any entry gets its first: where it starts.
    pub(super) start: Option<LogPoint>,
    pub(super) sweep: Option<Sweep>,
}

impl Batch {
    /// Folds one more operation in. What is folded was validated against the log before.
    pub(super) fn fold(&mut self, op: Op) {
        match op {
            Op::PutVote(ballot) => self.vote = Some(ballot),
            Op::Append(records) => self.puts.extend(records),
            Op::TruncateAfter(index) => {
                let from = index.map_or(0, |index| index + 1);
                self.puts.retain(|record| record.point.index < from);
                self.truncate_from = Some(self.truncate_from.map_or(from, |earlier| earlier.min(from)));
            }
            Op::PurgeTo(point) => {
                self.puts.retain(|record| record.point.index > point.index);
                self.purged = Some(point);
            }
            // The commit mark is taken from the shadow: only the newest one matters.
            Op::PutCommitted(_) => {}
        }
    }
}

/// Visits values in key order until it breaks.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, DiskError>;

/// An engine's files. Only the thread of the group commit writes; any thread may read.
pub(super) trait LogDisk: Send + Sync + 'static {
    /// What was read is all that was acknowledged: cleans up what the last use left, and brings the rest to the disk for good. Called
    /// once, before the first write; opening changes nothing that may be needed to find out what was lost.
    fn settle(&self) -> Result<(), DiskError> {
        Ok(())
    }
    /// Writes the batch atomically and, when `durable`, returns after the barrier. True when its sweep found no more.
    fn write(&self, batch: &Batch, durable: bool) -> Result<bool, DiskError>;
    /// Visits the values of the entries in `range`, in order.
    fn scan(&self, range: Range<u64>, visit: Visit<'_>) -> Result<(), DiskError>;
    /// Reads a value that exists once.
    fn meta(&self, kind: Kind) -> Result<Option<Vec<u8>>, DiskError>;
    /// Bytes the files take.
    fn file_bytes(&self) -> u64;
    /// Barriers issued since the files were opened.
    fn barriers(&self) -> u64;
}

/// A log read back and found whole.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) vote: Option<Ballot>,
    pub(super) committed: Option<LogPoint>,
    pub(super) purged: Option<LogPoint>,
    /// Where a log that never was purged starts.
    pub(super) start: Option<LogPoint>,
    /// Position and payload length of every live entry.
    pub(super) entries: Vec<(LogPoint, u32)>,
    /// The last of them with their payloads.
    pub(super) tail: VecDeque<Record>,
    /// Whether entries below the purge mark are still in the files.
    pub(super) unswept: bool,
}

impl Loaded {
    /// The last entry, or the last purged one.
    pub(super) fn last(&self) -> Option<LogPoint> {
        self.entries.last().map(|(point, _)| *point).or(self.purged)
    }
}

/// Reads everything once and checks it: frames, holes, terms, and that vote, purge mark, commit mark and entries agree.
pub(super) fn load(disk: &dyn LogDisk, tail_bytes_max: usize) -> Result<Loaded, DiskError> {
    let point = |kind| disk.meta(kind)?.map(|value| frame::open_point(kind, &value)).transpose();
    let mut loaded = Loaded {
        vote: disk.meta(Kind::Vote)?.map(|value| frame::open_ballot(&value)).transpose()?,
        committed: point(Kind::Committed)?,
        purged: point(Kind::Purged)?,
        start: point(Kind::Start)?,
        ..Loaded::default()
    };
    load_entries(disk, &mut loaded, tail_bytes_max)?;
    check(&loaded)?;
    if loaded.last().is_none() {
        // Truncated to nothing: the next entry says anew where the log starts.
        loaded.start = None;
    }
    Ok(loaded)
}

fn load_entries(disk: &dyn LogDisk, loaded: &mut Loaded, tail_bytes_max: usize) -> Result<(), DiskError> {
    let first_live = loaded.purged.map_or(0, |purged| purged.index + 1);
    let mut tail_bytes = 0;
    let mut assembler = Assembler::default();
    disk.scan(0..u64::MAX, &mut |key, value| {
        if frame::entry_key_parts(key)?.0 < first_live {
            loaded.unswept = true;
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(record) = assembler.push(key, value)? {
            loaded.entries.push((record.point, record.payload.len() as u32));
            tail_bytes += record.payload.len();
            loaded.tail.push_back(record);
            while tail_bytes > tail_bytes_max {
                tail_bytes -= loaded.tail.pop_front().map_or(tail_bytes, |evicted| evicted.payload.len());
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    assembler.finish()
}

fn check(loaded: &Loaded) -> Result<(), DiskError> {
    let damaged = |what: String| Err(DiskError::Damaged(what));
    let mut before = loaded.purged;
    for (point, _) in &loaded.entries {
        let expected = before.map_or(loaded.start.map(|start| start.index), |before| Some(before.index + 1));
        if expected != Some(point.index) {
            return damaged(format!("entry {} where {expected:?} was expected", point.index));
        }
        if before.is_some_and(|before| before.term > point.term) {
            return damaged(format!("the term goes back at entry {}", point.index));
        }
        before = Some(*point);
    }
    if loaded.committed.map(|committed| committed.index) > before.map(|last| last.index) {
        return damaged(format!("committed up to {:?}, but the log ends at {before:?}", loaded.committed));
    }
    match (loaded.vote, before) {
        (None, Some(last)) if last.term > 0 => damaged(format!("entries up to term {}, but no vote", last.term)),
        (Some(vote), Some(last)) if vote.term < last.term => {
            damaged(format!("vote in term {}, but an entry of term {}", vote.term, last.term))
        }
        _ => Ok(()),
    }
}

/// Reads live entries back, for replication or replay.
pub(super) fn read(disk: &dyn LogDisk, range: Range<u64>, byte_limit: usize) -> Result<Vec<Record>, DiskError> {
    let mut records = Vec::new();
    let (mut bytes, mut assembler) = (0, Assembler::default());
    disk.scan(range, &mut |key, value| {
        if let Some(record) = assembler.push(key, value)? {
            bytes += record.payload.len();
            records.push(record);
        }
        Ok(if bytes > byte_limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if bytes <= byte_limit {
        assembler.finish()?;
    }
    Ok(records)
}
