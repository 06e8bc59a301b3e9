//! The log as it will be once everything queued is on disk, with its last entries kept in memory.
//!
//! Submitted operations are checked and played here first, so that entries are readable at once and a malformed submit is
//! refused before it reaches a file.

use std::collections::VecDeque;
use std::ops::Range;

use super::disk::Loaded;
use super::engine_error::EngineError;
use super::{ENTRY_BYTES_MAX, EngineState, LogPoint, Op, Record};

/// Memory the tail cache may take beyond what is not yet on disk.
pub(super) const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Shadow {
    state: EngineState,
    /// Payload length of every live entry; the last one belongs to `state.last`.
    sizes: VecDeque<u32>,
    live_bytes: u64,
    /// The first live entry of each term.
    term_starts: VecDeque<LogPoint>,
    /// The last entries, each with the sequence number of the submit it came with.
    tail: VecDeque<(u64, Record)>,
    tail_bytes: usize,
}

/// Where an append must continue, while a list of operations is checked.
struct Cursor {
    purged: Option<LogPoint>,
    last: Option<LogPoint>,
}

impl Shadow {
    pub(super) fn new(loaded: Loaded) -> Self {
        let last = loaded.last();
        let mut shadow = Self {
            state: EngineState { vote: loaded.vote, committed: loaded.committed, purged: loaded.purged, last },
            ..Self::default()
        };
        for (point, bytes) in &loaded.entries {
            shadow.count(*point, *bytes);
        }
        shadow.tail_bytes = loaded.tail.iter().map(|record| record.payload.len()).sum();
        shadow.tail = loaded.tail.into_iter().map(|record| (0, record)).collect();
        shadow
    }

    pub(super) fn state(&self) -> EngineState {
        self.state
    }

    pub(super) fn live(&self) -> (u64, u64) {
        (self.sizes.len() as u64, self.live_bytes)
    }

    /// The last live entry of each term.
    pub(super) fn term_ends(&self) -> Vec<LogPoint> {
        let next_starts = self.term_starts.iter().skip(1).map(|start| start.index);
        let ends = next_starts.chain([self.span().end]);
        self.term_starts.iter().zip(ends).map(|(start, end)| LogPoint { term: start.term, index: end - 1 }).collect()
    }

    /// The live entries.
    pub(super) fn span(&self) -> Range<u64> {
        let end = self.state.last.map_or(0, |last| last.index + 1);
        end - self.sizes.len() as u64..end
    }

    /// The live entries held in memory.
    pub(super) fn tail_span(&self) -> Range<u64> {
        let end = self.span().end;
        end - self.tail.len() as u64..end
    }

    /// Entries of `range`, which must lie inside [`Self::tail_span`].
    pub(super) fn tail_range(&self, range: Range<u64>) -> Vec<Record> {
        let first = self.tail_span().start;
        let (from, to) = ((range.start - first) as usize, (range.end - first) as usize);
        self.tail.range(from..to).map(|(_, record)| record.clone()).collect()
    }

    /// Refuses operations that would leave a hole, turn a term back, or are too large.
    pub(super) fn check(&self, ops: &[Op]) -> Result<(), EngineError> {
        let mut cursor = Cursor { purged: self.state.purged, last: self.state.last };
        for op in ops {
            match op {
                Op::PutVote(_) | Op::PutCommitted(_) => {}
                Op::Append(records) => records.iter().try_for_each(|record| cursor.append(record))?,
                Op::TruncateAfter(index) => cursor.truncate(*index, self)?,
                Op::PurgeTo(point) => {
                    cursor.purged = further(cursor.purged, *point);
                    cursor.last = further(cursor.last, *point);
                }
            }
        }
        Ok(())
    }

    /// Plays checked operations; `sequence` names the submit.
    pub(super) fn play(&mut self, ops: &[Op], sequence: u64) {
        for op in ops {
            match op {
                Op::PutVote(ballot) => self.state.vote = Some(*ballot),
                Op::PutCommitted(point) => self.state.committed = point.or(self.state.committed),
                Op::Append(records) => records.iter().for_each(|record| self.append(record.clone(), sequence)),
                Op::TruncateAfter(index) => self.truncate(*index),
                Op::PurgeTo(point) => self.purge(*point),
            }
        }
        assert_eq!(self.state.last.is_some(), self.state.purged.is_some() || !self.sizes.is_empty());
        assert!(index_of(self.state.purged) <= index_of(self.state.last), "purged beyond the end");
    }

    fn count(&mut self, point: LogPoint, bytes: u32) {
        self.sizes.push_back(bytes);
        self.live_bytes += u64::from(bytes);
        if self.term_starts.back().is_none_or(|start| start.term != point.term) {
            self.term_starts.push_back(point);
        }
    }

    fn append(&mut self, record: Record, sequence: u64) {
        self.count(record.point, record.payload.len() as u32);
        self.state.last = Some(record.point);
        self.tail_bytes += record.payload.len();
        self.tail.push_back((sequence, record));
    }

    fn truncate(&mut self, index: Option<u64>) {
        let keep_end = index.map_or(0, |index| index + 1).max(self.span().start);
        while self.span().end > keep_end {
            self.live_bytes -= u64::from(self.sizes.pop_back().unwrap_or_default());
            self.tail_bytes -= self.tail.pop_back().map_or(0, |(_, record)| record.payload.len());
            let last_index = self.state.last.map_or(0, |last| last.index);
            if self.term_starts.back().is_some_and(|start| start.index == last_index) {
                self.term_starts.pop_back();
            }
            self.state.last = match (last_index.checked_sub(1), self.term_starts.back()) {
                (Some(index), Some(start)) if !self.sizes.is_empty() => Some(LogPoint { term: start.term, index }),
                _ => self.state.purged,
            };
        }
    }

    fn purge(&mut self, point: LogPoint) {
        if Some(point.index) <= index_of(self.state.purged) {
            return;
        }
        while self.span().start <= point.index && !self.sizes.is_empty() {
            if self.tail.len() == self.sizes.len() {
                self.tail_bytes -= self.tail.pop_front().map_or(0, |(_, record)| record.payload.len());
            }
            self.live_bytes -= u64::from(self.sizes.pop_front().unwrap_or_default());
        }
        self.state.purged = Some(point);
        self.state.last = further(self.state.last, point);
        self.forget_terms_before(point.index + 1);
    }

    fn forget_terms_before(&mut self, first: u64) {
        while self.term_starts.get(1).is_some_and(|second| second.index <= first) {
            self.term_starts.pop_front();
        }
        match self.term_starts.front_mut() {
            Some(_) if self.sizes.is_empty() => self.term_starts.clear(),
            Some(start) => start.index = start.index.max(first),
            None => {}
        }
    }

    /// The position of a live entry.
    pub(super) fn point_at(&self, index: u64) -> Option<LogPoint> {
        if !self.span().contains(&index) {
            return None;
        }
        let next = self.term_starts.partition_point(|start| start.index <= index);
        next.checked_sub(1).map(|at| LogPoint { term: self.term_starts[at].term, index })
    }

    /// Drops what memory need not hold: entries of submits up to `durable` beyond the cache's size.
    pub(super) fn evict(&mut self, durable: u64) {
        while self.tail_bytes > TAIL_BYTES_MAX && self.tail.front().is_some_and(|(sequence, _)| *sequence <= durable) {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |(_, record)| record.payload.len());
        }
    }
}

fn index_of(point: Option<LogPoint>) -> Option<u64> {
    point.map(|point| point.index)
}

/// The one that stands further along the log, whatever their terms.
fn further(point: Option<LogPoint>, other: LogPoint) -> Option<LogPoint> {
    if index_of(point) >= Some(other.index) { point } else { Some(other) }
}

impl Cursor {
    fn append(&mut self, record: &Record) -> Result<(), EngineError> {
        let (bytes, point) = (record.payload.len(), record.point);
        if bytes > ENTRY_BYTES_MAX {
            return Err(EngineError::EntryTooLarge { bytes, limit: ENTRY_BYTES_MAX });
        }
        if let Some(last) = self.last {
            if point.index != last.index + 1 {
                return Err(EngineError::Gap { expected: last.index + 1, found: point.index });
            }
            if point.term < last.term {
                return Err(EngineError::TermReversed { index: point.index, previous: last.term, found: point.term });
            }
        }
        self.last = Some(point);
        Ok(())
    }

    fn truncate(&mut self, index: Option<u64>, shadow: &Shadow) -> Result<(), EngineError> {
        match (index, self.purged) {
            (Some(index), Some(purged)) if index < purged.index => {
                Err(EngineError::TruncatesPurged { index, purged: purged.index })
            }
            (Some(index), _) if self.last.is_none_or(|last| index >= last.index) => Ok(()),
            (Some(index), _) => {
                self.last = shadow.point_at(index).or(self.purged);
                Ok(())
            }
            (None, purged) => {
                self.last = purged;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> Record {
        Record { point: LogPoint { term, index }, payload: vec![7; 10].into() }
    }

    fn play(shadow: &mut Shadow, op: Op) {
        shadow.check(std::slice::from_ref(&op)).unwrap();
        shadow.play(&[op], 1);
    }

    fn filled() -> Shadow {
        let mut shadow = Shadow::default();
        let terms = [1, 1, 1, 2, 2, 4, 4, 4, 4, 5];
        let entries = terms.iter().zip(0..).map(|(&term, index)| entry(term, index)).collect();
        play(&mut shadow, Op::Append(entries));
        shadow
    }

    #[test]
    fn a_gap_a_reversed_term_and_a_giant_are_refused() {
        let shadow = filled();
        let refused = |record| shadow.check(&[Op::Append(vec![record])]).unwrap_err();
        assert!(matches!(refused(entry(5, 11)), EngineError::Gap { expected: 10, found: 11 }));
        assert!(matches!(refused(entry(5, 9)), EngineError::Gap { expected: 10, found: 9 }));
        assert!(matches!(refused(entry(4, 10)), EngineError::TermReversed { previous: 5, found: 4, .. }));
        let giant = Record { payload: vec![0; ENTRY_BYTES_MAX + 1].into(), ..entry(5, 10) };
        assert!(matches!(refused(giant), EngineError::EntryTooLarge { .. }));
    }

    #[test]
    fn truncation_brings_back_the_term_that_stood_there() {
        let mut shadow = filled();
        play(&mut shadow, Op::TruncateAfter(Some(4)));
        assert_eq!(shadow.state().last, Some(LogPoint { term: 2, index: 4 }));
        assert_eq!(shadow.term_ends(), [LogPoint { term: 1, index: 2 }, LogPoint { term: 2, index: 4 }]);
        play(&mut shadow, Op::Append(vec![entry(6, 5)]));
        assert_eq!(shadow.point_at(5), Some(LogPoint { term: 6, index: 5 }));
        assert_eq!(shadow.live(), (6, 60));
    }

    #[test]
    fn a_purge_keeps_the_terms_of_what_is_left() {
        let mut shadow = filled();
        play(&mut shadow, Op::PurgeTo(LogPoint { term: 4, index: 6 }));
        assert_eq!(shadow.term_ends(), [LogPoint { term: 4, index: 8 }, LogPoint { term: 5, index: 9 }]);
        assert_eq!(shadow.span(), 7..10);
        assert_eq!(shadow.tail_span(), 7..10);
        assert!(shadow.check(&[Op::TruncateAfter(Some(5))]).is_err());
        play(&mut shadow, Op::TruncateAfter(None));
        assert_eq!(shadow.state().last, Some(LogPoint { term: 4, index: 6 }));
        assert!(shadow.term_ends().is_empty());
    }

    #[test]
    fn a_purge_beyond_the_end_makes_the_log_continue_there() {
        let mut shadow = filled();
        play(&mut shadow, Op::PurgeTo(LogPoint { term: 7, index: 20 }));
        assert_eq!(shadow.live(), (0, 0));
        assert!(shadow.check(&[Op::Append(vec![entry(7, 10)])]).is_err());
        play(&mut shadow, Op::Append(vec![entry(7, 21)]));
        assert_eq!(shadow.span(), 21..22);
        assert_eq!(shadow.term_ends(), [LogPoint { term: 7, index: 21 }]);
    }

    #[test]
    fn memory_lets_go_of_durable_entries_only() {
        let mut shadow = Shadow::default();
        let big = |index| Record { payload: vec![0; ENTRY_BYTES_MAX].into(), ..entry(1, index) };
        for index in 0..40 {
            shadow.play(&[Op::Append(vec![big(index)])], index);
        }
        shadow.evict(10);
        assert_eq!(shadow.tail_span(), 11..40);
        shadow.evict(39);
        assert_eq!(shadow.tail_span(), 24..40);
        assert_eq!(shadow.span(), 0..40);
    }
}
