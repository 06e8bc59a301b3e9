//! Who is asked to leave for a task, and when the first may be of those it has a right to.

use std::collections::BTreeSet;

use flowyard_model::{Claim, JobId, Phase, QueuePath, StepIndex, TaskIndex, TaskKey, TimeMs};
use flowyard_proto::api::Finding;
use flowyard_scheduling::{MayLeave, may_leave};

use super::Scene;
use super::words::{Told, count, duration, finding as found};

/// A ready task with a claim: who was asked to leave for it, and until when it has its place at the latest.
pub(super) fn claimed(scene: Scene<'_>, claim: &Claim, own: &QueuePath, subject: String) -> Finding {
    let there = |eviction: &&flowyard_model::Eviction| {
        let attempt = scene.view.attempt(eviction.task, eviction.attempt);
        attempt.is_some_and(|attempt| attempt.members.iter().any(|member| member.phase != Phase::Ended))
    };
    let left = claim.evictions.iter().filter(there).count();
    let jobs = claim.evictions.iter().filter_map(|eviction| scene.view.outline(eviction.task.job));
    // Others are not named to who may not look at them.
    let (seen, hidden): (BTreeSet<_>, BTreeSet<_>) =
        jobs.map(|job| &job.spec.queue).partition(|queue| *queue == own || (scene.looks)(queue));
    let mut queues: Vec<_> = seen.into_iter().map(ToString::to_string).collect();
    let word = if queues.len() == 1 && hidden.is_empty() { "queue" } else { "queues" };
    if !hidden.is_empty() {
        queues.push("that you may not look at".to_owned());
    }
    let all = count(claim.evictions.len() as u64, "attempt");
    let verb = if claim.evictions.len() == 1 { "was" } else { "were" };
    let reason =
        format!("{all} of {word} {} {verb} asked to leave for it; it starts once that is done", queues.join(", "));
    let ends = duration(claim.until.0.saturating_sub(scene.now_ms));
    found(subject, "ready", reason).with_details([
        format!("{left} of {all} still there"),
        format!("its place is kept for it for {ends} at the latest; after that it is looked for anew"),
    ])
}

/// What is to be said of a step of which tasks wait: how many have their place, beside the one that is asked about.
pub(super) fn of_step(scene: Scene<'_>, key: (JobId, StepIndex), asked: Option<TaskIndex>) -> Vec<String> {
    let is_other = |task: &TaskKey| (task.job, task.step) == key && Some(task.task) != asked;
    let of_step = scene.view.claims().filter(|(task, _)| is_other(task));
    let (kept, claims): (Vec<_>, Vec<_>) = of_step.partition(|(_, claim)| claim.is_reservation());
    let others = |tasks: usize| match asked {
        None => count(tasks as u64, "task"),
        Some(_) => count(tasks as u64, "other task"),
    };
    let kept = (!kept.is_empty())
        .then(|| format!("for {} of it room is kept, where others have to end first", others(kept.len())));
    let claims = claims.len();
    let claims = (claims > 0).then(|| {
        let verb = if claims == 1 { "has its place, which others are" } else { "have their place, which others are" };
        format!("{} of it {verb} asked to leave", others(claims))
    });
    kept.into_iter().chain(claims).collect()
}

/// How many attempts may have to leave for a task that waits, and when the first may be asked to.
pub(super) fn to_come(scene: Scene<'_>, key: TaskKey) -> Option<String> {
    let now_ms = scene.now_ms.max(scene.view.time().0);
    let MayLeave { whose, already, first } = may_leave(scene.view, key, TimeMs(now_ms))?;
    let attempts = count(whose.len() as u64, "attempt");
    let left = first.map(|first| duration(first.0 - now_ms));
    Some(match (already, left) {
        (0, Some(left)) => format!("{attempts} may have to leave for it, the first in {left}"),
        (_, Some(left)) => {
            format!("{attempts} may have to leave for it: {already} may be asked to by now, the next in {left}")
        }
        (_, None) => format!("{attempts} may have to leave for it, and may be asked to by now"),
    })
}
