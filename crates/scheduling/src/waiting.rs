//! Ready work in groups of alike tasks: how many wait in each, and which they are. What has a claim does not wait in a
//! group: it has its place.

use std::sync::Arc;

use flowyard_model::{AttemptNumber, JobId, JobSpec, StepIndex, TaskKey, limits};
use flowyard_placement::ShapeIndex;
use flowyard_state::{ReadyGroup, ReadyStep, State};

use crate::claimed::Claimed;
use crate::shapes::Shapes;

/// Tasks of a group that one round looks at: a bound of what is counted again whenever a group changes, and enough for
/// the plans that may be under way at one time.
const TASKS_COUNTED: u32 = 4 * limits::PLACEMENTS_PER_PLAN as u32;

/// Tasks of one shape in a group.
#[derive(Debug)]
pub(crate) struct Part {
    /// The step that waits longest, as an example of the shape.
    pub(crate) job: Arc<JobSpec>,
    pub(crate) oldest: (JobId, StepIndex),
    /// How many wait, as far as they were counted.
    pub(crate) count: u32,
}

/// What waits in a group, by shape. More than one part only if fingerprints collide.
pub(crate) fn count(state: &State, group: &ReadyGroup, claimed: &Claimed) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for ready in steps(state, group) {
        let Some(job) = state.job(ready.job) else { continue };
        let shape = job.spec.steps[ready.step.0 as usize].shape();
        let alike = |part: &Part| part.job.steps[part.oldest.1.0 as usize].shape() == shape;
        let at = parts.iter().position(alike).unwrap_or_else(|| {
            parts.push(Part { job: job.spec.clone(), oldest: (ready.job, ready.step), count: 0 });
            parts.len() - 1
        });
        parts[at].count = parts[at].count.saturating_add(placeable(state, ready, claimed)).min(TASKS_COUNTED);
        if parts.iter().all(|part| part.count >= TASKS_COUNTED) {
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
        let spec = state.step_spec(ready.job, ready.step).expect("a ready step has a spec");
        if shapes.find(group.shape, spec) != Some(shape) {
            continue;
        }
        let room = (most - tasks.len()).min(placeable(state, ready, claimed) as usize);
        let key = |task| TaskKey { job: ready.job, step: ready.step, task };
        let found = state.ready_tasks(ready.job, ready.step).map(|(task, attempt)| (key(task), attempt));
        tasks.extend(found.filter(|(task, _)| state.claim(task).is_none()).take(room));
    }
    tasks
}

/// How many tasks of a step are ready and within what may run of it at one time.
fn placeable(state: &State, ready: &ReadyStep, claimed: &Claimed) -> u32 {
    let Some(step) = state.step(ready.job, ready.step) else { return 0 };
    let most = state.step_spec(ready.job, ready.step).and_then(|spec| spec.max_parallel);
    let claimed = claimed.of_step((ready.job, ready.step));
    let ready = step.counts.ready.saturating_sub(claimed);
    most.map_or(u32::MAX, |most| most.saturating_sub(step.counts.active).saturating_sub(claimed)).min(ready)
}

fn steps<'a>(state: &'a State, group: &'a ReadyGroup) -> impl Iterator<Item = &'a ReadyStep> {
    state.ready_in(group)
}
