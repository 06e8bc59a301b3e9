//! Effects name every job and node that changed: who only listens to them misses nothing.

use std::sync::Arc;

use flowyard_model::NodeId;
use flowyard_state::State;

use super::{Checker, Seen, require};

pub(super) struct ChangesAreNamed;

impl Checker for ChangesAreNamed {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let changed = &seen.effects.changed;
        for (id, job) in seen.state.jobs() {
            let same = seen.before.job(id).is_some_and(|before| Arc::ptr_eq(before, job) || before == job);
            let steps = seen.state.steps(id).zip(seen.before.steps(id)).all(|(now, before)| now.1 == before.1);
            require((same && steps) || changed.jobs.contains(&id), || format!("job {id} changed and is not named"))?;
        }
        for (id, node) in seen.state.nodes() {
            let same = seen.before.node(id).is_some_and(|before| Arc::ptr_eq(before, node) || before == node);
            let told = same && desired(seen.before, id) == desired(seen.state, id);
            require(told || changed.nodes.contains(&id), || format!("node {id} changed and is not named"))?;
        }
        let moved = seen.before.next_deadline() != seen.state.next_deadline();
        require(moved == changed.deadline, || "the deadline changed and is not named".to_owned())?;
        let more = seen.state.ready_steps().any(|step| !seen.before.ready_steps().any(|before| before == step));
        require(!more || changed.placement, || "work became ready and is not named".to_owned())
    }
}

/// What a node should run and stop.
fn desired(state: &State, node: NodeId) -> Vec<impl PartialEq> {
    state.live_members(node).map(|(key, attempt, _)| (key, attempt.desired)).collect()
}
