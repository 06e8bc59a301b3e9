//! A log in memory, without a thread: for simulation, and as the reference the disk engines are compared with.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::engine_error::EngineError;
use super::shadow::Shadow;
use super::{Callback, EngineState, EngineStats, LogEngine, LogPoint, Op, Record};

/// A [`LogEngine`] that forgets everything with its process. Callbacks run inside `submit`.
#[derive(Debug, Default)]
pub struct MemoryLog {
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    shadow: Shadow,
    batches: u64,
    closed: bool,
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogEngine for MemoryLog {
    fn submit(&self, ops: Vec<Op>, done: Callback) -> Result<(), EngineError> {
        {
            let mut state = self.lock();
            if state.closed {
                return Err(EngineError::Closed);
            }
            state.shadow.check(&ops)?;
            // Nothing ever becomes durable, so nothing is ever evicted.
            state.shadow.play(&ops, u64::MAX);
            state.batches += 1;
        }
        done(Ok(()));
        Ok(())
    }

    fn read(&self, range: Range<u64>, byte_limit: usize) -> Result<Vec<Record>, EngineError> {
        let mut records = self.read_recent(range).unwrap_or_default();
        super::group_log::limit_bytes(&mut records, byte_limit);
        Ok(records)
    }

    fn read_recent(&self, range: Range<u64>) -> Option<Vec<Record>> {
        let state = self.lock();
        let span = state.shadow.span();
        let wanted = range.start.max(span.start)..range.end.min(span.end);
        Some(if wanted.is_empty() { Vec::new() } else { state.shadow.tail_range(wanted) })
    }

    fn state(&self) -> EngineState {
        self.lock().shadow.state()
    }

    fn term_ends(&self) -> Vec<LogPoint> {
        self.lock().shadow.term_ends()
    }

    fn stats(&self) -> EngineStats {
        let state = self.lock();
        let (live_entries, live_bytes) = state.shadow.live();
        EngineStats { live_bytes, live_entries, batches: state.batches, ..EngineStats::default() }
    }

    fn close(&self) {
        self.lock().closed = true;
    }
}
