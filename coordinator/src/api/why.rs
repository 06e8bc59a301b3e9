//! Why something is pending, or why it ended as it did: findings from the newest view. Everything said is counted or read
//! there, nothing is guessed.
//!
//! | Module | Answers |
//! |---|---|
//! | [`task`] | where one task stands |
//! | [`ended`] | how an attempt ended, and what to do about it |
//! | [`room`] | why a ready task is not placed |
//! | [`evictions`] | who leaves for it, and when the first may be asked to |
//! | [`borrowed`] | what runs where others are promised the room, and when it may have to go |
//! | [`near`] | how much room there is so near as a gang needs it |
//! | [`told`] | what would let it start, and when, for programs and people |
//! | [`changes`] | each change that would, in words |
//! | [`time`] | what becomes of a job when one of its times passes |
//! | [`words`] | quantities and references in words |

mod borrowed;
mod changes;
mod ended;
mod evictions;
mod near;
mod reserved;
mod room;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod told;
mod words;

use std::cell::Cell;

use flowyard_model::{Job, JobDesired, JobId, JobOutcome, QueuePath, Step, StepIndex, TaskKey, TaskState};
use flowyard_proto::api::{Finding, WhyRequest, WhyResponse};
use flowyard_state::View;
use tonic::Status;

pub(super) use self::room::{Sight, bound, gpus, of_reasons, rejected};
pub(super) use self::told::explanation;

use self::words::{Told, counts, duration, step_reference};
pub(super) use self::words::{count, finding};
use super::{find_job, find_task, jobs};
use crate::coordinator::Shared;
use crate::session::Directory;

/// Steps of a job that are told about.
const STEPS_TOLD: usize = 12;
/// Running tasks of a step that are told about.
const ACTIVE_TOLD: usize = 5;

/// What an answer is made from.
#[derive(Clone, Copy)]
struct Scene<'a> {
    view: &'a View,
    /// Which nodes are connected.
    directory: &'a Directory,
    /// Wall clock, for how long something lasts.
    now_ms: u64,
    /// Whether the caller may look at a queue.
    looks: &'a dyn Fn(&QueuePath) -> bool,
    /// Whether the next task that waits to be placed is explained at length: one in an answer is, since that costs most.
    deep: &'a Cell<bool>,
}

/// Answers from the newest view, or from what the archive has of a job that was forgotten.
pub(super) fn why(
    shared: &Shared,
    view: &View,
    request: &WhyRequest,
    looks: &dyn Fn(&QueuePath) -> bool,
) -> Result<WhyResponse, Status> {
    let (id, job) = find_job(view, request.job)?;
    let (now_ms, deep) = (flowyard_clock::wall_ms(), Cell::new(true));
    let scene = Scene { view, directory: &shared.directory, now_ms, looks, deep: &deep };
    let findings = match (request.step, request.task) {
        (None, _) => of_job(scene, id, &job),
        (Some(step), None) => {
            let index = StepIndex(step);
            let missing = || Status::not_found(format!("job {id} has no step at position {step}"));
            let step = view.step(id, index).ok_or_else(missing)?;
            of_step(scene, id, &job, index, &step)
        }
        (Some(step), Some(task)) => vec![task::finding(scene, &job, find_task(view, request.job, step, task)?)],
    };
    Ok(WhyResponse { findings, revision: view.revision().0 })
}

/// Whether an answer takes rounds of the scheduler: something of the job waits to be placed.
pub(super) fn is_long(view: &View, job: u64) -> bool {
    let job = JobId(job);
    view.steps(job).any(|(_, step)| step.counts.ready > 0)
}

fn of_job(scene: Scene<'_>, id: JobId, job: &Job) -> Vec<Finding> {
    if let Some(end) = job.ended {
        return of_ended_job(scene, id, job, end.outcome);
    }
    let mut findings = Vec::new();
    if let JobDesired::Stop(outcome) = job.desired {
        if let Some(overdue) = job.overdue {
            return vec![time::passed(scene, id, job, overdue)];
        }
        findings.push(stopping(scene, id, outcome));
        findings.extend(first_failure(scene, id, job));
        return findings;
    }
    if job.waits_for > 0 {
        findings.push(waits_for_jobs(scene, id, job));
        return findings;
    }
    findings.extend(time::left(scene, id, job));
    findings.extend(first_failure(scene, id, job));
    let open = scene.view.steps(id).filter(|(_, step)| step.ended_at.is_none());
    let open: Vec<_> = open.collect();
    let told = open.iter().take(STEPS_TOLD);
    findings.extend(told.flat_map(|(index, step)| of_step(scene, id, job, *index, step)));
    findings.extend(untold(id, open.len()));
    findings
}

/// That there are more open steps than are told about.
fn untold(id: JobId, open: usize) -> Option<Finding> {
    let more = open.checked_sub(STEPS_TOLD).filter(|more| *more > 0)?;
    let reason = format!("{} of it have not ended either and are not told about here", count(more as u64, "more step"));
    Some(
        finding(id.to_string(), "more", reason).with_advice([format!("fctl show {id}"), format!("fctl why {id}/STEP")]),
    )
}

fn of_ended_job(scene: Scene<'_>, id: JobId, job: &Job, outcome: JobOutcome) -> Vec<Finding> {
    let subject = id.to_string();
    match outcome {
        JobOutcome::Succeeded => of_success(scene, id, job),
        JobOutcome::Cancelled => {
            vec![finding(subject, "cancelled", "somebody cancelled it").with_details(step_counts(scene, id))]
        }
        JobOutcome::Failed => {
            if let Some(overdue) = job.overdue {
                return vec![time::passed(scene, id, job, overdue)];
            }
            let failed = first_failure(scene, id, job);
            if !failed.is_empty() {
                return failed;
            }
            let after: Vec<_> = job.spec.after.iter().filter_map(|after| bad_end(scene, *after)).collect();
            let reason = match after.is_empty() {
                true => "it was stopped before any task failed",
                false => "a job that it waits for did not succeed",
            };
            vec![finding(subject, "failed", reason).with_details(after)]
        }
    }
}

/// A job succeeds although tasks failed where their step goes on without them.
fn of_success(scene: Scene<'_>, id: JobId, job: &Job) -> Vec<Finding> {
    let failed: u64 = scene.view.steps(id).map(|(_, step)| u64::from(step.counts.failed)).sum();
    let reason = match failed {
        0 => "every step did what it had to".to_owned(),
        _ => format!("{} failed, in a step with `on_failure = \"continue\"`; the first follows", count(failed, "task")),
    };
    let mut findings =
        vec![finding(id.to_string(), "succeeded", reason).with_advice([format!("fctl artifact ls {id}")])];
    if failed > 0 {
        findings[0].details = step_counts(scene, id);
        findings.extend(first_failure(scene, id, job));
    }
    findings
}

/// How a job that others wait for ended, if it did not succeed.
fn bad_end(scene: Scene<'_>, id: JobId) -> Option<String> {
    match scene.view.job(id).and_then(|job| job.ended).map(|end| end.outcome) {
        Some(JobOutcome::Failed) => Some(format!("job {id} failed; see fctl why {id}")),
        Some(JobOutcome::Cancelled) => Some(format!("job {id} was cancelled")),
        Some(JobOutcome::Succeeded) | None => None,
    }
}

fn first_failure(scene: Scene<'_>, id: JobId, job: &Job) -> Vec<Finding> {
    let at = jobs::detail(scene.view, id, job).first_failure;
    let key = at.map(|at| TaskKey { job: id, step: StepIndex(at.step), task: flowyard_model::TaskIndex(at.task) });
    key.map(|key| task::finding(scene, job, key)).into_iter().collect()
}

fn stopping(scene: Scene<'_>, id: JobId, outcome: JobOutcome) -> Finding {
    let reason = match outcome {
        JobOutcome::Cancelled => "it was cancelled; running tasks get their grace period",
        JobOutcome::Failed | JobOutcome::Succeeded => {
            "a task failed for good, so the rest is stopped; running tasks get their grace period"
        }
    };
    finding(id.to_string(), "stopping", reason).with_details(step_counts(scene, id))
}

fn step_counts(scene: Scene<'_>, id: JobId) -> Vec<String> {
    let steps = scene.view.steps(id).take(STEPS_TOLD);
    steps.map(|(index, step)| format!("{}: {}", step_reference(scene.view, id, index), counts(&step.counts))).collect()
}

fn waits_for_jobs(scene: Scene<'_>, id: JobId, job: &Job) -> Finding {
    let reason = format!("it waits for {}", count(job.waits_for.into(), "other job"));
    let open = job.spec.after.iter().filter(|after| scene.view.job(**after).is_some_and(|after| after.ended.is_none()));
    let details = open.map(|after| match scene.view.job(*after) {
        Some(other) => format!("job {after} `{}` is active", other.spec.name),
        None => format!("job {after}"),
    });
    let advice = job.spec.after.first().map(|after| format!("fctl why {after}"));
    finding(id.to_string(), "blocked", reason).with_details(details).with_advice(advice)
}

fn of_step(scene: Scene<'_>, id: JobId, job: &Job, index: StepIndex, step: &Step) -> Vec<Finding> {
    let subject = step_reference(scene.view, id, index);
    match step.count {
        None => return vec![task::blocked(scene, job, id, index, None, subject)],
        Some(0) => return vec![finding(subject, "skipped", "the list that its tasks come from is empty")],
        Some(1) => {
            let key = TaskKey { job: id, step: index, task: flowyard_model::TaskIndex(0) };
            return vec![task::finding(scene, job, key)];
        }
        Some(_) => {}
    }
    let counts = step.counts;
    let mut findings = Vec::new();
    if counts.failed > 0 {
        findings.extend(
            first_of(scene, id, index, |state| state == TaskState::Done(flowyard_model::TaskOutcome::Failed))
                .map(|key| task::finding(scene, job, key)),
        );
    }
    if counts.active > 0 {
        findings.push(active(scene, id, index, step, subject.clone()));
    }
    if counts.waiting > 0 {
        findings.extend(
            first_of(scene, id, index, |state| matches!(state, TaskState::Waiting(_)))
                .map(|key| task::finding(scene, job, key)),
        );
    }
    if counts.ready > 0 {
        findings.push(room::finding(scene, (id, job), index, None, subject.clone()));
    }
    if counts.blocked > 0 {
        findings.push(task::blocked(scene, job, id, index, None, subject.clone()));
    }
    if findings.is_empty() {
        findings.push(finding(subject, "done", self::words::counts(&counts)));
    }
    findings
}

/// The first touched task of a step in such a state.
fn first_of(scene: Scene<'_>, job: JobId, step: StepIndex, wanted: impl Fn(TaskState) -> bool) -> Option<TaskKey> {
    let mut touched = scene.view.tasks_from(job, step, flowyard_model::TaskIndex(0));
    touched.find(|(_, task)| wanted(task.state)).map(|(task, _)| TaskKey { job, step, task })
}

fn active(scene: Scene<'_>, id: JobId, index: StepIndex, step: &Step, subject: String) -> Finding {
    let lasts = step.started_at.map_or(0, |at| scene.now_ms.saturating_sub(at.0));
    let reason = format!("{}; the step began {} ago", counts(&step.counts), duration(lasts));
    let open = scene.view.open_tasks(id, index).filter(|(_, task)| task.state == TaskState::Active);
    let details: Vec<_> = open.take(ACTIVE_TOLD).filter_map(|(key, _)| task::whereabouts(scene, key)).collect();
    let rest = (step.counts.active as usize).saturating_sub(details.len());
    let rest = (rest > 0).then(|| format!("and {rest} more"));
    finding(subject, "active", reason).with_details(details.into_iter().chain(rest))
}
