//! What counts as held of a node for a task that waits, by column: counted from what lives there and from what is
//! promised to others.

use std::collections::BTreeMap;

use flowyard_model::*;

use crate::world::World;

/// Amounts by what they are of: `cpu`, `memory`, `disk`, tokens by their names, and thousandths of devices by their
/// places.
pub(crate) type Columns = BTreeMap<String, u64>;

/// What is held now, or will be once whoever was asked to leave has left and is followed by whom they leave for, or
/// once all have ended in addition that somebody waits for and those have started, unless the task will have ended by
/// then: the most of each. A device of which anything is promised is nobody else's.
pub(crate) fn counted(world: &World, task: TaskKey, node: NodeId) -> Columns {
    let state = &world.state;
    let claims: Vec<_> = state.claims().filter(|(key, _)| **key != task).collect();
    let goes_before = goes_before(world, task, node);
    let (mut now, mut left, mut then) = (Columns::new(), Columns::new(), Columns::new());
    for (key, attempt, member) in state.live_members(node) {
        let leaves = attempt.preempted.is_some();
        let is_awaited = claims.iter().any(|(_, claim)| claim.awaits.iter().any(|it| it.task == key.task));
        let held = one(world, key.task, &member.gpus, member.gpu_alternative);
        add(&mut now, &held);
        (!leaves).then(|| add(&mut left, &held));
        (!leaves && !is_awaited).then(|| add(&mut then, &held));
    }
    let mut promised = Columns::new();
    for (key, claim) in claims {
        for seat in claim.members.iter().filter(|seat| seat.node == node) {
            let held = one(world, *key, &seat.gpus, seat.gpu_alternative);
            (!claim.is_reservation()).then(|| add(&mut left, &held));
            add(&mut then, &held);
            if !claim.is_reservation() || !goes_before {
                promised.extend(seat.gpus.iter().map(|gpu| (device(gpu.0 as usize), 1_000)));
            }
        }
    }
    let counts = [now, left, if goes_before { Columns::new() } else { then }, promised];
    let mut most = Columns::new();
    for (column, amount) in counts.into_iter().flatten() {
        let known = most.entry(column).or_insert(0);
        *known = amount.max(*known);
    }
    most
}

/// Whether the task will have ended before any of those starts who wait for others to end on a node.
fn goes_before(world: &World, task: TaskKey, node: NodeId) -> bool {
    let state = &world.state;
    let timeout = state.step_spec(task.job, task.step).unwrap().timeout_ms;
    let ends = timeout.map(|timeout| state.time().after(timeout));
    let claims = state.claims().filter(|(key, claim)| **key != task && claim.is_reservation());
    let mut here = claims.filter(|(_, claim)| claim.members.iter().any(|seat| seat.node == node));
    here.all(|(_, claim)| ends.zip(claim.starts_at).is_some_and(|(ends, at)| ends <= at))
}

pub(crate) fn device(at: usize) -> String {
    format!("gpu {at}")
}

fn one(world: &World, task: TaskKey, gpus: &[GpuIndex], alternative: u32) -> Columns {
    let wants = &world.state.step_spec(task.job, task.step).unwrap().resources;
    let share = wants.gpus.get(alternative as usize).map_or(0, |request| u64::from(request.share_milli));
    let fixed = [("cpu", wants.cpu_milli), ("memory", wants.memory_bytes), ("disk", wants.disk_bytes)];
    let fixed = fixed.into_iter().map(|(column, amount)| (column.to_owned(), amount));
    let tokens = wants.tokens.iter().map(|(name, amount)| (name.to_string(), u64::from(*amount)));
    fixed.chain(tokens).chain(gpus.iter().map(|gpu| (device(gpu.0 as usize), share))).collect()
}

fn add(sum: &mut Columns, more: &Columns) {
    more.iter().for_each(|(column, amount)| *sum.entry(column.clone()).or_insert(0) += amount);
}
