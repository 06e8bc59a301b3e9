//! Taking a job: its records are made, and everything that is ready from the start becomes so.
//!
//! Costs the number of its steps, whatever the number of its tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    Changed, FanOut, Job, JobDesired, JobId, JobSpec, NeedKind, Ranges, Rejection, Reply, Segment, Step, StepIndex,
    Submission, SubmissionKey, SubmitJob, TaskCounts, TaskIndex, limits,
};

use crate::graph::{release, settle};
use crate::state::State;
use crate::{after, beside, holding, near, overdue, queue, shape, shared};

/// Applies `SubmitJob`.
pub(crate) fn submit(state: &mut State, changed: &mut Changed, wish: SubmitJob) -> Reply {
    let key = wish.key.as_ref().map(|key| SubmissionKey { owner: wish.owner.clone(), key: key.clone() });
    if let Some(known) = key.as_ref().and_then(|key| state.submission(key)) {
        return repeated(known, &wish);
    }
    let counts = match check(state, &wish.owner, &wish.spec) {
        Ok(counts) => counts,
        Err(rejection) => return Reply::Rejected(rejection),
    };
    let id = state.meta.next_job;
    state.meta.next_job = JobId(id.0 + 1);
    if let Some(key) = key {
        state.submissions.insert(key, Submission { job: id, spec_digest: wish.spec_digest });
    }
    insert_records(state, id, wish, &counts);
    start(state, changed, id);
    state.freeze(id);
    Reply::Submitted { job: id, existing: false }
}

fn repeated(known: Submission, wish: &SubmitJob) -> Reply {
    if known.spec_digest == wish.spec_digest {
        return Reply::Submitted { job: known.job, existing: true };
    }
    let key = wish.key.clone().expect("only keyed submissions are repeated");
    Reply::Rejected(Rejection::KeyReused { key, job: known.job })
}

/// Checks the wish against the state, and of the spec what the tables rely on. The full rules were checked before the entry
/// was proposed; they may change between releases, so they are not asked again here. Gives the count of each step's tasks.
fn check(state: &State, owner: &str, spec: &JobSpec) -> Result<Vec<Option<u32>>, Rejection> {
    if state.queue(&spec.queue).is_none() {
        return Err(queue::unknown(state, &spec.queue));
    }
    if let Some(job) = spec.after.iter().find(|job| state.outline(**job).is_none()) {
        return Err(Rejection::UnknownAfter { job: *job });
    }
    let mut counts: Vec<Option<u32>> = Vec::with_capacity(spec.steps.len());
    for (at, step) in spec.steps.iter().enumerate() {
        let invalid =
            |message: &str| Rejection::Invalid { path: format!("steps.{}", step.name), message: message.to_owned() };
        if !step.preemptible
            && let Some(message) = holding::not_kept(state, &spec.queue, &step.resources)
        {
            return Err(Rejection::Invalid { path: format!("steps.{}.preemptible", step.name), message });
        }
        if step.needs.keys().any(|need| need.0 as usize >= at) {
            return Err(invalid("a step depends only on steps before it in the list"));
        }
        let needs = |source: &StepIndex, kind| step.needs.get(source) == Some(&kind);
        let (known, count) = match &step.fan_out {
            FanOut::Single => (true, Some(1)),
            FanOut::Range { count, .. } => (true, Some(*count)),
            FanOut::Items(list) => (true, Some(list.count)),
            FanOut::Output { step: source, .. } => (needs(source, NeedKind::All), None),
            FanOut::Each { step: source } => {
                (needs(source, NeedKind::Each), counts.get(source.0 as usize).copied().flatten())
            }
        };
        let each = usize::from(matches!(step.fan_out, FanOut::Each { .. }));
        if !known || step.needs.values().filter(|kind| **kind == NeedKind::Each).count() != each {
            return Err(invalid("the steps it fans out from are among its needs"));
        }
        if count.is_some_and(|count| count > limits::TASKS_PER_STEP) {
            return Err(invalid("it has more tasks than a step may have"));
        }
        near::known(state, step)?;
        beside::known(state, step)?;
        shared::known(state, step)?;
        counts.push(count);
    }
    let all: u64 = counts.iter().flatten().map(|count| u64::from(*count)).sum();
    let few = !counts.is_empty() && counts.len() <= limits::STEPS && all <= limits::TASKS_PER_JOB;
    let message = || format!("a job has 1 to {} steps and at most {} tasks", limits::STEPS, limits::TASKS_PER_JOB);
    if !few {
        return Err(Rejection::Invalid { path: "steps".to_owned(), message: message() });
    }
    shape::check(state, owner, spec)?;
    Ok(counts)
}

fn insert_records(state: &mut State, id: JobId, wish: SubmitJob, counts: &[Option<u32>]) {
    let spec = wish.spec;
    let waits_for = after::wait(state, id, &spec);
    for (at, count) in counts.iter().enumerate() {
        let index = StepIndex(at as u32);
        let step = blocked_step(&spec, at, *count, waits_for > 0);
        state.steps.insert((id, index), Arc::new(step));
    }
    state.indexes.job_came(&wish.owner, &spec);
    beside::job_came(&mut state.indexes, &spec);
    let job = Job {
        owner: wish.owner,
        key: wish.key,
        submitted_at: state.meta.time,
        desired: JobDesired::Run,
        waits_for,
        open_steps: spec.steps.len() as u32,
        ended: None,
        overdue: None,
        startable_at: (waits_for == 0 && spec.queue_ttl_ms.is_some()).then_some(state.meta.time),
        spec,
    };
    state.jobs.insert(id, Arc::new(job));
    overdue::watch(state, id);
}

pub(crate) fn blocked_step(spec: &JobSpec, at: usize, count: Option<u32>, job_waits: bool) -> Step {
    let step = &spec.steps[at];
    let segments = match step.fan_out {
        FanOut::Items(list) if list.count > 0 => {
            vec![Segment { parent: TaskIndex(0), start: TaskIndex(0), list }]
        }
        _ => Vec::new(),
    };
    let needs = step.needs.values().filter(|kind| **kind == NeedKind::All).count() as u32;
    let tasks = count.unwrap_or(0);
    Step {
        count,
        segments,
        blocked: Ranges::span(0, tasks),
        ready: Ranges::none(),
        cancelled: Ranges::none(),
        skipped: Ranges::none(),
        open_needs: needs + u32::from(job_waits),
        counts: TaskCounts { blocked: tasks, ..TaskCounts::NONE },
        started_at: None,
        ended_at: None,
    }
}

/// Makes ready what needs nothing, and settles steps without tasks. A job that waits for others is left alone, unless one
/// of them has failed already.
fn start(state: &mut State, changed: &mut Changed, id: JobId) {
    changed.jobs.insert(id);
    let spec = state.jobs.get(&id).expect("it was just inserted").spec.clone();
    let steps: BTreeSet<_> = (0..spec.steps.len() as u32).map(StepIndex).collect();
    for index in &steps {
        if state.steps.get(&(id, *index)).expect("it was just inserted").open_needs == 0 {
            release(state, changed, id, *index, &spec);
        }
    }
    settle(state, changed, id, steps);
    after::fail_if_late(state, changed, id);
}
