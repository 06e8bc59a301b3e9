//! What is promised of a node to others: nobody else finds room in it, so it counts as taken.

use std::borrow::Cow;

use flowyard_model::{Node, NodeId, TaskKey, Used};
use flowyard_state::State;

use crate::nodes::{self, When};

/// A node as it is for a task: what is promised to others is held already. What will have ended before somebody starts who waits for
/// others to end may have that room until then; what is kept for open ranks of gangs nobody may.
pub(crate) fn with<'a>(
    state: &State,
    task: TaskKey,
    (id, node): (NodeId, &'a Node),
    kept: Option<&Used>,
) -> Cow<'a, Node> {
    if state.claims_on(id).next().is_none() && state.leaving_on(id).is_none() && kept.is_none() {
        return Cow::Borrowed(node);
    }
    let when = if state.may_go_before(task, id) { When::Before } else { When::Now };
    let mut node = node.clone();
    node.used = nodes::used(state, id, &node, when);
    kept.into_iter().for_each(|kept| nodes::count(&mut node.used, kept, true));
    // A device of which anything is promised is nobody else's, even if it is not needed whole.
    for kept in when.kept(state, id).into_iter().flatten() {
        let devices = kept.gpu_milli.iter().enumerate().filter(|(_, milli)| **milli > 0);
        devices.for_each(|(at, _)| node.used.gpu_milli[at] = 1_000);
    }
    Cow::Owned(node)
}
