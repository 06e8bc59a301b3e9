//! What must always hold of claims.

use std::collections::BTreeMap;

use flowyard_model::{Claim, ClusterVersion, GpuIndex, NodeId, TaskKey, TaskState, limits};

use crate::check::{Held, hold};
use crate::reserve::is_within;
use crate::state::State;

/// Claims are of ready tasks, on room that there will be, and each has somebody leave for it or waits for somebody's end.
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
        if claim.is_reservation() {
            check_awaits(*key, claim)?;
        } else {
            check_evictions(state, *key, claim)?;
        }
        for seat in &claim.members {
            let node = state.node(seat.node).filter(|node| node.incarnation == seat.incarnation);
            let usable = node.is_some_and(|node| node.takes_work());
            hold(usable, "a claim is on nodes that are usable, as they were registered", place)?;
            let offered = |gpu: &GpuIndex| {
                let gpus = node.map_or(&[][..], |node| &node.inventory.gpus);
                gpus.get(gpu.0 as usize).is_some_and(|gpu| gpu.healthy)
            };
            hold(seat.gpus.iter().all(offered), "a claim is on devices that are given out", place)?;
            let alone = seat.gpus.iter().all(|gpu| *devices.entry((seat.node, *gpu)).or_insert(*key) == *key);
            hold(alone, "a device is claimed by one task", place)?;
        }
    }
    for (id, node) in state.nodes() {
        let fits =
            state.claimed_on(id).is_none() || is_within(&state.used_left(id, node), &node.inventory, &state.policy);
        hold(fits, "what is claimed of a node fits beside what stays there", || format!("node {id}"))?;
        let fits =
            state.reserved_on(id).is_none() || is_within(&state.used_then(id, node), &node.inventory, &state.policy);
        hold(fits, "what is reserved of a node fits beside what is not waited for", || format!("node {id}"))?;
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
    let takes = state.step_spec(key.job, key.step).is_some_and(|spec| spec.takes(claim.members.len()));
    hold(takes, "a claim has a seat for each rank", place)
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

/// Whoever is waited for is told once each, and as many as may be.
fn check_awaits(key: TaskKey, claim: &Claim) -> Held {
    let place = || format!("claim of {key:?}");
    hold(claim.awaits.is_sorted_by(|one, other| one < other), "who is waited for is told once and in order", place)?;
    hold(claim.awaits.len() <= limits::AWAITED, "a claim waits for so many at most", place)
}
