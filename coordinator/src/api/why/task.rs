//! Where one task stands, and why.

use flowyard_model::{
    AttemptDesired, Blame, EvictionKind, FanOut, Job, JobDesired, JobId, JobOutcome, Member, NeedKind, Overdue, Phase,
    Repair, StepIndex, StepSpec, StuckPhase, Task, TaskIndex, TaskKey, TaskOutcome, TaskState, TimeMs,
};
use flowyard_proto::api::Finding;

use super::words::{Told, count, counts, duration, finding as found, step_reference};
use super::{Scene, bad_end, borrowed, ended, evictions, reserved, room};
use crate::api::{alternatives, reference};

/// Where a task stands.
pub(super) fn finding(scene: Scene<'_>, job: &Job, key: TaskKey) -> Finding {
    let subject = reference(scene.view, key);
    let Some(state) = scene.view.task_state(key) else { return found(subject, "unknown", "there is no such task") };
    let task = scene.view.task(key).map(|task| task.as_ref());
    match state {
        TaskState::Blocked => blocked(scene, job, key.job, key.step, Some(key.task), subject),
        TaskState::Ready => match scene.view.claim(&key) {
            Some(claim) => {
                let kept = match claim.is_reservation() {
                    true => reserved::finding(scene, claim, &job.spec.queue, subject.clone()),
                    false => evictions::claimed(scene, claim, &job.spec.queue, subject.clone()),
                };
                // It waits like others, and what would let it start sooner is worth knowing as well.
                let waits = room::finding(scene, (key.job, job), key.step, Some(key.task), subject);
                let details = kept.details.into_iter().chain([waits.reason]).chain(waits.details).collect();
                Finding { details, reason: kept.reason, ..waits }
            }
            None => room::finding(scene, (key.job, job), key.step, Some(key.task), subject),
        },
        TaskState::Waiting(until) => waiting(scene, job, key, until, subject),
        TaskState::Active => active(scene, job, key, subject),
        TaskState::Done(TaskOutcome::Succeeded) => {
            let tries = count(task.map_or(1, |task| task.attempts.len() as u64), "attempt");
            found(subject.clone(), "succeeded", format!("it succeeded after {tries}"))
                .with_advice([format!("fctl logs {subject}")])
        }
        TaskState::Done(TaskOutcome::Failed) => failed(scene, job, key, task, subject),
        TaskState::Done(TaskOutcome::Cancelled) => cancelled(scene, job, subject),
        TaskState::Done(TaskOutcome::Skipped) => skipped(scene, job, key, subject),
    }
}

/// What a task, or all blocked tasks of a step, wait for.
pub(super) fn blocked(
    scene: Scene<'_>,
    job: &Job,
    id: JobId,
    step: StepIndex,
    task: Option<TaskIndex>,
    subject: String,
) -> Finding {
    let Some(spec) = job.spec.steps.get(step.0 as usize) else { return found(subject, "blocked", "it has no step") };
    let mut details = Vec::new();
    if job.waits_for > 0 {
        details.push(format!("the job waits for {}", count(job.waits_for.into(), "other job")));
    }
    let open = spec.needs.iter().filter_map(|(need, kind)| open_need(scene, id, *need, *kind, task));
    details.extend(open);
    let list = match spec.fan_out {
        FanOut::Output { step: from, ref output }
            if scene.view.step(id, step).is_some_and(|step| step.count.is_none()) =>
        {
            format!("its tasks come from `{output}` of {}, which is not complete", step_reference(scene.view, id, from))
        }
        _ => "it waits for what comes first".to_owned(),
    };
    found(subject, "blocked", list).with_details(details)
}

/// A need that is not met yet, in words.
fn open_need(scene: Scene<'_>, id: JobId, need: StepIndex, kind: NeedKind, task: Option<TaskIndex>) -> Option<String> {
    let step = scene.view.step(id, need)?;
    let name = step_reference(scene.view, id, need);
    if let (NeedKind::Each, Some(task)) = (kind, task) {
        let key = TaskKey { job: id, step: need, task };
        return match scene.view.task_state(key) {
            Some(TaskState::Done(TaskOutcome::Succeeded)) => None,
            Some(state) => Some(format!("needs {name}/{task}, which is {}", state_word(state))),
            None => Some(format!("needs {name}/{task}, which is not known yet")),
        };
    }
    match step.count {
        None => Some(format!("needs {name}, whose tasks are not known yet")),
        Some(all) if step.counts.done() < all => {
            let each = if kind == NeedKind::Each { "task by task" } else { "all of it" };
            Some(format!("needs {name}, {each}: {} of {all} done ({})", step.counts.done(), counts(&step.counts)))
        }
        Some(_) => None,
    }
}

fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Blocked => "blocked",
        TaskState::Ready => "ready",
        TaskState::Waiting(_) => "waiting",
        TaskState::Active => "active",
        TaskState::Done(TaskOutcome::Succeeded) => "succeeded",
        TaskState::Done(TaskOutcome::Failed) => "failed",
        TaskState::Done(TaskOutcome::Cancelled) => "cancelled",
        TaskState::Done(TaskOutcome::Skipped) => "skipped",
    }
}

fn waiting(scene: Scene<'_>, job: &Job, key: TaskKey, until: TimeMs, subject: String) -> Finding {
    let left = duration(until.0.saturating_sub(scene.now_ms));
    let state = found(subject.clone(), "waiting", format!("its next attempt may begin in {left}"));
    let Some((task, spec)) = scene.view.task(key).zip(job.spec.steps.get(key.step.0 as usize)) else { return state };
    let last = ended::last(task).map(|end| format!("the last attempt ended: {}", ended::sentence(end)));
    state.with_details(last.into_iter().chain([retries(task, spec)])).with_advice([format!("fctl logs {subject}")])
}

/// How many of the retries are spent. The failure that a task ends with spends none: it is not tried again.
pub(super) fn retries(task: &Task, spec: &StepSpec) -> String {
    let failed = matches!(task.state, TaskState::Done(TaskOutcome::Failed));
    let last = ended::last(task).filter(|end| failed && end.blame == Blame::User);
    let spent = (task.spent - u32::from(last.is_some()).min(task.spent)).min(spec.retry.times);
    let own = match spec.retry.times {
        0 => "the step allows no retry".to_owned(),
        1 => format!("{spent} of 1 retry spent"),
        times => format!("{spent} of {times} retries spent"),
    };
    let own = match last.filter(|_| spent < spec.retry.times) {
        Some(end) if spec.retry.rule_for(end).is_some() => {
            own + ", a rule of the step allows no more after such an end"
        }
        Some(_) => own + ", and `on` of its `retry` does not name such an end",
        None => own,
    };
    match task.unblamed {
        0 => own,
        unblamed => format!("{own}; {} ended through no fault of it and spent none", count(unblamed.into(), "attempt")),
    }
}

fn active(scene: Scene<'_>, job: &Job, key: TaskKey, subject: String) -> Finding {
    let state = if job.desired == JobDesired::Run { "active" } else { "stopping" };
    let where_now = whereabouts(scene, key).unwrap_or_else(|| "it has a live attempt".to_owned());
    let attempt = scene.view.task(key).and_then(|task| task.attempts.last());
    let repairing = attempt.and_then(flowyard_model::Attempt::repair).map(|repair| repairing(scene, key, repair));
    let details = repairing
        .into_iter()
        .chain(leaving(scene, key))
        .chain(borrowed::of(scene, job, key))
        .chain(given(job, key, attempt));
    let state = found(subject.clone(), state, where_now).with_details(details);
    state.with_advice([format!("fctl logs {subject} -f")])
}

/// By which of several alternatives of GPUs an attempt has its devices.
fn given(job: &Job, key: TaskKey, attempt: Option<&flowyard_model::Attempt>) -> Option<String> {
    let member = attempt?.members.first().filter(|member| !member.gpus.is_empty())?;
    let named = alternatives::named(job.spec.steps.get(key.step.0 as usize)?, member.gpu_alternative)?;
    Some(format!("it has GPUs by {named}"))
}

/// For whom a live attempt was asked to make room, by what right, and what becomes of it.
fn leaving(scene: Scene<'_>, key: TaskKey) -> Option<String> {
    let attempt = scene.view.task(key)?.attempts.last()?;
    let preempted = attempt.preempted.filter(|_| attempt.desired == AttemptDesired::Preempt)?;
    let right = match preempted.kind {
        EvictionKind::Priority => "one with a higher priority in its queue",
        EvictionKind::Reclaim => "one whose queue is promised what this one's had borrowed",
    };
    let ago = duration(scene.now_ms.saturating_sub(preempted.at.0));
    Some(format!(
        "it was asked {ago} ago to make room for a task, {right}; it spends no retry by that and is placed again as soon as there \
         is room"
    ))
}

/// Nodes that are named.
const NAMED: usize = 5;

/// That a gang goes on without members, and for how long.
fn repairing(scene: Scene<'_>, key: TaskKey, repair: &Repair) -> String {
    let ranks: Vec<_> = repair.open.keys().map(ToString::to_string).collect();
    let left = duration(repair.until.0.saturating_sub(scene.now_ms));
    let mut nodes = flowyard_scheduling::kept_for(scene.view, key);
    nodes.dedup();
    let name =
        |id: &flowyard_model::NodeId| scene.view.node(*id).map_or_else(|| id.to_string(), |node| node.name.to_string());
    let names: Vec<_> = nodes.iter().take(NAMED).map(name).collect();
    let kept = match names.is_empty() {
        true => String::new(),
        false => format!(" (kept for them on {} as it falls free)", names.join(", ")),
    };
    let (lost, they) = (count(ranks.len() as u64, "member"), ranks.join(", "));
    format!(
        "it goes on without {lost} (rank {they}); others come in their place as soon as there is room for them{kept}, and \
         all are placed anew if there is none in {left}"
    )
}

/// What is said of a process that was killed and is still there.
const UNDYING: &str = "was killed and does not go away, so its room is held until it does,";

/// The node, the phase, and for how long.
pub(super) fn whereabouts(scene: Scene<'_>, key: TaskKey) -> Option<String> {
    let attempt = scene.view.task(key)?.attempts.last()?;
    let member = attempt.members.iter().find(|member| member.phase != Phase::Ended).or(attempt.members.first())?;
    let (phase, since) = match member.stuck {
        Some(StuckPhase::Stopping) => (UNDYING, member.times.running.unwrap_or(attempt.placed_at)),
        _ => phase(member, attempt.placed_at),
    };
    let node = scene.view.node(member.node).map_or_else(|| member.node.to_string(), |node| node.name.to_string());
    let away = match scene.directory.find(member.node) {
        Some(_) => "",
        None => " (not connected now)",
    };
    let lasts = duration(scene.now_ms.saturating_sub(since.0));
    Some(format!("{}#{} {phase} on {node}{away} for {lasts}", reference(scene.view, key), attempt.number))
}

/// The phase as a word, and since when.
fn phase(member: &Member, placed: TimeMs) -> (&'static str, TimeMs) {
    let times = member.times;
    let (word, since) = match member.phase {
        Phase::Placed => ("is placed", Some(placed)),
        Phase::Accepted => ("was accepted", times.accepted),
        Phase::Fetching => ("fetches what it needs", times.fetching),
        Phase::Running => ("runs", times.running),
        Phase::Storing => ("stores its outputs", times.storing),
        Phase::Ended => ("has ended", times.ended),
    };
    (word, since.unwrap_or(placed))
}

fn failed(scene: Scene<'_>, job: &Job, key: TaskKey, task: Option<&Task>, subject: String) -> Finding {
    let spec = job.spec.steps.get(key.step.0 as usize);
    match (task.and_then(|task| Some((task, ended::last(task)?))), spec) {
        (Some((task, end)), Some(spec)) => ended::finding(scene, task, spec, end, subject),
        _ => found(subject, "failed", "it failed without an attempt"),
    }
}

fn cancelled(scene: Scene<'_>, job: &Job, subject: String) -> Finding {
    let outcome = match (job.ended, job.desired) {
        (Some(end), _) => Some(end.outcome),
        (None, JobDesired::Stop(outcome)) => Some(outcome),
        (None, JobDesired::Run) => None,
    };
    let reason = match outcome {
        Some(JobOutcome::Cancelled) => "its job was cancelled",
        _ if job.overdue == Some(Overdue::Deadline) => "its job stopped because the job's `deadline` had passed",
        _ if job.overdue == Some(Overdue::QueueTtl) => "its job stopped because the job's `queue_ttl` had passed",
        _ => "its job stopped because another task failed for good",
    };
    let after = job.spec.after.iter().filter_map(|after| bad_end(scene, *after));
    found(subject, "cancelled", reason).with_details(after)
}

fn skipped(scene: Scene<'_>, job: &Job, key: TaskKey, subject: String) -> Finding {
    let after: Vec<_> = job.spec.after.iter().filter_map(|after| bad_end(scene, *after)).collect();
    let needs = job.spec.steps.get(key.step.0 as usize).into_iter().flat_map(|spec| &spec.needs);
    let bad = needs.filter_map(|(need, _)| {
        let step = scene.view.step(key.job, *need)?;
        let bad = step.counts.failed + step.counts.cancelled + step.counts.skipped > 0;
        bad.then(|| format!("{}: {}", step_reference(scene.view, key.job, *need), counts(&step.counts)))
    });
    let reason = match after.is_empty() {
        true => "it never had to run: what it follows did not succeed",
        false => "it never had to run: a job that its job waits for did not succeed",
    };
    found(subject, "skipped", reason).with_details(after.iter().cloned().chain(bad))
}
