//! The Raft library's view of the log: its calls turned into operations of a [`LogEngine`].

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::engine::{Ballot, EngineError, LogEngine, Op, Record, limit_bytes};
use super::entry_record::{decode_entry, encode_entry};
use super::types::{Entry, LeaderId, LogId, Types, Vote, log_id, log_point};

/// Payload bytes handed out for one replication message.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Log, vote and commit mark of one replica; every clone is a reader of the same.
pub(super) struct LogStore<R> {
    engine: Arc<dyn LogEngine>,
    replies: PhantomData<fn() -> R>,
}

impl<R> Clone for LogStore<R> {
    fn clone(&self) -> Self {
        Self::new(self.engine.clone())
    }
}

impl<R> LogStore<R> {
    pub(super) fn new(engine: Arc<dyn LogEngine>) -> Self {
        Self { engine, replies: PhantomData }
    }

    /// Submits and waits for the barrier.
    async fn settle(&self, op: Op) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        let callback = Box::new(move |result| {
            // The waiter may be gone; the operation is durable all the same.
            let _ = done.send(result);
        });
        self.engine.submit(vec![op], callback).map_err(io_error)?;
        durable.await.map_err(|_| io_error(EngineError::Closed))?.map_err(io_error)
    }

    /// Reads from memory, or from the disk on a thread that may block.
    async fn read(&self, range: Range<u64>, byte_limit: usize) -> io::Result<Vec<Record>> {
        if let Some(mut records) = self.engine.read_recent(range.clone()) {
            limit_bytes(&mut records, byte_limit);
            return Ok(records);
        }
        let engine = self.engine.clone();
        let read = tokio::task::spawn_blocking(move || engine.read(range, byte_limit)).await;
        read.map_err(io::Error::other)?.map_err(io_error)
    }
}

fn io_error(error: EngineError) -> io::Error {
    io::Error::other(error)
}

fn decode(records: Vec<Record>) -> io::Result<Vec<Entry>> {
    let undecodable = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    records.into_iter().map(|record| decode_entry(record).map_err(undecodable)).collect()
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn vote_of(ballot: Ballot) -> Vote {
    Vote { leader_id: LeaderId { term: ballot.term, voted_for: ballot.candidate }, committed: ballot.granted }
}

impl<R: Send + Sync + 'static> RaftLogReader<Types<R>> for LogStore<R> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        decode(self.read(half_open(&range), usize::MAX).await?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        decode(self.read(start..end, READ_BYTES_MAX).await?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.engine.state().vote.map(vote_of))
    }

    /// The last entry of each leader: the library reads it so, though its documentation speaks of the first.
    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> Result<Vec<LogId>, io::Error> {
        let (first, last) = (range.start().index(), range.end().index());
        let ends = self.engine.term_ends().into_iter().filter(|end| end.index >= first && end.index < last);
        let mut key_ids: Vec<LogId> = ends.map(log_id).collect();
        key_ids.push(*range.end());
        Ok(key_ids)
    }
}

impl<R: Send + Sync + 'static> RaftLogStorage<Types<R>> for LogStore<R> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<R>>, io::Error> {
        let state = self.engine.state();
        Ok(LogState { last_purged_log_id: state.purged.map(log_id), last_log_id: state.last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let LeaderId { term, voted_for } = vote.leader_id;
        self.settle(Op::PutVote(Ballot { term, candidate: voted_for, granted: vote.committed })).await
    }

    /// It rides with the next batch: after a crash the cluster finds out again how far it had committed.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let point = committed.as_ref().map(log_point);
        self.engine.submit(vec![Op::PutCommitted(point)], Box::new(|_| {})).map_err(io_error)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.engine.state().committed.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<R>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(encode_entry).collect();
        let done = Box::new(move |result: Result<(), EngineError>| callback.io_completed(result.map_err(io_error)));
        self.engine.submit(vec![Op::Append(records)], done).map_err(io_error)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.settle(Op::TruncateAfter(last_log_id.map(|id| id.index()))).await
    }

    /// Returns before it is durable: a purge that is forgotten in a crash only leaves more log than needed.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.engine.submit(vec![Op::PurgeTo(log_point(&upto))], Box::new(|_| {})).map_err(io_error)
    }
}
