//! Whoever is evicted had run for as long as its contract says, may be evicted at all, and makes room for a claim of
//! who evicts it.

use flowyard_model::{Attempt, Contract, JobId, TaskKey, limits};
use flowyard_state::State;

use super::{Checker, Seen, changed_tasks, require};

pub(super) struct EvictionsKeepTheContract;

impl Checker for EvictionsKeepTheContract {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let now = seen.state.time().0;
        for (key, task) in changed_tasks(seen) {
            let Some(attempt) = task.attempts.last() else { continue };
            let Some(preempted) = attempt.preempted else { continue };
            let times = task.attempts.iter().filter(|attempt| attempt.preempted.is_some()).count();
            require(times <= limits::RELOCATIONS, || format!("{key:?} was evicted {times} times"))?;
            if seen.before.attempt(key, attempt.number).is_none_or(|before| before.preempted.is_some()) {
                continue;
            }
            let least_ms = contract(seen.before, key.job).min_run_ms;
            let ran_ms = now.saturating_sub(runs_since(seen.before, key, attempt, least_ms));
            require(ran_ms >= least_ms, || format!("{key:?} was evicted after {ran_ms} ms of {least_ms}"))?;
            let may = seen.state.step_spec(key.job, key.step).is_some_and(|spec| spec.preemptible);
            require(may, || format!("{key:?} must not be evicted"))?;
            let claim = seen.state.claim(&preempted.by);
            let named = |claim: &flowyard_model::Claim| {
                claim.evictions.iter().any(|eviction| eviction.task == key && eviction.attempt == attempt.number)
            };
            require(claim.is_some_and(named), || format!("{key:?} was evicted for a task without a claim"))?;
        }
        Ok(())
    }
}

/// Since when all members of an attempt run, as it was known before; what fetches has its minimum run once more, or five minutes.
fn runs_since(before: &State, key: TaskKey, attempt: &Attempt, least_ms: u64) -> u64 {
    let latest = attempt.placed_at.0 + least_ms.min(300_000);
    let known = before.attempt(key, attempt.number).unwrap_or(attempt);
    let whole = known.surgery.is_none() && known.members.iter().all(|member| member.times.running.is_some());
    let last = known.members.iter().filter_map(|member| member.times.running).max().filter(|_| whole);
    match last {
        Some(last) => last.0.clamp(attempt.placed_at.0, latest),
        // Which ranks ran before they were lost is looked at in State's own tests.
        None if known.surgery.is_some() => attempt.placed_at.0,
        None => latest,
    }
}

/// What is promised to work of a job's queue, by the nearest queue that says it.
fn contract(state: &State, job: JobId) -> Contract {
    let Some(job) = state.job(job) else { return Contract::DEFAULT };
    let above = state.queues().filter(|queue| queue.path.covers(&job.spec.queue) && queue.contract.is_some());
    let nearest = above.max_by_key(|queue| queue.path.as_str().len());
    nearest.and_then(|queue| queue.contract).unwrap_or(Contract::DEFAULT)
}
