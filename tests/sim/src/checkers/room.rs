//! What a placement adds never takes a node beyond what it offers. (A node that comes back with less may hold more than it
//! offers; then nothing is added to it.)

use flowyard_model::{Command, NodeId};
use flowyard_state::State;

use super::{Checker, Seen, require};

pub(super) struct NoNodeIsOversubscribed;

impl Checker for NoNodeIsOversubscribed {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        if !matches!(seen.entry.command, Command::CommitPlan(_)) {
            return Ok(());
        }
        for id in &seen.effects.changed.nodes {
            let (cpu, memory, members) = held(seen.state, *id);
            let node = seen.state.node(*id).ok_or("a node is gone")?;
            let fits = cpu <= node.inventory.cpu_milli && memory <= node.inventory.memory_bytes;
            let before = held(seen.before, *id).2;
            require(fits || members <= before, || format!("node {id} is oversubscribed: {cpu} cpu, {memory} bytes"))?;
        }
        Ok(())
    }
}

/// CPU, memory and number of the members that live on a node.
fn held(state: &State, node: NodeId) -> (u64, u64, u64) {
    let members = state.live_members(node).filter_map(|(key, _, _)| state.step_spec(key.task.job, key.task.step));
    members.fold((0, 0, 0), |(cpu, memory, count), spec| {
        (cpu + spec.resources.cpu_milli, memory + spec.resources.memory_bytes, count + 1)
    })
}
