//! The topology, and that the members of a gang are as near to each other as they have to be.

use std::sync::Arc;

use flowyard_model::{Changed, Policy, Refusal, Rejection, Reply, Seat, StepSpec, validate_policy};

use crate::state::State;

/// Applies `PutPolicy`.
pub(crate) fn put(state: &mut State, changed: &mut Changed, policy: Arc<Policy>) -> Reply {
    if let Err(rejection) = validate_policy(&policy) {
        return Reply::Rejected(rejection);
    }
    // What waits for a level may now be able to start.
    changed.placement |= state.policy != policy;
    state.policy = policy;
    Reply::Done
}

/// The level that a step needs is declared. One that it only prefers need not be.
pub(crate) fn known(state: &State, step: &StepSpec) -> Result<(), Rejection> {
    let Some(near) = step.placing.near.as_ref().filter(|near| near.need) else { return Ok(()) };
    if state.policy.depth(&near.level).is_some() {
        return Ok(());
    }
    let (path, levels) = (format!("steps.{}.gang.near", step.name), state.policy.levels());
    let message = format!("`{}` is no level of this cluster's topology; there are: {levels}", near.level);
    Err(Rejection::Invalid { path, message })
}

impl State {
    /// Whether the level that a step needs is declared.
    ///
    /// # Errors
    /// It is not; there are others.
    pub fn knows_level(&self, step: &StepSpec) -> Result<(), Rejection> {
        known(self, step)
    }
}

/// The seats of a gang are as near to each other as they have to be now; their nodes are known.
pub(crate) fn check(state: &State, spec: &StepSpec, seats: &[Seat]) -> Result<(), Refusal> {
    if spec.placing.is_plain() {
        return Ok(());
    }
    let node = |seat: &Seat| state.node(seat.node).map(|node| (seat.node, &*node.inventory));
    let nodes: Option<Vec<_>> = seats.iter().map(node).collect();
    let near = nodes.is_some_and(|nodes| spec.placing.is_near_enough(&state.policy, &nodes));
    if near { Ok(()) } else { Err(Refusal::Malformed) }
}
