//! What a hollow fleet counts, for whoever drives it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use flowyard_model::{AttemptNumber, JobId, StepIndex, TaskKey};
use serde::{Deserialize, Serialize};

/// The figures at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Agents that were let in.
    pub joined: u64,
    /// Agents that have a session now.
    pub connected: u64,
    /// Sessions that were begun.
    pub sessions: u64,
    /// Sessions that were lost.
    pub lost_sessions: u64,
    /// Attempts that were begun.
    pub begun: u64,
    /// Attempts begun a second time, on whatever node: what must never be.
    pub twice: u64,
    /// Attempts that ended well.
    pub succeeded: u64,
    /// Attempts that failed as was drawn for them.
    pub failed: u64,
    /// Attempts that their node broke as was drawn for them.
    pub broken: u64,
    /// Attempts that were stopped on request.
    pub stopped: u64,
    /// Attempts that a coordinator believed here and that were not.
    pub lost: u64,
    /// Attempts of others' tasks, which were refused.
    pub refused: u64,
    /// Attempts whose end the coordinator has taken, so that they were forgotten.
    pub let_go: u64,
    /// Why a session was lost last, or an agent could not join.
    pub trouble: Option<String>,
    /// Why the fleet cannot be, if it cannot.
    pub fault: Option<String>,
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// All figures of one process.
        #[derive(Debug, Default)]
        pub struct Counts {
            $(pub(crate) $name: AtomicU64,)*
            trouble: Mutex<Option<String>>,
            seen: Mutex<Seen>,
        }

        impl Counts {
            /// The figures as they are now.
            pub fn told(&self) -> Told {
                Told {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                    fault: None,
                }
            }
        }
    };
}

counters!(
    joined,
    connected,
    sessions,
    lost_sessions,
    begun,
    twice,
    succeeded,
    failed,
    broken,
    stopped,
    lost,
    refused,
    let_go
);

/// The attempts that were begun by any agent of this process.
#[derive(Debug, Default)]
struct Seen {
    /// A bit for each task whose first attempt was.
    first: HashMap<(JobId, StepIndex), Vec<u64>>,
    later: HashSet<(TaskKey, AttemptNumber)>,
}

impl Seen {
    /// Notes one; whether it was there already.
    fn note(&mut self, task: TaskKey, attempt: AttemptNumber) -> bool {
        if attempt.0 != 1 {
            return !self.later.insert((task, attempt));
        }
        let bits = self.first.entry((task.job, task.step)).or_default();
        let (word, bit) = (task.task.0 as usize / 64, 1_u64 << (task.task.0 % 64));
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        let there = bits[word] & bit != 0;
        bits[word] |= bit;
        there
    }
}

impl Counts {
    pub(crate) fn add(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt was begun.
    pub(crate) fn begin(&self, task: TaskKey, attempt: AttemptNumber) {
        self.add(&self.begun);
        if self.seen.lock().unwrap_or_else(PoisonError::into_inner).note(task, attempt) {
            self.add(&self.twice);
        }
    }

    /// Something is not as it should be.
    pub(crate) fn trouble(&self, what: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::TaskIndex;

    use super::*;

    #[test]
    fn an_attempt_that_is_begun_twice_is_noticed_whichever_it_is() {
        let counts = Counts::default();
        let task = |task| TaskKey { job: JobId(3), step: StepIndex(0), task: TaskIndex(task) };
        for (at, attempt) in [(0, 1), (64, 1), (64, 2), (1_000, 1)] {
            counts.begin(task(at), AttemptNumber(attempt));
        }
        assert_eq!((counts.told().begun, counts.told().twice), (4, 0));
        counts.begin(task(64), AttemptNumber(1));
        counts.begin(task(64), AttemptNumber(2));
        assert_eq!((counts.told().begun, counts.told().twice), (6, 2));
    }
}
