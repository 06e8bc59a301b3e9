//! Stopping and ending jobs.

use std::collections::BTreeSet;

use flowyard_model::{
    AttemptDesired, Changed, JobDesired, JobEnd, JobId, JobOutcome, Phase, Rank, Rejection, Reply, StepIndex,
    TaskIndex, TaskKey, TaskOutcome, TaskState,
};

use crate::graph::{outcome, settle};
use crate::overdue::unwatch;
use crate::state::State;
use crate::step::edit_step;
use crate::surgery;
use crate::task::{edit_attempt, move_task};
use crate::{beside, claims};

/// Applies `CancelJob`.
pub(crate) fn cancel(state: &mut State, changed: &mut Changed, id: JobId) -> Reply {
    let Some(job) = state.outline(id) else {
        return Reply::Rejected(Rejection::UnknownJob { job: id });
    };
    if job.ended.is_none() && job.desired == JobDesired::Run {
        stop_job(state, changed, id, JobOutcome::Cancelled, TaskOutcome::Cancelled);
    }
    Reply::Done
}

/// Nothing of the job starts any more, what is active is asked to stop; the job ends as `outcome` when that has ended.
/// Untouched tasks become `untouched` by whole ranges; touched ones that are not done are visited one by one.
pub(crate) fn stop_job(
    state: &mut State,
    changed: &mut Changed,
    id: JobId,
    outcome: JobOutcome,
    untouched: TaskOutcome,
) {
    unwatch(state, id);
    claims::fall_of(state, changed, id);
    let job = state.job_mut(id);
    assert!(job.ended.is_none() && job.desired == JobDesired::Run, "a job is stopped once");
    job.desired = JobDesired::Stop(outcome);
    let steps: BTreeSet<_> = (0..job.spec.steps.len() as u32).map(StepIndex).collect();
    changed.jobs.insert(id);
    for index in &steps {
        stop_untouched(state, (id, *index), untouched);
    }
    let first = TaskKey { job: id, step: StepIndex(0), task: TaskIndex(0) };
    let last = TaskKey { job: id, step: StepIndex(u32::MAX), task: TaskIndex(u32::MAX) };
    let open: Vec<_> = state.indexes.open.range(first..=last).copied().collect();
    for key in open {
        match state.task(key).expect("an open task is touched").state {
            TaskState::Active => stop_live_attempt(state, changed, key),
            _ => move_task(state, key, TaskState::Done(TaskOutcome::Cancelled), |_| {}),
        }
    }
    settle(state, changed, id, steps);
}

fn stop_untouched(state: &mut State, key: (JobId, StepIndex), outcome: TaskOutcome) {
    edit_step(state, key, |step| {
        step.count.get_or_insert(0);
        let mut stopped = step.blocked.take();
        stopped.absorb(step.ready.take());
        let count = stopped.count() as u32;
        step.counts.ready -= count - step.counts.blocked;
        step.counts.blocked = 0;
        if outcome == TaskOutcome::Skipped {
            step.skipped.absorb(stopped);
            step.counts.skipped += count;
        } else {
            step.cancelled.absorb(stopped);
            step.counts.cancelled += count;
        }
    });
}

/// The live attempt of an active task is no longer desired; the nodes of its live members are told.
pub(crate) fn stop_live_attempt(state: &mut State, changed: &mut Changed, key: TaskKey) {
    ask_to_end(state, changed, key, AttemptDesired::Stop);
}

/// The live attempt of an active task is to stop, or to make room; the nodes of its live members are told.
pub(crate) fn ask_to_end(state: &mut State, changed: &mut Changed, key: TaskKey, desired: AttemptDesired) {
    surgery::close(state, key);
    let attempt = state.task(key).and_then(|task| task.attempts.last()).expect("an active task has an attempt");
    let member = attempt.member_key(key, Rank(0));
    edit_attempt(state, member, |attempt| {
        attempt.desired = desired;
        let live = attempt.members.iter().filter(|member| member.phase != Phase::Ended);
        changed.nodes.extend(live.map(|member| member.node));
    });
}

/// Nothing of the job is open any more.
pub(crate) fn end_job(state: &mut State, changed: &mut Changed, id: JobId) {
    let end = JobEnd { outcome: outcome(state, id), at: state.meta.time };
    unwatch(state, id);
    let job = state.job_mut(id);
    assert!(job.ended.is_none() && job.open_steps == 0, "a job ends once, after its steps");
    job.ended = Some(end);
    changed.jobs.insert(id);
    let (spec, owner) = (job.spec.clone(), job.owner.clone());
    state.indexes.job_left(&owner, &spec);
    beside::job_ended(&mut state.indexes, &spec);
    state.indexes.job_ended(id, state.jobs.get(&id).expect("the job exists"));
    let mut waiting = state.waits.range((id, JobId(0))..=(id, JobId(u64::MAX)));
    if waiting.next().is_some() {
        state.indexes.settling.insert(id);
    }
}
