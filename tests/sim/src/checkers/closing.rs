//! Nothing new lives on a closed node; nothing that may go on lives on one whose drain is over; only an empty node is forgotten.

use std::collections::BTreeSet;

use flowyard_model::{AttemptDesired, Drain, MemberKey, NodeId, Scheduling, Standing};
use flowyard_state::State;

use super::{Checker, Seen, require};

pub(super) struct ClosedNodesEmpty;

impl Checker for ClosedNodesEmpty {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let changed = seen.effects.changed.nodes.iter().filter_map(|id| Some((*id, seen.state.node(*id)?)));
        for (id, node) in changed.filter(|(_, node)| node.scheduling == Scheduling::Drained) {
            let (before, now) = (live(seen.before, id), live(seen.state, id));
            require(now.is_subset(&before), || format!("something new lives on the closed node {id}"))?;
            let drain = node.closure.as_ref().and_then(|closure| closure.drain);
            let overdue = matches!(drain, Some(Drain::Stopping(_)));
            let goes_on = seen
                .state
                .live_members(id)
                .any(|(_, attempt, member)| attempt.desired == AttemptDesired::Run && member.leaving.is_none());
            require(!(overdue && goes_on), || format!("the drain of node {id} is due, and something goes on there"))?;
        }
        for (id, before) in seen.before.nodes().filter(|(_, node)| node.standing() == Standing::Shunned) {
            let shunned = seen.state.node(id).is_some_and(|node| node.discredit == before.discredit);
            let newly = || !live(seen.state, id).is_subset(&live(seen.before, id));
            require(!shunned || !newly(), || format!("something new lives on the shunned node {id}"))?;
        }
        for id in seen.differences.nodes.iter().copied() {
            if seen.before.node(id).is_none() || seen.state.node(id).is_some() {
                continue;
            }
            require(live(seen.before, id).is_empty(), || format!("node {id} was forgotten with what lives on it"))?;
            require(seen.effects.changed.nodes.contains(&id), || format!("node {id} was forgotten and is not named"))?;
        }
        Ok(())
    }
}

fn live(state: &State, node: NodeId) -> BTreeSet<MemberKey> {
    state.live_members(node).map(|(key, ..)| key).collect()
}
