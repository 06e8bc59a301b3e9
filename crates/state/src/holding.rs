//! What live members hold, counted for the queue of their job and for every queue above it, and for its owner.
//!
//! What a member holds follows from its record and the inventory that its node has now. An inventory is changed only while what
//! its members hold is given back and taken again, so that what was taken is given back exactly.

use flowyard_model::{ClusterVersion, Column, Held, JobId, Member, MemberKey, Queue, QueuePath, TaskKey};

use crate::ledger;
use crate::state::State;

/// What a member holds as long as it lives.
pub(crate) fn held_by(state: &State, task: TaskKey, member: &Member) -> Held {
    let (Some(spec), Some(node)) = (state.step_spec(task.job, task.step), state.node(member.node)) else {
        return Held::NONE;
    };
    Held::by_member(&spec.resources, member.gpu_alternative, &node.inventory, &member.gpus)
}

/// What a live member holds.
pub(crate) fn held_by_live(state: &State, key: MemberKey) -> Held {
    let attempt = state.attempt(key.task, key.attempt).expect("a live member has an attempt");
    held_by(state, key.task, &attempt.members[key.rank.0 as usize])
}

/// A job holds this as well.
pub(crate) fn take(state: &mut State, id: JobId, held: &Held) {
    let job = state.jobs.get(&id).expect("what holds something has a job");
    state.indexes.load_changed(&job.spec.queue, |load, _| load.held.add(held));
    ledger::take(state, id, held);
}

/// A job holds this no more.
pub(crate) fn give_back(state: &mut State, id: JobId, held: &Held) {
    let job = state.jobs.get(&id).expect("what holds something has a job");
    state.indexes.load_changed(&job.spec.queue, |load, _| load.held.subtract(held));
    ledger::give_back(state, id, held);
}

/// What a bound of a queue is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure<'a> {
    /// Active tasks.
    Tasks,
    /// What is held of a resource.
    Limit(Column<'a>),
    /// What is held of a resource beyond what is promised of it.
    Borrow(Column<'a>),
}

/// A bound that keeps one more task from a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached<'a> {
    /// Whose bound it is: the queue itself, or one above it.
    pub queue: &'a Queue,
    /// On what.
    pub measure: Measure<'a>,
    /// How much there is now.
    pub held: u64,
    /// How much more there would be.
    pub need: u64,
    /// How much there may be.
    pub most: u64,
}

impl State {
    /// The uppermost bound, of a queue and those above it, that keeps one more task from being active and holding this; none if
    /// it may. Of what the task does not need, a queue may hold more than it may; nothing is taken from it for that.
    ///
    /// Before cluster version 2 a queue bounds its own tasks only.
    pub fn bound_reached(&self, queue: &QueuePath, need: &Held) -> Option<Reached<'_>> {
        if self.version() < ClusterVersion::ACCESS {
            let queue = self.queues.get(queue)?;
            let (held, most) = (u64::from(self.load(&queue.path).own_active), u64::from(queue.max_active?));
            return (held >= most).then_some(Reached { queue, measure: Measure::Tasks, held, need: 1, most });
        }
        queue.levels().find_map(|level| self.level_reached(level, need))
    }

    fn level_reached(&self, level: &str, need: &Held) -> Option<Reached<'_>> {
        let queue = self.queues.get(level)?;
        let load = self.load_at(level);
        let reached = |measure, held: u64, need: u64, most: u64| {
            (held.saturating_add(need) > most).then_some(Reached { queue, measure, held, need, most })
        };
        let tasks = queue.max_active.and_then(|most| reached(Measure::Tasks, load.active.into(), 1, most.into()));
        let needed = |(column, _): &(Column<'_>, u64)| need.get(*column) > 0;
        let mut limits = queue.limit.named().filter(needed);
        let mut borrows = queue.borrow.named().filter(needed);
        tasks
            .or_else(|| {
                limits.find_map(|(column, most)| {
                    reached(Measure::Limit(column), load.held.get(column), need.get(column), most)
                })
            })
            .or_else(|| {
                borrows.find_map(|(column, most)| {
                    let most = most.saturating_add(queue.reserve.promised(column));
                    reached(Measure::Borrow(column), load.held.get(column), need.get(column), most)
                })
            })
    }
}
