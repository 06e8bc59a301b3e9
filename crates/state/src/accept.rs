//! Attempts that no agent takes, although their nodes are heard from: they are given up in time.
//!
//! Invariant: an attempt is in `unaccepted` exactly while it should run, has a time by which it must be accepted, and one of its
//! members is with nobody yet. Its allocation is held until its agent has said that nothing of it is there.

use std::sync::Arc;

use flowyard_model::{Attempt, AttemptDesired, Changed, Phase, StuckPhase, TaskKey, TimeMs};

use crate::job::ask_to_end;
use crate::state::State;

/// When the attempt is given up unless it is accepted.
pub(crate) fn due(attempt: &Attempt) -> Option<TimeMs> {
    let waits = || attempt.members.iter().any(|member| member.phase == Phase::Placed);
    attempt.accept_by.filter(|_| attempt.desired == AttemptDesired::Run && waits())
}

/// Gives up the attempt whose time passed first; whether there was one.
pub(crate) fn give_up(state: &mut State, changed: &mut Changed) -> bool {
    let now = state.meta.time;
    let due = state.indexes.unaccepted.get_min().filter(|(until, _)| *until <= now).copied();
    let Some((_, key)) = due else { return false };
    mark(state, key);
    ask_to_end(state, changed, key, AttemptDesired::GiveUp);
    changed.jobs.insert(key.job);
    true
}

/// Notes which members nobody took.
fn mark(state: &mut State, key: TaskKey) {
    let tasks = state.tasks.get_mut(&(key.job, key.step)).expect("an attempt has a task");
    let task = Arc::make_mut(tasks.get_mut(&key.task).expect("an attempt has a task"));
    let attempt = task.attempts.last_mut().expect("an active task has an attempt");
    for member in attempt.members.iter_mut().filter(|member| member.phase == Phase::Placed) {
        member.stuck = Some(StuckPhase::Accepting);
    }
}
