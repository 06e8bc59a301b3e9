//! The record of a task. Every change of a task's state goes through [`move_task`], which keeps counts and indexes true.

use std::sync::Arc;

use flowyard_model::{Attempt, MemberKey, Task, TaskKey, TaskState};

use crate::state::State;
use crate::step::{counter, edit_step};
use crate::{accept, surgery};

/// Brings a task into a state, and changes its record on the way. A ready task without a record gets one.
pub(crate) fn move_task(state: &mut State, key: TaskKey, to: TaskState, change: impl FnOnce(&mut Task)) {
    let step_key = (key.job, key.step);
    let touched = state.task(key).map(|task| task.state);
    let from = touched.unwrap_or(TaskState::Ready);
    assert!(!matches!(from, TaskState::Done(_)), "task {key:?} is done and stays so");
    edit_step(state, step_key, |step| {
        if touched.is_none() {
            assert!(step.ready.remove(key.task.0), "only ready tasks are touched");
        }
        *counter(&mut step.counts, from) -= 1;
        *counter(&mut step.counts, to) += 1;
    });
    state.indexes.task_changed(key, touched.unwrap_or(TaskState::Blocked), to);
    let tasks = state.tasks.entry(step_key).or_default();
    let untouched = || Arc::new(Task { state: to, attempts: Vec::new(), spent: 0, unblamed: 0 });
    let task = Arc::make_mut(tasks.entry(key.task).or_insert_with(untouched));
    task.state = to;
    change(task);
}

/// Changes an attempt without moving its task.
pub(crate) fn edit_attempt<R>(state: &mut State, member: MemberKey, change: impl FnOnce(&mut Attempt) -> R) -> R {
    let tasks = state.tasks.get_mut(&(member.task.job, member.task.step)).expect("an attempt has a task");
    let task = Arc::make_mut(tasks.get_mut(&member.task.task).expect("an attempt has a task"));
    let attempt = &mut task.attempts[member.attempt.0 as usize - 1];
    let (before, given_up_at) = (accept::due(attempt), surgery::due(attempt));
    let done = change(attempt);
    let (after, given_up_now) = (accept::due(attempt), surgery::due(attempt));
    if before != after {
        let unaccepted = &mut state.indexes.unaccepted;
        before.map(|until| unaccepted.remove(&(until, member.task)));
        after.map(|until| unaccepted.insert((until, member.task)));
    }
    if given_up_at != given_up_now {
        let repairs = &mut state.indexes.repairs;
        given_up_at.map(|until| repairs.remove(&(until, member.task)));
        given_up_now.map(|until| repairs.insert((until, member.task)));
    }
    done
}
