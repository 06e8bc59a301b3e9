//! Who is asked to leave for a task, and when the first may be of those it has a right to.

use std::collections::BTreeSet;

use flowyard_model::{
    Claim, ClusterVersion, Column, Held, Job, JobId, Phase, QueuePath, StepIndex, StepSpec, TaskKey, TimeMs,
};
use flowyard_proto::api::Finding;
use flowyard_state::State;

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

/// What is to be said of a step of which tasks wait: how many have their place, and when the first attempt may be
/// evicted for the others.
pub(super) fn of_step(scene: Scene<'_>, key: (JobId, StepIndex), job: &Job, spec: &StepSpec) -> Vec<String> {
    let of_step = scene.view.claims().filter(|(task, _)| (task.job, task.step) == key);
    let (kept, claims): (Vec<_>, Vec<_>) = of_step.partition(|(_, claim)| claim.is_reservation());
    let kept = (!kept.is_empty()).then(|| {
        format!("for {} of it room is kept, where others have to end first", count(kept.len() as u64, "task"))
    });
    let claims = claims.len();
    let claims = (claims > 0).then(|| {
        let verb = if claims == 1 { "has its place, which others are" } else { "have their place, which others are" };
        format!("{} of it {verb} asked to leave", count(claims as u64, "task"))
    });
    let evicts = scene.view.version() >= ClusterVersion::ACCESS;
    let protected = evicts.then(|| protected(scene.view, job, spec)).flatten();
    let protected = protected.filter(|(_, first)| first.0 > scene.now_ms);
    let protected = protected.map(|(attempts, first)| {
        let attempts = count(attempts, "attempt");
        format!("{attempts} may have to leave for it, the first in {}", duration(first.0 - scene.now_ms))
    });
    kept.into_iter().chain(claims).chain(protected).collect()
}

/// How many attempts a task of this step has a right to have evicted once their contract allows it, and when the first.
fn protected(state: &State, job: &Job, spec: &StepSpec) -> Option<(u64, TimeMs)> {
    let rights = Rights::of(state, job, spec);
    let live = state.nodes().flat_map(|(id, _)| state.live_members(id).map(|(key, ..)| key.task));
    let tasks: BTreeSet<TaskKey> = live.collect();
    let times = tasks.into_iter().filter(|task| rights.has(*task)).filter_map(|task| state.evictable_at(task));
    times.fold(None, |found: Option<(u64, TimeMs)>, time| {
        let (attempts, first) = found.unwrap_or((0, time));
        Some((attempts + 1, first.min(time)))
    })
}

/// Whom a task may have evicted.
struct Rights<'a> {
    state: &'a State,
    queue: &'a QueuePath,
    priority: i64,
    need: Held,
    /// The queue, of its own and those above it, whose promise it comes under.
    promised: Option<QueuePath>,
}

impl<'a> Rights<'a> {
    fn of(state: &'a State, job: &'a Job, spec: &StepSpec) -> Self {
        let mut need = Held::NONE;
        (0..spec.size).for_each(|_| need.add(&Held::by_request(&spec.resources, 0)));
        let queue = &job.spec.queue;
        let levels = state.queues().filter(|above| above.path.covers(queue));
        let promised = levels.filter(|level| {
            let held = &state.load(&level.path).held;
            let mut asked = columns(&need).into_iter().filter(|column| level.reserve.promised(*column) > 0).peekable();
            let is_owed = |column: Column<'_>| {
                held.get(column).saturating_add(need.get(column)) <= level.reserve.promised(column)
            };
            asked.peek().is_some() && asked.all(is_owed)
        });
        let promised = promised.max_by_key(|level| level.path.as_str().len()).map(|level| level.path.clone());
        let priority = i64::from(job.spec.priority) + i64::from(spec.priority);
        Self { state, queue, priority, need, promised }
    }

    fn has(&self, task: TaskKey) -> bool {
        let Some(job) = self.state.outline(task.job) else { return false };
        let Some(spec) = job.spec.steps.get(task.step.0 as usize) else { return false };
        if job.spec.queue == *self.queue {
            return i64::from(job.spec.priority) + i64::from(spec.priority) < self.priority;
        }
        let outside = |promised: &QueuePath| !promised.covers(&job.spec.queue);
        let held = Held::by_request(&spec.resources, 0);
        let wanted = columns(&self.need).into_iter().filter(|column| held.get(*column) > 0);
        self.promised.as_ref().is_some_and(outside) && {
            let mut wanted = wanted.peekable();
            wanted.peek().is_some() && wanted.all(|column| self.is_over(&job.spec.queue, column))
        }
    }

    /// Whether a queue, and those above it up to where the ways part, hold more of a resource than they are promised.
    fn is_over(&self, queue: &QueuePath, column: Column<'_>) -> bool {
        let apart = queue.levels().filter_map(|level| level.parse::<QueuePath>().ok());
        apart.filter(|level| !level.covers(self.queue)).all(|level| {
            let promised = self.state.queue(&level).map_or(0, |queue| queue.reserve.promised(column));
            self.state.load(&level).held.get(column) > promised
        })
    }
}

/// The resources of which something is needed, devices of whatever model together.
fn columns(need: &Held) -> Vec<Column<'_>> {
    let plain = need.columns().filter(|(column, amount)| *amount > 0 && !matches!(column, Column::Gpu(_)));
    let gpus = Some(Column::GPUS).filter(|column| need.get(*column) > 0);
    plain.map(|(column, _)| column).chain(gpus).collect()
}
