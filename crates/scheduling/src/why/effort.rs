//! How much one question may cost: rounds of the scheduler, each bounded by its own steps.

use flowyard_model::{NodeId, Placement, Plan, TaskKey, TimeMs};
use flowyard_placement::Bound;
use flowyard_state::State;

use crate::scheduler::{Proposal, Scheduler};
use crate::waiting::Counted;

/// Most rounds that one question costs.
pub const ROUNDS: u32 = 56;
/// Of these, most that go into when it would start.
pub(crate) const FORECAST_ROUNDS: u32 = 24;
/// What one round may do: as much as a real one may place, and steps enough for ten thousand nodes and hundreds of shapes.
pub(crate) const BOUND: Bound = Bound { tasks: 4_000, steps: 4_000_000 };
/// What it counts of each group: so that it says of a task behind many others what becomes of it.
const COUNTED: Counted = Counted::up_to(20_000);
/// What the round may do that finds the place in the line.
pub(crate) const LINE: Bound = Bound { tasks: 20_000, steps: 4_000_000 };

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Effort {
    left: u32,
    used: u32,
    /// Whether something was not found out because of the bound.
    pub(crate) cut: bool,
}

/// What a round does for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is placed, on these nodes by rank.
    Placed(Vec<NodeId>),
    /// It is not.
    Waits,
    /// The bound was met before that was known.
    Unknown,
}

impl Effort {
    pub(crate) fn new() -> Self {
        Self { left: ROUNDS, used: 0, cut: false }
    }

    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// A round of the scheduler; nothing if there is none left.
    pub(crate) fn round(&mut self, state: &State, now: TimeMs) -> Option<Proposal> {
        if self.left == 0 {
            self.cut = true;
            return None;
        }
        self.left -= 1;
        self.used += 1;
        Some(Scheduler::counting(0, COUNTED).round(state, now, BOUND))
    }

    /// Whether a round places a task, with all the other work that waits.
    pub(crate) fn verdict(&mut self, state: &State, now: TimeMs, task: TaskKey) -> Verdict {
        match self.round(state, now) {
            None => Verdict::Unknown,
            Some(proposal) => self.judged(&proposal, task),
        }
    }

    /// What a round has done for a task.
    pub(crate) fn judged(&mut self, proposal: &Proposal, task: TaskKey) -> Verdict {
        match (nodes(&proposal.plans, task), proposal.complete) {
            (Some(nodes), _) => Verdict::Placed(nodes),
            (None, true) => Verdict::Waits,
            (None, false) => {
                self.cut = true;
                Verdict::Unknown
            }
        }
    }
}

fn nodes(plans: &[Plan], task: TaskKey) -> Option<Vec<NodeId>> {
    let mut placed = plans.iter().flat_map(|plan| &plan.placements);
    let Placement { members, .. } = placed.find(|placement| placement.task == task)?;
    Some(members.iter().map(|seat| seat.node).collect())
}
