//! Devices that are not well, or that operators took out of use.
//!
//! Invariant: a device of the inventory that has a condition is `healthy` exactly if its condition lets it be given out. One without a
//! condition is as its agent registered it.

use std::sync::Arc;

use flowyard_model::{
    AttemptDesired, ChangeDevice, Changed, ClusterVersion, Condition, DeviceReport, DeviceState, GpuIndex, Inventory,
    Leaving, Node, NodeId, Rejection, Reply, SetDevices, TakenOut, TimeMs, limits,
};

use crate::check::{Held, hold};
use crate::job::stop_live_attempt;
use crate::node::unknown;
use crate::state::State;
use crate::{claims, surgery};

/// What is said of a device that its agent registers as not well, until it says why.
const UNSAID: &str = "its agent does not offer it";

/// Applies `SetDevices`. What was seen under another registration is void.
pub(crate) fn set(state: &mut State, changed: &mut Changed, wish: SetDevices) -> Reply {
    let Some(node) = state.node(wish.node) else { return unknown(wish.node) };
    if node.incarnation != wish.incarnation {
        return Reply::Done;
    }
    for report in wish.devices {
        observe(state, changed, wish.node, report);
    }
    Reply::Done
}

fn observe(state: &mut State, changed: &mut Changed, id: NodeId, report: DeviceReport) {
    let node = state.node(id).expect("the caller looked it up");
    let Some(at) = position(&node.inventory, &report.device) else { return };
    let before = node.devices.get(&report.device);
    let DeviceReport { device, state: health, reason } = report;
    if before.is_some_and(|before| before.state == health && before.reason == reason) {
        return;
    }
    let since = before.filter(|before| before.state == health).map_or(state.meta.time, |before| before.since);
    let out = before.and_then(|before| before.out.clone());
    put(state, changed, id, (at, device), Condition { state: health, reason, since, out });
    if health == DeviceState::Faulty {
        lose(state, changed, id, at);
    }
}

/// Applies `ChangeDevice`.
pub(crate) fn change(state: &mut State, changed: &mut Changed, wish: ChangeDevice) -> Reply {
    let ChangeDevice { node: id, device, out, by, reason } = wish;
    let Some(node) = state.node(id) else { return unknown(id) };
    for (path, text) in [("device.by", &by), ("device.reason", &reason)] {
        if text.len() > limits::TEXT_BYTES {
            let message = format!("at most {} bytes", limits::TEXT_BYTES);
            return Reply::Rejected(Rejection::Invalid { path: path.to_owned(), message });
        }
    }
    let Some(at) = position(&node.inventory, &device) else {
        let ids: Vec<_> = node.inventory.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
        let known = if ids.is_empty() { "it has none".to_owned() } else { format!("it has {}", ids.join(", ")) };
        let message = format!("node {} has no device `{}`; {known}", node.name, device.escape_debug());
        return Reply::Rejected(Rejection::Invalid { path: "device".to_owned(), message });
    };
    let now = state.meta.time;
    let well = |healthy: bool| if healthy { DeviceState::Healthy } else { DeviceState::Degraded };
    let known = node.devices.get(&device).cloned();
    let plain = || Condition {
        state: well(node.inventory.gpus[at.0 as usize].healthy),
        reason: String::new(),
        since: now,
        out: None,
    };
    let known = known.unwrap_or_else(plain);
    let out = out.then(|| Arc::new(TakenOut { by, reason, at: now }));
    put(state, changed, id, (at, device), Condition { out, ..known });
    Reply::Done
}

/// What is known of a device from now on.
fn put(state: &mut State, changed: &mut Changed, id: NodeId, (at, device): (GpuIndex, String), now: Condition) {
    let usable = now.is_usable();
    let node = Arc::make_mut(state.nodes.get_mut(&id).expect("the caller looked it up"));
    let was = node.inventory.gpus[at.0 as usize].healthy;
    if was != usable {
        Arc::make_mut(&mut node.inventory).gpus[at.0 as usize].healthy = usable;
    }
    match now.is_plain() {
        true => drop(node.devices.remove(&device)),
        false => drop(node.devices.insert(device, now)),
    }
    changed.nodes.insert(id);
    changed.placement |= usable && !was;
    if !usable {
        // Whoever others leave for, and whoever waits for others to end.
        let reserver = state.indexes.reserved_gpus.get(&(id, at)).copied();
        let promised: Vec<_> = state.claimant(id, at).into_iter().chain(reserver).collect();
        promised.into_iter().for_each(|key| claims::fall(state, changed, key));
    }
}

/// What holds the device has lost it: it is asked to stop, and ends when its agent says so, since its processes still run. The others of a
/// gang go on if they can.
fn lose(state: &mut State, changed: &mut Changed, id: NodeId, device: GpuIndex) {
    let holds = state.live_members(id).filter(|(.., member)| member.gpus.contains(&device));
    let wanted = holds.filter(|(_, attempt, _)| attempt.desired == AttemptDesired::Run);
    let members: Vec<_> = wanted.map(|(key, ..)| key).collect();
    for key in members {
        if !surgery::let_go(state, changed, id, key, Leaving::DeviceGone) {
            stop_live_attempt(state, changed, key.task);
            changed.jobs.insert(key.task.job);
        }
    }
}

/// What is known of the devices of a node that registers anew: its agent begins again with what it sees, and what operators took out
/// stays out, also while it is not there.
pub(crate) fn begin_anew(node: &mut Node, now: TimeMs) {
    let before = std::mem::take(&mut node.devices);
    for (device, known) in &before {
        let gone = position(&node.inventory, device).is_none();
        let out = known.out.clone().filter(|_| node.devices.len() < limits::NODE_GPUS);
        if let Some(out) = out.filter(|_| gone) {
            let condition =
                Condition { state: DeviceState::Healthy, reason: String::new(), since: now, out: Some(out) };
            node.devices.insert(device.clone(), condition);
        }
    }
    let inventory = Arc::make_mut(&mut node.inventory);
    for gpu in &mut inventory.gpus {
        let known = before.get(&gpu.id);
        let unwell = known.filter(|known| known.state != DeviceState::Healthy);
        let (state, reason, since) = match (gpu.healthy, unwell) {
            (true, _) => (DeviceState::Healthy, String::new(), now),
            (false, Some(known)) => (known.state, known.reason.clone(), known.since),
            (false, None) => (DeviceState::Degraded, UNSAID.to_owned(), now),
        };
        let condition = Condition { state, reason, since, out: known.and_then(|known| known.out.clone()) };
        gpu.healthy = condition.is_usable();
        if !condition.is_plain() {
            node.devices.insert(gpu.id.clone(), condition);
        }
    }
}

/// What is wrong with the first of some devices of a node that is known to be faulty.
pub(crate) fn fault(node: &Node, devices: &[GpuIndex]) -> Option<String> {
    let gpus = devices.iter().filter_map(|device| node.inventory.gpus.get(device.0 as usize));
    let mut known = gpus.filter_map(|gpu| node.devices.get_key_value(&gpu.id));
    let faulty = known.find(|(_, known)| known.state == DeviceState::Faulty);
    faulty.map(|(id, known)| format!("{id}, a device it held, is faulty: {}", known.reason))
}

/// That what is known of the devices of a node is what may be known.
pub(crate) fn check(state: &State, id: NodeId, node: &Node) -> Held {
    let place = || format!("devices of node {id}");
    let versioned = node.devices.is_empty() || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "nothing is recorded that older replicas do not know", place)?;
    hold(node.devices.len() <= 2 * limits::NODE_GPUS, "what is known of devices is bounded", place)?;
    for (device, known) in &node.devices {
        hold(!known.is_plain(), "of a device that is well there is nothing to say", place)?;
        let at = position(&node.inventory, device);
        let offered = at.map(|at| node.inventory.gpus[at.0 as usize].healthy);
        hold(offered.is_none_or(|offered| offered == known.is_usable()), "a device is offered as it is well", place)?;
        hold(at.is_some() || known.out.is_some(), "of a device that is gone only that it was taken out", place)?;
    }
    let wanted = state.live_members(id).filter(|(_, attempt, _)| attempt.desired == AttemptDesired::Run);
    for (key, _, member) in wanted.filter(|(.., member)| member.leaving.is_none()) {
        let well = fault(node, &member.gpus).is_none();
        hold(well, "nothing is to run on a faulty device", || format!("{key:?} on node {id}"))?;
    }
    Ok(())
}

fn position(inventory: &Inventory, device: &str) -> Option<GpuIndex> {
    inventory.gpus.iter().position(|gpu| gpu.id == device).map(|at| GpuIndex(at as u32))
}
