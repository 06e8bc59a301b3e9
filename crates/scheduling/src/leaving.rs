//! Who may have to leave for a task that waits: told by the solver's own rights and its own search, so that whoever is
//! told so is whom a round may ask.

use flowyard_model::{Claim, ClusterVersion, TaskKey, TimeMs};
use flowyard_placement::{Fit, GroupKey, Occupied, may_leave as subject};
use flowyard_state::State;

use crate::beside::Whose;
use crate::claimed;
use crate::evictable::Told;
use crate::evictions::rules;
use crate::scheduler::Known;
use crate::waiting::{self, Counted};

/// What one search may take: as much as one of a real round.
const STEPS: u64 = 300_000;
/// Tasks of a group among which one is looked for.
const TASKS: usize = 20_000;

/// Attempts that a task has a right to have evicted so that it can start, where that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayLeave {
    /// Of which tasks.
    pub whose: Vec<TaskKey>,
    /// How many of them may be asked already.
    pub already: u64,
    /// When the first of the others may be; nothing if there are none.
    pub first: Option<TimeMs>,
}

/// Who may have to leave for a task that waits, at a time. Nothing if it has a right to nobody, needs nobody to leave,
/// could not start whoever left, is kept out by its own step or job, or if some were asked to leave for it already.
pub fn may_leave(state: &State, task: TaskKey, now: TimeMs) -> Option<MayLeave> {
    let is_asked = state.claim(&task).is_some_and(|claim: &Claim| !claim.is_reservation());
    if state.version() < ClusterVersion::ACCESS || is_asked || !may_have_any(state, task) {
        return None;
    }
    // Who waits for others to end has the right all the same.
    let state = state.without_claim(task);
    let mut known = Known::of(&state, (0, Fit::Fragmentation), Counted::TO_PLACE);
    // As a round begins; no rank of a gang that goes on gets a seat by it, and what is kept for those is told.
    known.repair(0);
    known.size_gangs();
    let key = known.key_of_task(task)?;
    known.may_leave(&key, now)
}

/// Whether it could have a right to anybody at all: most have none, and to find out more takes as long as a round.
fn may_have_any(state: &State, task: TaskKey) -> bool {
    let of = |key: TaskKey| {
        let job = state.outline(key.job)?;
        let priority = i64::from(job.spec.priority) + i64::from(job.spec.steps.get(key.step.0 as usize)?.priority);
        Some((&job.spec.queue, priority))
    };
    let Some((queue, priority)) = of(task) else { return false };
    let is_promised = state.queues().any(|above| above.path.covers(queue) && !above.reserve.is_empty());
    let is_less = |key: TaskKey| of(key).is_some_and(|(other, less)| other == queue && less < priority);
    is_promised || state.nodes().any(|(id, _)| state.live_members(id).any(|(key, ..)| is_less(key.task)))
}

impl Known {
    /// The group in which a task waits for its turn, if it does.
    fn key_of_task(&mut self, task: TaskKey) -> Option<GroupKey> {
        let (job, spec) = (self.state.job(task.job)?, self.state.step_spec(task.job, task.step)?);
        let (group, whose) =
            (claimed::group(&self.state, task)?, Whose::of(&self.state, &job.spec, (task.job, task.step)));
        let shape = self.shapes.find(group.shape, spec, &whose)?;
        let key = self.groups.get(&group)?.iter().find(|key| key.shape == shape).copied()?;
        let tasks = waiting::first_tasks(&self.state, &group, &self.claimed, (&self.shapes, shape), TASKS);
        tasks.iter().any(|(other, _)| *other == task).then_some(key)
    }

    fn may_leave(&mut self, key: &GroupKey, now: TimeMs) -> Option<MayLeave> {
        let leaving = self.evictable.leaving().collect();
        let leaving = Told::of(&self.state, &self.tree, &mut self.words, leaving, now);
        self.queues.set_aside(&leaving.running);
        let evictable = &self.evictable;
        let rights = self.queues.rights(|queue| evictable.lowest(queue));
        if rights.is_empty() {
            return None;
        }
        self.look_ahead(&[]);
        let told = self.told(&rights, now);
        // Nobody is evicted because others are starting.
        self.fleet.bound_starting(None);
        let mut occupied = Occupied::new(&mut self.fleet, &told.holdings);
        let subject = subject(&mut self.queues, &mut occupied, key, &told.running, &rules(now), STEPS);
        let times = || subject.iter().map(|at| told.running[*at].protected_until_ms);
        let first = times().filter(|until| *until > now.0).min().map(TimeMs);
        let already = times().filter(|until| *until <= now.0).count() as u64;
        let whose: Vec<TaskKey> = subject.iter().map(|at| told.keys[*at]).collect();
        (!whose.is_empty()).then_some(MayLeave { whose, already, first })
    }
}
