//! What must always hold of claims.

use std::collections::BTreeMap;

use flowyard_model::{
    Claim, ClusterVersion, GpuIndex, Health, Inventory, NodeId, Scheduling, TaskKey, TaskState, Used, limits,
};

use crate::check::{Held, hold};
use crate::state::State;

/// Claims are of ready tasks, on room that there will be, and each has somebody leave for it.
pub(crate) fn check(state: &State) -> Held {
    let versioned = state.claims.is_empty() || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "claims are kept from their cluster version on", || "state".to_owned())?;
    hold(state.claims.len() <= limits::CLAIMS, "there are only so many claims", || "state".to_owned())?;
    let mut devices: BTreeMap<(NodeId, GpuIndex), TaskKey> = BTreeMap::new();
    for (key, claim) in state.claims() {
        let place = || format!("claim of {key:?}");
        check_task(state, *key, claim)?;
        let times = claim.made_at <= state.time() && claim.made_at <= claim.until;
        hold(times, "a claim was made, and ends after that", place)?;
        check_evictions(state, *key, claim)?;
        for seat in &claim.members {
            let node = state.node(seat.node).filter(|node| node.incarnation == seat.incarnation);
            let usable = node.is_some_and(|node| node.health == Health::Up && node.scheduling == Scheduling::Open);
            hold(usable, "a claim is on nodes that are usable, as they were registered", place)?;
            let alone = seat.gpus.iter().all(|gpu| *devices.entry((seat.node, *gpu)).or_insert(*key) == *key);
            hold(alone, "a device is claimed by one task", place)?;
        }
    }
    for (id, node) in state.nodes().filter(|(id, _)| state.claimed_on(*id).is_some()) {
        let fits = within(&state.used_then(id, node), &node.inventory);
        hold(fits, "what is claimed of a node fits beside what stays there", || format!("node {id}"))?;
    }
    Ok(())
}

/// The task can be placed, and this would be its next attempt.
fn check_task(state: &State, key: TaskKey, claim: &Claim) -> Held {
    let place = || format!("claim of {key:?}");
    let ready = match state.task_state(key) {
        Some(TaskState::Ready) => true,
        Some(TaskState::Waiting(until)) => until <= state.time(),
        _ => false,
    };
    hold(ready, "a claim is of a ready task", place)?;
    let attempts = state.task(key).map_or(0, |task| task.attempts.len());
    hold(claim.attempt.0 as usize == attempts + 1, "a claim is for the next attempt", place)?;
    let size = state.step_spec(key.job, key.step).map_or(0, |spec| spec.size as usize);
    hold(claim.members.len() == size, "a claim has a seat for each rank", place)
}

/// Whoever was asked to leave, as far as it is remembered, was evicted for it.
fn check_evictions(state: &State, key: TaskKey, claim: &Claim) -> Held {
    let place = || format!("claim of {key:?}");
    hold(!claim.evictions.is_empty(), "somebody leaves for a claim", place)?;
    let remembered = claim.evictions.iter().filter_map(|it| Some((it, state.attempt(it.task, it.attempt)?)));
    let mut kinds =
        remembered.map(|(it, attempt)| attempt.preempted.map(|evicted| (evicted.by, evicted.kind, it.kind)));
    let evicted = kinds.all(|evicted| evicted.is_some_and(|(by, as_kind, kind)| by == key && as_kind == kind));
    hold(evicted, "whoever leaves for a claim was evicted for it", place)
}

fn within(used: &Used, all: &Inventory) -> bool {
    let plain = used.cpu_milli <= all.cpu_milli
        && used.memory_bytes <= all.memory_bytes
        && used.disk_bytes <= all.disk_bytes
        && used.gpu_milli.iter().all(|milli| *milli <= 1_000);
    plain && used.tokens.iter().all(|(name, count)| *count <= all.tokens.get(name).copied().unwrap_or(0))
}
