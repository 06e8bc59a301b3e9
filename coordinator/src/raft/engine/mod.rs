//! The log on disk: what the Raft adapter stores, behind one small trait.
//!
//! Owns: the vocabulary of the log ([`Op`], [`Record`], [`Ballot`], [`LogPoint`]), the three disk engines and the memory
//! engine, group commit, the tail cache, and every check made when a log is opened.
//! Must not: know the Raft library, the replicated state, or what a payload means.
//!
//! Invariants:
//! - All writes pass one queue and one thread, in the order they were submitted; nothing overtakes.
//! - A callback runs only after the barrier that covers its operations; callbacks run in order.
//! - Between the last purged entry and the last entry there is no hole, in memory and on disk.
//! - The first failed write ends the engine. Nothing is written, and no barrier is tried, after it.

mod disk;
mod engine_error;
mod frame;
mod group_log;
mod journal_disk;
mod journal_file;
mod latency;
mod memory_log;
mod open;
mod redb_disk;
mod shadow;
mod sled_disk;
mod witness;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flowyard_telemetry::Distribution;
use flowyard_telemetry::distribution::SHORT;

pub use engine_error::{DiskError, EngineError, LogOpenError};
pub(super) use frame::is_framed;
pub use group_log::GroupLog;
pub(super) use group_log::limit_bytes;
pub use latency::BarrierLatency;
pub use memory_log::MemoryLog;
pub use open::{EngineKind, open_log};
pub(super) use witness::noted;

/// The largest payload of one entry. Larger commands are refused before they are queued.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// The largest value handed to a disk engine; longer payloads are cut into chunks of this size.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// A position in the log: with one leader per term, term and index name an entry everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPoint {
    /// The term of the leader that wrote the entry.
    pub term: u64,
    /// The position of the entry, counted from 0.
    pub index: u64,
}

/// The vote of a replica: whom it follows or stands for, and whether a quorum agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ballot {
    /// The term voted in.
    pub term: u64,
    /// The replica voted for.
    pub candidate: u64,
    /// Whether a quorum granted it.
    pub granted: bool,
}

/// One entry as the engine sees it: a position and opaque bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub point: LogPoint,
    /// What it says; at most [`ENTRY_BYTES_MAX`].
    pub payload: Bytes,
}

/// One change of the log.
#[derive(Debug, Clone)]
pub enum Op {
    /// Replaces the vote.
    PutVote(Ballot),
    /// Adds entries right after the last one.
    Append(Vec<Record>),
    /// Removes every entry after this index; all that are left of the log for `None`.
    TruncateAfter(Option<u64>),
    /// Forgets every entry up to and including this one, which may lie beyond the last entry.
    PurgeTo(LogPoint),
    /// Notes how far the log is committed. It has no barrier of its own: it becomes durable with the next batch.
    PutCommitted(Option<LogPoint>),
}

/// What the log holds, as of the last accepted submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineState {
    /// The vote, if one was ever cast.
    pub vote: Option<Ballot>,
    /// How far the log is known to be committed.
    pub committed: Option<LogPoint>,
    /// The last entry that was purged.
    pub purged: Option<LogPoint>,
    /// The last entry, or the last purged one when none is left.
    pub last: Option<LogPoint>,
}

/// Figures about a log, for operators and benches.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineStats {
    /// Bytes the engine's files take on disk.
    pub file_bytes: u64,
    /// Bytes of the payloads of the entries the log still holds.
    pub live_bytes: u64,
    /// Entries the log still holds.
    pub live_entries: u64,
    /// Batches made durable so far.
    pub batches: u64,
    /// Entries made durable so far.
    pub appended: u64,
    /// Barriers (fdatasync) issued so far; never fewer than the acknowledged batches.
    pub barriers: u64,
    /// How long recent batches took from the first write to the end of the barrier.
    pub latency: BarrierLatency,
}

impl EngineStats {
    /// Space amplification: file bytes per live byte, at least 1. Small logs are not worth an alarm.
    pub fn amplification(&self) -> u64 {
        const WORTH_LOOKING_AT_BYTES: u64 = 16 * 1024 * 1024;
        if self.file_bytes < WORTH_LOOKING_AT_BYTES { 1 } else { self.file_bytes / self.live_bytes.max(1) }
    }
}

/// Runs once the operations it was submitted with are durable, or once they can no longer become so.
pub type Callback = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

/// A log that survives its process.
pub trait LogEngine: Send + Sync + 'static {
    /// Queues `ops` as one unit and returns once they are readable; `done` runs when they are durable.
    ///
    /// An error means that nothing was queued; `done` is then dropped unrun. Waits while the queue is full, which one
    /// barrier ends.
    fn submit(&self, ops: Vec<Op>, done: Callback) -> Result<(), EngineError>;

    /// Reads the entries of `range` that the log holds, in order and without holes, from the first on until
    /// `byte_limit` is passed; at least one if there is one. It may read the disk: not for an async task.
    fn read(&self, range: Range<u64>, byte_limit: usize) -> Result<Vec<Record>, EngineError>;

    /// As [`Self::read`] without a limit, from memory only; `None` when the disk would be needed.
    fn read_recent(&self, range: Range<u64>) -> Option<Vec<Record>>;

    /// What the log holds, with everything that was submitted.
    fn state(&self) -> EngineState;

    /// The last entry of every term of which the log still holds entries, oldest first.
    fn term_ends(&self) -> Vec<LogPoint>;

    /// Figures about the log.
    fn stats(&self) -> EngineStats;

    /// How long each batch so far took until it was durable; of an engine without a disk, nothing.
    fn fsyncs(&self) -> Arc<Distribution> {
        Arc::new(Distribution::new(SHORT))
    }

    /// Makes everything queued durable and closes the files. Later submits are refused. It waits for the disk.
    fn close(&self);
}
