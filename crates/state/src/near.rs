//! The topology, and that the members of a gang are as near to each other as they have to be.

use std::sync::Arc;

use flowyard_model::{Changed, NodeId, Policy, Refusal, Rejection, Reply, Seat, StepSpec, validate_policy};

use crate::state::State;
use crate::{beside, claims, shared, starting};

/// Applies `PutPolicy`.
pub(crate) fn put(state: &mut State, changed: &mut Changed, policy: Arc<Policy>) -> Reply {
    if let Err(rejection) = validate_policy(&policy) {
        return Reply::Rejected(rejection);
    }
    if let Err(rejection) = shared::may_go(state, &policy) {
        return Reply::Rejected(rejection);
    }
    // Who is promised a token that is a node's from now on, or was until now, is looked at anew.
    let claims = shared::of_others(state, &policy);
    claims.into_iter().for_each(|key| claims::fall(state, changed, key));
    // What waits for a level may now be able to start.
    changed.placement |= state.policy != policy;
    state.policy = policy;
    state.indexes.starting = starting::count(state, &state.indexes, &state.policy);
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
    /// Whether the level that a step needs is declared, the label over which it is spread is one that there is, and the tokens of the
    /// cluster that it needs are as many as there are.
    ///
    /// # Errors
    /// It is not; there are others.
    pub fn knows_level(&self, step: &StepSpec) -> Result<(), Rejection> {
        known(self, step)?;
        beside::known(self, step)?;
        shared::known(self, step)
    }
}

/// The seats of a gang are as near to each other as they have to be now; their nodes are known.
pub(crate) fn check(state: &State, spec: &StepSpec, seats: &[Seat]) -> Result<(), Refusal> {
    check_nodes(state, spec, seats.iter().map(|seat| seat.node))
}

/// The same of the nodes themselves.
pub(crate) fn check_nodes(state: &State, spec: &StepSpec, nodes: impl Iterator<Item = NodeId>) -> Result<(), Refusal> {
    if spec.placing.near.is_none() {
        return Ok(());
    }
    let node = |id| state.node(id).map(|node| (id, &*node.inventory));
    let nodes: Option<Vec<_>> = nodes.map(node).collect();
    let near = nodes.is_some_and(|nodes| spec.placing.is_near_enough(&state.policy, &nodes));
    if near { Ok(()) } else { Err(Refusal::Malformed) }
}
