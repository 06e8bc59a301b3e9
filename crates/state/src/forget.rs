//! Forgetting ended jobs: all that was recorded of them, at once.
//!
//! Costs the steps of the job; its tasks are dropped with the map that holds them.

use flowyard_model::{Changed, ClusterVersion, JobId, Reply, SubmissionKey, limits};

use crate::state::{State, step_span};

/// Ended jobs that one entry forgets at most because too many are remembered; more if it says what several agents observed.
const OVER_CAP_PER_ENTRY: usize = 4;

/// Applies `ForgetJobs`: unknown and active jobs, and those whose end others must still learn, are passed over.
pub(crate) fn forget_all(state: &mut State, changed: &mut Changed, jobs: Vec<JobId>) -> Reply {
    for job in jobs {
        forget(state, changed, job);
    }
    Reply::Done
}

/// Whether jobs are forgotten by time and number alone. From cluster version 2 on the leader archives them first, and the state
/// forgets by itself only what became too much although nobody archived it.
pub(crate) fn forgets_by_itself(state: &State) -> bool {
    state.version() < ClusterVersion::ACCESS
}

/// The oldest ended jobs go when more are remembered than allowed.
pub(crate) fn enforce_cap(state: &mut State, changed: &mut Changed, agents: usize) {
    let most = if forgets_by_itself(state) { limits::FINISHED_JOBS } else { limits::UNARCHIVED_JOBS };
    let over = state.indexes.finished.len().saturating_sub(most).min(OVER_CAP_PER_ENTRY * agents.max(1));
    let oldest: Vec<_> = state.finished().take(over).collect();
    for job in oldest {
        forget(state, changed, job);
    }
}

/// Forgets a job if it may be; whether it was.
pub(crate) fn forget(state: &mut State, changed: &mut Changed, id: JobId) -> bool {
    let may = state.outline(id).is_some_and(|job| job.ended.is_some()) && !state.indexes.settling.contains(&id);
    if !may {
        return false;
    }
    let job = state.jobs.remove(&id).expect("it was just looked at");
    state.indexes.job_forgotten(id, &job);
    if let Some(key) = job.key.clone() {
        state.submissions.remove(&SubmissionKey { owner: job.owner.clone(), key });
    }
    for waited_for in &job.spec.after {
        state.waits.remove(&(*waited_for, id));
    }
    let steps: Vec<_> = state.steps.range(step_span(id)).map(|(key, _)| *key).collect();
    for key in steps {
        state.steps.remove(&key);
        state.tasks.remove(&key);
    }
    changed.jobs.insert(id);
    true
}
