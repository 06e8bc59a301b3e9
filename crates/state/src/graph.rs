//! What the end of a task or a step means for the steps after it, and at last for the job.
//!
//! A step depends only on steps before it in the list, so one walk in that order settles everything.
//!
//! Invariant: after [`settle`], every complete step is marked ended and its dependants know; `open_needs` and `open_steps`
//! are exact.

use std::collections::BTreeSet;

use flowyard_model::{
    Changed, FanOut, JobDesired, JobId, JobOutcome, JobSpec, NeedKind, Ranges, Segment, StepIndex, TaskIndex, TaskKey,
    TaskOutcome, TaskState, limits,
};

use crate::job::{end_job, stop_job};
use crate::state::State;
use crate::step::{edit_step, is_complete};

/// The steps after `from` in the job's list, with their specs.
fn later(spec: &JobSpec, from: StepIndex) -> impl Iterator<Item = (StepIndex, &flowyard_model::StepSpec)> {
    spec.steps.iter().enumerate().skip(from.0 as usize + 1).map(|(at, step)| (StepIndex(at as u32), step))
}

/// A task is done: tells the tasks that follow it one by one, and settles the steps this completes.
pub(crate) fn task_done(state: &mut State, changed: &mut Changed, key: TaskKey, outcome: TaskOutcome) {
    let spec = state.jobs.get(&key.job).expect("a task has a job").spec.clone();
    let mut dirty = BTreeSet::from([key.step]);
    let mut ends = vec![(key.step, outcome)];
    for (index, step) in later(&spec, key.step) {
        let FanOut::Each { step: followed } = step.fan_out else { continue };
        let Some((_, outcome)) = ends.iter().find(|(step, _)| *step == followed).copied() else { continue };
        if outcome == TaskOutcome::Succeeded {
            follow_success(state, changed, (key.job, index), key.task);
        } else if skip_task(state, (key.job, index), key.task) {
            ends.push((index, TaskOutcome::Skipped));
            dirty.insert(index);
        }
    }
    settle(state, changed, key.job, dirty);
}

/// The followed task succeeded: this one is ready if nothing else is missing.
fn follow_success(state: &mut State, changed: &mut Changed, key: (JobId, StepIndex), task: TaskIndex) {
    let open = state.steps.get(&key).expect("a follower exists").open_needs;
    if open > 0 {
        return;
    }
    changed.placement |= edit_step(state, key, |step| {
        let was_blocked = step.blocked.remove(task.0);
        if was_blocked {
            step.ready.insert(task.0);
            step.counts.blocked -= 1;
            step.counts.ready += 1;
        }
        was_blocked
    });
}

fn skip_task(state: &mut State, key: (JobId, StepIndex), task: TaskIndex) -> bool {
    edit_step(state, key, |step| {
        let was_blocked = step.blocked.remove(task.0);
        if was_blocked {
            step.skipped.insert(task.0);
            step.counts.blocked -= 1;
            step.counts.skipped += 1;
        }
        was_blocked
    })
}

/// Looks at these steps, and at all that follows from their being complete; ends the job if nothing is left of it.
pub(crate) fn settle(state: &mut State, changed: &mut Changed, job: JobId, mut dirty: BTreeSet<StepIndex>) {
    let Some(spec) = state.jobs.get(&job).filter(|job| job.ended.is_none()).map(|job| job.spec.clone()) else {
        return;
    };
    changed.jobs.insert(job);
    while let Some(index) = dirty.pop_first() {
        let step = state.steps.get(&(job, index)).expect("a settled job was touched");
        if step.ended_at.is_some() || !is_complete(step) {
            continue;
        }
        let now = state.meta.time;
        edit_step(state, (job, index), |step| step.ended_at = Some(now));
        state.job_mut(job).open_steps -= 1;
        for (later, step) in later(&spec, index) {
            if step.needs.get(&index) == Some(&NeedKind::All) {
                if matches!(&step.fan_out, FanOut::Output { step, .. } if *step == index) {
                    expand(state, changed, job, later, &spec);
                }
                need_met(state, changed, job, later, &spec);
                dirty.insert(later);
            }
        }
        // Followers of a step that has become known, and empty, are empty too.
        dirty.extend(later(&spec, index).filter(|(_, step)| step.needs.contains_key(&index)).map(|(later, _)| later));
    }
    if state.jobs.get(&job).is_some_and(|job| job.open_steps == 0 && job.ended.is_none()) {
        end_job(state, changed, job);
    }
}

/// One need of a step is met; when it was the last, its blocked tasks become ready.
pub(crate) fn need_met(state: &mut State, changed: &mut Changed, job: JobId, index: StepIndex, spec: &JobSpec) {
    let open = edit_step(state, (job, index), |step| {
        step.open_needs = step.open_needs.checked_sub(1).expect("a need is met once");
        step.open_needs
    });
    if open == 0 {
        release(state, changed, job, index, spec);
    }
}

/// Makes blocked tasks ready: all of them, or those whose followed task has succeeded.
pub(crate) fn release(state: &mut State, changed: &mut Changed, job: JobId, index: StepIndex, spec: &JobSpec) {
    let succeeded = match spec.steps[index.0 as usize].fan_out {
        FanOut::Each { step: followed } => Some(succeeded_tasks(state, job, followed)),
        _ => None,
    };
    let moved = edit_step(state, (job, index), |step| {
        let released = match succeeded {
            None => step.blocked.take(),
            Some(succeeded) => {
                let free: Vec<_> = succeeded.into_iter().filter(|task| step.blocked.remove(*task)).collect();
                Ranges::from_pairs(free.into_iter().map(|task| (task, task + 1))).expect("indexes are distinct")
            }
        };
        let count = released.count() as u32;
        step.counts.blocked -= count;
        step.counts.ready += count;
        step.ready.absorb(released);
        count
    });
    changed.placement |= moved > 0;
}

fn succeeded_tasks(state: &State, job: JobId, step: StepIndex) -> Vec<u32> {
    let done = TaskState::Done(TaskOutcome::Succeeded);
    let tasks = state.tasks.get(&(job, step)).into_iter().flatten();
    tasks.filter(|(_, task)| task.state == done).map(|(index, _)| index.0).collect()
}

/// The lists that decide how many tasks a step has are all written: makes its tasks, and those of the steps that follow it
/// task by task. More tasks than a step or a job may have stop the job.
fn expand(state: &mut State, changed: &mut Changed, job: JobId, index: StepIndex, spec: &JobSpec) {
    if state.steps.get(&(job, index)).expect("the step exists").count.is_some() {
        return;
    }
    let (count, segments) = listed(state, job, &spec.steps[index.0 as usize].fan_out);
    let same = same_count(spec, index);
    let others: u64 = state.steps(job).map(|(_, step)| u64::from(step.count.unwrap_or(0))).sum();
    let all = count.saturating_mul(same.len() as u64).saturating_add(others);
    if count > u64::from(limits::TASKS_PER_STEP) || all > limits::TASKS_PER_JOB {
        stop_job(state, changed, job, JobOutcome::Failed, TaskOutcome::Skipped);
        return;
    }
    for later in same {
        let segments = if later == index { segments.clone() } else { Vec::new() };
        set_count(state, (job, later), count as u32, segments);
    }
}

/// A step and those that follow it task by task, directly or not: they have as many tasks.
fn same_count(spec: &JobSpec, index: StepIndex) -> BTreeSet<StepIndex> {
    let mut same = BTreeSet::from([index]);
    for (later, step) in later(spec, index) {
        if matches!(&step.fan_out, FanOut::Each { step } if same.contains(step)) {
            same.insert(later);
        }
    }
    same
}

/// The lists that the succeeded tasks of the source step wrote, in their order.
fn listed(state: &State, job: JobId, fan_out: &FanOut) -> (u64, Vec<Segment>) {
    let FanOut::Output { step: source, output } = fan_out else { unreachable!("only an output is expanded") };
    let (mut count, mut segments) = (0, Vec::new());
    for (parent, task) in state.tasks.get(&(job, *source)).into_iter().flatten() {
        let last = task.attempts.last().filter(|_| task.state == TaskState::Done(TaskOutcome::Succeeded));
        let end = last.and_then(|attempt| attempt.members[0].end.as_ref());
        let Some(list) = end.and_then(|end| end.outputs.get(output)).and_then(|output| output.list) else { continue };
        if list.count > 0 {
            let start = TaskIndex(u32::try_from(count).unwrap_or(u32::MAX));
            segments.push(Segment { parent: *parent, start, list });
        }
        count += u64::from(list.count);
    }
    (count, segments)
}

fn set_count(state: &mut State, key: (JobId, StepIndex), count: u32, segments: Vec<Segment>) {
    edit_step(state, key, |step| {
        assert!(step.count.is_none(), "the number of tasks is decided once");
        step.count = Some(count);
        step.segments = segments;
        step.blocked = Ranges::span(0, count);
        step.counts.blocked = count;
    });
}

/// How a job without a wish to stop ends: see the rules in the crate's documentation.
pub(crate) fn natural_outcome(state: &State, job: JobId, spec: &JobSpec) -> JobOutcome {
    let needed: BTreeSet<StepIndex> = spec.steps.iter().flat_map(|step| step.needs.keys().copied()).collect();
    let failed = state.steps(job).any(|(index, step)| step.counts.failed > 0 && !needed.contains(&index));
    if failed { JobOutcome::Failed } else { JobOutcome::Succeeded }
}

/// How a job that has nothing open any more ends.
pub(crate) fn outcome(state: &State, id: JobId) -> JobOutcome {
    let job = state.jobs.get(&id).expect("the job exists");
    match job.desired {
        JobDesired::Stop(outcome) => outcome,
        JobDesired::Run => natural_outcome(state, id, &job.spec),
    }
}
