//! Effects name every job and node that changed: who only listens to them misses nothing. Looked at for some entries together.

use std::sync::Arc;

use flowyard_model::{Changed, NodeId};
use flowyard_state::{State, View};

use super::{Checker, Seen, require};

/// Entries that are looked at together.
const ENTRIES: u64 = 8;

pub(super) struct ChangesAreNamed {
    before: Option<View>,
    changed: Changed,
}

impl ChangesAreNamed {
    pub(super) fn new() -> Self {
        Self { before: None, changed: Changed::nothing() }
    }
}

impl Checker for ChangesAreNamed {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let before = self.before.get_or_insert_with(|| seen.before.clone()).clone();
        self.changed.merge(seen.effects.changed.clone());
        let moved = seen.before.next_deadline() != seen.state.next_deadline();
        require(moved == seen.effects.changed.deadline, || "the deadline changed and is not named".to_owned())?;
        if !seen.entry.index.0.is_multiple_of(ENTRIES) {
            return Ok(());
        }
        self.before = None;
        let changed = std::mem::replace(&mut self.changed, Changed::nothing());
        for (id, job) in seen.state.jobs().filter(|(id, _)| !changed.jobs.contains(id)) {
            let same = before.job(id).is_some_and(|before| Arc::ptr_eq(before, job) || before == job);
            let mut steps = seen.state.steps(id).zip(before.steps(id));
            let steps = steps.all(|((_, now), (_, before))| Arc::ptr_eq(now, before) || now == before);
            require(same && steps, || format!("job {id} changed and is not named"))?;
        }
        for (id, node) in seen.state.nodes().filter(|(id, _)| !changed.nodes.contains(id)) {
            let same = before.node(id).is_some_and(|before| Arc::ptr_eq(before, node) || before == node);
            let told = same && desired(&before, id) == desired(seen.state, id);
            require(told, || format!("node {id} changed and is not named"))?;
        }
        let more = || seen.state.ready_steps().any(|step| !before.ready_steps().any(|before| before == step));
        require(changed.placement || !more(), || "work became ready and is not named".to_owned())
    }
}

/// What a node should run and stop.
fn desired(state: &State, node: NodeId) -> Vec<impl PartialEq> {
    state.live_members(node).map(|(key, attempt, _)| (key, attempt.desired)).collect()
}
