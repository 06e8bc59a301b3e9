//! What the clients asked, when, and what they were told.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flowyard_clock::{elapsed, monotonic};

/// A job as one answer showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) phase: Phase,
    /// Whether it was being stopped; a list does not say.
    pub(crate) stopping: Option<bool>,
}

/// Where a job stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Phase {
    Active,
    Succeeded,
    Failed,
    Cancelled,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// A submission; the tag names what is submitted, and the key, if there is one, is the tag.
    Submit {
        tag: String,
        keyed: bool,
    },
    Cancel(u64),
    Read(u64),
    List,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The submission is this job.
    Job(u64),
    Done,
    Seen(Seen),
    NotThere,
    /// The newest jobs, newest first.
    Listed(Vec<(u64, Seen)>),
    /// Nobody knows whether it happened.
    Unknown,
}

/// One call with its answer.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) call: Call,
    pub(crate) answer: Answer,
    pub(crate) from_us: u64,
    pub(crate) until_us: u64,
}

/// All of it, in the order of the answers.
#[derive(Debug)]
pub(crate) struct History {
    start: Instant,
    operations: Mutex<Vec<Operation>>,
    /// What no client may be told, and was.
    wrong: Mutex<Vec<String>>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { start: monotonic(), operations: Mutex::default(), wrong: Mutex::default() }
    }

    /// Microseconds since the begin.
    pub(crate) fn now_us(&self) -> u64 {
        elapsed(self.start).as_micros() as u64
    }

    /// Notes a call that was made at `from_us` and is answered now.
    pub(crate) fn note(&self, client: usize, call: Call, from_us: u64, answer: Answer) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        // Within the lock, so that the order of the list is the order of the ends.
        let until_us = self.now_us();
        operations.push(Operation { client, call, answer, from_us, until_us });
    }

    /// Notes an answer that no call should get.
    pub(crate) fn refuse(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// A job that was acknowledged: the one so many before the newest.
    pub(crate) fn job(&self, back: usize) -> Option<u64> {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = operations.iter().rev().filter_map(|operation| match operation.answer {
            Answer::Job(job) => Some(job),
            _ => None,
        });
        jobs.take(back + 1).last()
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// All calls, and the answers that should not have been.
    pub(crate) fn taken(&self) -> (Vec<Operation>, Vec<String>) {
        let take =
            |list: &Mutex<Vec<String>>| std::mem::take(&mut *list.lock().unwrap_or_else(PoisonError::into_inner));
        let operations = std::mem::take(&mut *self.operations.lock().unwrap_or_else(PoisonError::into_inner));
        (operations, take(&self.wrong))
    }
}
