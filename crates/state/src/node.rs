//! Nodes: registration, health, and whether they take work.
//!
//! Invariant: every live member carries the present incarnation of its node.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    AttemptDesired, Blame, Changed, ClusterVersion, GpuIndex, Health, Incarnation, Inventory, Leaving, MemberKey, Node,
    NodeId, OnDisconnect, Reason, RegisterNode, Rejection, Reply, Scheduling,
};

use crate::attempt::{end_member, lost};
use crate::job::stop_live_attempt;
use crate::state::State;
use crate::task::edit_attempt;
use crate::{claims, device, discredit, evict, holding, reserve, room, surgery};

/// What the end of a member says that lost a device.
pub(crate) const DEVICE_GONE: &str = "a device it held is gone";

/// Applies `RegisterNode`.
///
/// An agent that remembers being this node keeps its attempts, whichever registration it remembers: the reply to a later
/// one may have been lost on its way. One that remembers nothing takes the name over, unless the agent that holds it is
/// heard from, or may still run what must never run twice; what ran under the old registration is lost.
pub(crate) fn register(state: &mut State, changed: &mut Changed, wish: RegisterNode) -> Reply {
    let Some(id) = state.indexes.node_names.get(&wish.name).copied() else {
        return register_first(state, changed, wish);
    };
    let node = state.node(id).expect("a named node exists");
    let remembered = wish.previous.filter(|(previous, _)| *previous == id);
    if remembered.is_none() && is_held(state, id, node, &wish) {
        return Reply::Rejected(Rejection::NodeNameTaken { name: wish.name });
    }
    let newest = remembered.map_or(node.incarnation, |(_, incarnation)| node.incarnation.max(incarnation));
    let old = node.inventory.clone();
    claims::fall_on(state, changed, id);
    reserve::fall_awaiting(state, changed, id);
    if remembered.is_none() {
        if state.live_keys(id).next().is_some() {
            discredit::by_loss(state, changed, id);
        }
        lose_members(state, changed, id, "the agent came back without memory of it");
    } else {
        lose_missing_devices(state, changed, id, &old, &wish.inventory);
    }
    // What an agent says it remembers is bounded where it enters; here it may at least not end the process.
    let incarnation = Incarnation(newest.0.saturating_add(1));
    let held = give_back(state, id);
    renew(state, changed, id, incarnation, wish.inventory);
    adopt(state, id, incarnation, &old);
    for key in held {
        let (held, leaves) = (holding::held_by_live(state, key), is_leaving(state, key));
        holding::take(state, key.task, &held, leaves);
        if leaves {
            evict::leave_node(state, id, key);
        }
    }
    Reply::Registered { node: id, incarnation }
}

/// Whether a node is not to be had by an agent that was never it. Until a node is down, the lease may still run under which
/// what must never run twice runs there; before cluster version 2 that was not looked at.
fn is_held(state: &State, id: NodeId, node: &Node, wish: &RegisterNode) -> bool {
    if state.version() < ClusterVersion::ACCESS {
        return wish.previous.is_none() && node.health == Health::Up;
    }
    let leased = |key: MemberKey| {
        let spec = state.step_spec(key.task.job, key.task.step);
        spec.is_some_and(|spec| spec.on_disconnect == OnDisconnect::Stop)
    };
    match node.health {
        Health::Up => true,
        Health::Suspect => state.live_keys(id).any(leased),
        Health::Down => false,
    }
}

fn register_first(state: &mut State, changed: &mut Changed, wish: RegisterNode) -> Reply {
    let id = state.meta.next_node;
    state.meta.next_node = NodeId(id.0 + 1);
    let incarnation = Incarnation(1);
    state.indexes.node_names.insert(wish.name.clone(), id);
    let mut node = Node {
        name: wish.name,
        incarnation,
        used: room::unused(wish.inventory.gpus.len()),
        inventory: wish.inventory,
        health: Health::Up,
        scheduling: Scheduling::Open,
        closure: None,
        registered_at: state.meta.time,
        discredit: None,
        devices: BTreeMap::new(),
    };
    if state.version() >= ClusterVersion::ACCESS {
        device::begin_anew(&mut node, state.meta.time);
    }
    state.nodes.insert(id, Arc::new(node));
    discredit::openness_changed(state, changed, id);
    changed.nodes.insert(id);
    changed.placement = true;
    Reply::Registered { node: id, incarnation }
}

/// Gives back, for their queues and where it is leaving, what the live members of a node hold by its present inventory; tells which they are.
fn give_back(state: &mut State, id: NodeId) -> Vec<MemberKey> {
    let members: Vec<_> = state.live_keys(id).collect();
    for key in &members {
        let (held, leaves) = (holding::held_by_live(state, *key), is_leaving(state, *key));
        holding::give_back(state, key.task, &held, leaves);
    }
    state.indexes.leaving.remove(&id);
    members
}

/// Whether a live member is of an attempt that was evicted.
pub(crate) fn is_leaving(state: &State, key: MemberKey) -> bool {
    state.attempt(key.task, key.attempt).is_some_and(|attempt| attempt.preempted.is_some())
}

fn renew(state: &mut State, changed: &mut Changed, id: NodeId, incarnation: Incarnation, inventory: Arc<Inventory>) {
    let (now, version) = (state.meta.time, state.version());
    let node = Arc::make_mut(state.nodes.get_mut(&id).expect("a named node exists"));
    node.incarnation = incarnation;
    node.inventory = inventory;
    if version >= ClusterVersion::ACCESS {
        device::begin_anew(node, now);
    }
    node.health = Health::Up;
    node.registered_at = now;
    changed.nodes.insert(id);
    changed.placement = true;
    discredit::openness_changed(state, changed, id);
}

/// The live members go on under the new registration. Devices are found again by their id: positions may have changed.
fn adopt(state: &mut State, id: NodeId, incarnation: Incarnation, old: &Inventory) {
    let inventory = state.node(id).expect("a named node exists").inventory.clone();
    let moved = moved_devices(old, &inventory);
    let members: Vec<_> = state.live_keys(id).collect();
    let mut used = room::unused(inventory.gpus.len());
    for key in members {
        let spec = state.outline(key.task.job).expect("a live member has a job").spec.clone();
        let wanted = &spec.steps[key.task.step.0 as usize].resources;
        edit_attempt(state, key, |attempt| {
            let member = &mut attempt.members[key.rank.0 as usize];
            member.incarnation = incarnation;
            member.gpus = member.gpus.iter().filter_map(|gpu| moved.get(gpu).copied()).collect();
            room::add(&mut used, wanted, &member.gpus, room::share(wanted, member.gpu_alternative));
        });
    }
    Arc::make_mut(state.nodes.get_mut(&id).expect("a named node exists")).used = used;
}

/// Where the devices of the old inventory are in the new one.
fn moved_devices(old: &Inventory, new: &Inventory) -> BTreeMap<GpuIndex, GpuIndex> {
    let place: BTreeMap<&str, usize> = new.gpus.iter().enumerate().map(|(at, gpu)| (gpu.id.as_str(), at)).collect();
    let indexed = old.gpus.iter().enumerate();
    indexed.filter_map(|(at, gpu)| Some((GpuIndex(at as u32), GpuIndex(*place.get(gpu.id.as_str())? as u32)))).collect()
}

/// Members that hold a device which is gone have lost it, and all with it: they are asked to stop, and end when their agent
/// says so, since their processes still run. Before cluster version 2 they ended at once.
fn lose_missing_devices(state: &mut State, changed: &mut Changed, id: NodeId, old: &Inventory, new: &Inventory) {
    let moved = moved_devices(old, new);
    let holds_missing = |key: &MemberKey| {
        let attempt = state.attempt(key.task, key.attempt).expect("a live member has an attempt");
        attempt.members[key.rank.0 as usize].gpus.iter().any(|gpu| !moved.contains_key(gpu))
    };
    let members: Vec<_> = state.live_keys(id).filter(holds_missing).collect();
    for key in members {
        if state.version() < ClusterVersion::ACCESS {
            end_member(state, changed, id, key, lost(Reason::Device, Blame::Hardware, DEVICE_GONE));
        } else if state.attempt(key.task, key.attempt).is_some_and(|attempt| attempt.desired == AttemptDesired::Run)
            && !surgery::let_go(state, changed, id, key, Leaving::DeviceGone)
        {
            stop_live_attempt(state, changed, key.task);
            changed.jobs.insert(key.task.job);
        }
    }
}

/// All live members of the node end as lost.
fn lose_members(state: &mut State, changed: &mut Changed, id: NodeId, message: &str) {
    let members: Vec<_> = state.live_keys(id).collect();
    for key in members {
        end_member(state, changed, id, key, lost(Reason::NodeLost, Blame::Platform, message));
    }
}

/// Applies `SetNodeHealth`. What was concluded about another registration is void.
pub(crate) fn set_health(
    state: &mut State,
    changed: &mut Changed,
    id: NodeId,
    incarnation: Incarnation,
    health: Health,
) -> Reply {
    let Some(node) = state.nodes.get_mut(&id) else { return unknown(id) };
    if node.incarnation != incarnation || node.health == health {
        return Reply::Done;
    }
    Arc::make_mut(node).health = health;
    if health != Health::Up {
        claims::fall_on(state, changed, id);
    }
    changed.nodes.insert(id);
    changed.placement |= health == Health::Up;
    discredit::openness_changed(state, changed, id);
    if health == Health::Down {
        discredit::by_loss(state, changed, id);
        lose_members(state, changed, id, "its node was declared down");
    }
    Reply::Done
}

pub(crate) fn unknown(id: NodeId) -> Reply {
    Reply::Rejected(Rejection::UnknownNode { node: id.to_string() })
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Command, Entry, Revision, TimeMs};

    use super::*;
    use crate::apply;

    #[test]
    fn an_absurd_number_of_a_former_registration_ends_no_replica() {
        let mut state = State::new();
        let inventory = Arc::new(Inventory {
            cpu_milli: 1,
            memory_bytes: 1,
            disk_bytes: 0,
            gpus: vec![],
            tokens: BTreeMap::new(),
            labels: BTreeMap::new(),
            abilities: flowyard_model::Abilities {
                containers: true,
                process_isolation: true,
                host_image: true,
                private_networks: false,
                separation: String::new(),
                enforcement: String::new(),
                agent_version: String::new(),
                system: String::new(),
            },
            rendezvous: None,
        });
        for (index, previous) in [(1, None), (2, Some((NodeId(1), Incarnation(u64::MAX)))), (3, None)] {
            let health = Command::SetNodeHealth {
                node: NodeId(1),
                incarnation: state.node(NodeId(1)).map_or(Incarnation(0), |node| node.incarnation),
                health: Health::Suspect,
            };
            let name = "n1".parse().unwrap();
            let register = Command::RegisterNode(RegisterNode { name, inventory: inventory.clone(), previous });
            for (at, command) in [(10 * index, health), (10 * index + 1, register)] {
                apply(&mut state, Entry { index: Revision(at), time: TimeMs(1), command });
            }
        }
        assert_eq!(state.node(NodeId(1)).unwrap().incarnation, Incarnation(u64::MAX));
        crate::check_all(&state).unwrap();
    }
}
