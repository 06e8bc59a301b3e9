//! What each of several alternatives of GPUs meets by itself, and which of them was taken.

use flowyard_model::{Plan, QueuePath, StepSpec, TaskKey};
use flowyard_state::State;

use super::bounds::{self, BoundReached, Reckon};
use super::nodes::{self, Nodes};

/// What one alternative meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// Which: its position in the request.
    pub at: u32,
    /// Bounds of queues that it would meet.
    pub bounds: Vec<BoundReached>,
    /// What the nodes lack for one member that asks for this alone.
    pub nodes: Nodes,
}

/// What each alternative of a task that waits meets; nothing if its step has only one.
pub fn by_alternative(state: &State, task: TaskKey) -> Vec<Alternative> {
    // What is kept for the task itself does not keep it out.
    let state = &state.without_claim(task);
    let Some((job, spec)) = state.outline(task.job).zip(state.step_spec(task.job, task.step)) else {
        return Vec::new();
    };
    let spec = &spec.of_size(spec.least_size());
    if spec.resources.gpus.len() < 2 {
        return Vec::new();
    }
    let one = |at: u32| Alternative {
        at,
        bounds: bounds_of(state, &job.spec.queue, spec, at),
        nodes: nodes::rejections(state, task, &alone(spec, at)),
    };
    (0..spec.resources.gpus.len() as u32).map(one).collect()
}

/// The bounds that it meets by an alternative, each once.
fn bounds_of(state: &State, queue: &QueuePath, spec: &StepSpec, at: u32) -> Vec<BoundReached> {
    let way = bounds::way(state, queue, (spec, at), Reckon::Kept, None).with_holders(state);
    let mut found: Vec<BoundReached> = Vec::new();
    for bound in way.bounds.into_iter().flatten() {
        if !found.iter().any(|known| (&known.queue, &known.on) == (&bound.queue, &bound.on)) {
            found.push(bound);
        }
    }
    found
}

/// The same step as if it asked for one alternative only.
fn alone(spec: &StepSpec, at: u32) -> StepSpec {
    let mut alone = spec.clone();
    alone.resources.gpus = spec.resources.gpus.get(at as usize).cloned().into_iter().collect();
    alone
}

/// By which alternative plans place a task, if they do.
pub(super) fn taken(plans: &[Plan], task: TaskKey) -> Option<u32> {
    let mut placed = plans.iter().flat_map(|plan| &plan.placements);
    let members = &placed.find(|placement| placement.task == task)?.members;
    members.first().filter(|seat| !seat.gpus.is_empty()).map(|seat| seat.gpu_alternative)
}
