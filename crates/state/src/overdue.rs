//! Jobs whose time runs out: the deadline by which they have to end, and the time for which they may wait for their first
//! placement.
//!
//! Invariant: a job is in `due` once for each of its times that can still pass, and is stopped by the first that does.

use flowyard_model::{Changed, Job, JobDesired, JobId, JobOutcome, Overdue, TaskOutcome, TimeMs};

use crate::job::stop_job;
use crate::state::State;

/// The times of a job that can still pass.
pub(crate) fn times(state: &State, id: JobId, job: &Job) -> Vec<(TimeMs, JobId, Overdue)> {
    if job.ended.is_some() || job.desired != JobDesired::Run {
        return Vec::new();
    }
    let deadline = job.spec.deadline_ms.map(|ms| (job.submitted_at.after(ms), id, Overdue::Deadline));
    let startable = job.spec.queue_ttl_ms.zip(job.startable_at).filter(|_| !has_started(state, id));
    let queue_ttl = startable.map(|(ms, since)| (since.after(ms), id, Overdue::QueueTtl));
    deadline.into_iter().chain(queue_ttl).collect()
}

fn has_started(state: &State, id: JobId) -> bool {
    state.steps(id).any(|(_, step)| step.started_at.is_some())
}

/// Begins to watch the times of a job.
pub(crate) fn watch(state: &mut State, id: JobId) {
    let job = state.job(id).expect("a watched job is remembered");
    let times = times(state, id, &job);
    state.indexes.due.extend(times);
}

/// Stops watching them. Called before what makes them pass no more.
pub(crate) fn unwatch(state: &mut State, id: JobId) {
    let job = state.job(id).expect("a watched job is remembered");
    let times = times(state, id, &job);
    for time in times {
        state.indexes.due.remove(&time);
    }
}

/// Nothing but room keeps the job from starting from now on.
pub(crate) fn startable(state: &mut State, id: JobId) {
    let now = state.meta.time;
    let job = state.job_mut(id);
    if job.spec.queue_ttl_ms.is_some() && job.ended.is_none() && job.desired == JobDesired::Run {
        job.startable_at = Some(now);
        watch(state, id);
    }
}

/// A task of the job is being placed: it waits for its first placement no more.
pub(crate) fn placed(state: &mut State, id: JobId) {
    let job = state.job(id).expect("the job exists");
    let (ttl, since) = (job.spec.queue_ttl_ms, job.startable_at);
    drop(job);
    if let Some((ms, since)) = ttl.zip(since) {
        state.indexes.due.remove(&(since.after(ms), id, Overdue::QueueTtl));
    }
}

/// Stops the job whose time passed first; whether there was one.
pub(crate) fn stop_overdue(state: &mut State, changed: &mut Changed) -> bool {
    let now = state.meta.time;
    let due = state.indexes.due.get_min().filter(|(at, ..)| *at <= now).copied();
    let Some((_, id, overdue)) = due else { return false };
    state.job_mut(id).overdue = Some(overdue);
    stop_job(state, changed, id, JobOutcome::Failed, TaskOutcome::Cancelled);
    true
}
