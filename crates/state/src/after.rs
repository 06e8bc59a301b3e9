//! Jobs that wait for jobs.
//!
//! Invariant: a wait (a, b) is recorded from the submission of b until the end of a has been passed on to b, or b is
//! forgotten; `waits_for` of b counts them. An ended job with waits is in `settling` and is not forgotten.

use std::collections::BTreeSet;

use flowyard_model::{Changed, JobDesired, JobId, JobOutcome, JobSpec, StepIndex, TaskOutcome, limits};

use crate::graph::{need_met, settle};
use crate::job::stop_job;
use crate::overdue::startable;
use crate::state::State;

/// Records that `id` waits for those of its `after` jobs that have not ended; how many they are.
pub(crate) fn wait(state: &mut State, id: JobId, spec: &JobSpec) -> u32 {
    let active: BTreeSet<JobId> = spec.after.iter().copied().filter(|job| end_of(state, *job).is_none()).collect();
    for job in &active {
        state.waits.insert((*job, id));
    }
    active.len() as u32
}

fn end_of(state: &State, job: JobId) -> Option<JobOutcome> {
    state.outline(job).and_then(|job| job.ended).map(|end| end.outcome)
}

/// A job submitted after the failure of one that it should wait for fails at once.
pub(crate) fn fail_if_late(state: &mut State, changed: &mut Changed, id: JobId) {
    let Some(job) = state.outline(id).filter(|job| job.ended.is_none()) else { return };
    let late = job.spec.after.iter().filter_map(|job| end_of(state, *job));
    if late.into_iter().any(|outcome| outcome != JobOutcome::Succeeded) {
        stop_job(state, changed, id, JobOutcome::Failed, TaskOutcome::Skipped);
    }
}

/// Passes the ends of jobs on to those that wait for them, up to the limit of one entry.
pub(crate) fn settle_waits(state: &mut State, changed: &mut Changed) {
    let mut work = 0;
    while let Some(ended) = state.indexes.settling.get_min().copied() {
        let waits = (ended, JobId(0))..=(ended, JobId(u64::MAX));
        let Some(wait) = state.waits.range(waits).next().copied() else {
            state.indexes.settling.remove(&ended);
            continue;
        };
        if work >= limits::WORK_PER_TICK {
            return;
        }
        state.waits.remove(&wait);
        work += 1 + pass_on(state, changed, wait.1, end_of(state, ended).expect("a settling job has ended"));
    }
}

/// One of the jobs that `id` waits for has ended. Gives the number of steps touched.
fn pass_on(state: &mut State, changed: &mut Changed, id: JobId, outcome: JobOutcome) -> usize {
    let job = state.job_mut(id);
    job.waits_for -= 1;
    changed.jobs.insert(id);
    let (waits_for, spec) = (job.waits_for, job.spec.clone());
    let stop = outcome != JobOutcome::Succeeded && job.ended.is_none() && job.desired == JobDesired::Run;
    if stop {
        stop_job(state, changed, id, JobOutcome::Failed, TaskOutcome::Skipped);
    }
    if waits_for == 0 {
        startable(state, id);
        let steps: BTreeSet<_> = (0..spec.steps.len() as u32).map(StepIndex).collect();
        for index in &steps {
            need_met(state, changed, id, *index, &spec);
        }
        settle(state, changed, id, steps);
    }
    spec.steps.len()
}
