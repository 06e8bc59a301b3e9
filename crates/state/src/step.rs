//! The record of a step and its counts. Every change of a step goes through [`edit_step`], which keeps the indexes true.

use std::sync::Arc;

use flowyard_model::{Step, TaskCounts, TaskIndex, TaskOutcome, TaskState};

use crate::ledger;
use crate::reading::Outline;
use crate::state::{State, StepKey};

/// Changes a step, and whatever follows from its counts.
pub(crate) fn edit_step<R>(state: &mut State, key: StepKey, change: impl FnOnce(&mut Step) -> R) -> R {
    state.thaw(key.0);
    let step = state.steps.get_mut(&key).expect("the step exists");
    let before = step.counts;
    let step = Arc::make_mut(step);
    let result = change(step);
    let after = step.counts;
    if let Some(count) = step.count {
        assert_eq!(after.total(), count, "every task of step {key:?} is counted once");
    }
    if before != after {
        let job = state.jobs.get(&key.0).expect("a step has a job");
        state.indexes.counts_changed(Outline::of(job), key, before, after);
    }
    if before.active != after.active {
        ledger::active_changed(state, key.0, before.active, after.active);
    }
    result
}

/// The counter of the tasks in a state.
pub(crate) fn counter(counts: &mut TaskCounts, state: TaskState) -> &mut u32 {
    match state {
        TaskState::Blocked => &mut counts.blocked,
        TaskState::Ready => &mut counts.ready,
        TaskState::Waiting(_) => &mut counts.waiting,
        TaskState::Active => &mut counts.active,
        TaskState::Done(TaskOutcome::Succeeded) => &mut counts.succeeded,
        TaskState::Done(TaskOutcome::Failed) => &mut counts.failed,
        TaskState::Done(TaskOutcome::Cancelled) => &mut counts.cancelled,
        TaskState::Done(TaskOutcome::Skipped) => &mut counts.skipped,
    }
}

/// Where an untouched task stands; `None` if it is in no range.
pub(crate) fn untouched_state(step: &Step, task: TaskIndex) -> Option<TaskState> {
    let ranges = [
        (&step.ready, TaskState::Ready),
        (&step.blocked, TaskState::Blocked),
        (&step.skipped, TaskState::Done(TaskOutcome::Skipped)),
        (&step.cancelled, TaskState::Done(TaskOutcome::Cancelled)),
    ];
    ranges.into_iter().find(|(range, _)| range.contains(task.0)).map(|(_, state)| state)
}

/// Whether all tasks of the step are known and done.
pub(crate) fn is_complete(step: &Step) -> bool {
    step.count.is_some_and(|count| step.counts.done() == count)
}
