//! Ready work in groups of alike tasks: how many wait in each, and which they are. What has a claim does not wait in a
//! group: it has its place.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{AttemptNumber, JobId, JobSpec, StepIndex, TaskKey, limits};
use flowyard_placement::ShapeIndex;
use flowyard_state::{ReadyGroup, ReadyStep, State};

use crate::beside::Whose;
use crate::claimed::Claimed;
use crate::shapes::Shapes;
use crate::throttle;

/// How much of a group is counted. A group is counted again whenever something of it comes or goes, so it must not matter how much waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Tasks of one shape.
    pub(crate) tasks: u32,
    /// Steps of which each has something to place.
    pub(crate) steps: usize,
}

impl Counted {
    /// For placing: enough tasks for the plans that may be under way at one time, and steps for a quarter of a plan. A round ends where one of a
    /// group that has more is next, and the next round goes on there.
    pub(crate) const TO_PLACE: Self =
        Self { tasks: 4 * limits::PLACEMENTS_PER_PLAN as u32, steps: limits::PLACEMENTS_PER_PLAN / 4 };

    /// As many as that, whosever.
    pub(crate) const fn up_to(tasks: u32) -> Self {
        Self { tasks, steps: tasks as usize }
    }
}

/// Tasks of one shape in a group.
#[derive(Debug)]
pub(crate) struct Part {
    /// The step that waits longest, as an example of the shape.
    pub(crate) job: Arc<JobSpec>,
    pub(crate) oldest: (JobId, StepIndex),
    pub(crate) whose: Whose,
    /// How many wait, as far as they were counted.
    pub(crate) count: u32,
    /// Whether steps were left out.
    pub(crate) more: bool,
}

/// What waits in a group, by shape. More than one part only if fingerprints collide, or if jobs of it have tags from which others keep
/// apart.
pub(crate) fn count(state: &State, group: &ReadyGroup, claimed: &Claimed, most: Counted) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    // With tags that matter, what waits behind may be of another shape, and must be seen.
    let (alike, mut counted) = (state.shunned_tags().next().is_none(), 0);
    for ready in steps(state, group) {
        if alike && counted == most.steps {
            parts.iter_mut().for_each(|part| part.more = true);
            break;
        }
        let Some(job) = state.outline(ready.job) else { continue };
        let shape = job.spec.steps[ready.step.0 as usize].shape();
        let whose = Whose::of(state, job.spec, (ready.job, ready.step));
        let is_same = |part: &Part| part.job.steps[part.oldest.1.0 as usize].shape() == shape && part.whose == whose;
        let at = parts.iter().position(is_same).unwrap_or_else(|| {
            let whose = whose.clone();
            parts.push(Part { job: job.spec.clone(), oldest: (ready.job, ready.step), whose, count: 0, more: false });
            parts.len() - 1
        });
        let placeable = placeable(state, ready, claimed);
        counted += usize::from(placeable > 0);
        let count = parts[at].count.saturating_add(placeable);
        (parts[at].count, parts[at].more) = (count.min(most.tasks), parts[at].more || count > most.tasks);
        if parts.iter().all(|part| part.more) {
            break;
        }
    }
    parts.retain(|part| part.count > 0);
    parts
}

/// So many tasks of one shape of a group, in the order in which they are placed, each with the attempt that it would
/// make.
pub(crate) fn first_tasks(
    state: &State,
    group: &ReadyGroup,
    claimed: &Claimed,
    (shapes, shape): (&Shapes, ShapeIndex),
    most: usize,
) -> Vec<(TaskKey, AttemptNumber)> {
    let mut tasks = Vec::with_capacity(most);
    for ready in steps(state, group) {
        if tasks.len() >= most {
            break;
        }
        let job = state.outline(ready.job).expect("a ready step has a job");
        let (spec, whose) =
            (&job.spec.steps[ready.step.0 as usize], Whose::of(state, job.spec, (ready.job, ready.step)));
        if shapes.find(group.shape, spec, &whose) != Some(shape) {
            continue;
        }
        let room = (most - tasks.len()).min(placeable(state, ready, claimed) as usize);
        let key = |task| TaskKey { job: ready.job, step: ready.step, task };
        let found = state.ready_tasks(ready.job, ready.step).map(|(task, attempt)| (key(task), attempt));
        tasks.extend(found.filter(|(task, _)| state.claim(task).is_none()).take(room));
    }
    tasks
}

/// Steps of a group that are looked at for what ends early.
const STEPS_LOOKED_AT: usize = 1_000;

/// So many tasks of one shape of a group whose steps are suitable, in the order in which they are placed, beside those that are taken.
pub(crate) fn suitable(
    state: &State,
    group: &ReadyGroup,
    claimed: &Claimed,
    (shapes, shape): (&Shapes, ShapeIndex),
    taken: &BTreeSet<TaskKey>,
    (most, suits): (usize, impl Fn(&ReadyStep) -> bool),
) -> Vec<(TaskKey, AttemptNumber)> {
    let mut tasks = Vec::new();
    for ready in steps(state, group).take(STEPS_LOOKED_AT) {
        let Some(job) = state.outline(ready.job).filter(|_| suits(ready)) else { continue };
        let whose = Whose::of(state, job.spec, (ready.job, ready.step));
        if shapes.find(group.shape, &job.spec.steps[ready.step.0 as usize], &whose) != Some(shape) {
            continue;
        }
        let room = placeable(state, ready, claimed) as usize;
        let key = |task| TaskKey { job: ready.job, step: ready.step, task };
        let found = state.ready_tasks(ready.job, ready.step).map(|(task, attempt)| (key(task), attempt));
        let unclaimed = found.filter(|(task, _)| state.claim(task).is_none()).take(room);
        tasks.extend(unclaimed.filter(|(task, _)| !taken.contains(task)).take(most - tasks.len()));
        if tasks.len() >= most {
            break;
        }
    }
    tasks
}

/// How many tasks of a step are ready and within what may run of it at one time.
fn placeable(state: &State, ready: &ReadyStep, claimed: &Claimed) -> u32 {
    let Some(counts) = state.counts(ready.job, ready.step) else { return 0 };
    let Some(spec) = state.step_spec(ready.job, ready.step) else { return 0 };
    let (most, starting) = (spec.max_parallel, throttle::tasks(state, ready.job, spec));
    let claimed = claimed.of_step((ready.job, ready.step));
    let ready = counts.ready.saturating_sub(claimed);
    let most = most.map_or(u32::MAX, |most| most.saturating_sub(counts.active).saturating_sub(claimed));
    most.min(starting).min(ready)
}

fn steps<'a>(state: &'a State, group: &'a ReadyGroup) -> impl Iterator<Item = &'a ReadyStep> {
    state.ready_in(group)
}
