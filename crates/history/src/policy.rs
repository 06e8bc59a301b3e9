//! Other policies than ours, to compare with: who is next, and by what rule nodes are chosen. Only in here: a cluster has one policy.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use flowyard_model::{JobId, Queue, QueueAmounts, StepIndex, TimeMs};
use flowyard_scheduling::{Bound, Fit, Proposal, Scheduler};
use flowyard_state::State;

use crate::line::Line;

/// Who is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Policy {
    /// As a cluster of this release does it.
    #[default]
    Ours,
    /// The same by shares alone: nothing is promised, lent or taken back.
    Drf,
    /// Whoever came first; what has no room holds up all that came later.
    Fifo,
    /// The same, but what came later may go first if it ends, by its declared bound, before the first of the line could start, or leaves
    /// that one its room (EASY backfill).
    Easy,
    /// As [`Policy::Ours`], but tasks with GPUs go where the fewest are left free, whatever other work needs.
    BestFit,
    /// As [`Policy::Ours`], but tasks with GPUs go to the first node on which they fit.
    FirstFit,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Ours, Self::Drf, Self::Fifo, Self::Easy, Self::BestFit, Self::FirstFit];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Drf => "drf",
            Self::Fifo => "fifo",
            Self::Easy => "easy",
            Self::BestFit => "best-fit",
            Self::FirstFit => "first-fit",
        }
    }

    /// A queue as this policy has it.
    pub(crate) fn queue(self, queue: &Arc<Queue>) -> Arc<Queue> {
        if self != Self::Drf {
            return queue.clone();
        }
        let nothing = QueueAmounts::default;
        Arc::new(Queue {
            reserve: nothing(),
            borrow: nothing(),
            lend: nothing(),
            no_preempt: nothing(),
            ..(**queue).clone()
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| format!("there is no such policy; write one of: {}", names()))
    }
}

/// Whoever makes the plans of a run.
pub(crate) enum Placing {
    Evicting(Box<Scheduler>),
    Sharing(Box<Scheduler>),
    Line(Box<Line>),
}

impl Placing {
    pub(crate) fn new(policy: Policy, seed: u64) -> Self {
        match policy {
            Policy::Ours => Self::Evicting(Box::new(Scheduler::new(seed))),
            Policy::BestFit => Self::Evicting(Box::new(Scheduler::with_fit(seed, Fit::Best))),
            Policy::FirstFit => Self::Evicting(Box::new(Scheduler::with_fit(seed, Fit::First))),
            Policy::Drf => Self::Sharing(Box::new(Scheduler::new(seed))),
            Policy::Fifo => Self::Line(Box::new(Line::new(false))),
            Policy::Easy => Self::Line(Box::new(Line::new(true))),
        }
    }

    /// Something of these jobs changed.
    pub(crate) fn changed(&mut self, state: &State, jobs: &BTreeSet<JobId>) {
        let Self::Line(line) = self else { return };
        for job in jobs {
            match state.outline(*job) {
                Some(_) => state.steps(*job).for_each(|(index, step)| line.ready(*job, index, step.counts.ready > 0)),
                None => line.forget(*job),
            }
        }
    }

    /// What may be placed now, and who has to go for it.
    pub(crate) fn round(&mut self, state: &State, now: TimeMs, bound: Bound) -> Proposal {
        match self {
            Self::Evicting(scheduler) => scheduler.round(state, now, bound),
            Self::Sharing(scheduler) => scheduler.place(state, bound),
            Self::Line(line) => {
                let (plans, complete) = line.round(state);
                Proposal { plans, complete, counted_out: false, wake_at: None }
            }
        }
    }
}

/// A step of a job, by age.
pub(crate) type Place = (JobId, StepIndex);
