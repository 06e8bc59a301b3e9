//! Room for open ranks that find none: what they need is nobody else's on the nodes where it falls free first, so that it is not given away
//! in pieces meanwhile.
//!
//! It follows from the state alone and is worked out in each round: nothing is promised by it, and it ends with the gang's time.

use std::collections::BTreeMap;

use flowyard_model::{
    GpuIndex, GpuRequest, Inventory, Node, NodeId, Phase, Resources, StepSpec, TaskKey, TimeMs, Used,
};
use flowyard_state::State;

use crate::nodes::{self, When};
use crate::surgery;

/// Open ranks that are looked at, of those first that will be given up first.
const RANKS: usize = 16;

/// What is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// On which node how much.
    pub(crate) on: BTreeMap<NodeId, Used>,
    /// For which gangs.
    pub(crate) of: BTreeMap<TaskKey, Vec<NodeId>>,
}

/// What is kept for ranks that are open in this state.
pub(crate) fn kept(state: &State) -> Kept {
    let (mut kept, mut left) = (Kept::default(), RANKS);
    for (_, task) in state.repairs() {
        let Some(spec) = state.step_spec(task.job, task.step) else { continue };
        let Some(attempt) = state.task(task).and_then(|task| task.attempts.last()) else { continue };
        let beside = attempt.members.iter().find(|member| member.phase != Phase::Ended).map(|member| member.node);
        let open = attempt.repair().map_or(0, |repair| repair.open.len());
        // Where those may go that keep apart changes with what comes and goes elsewhere.
        let is_free = spec.placing.apart.is_empty() && spec.placing.spread.is_none();
        let Some(beside) = beside.filter(|_| is_free) else { continue };
        for _ in 0..open.min(left) {
            left -= 1;
            let Some((node, used)) = soonest(state, (task, spec), beside, &kept) else { break };
            let devices = used.gpu_milli.len();
            let all = kept.on.entry(node).or_insert_with(|| nothing(devices));
            nodes::count(all, &used, true);
            kept.of.entry(task).or_default().push(node);
        }
    }
    kept
}

fn nothing(devices: usize) -> Used {
    Used {
        cpu_milli: 0,
        memory_bytes: 0,
        disk_bytes: 0,
        gpu_milli: vec![0; devices],
        tokens: BTreeMap::new(),
        members: 0,
        declared: Vec::new(),
    }
}

/// Where a member finds room first if nobody else comes, and what it takes there.
fn soonest(state: &State, (task, spec): (TaskKey, &StepSpec), beside: NodeId, kept: &Kept) -> Option<(NodeId, Used)> {
    let policy = state.policy();
    let near = policy.domain(&state.node(beside)?.inventory);
    let needed = &near[..surgery::farthest(spec, policy).min(near.len())];
    let is_own = |id: NodeId| {
        let attempt = state.task(task).and_then(|task| task.attempts.last());
        let live = attempt.into_iter().flat_map(|attempt| &attempt.members).filter(|it| it.phase != Phase::Ended);
        live.map(|member| member.node).chain(kept.of.get(&task).into_iter().flatten().copied()).any(|node| node == id)
    };
    let may = |(id, node): &(NodeId, &std::sync::Arc<Node>)| {
        nodes::is_usable(node)
            && spec.allows(&node.inventory)
            && spec.connects(&node.inventory)
            && policy.domain(&node.inventory).starts_with(needed)
            && !(spec.placing.unique_host && is_own(*id))
    };
    let found = state.nodes().filter(may).filter_map(|(id, node)| {
        let (at, waited, used) = when(state, (task, spec), (id, &**node), kept.on.get(&id))?;
        Some(((at, waited, id), used))
    });
    found.min_by_key(|(order, _)| *order).map(|((.., id), used)| (id, used))
}

/// By when there is room for a member on a node, for how many it has to wait, and what it takes; nothing if there never is, or others are
/// promised room there.
fn when(
    state: &State,
    (task, spec): (TaskKey, &StepSpec),
    (id, node): (NodeId, &Node),
    kept: Option<&Used>,
) -> Option<(TimeMs, usize, Used)> {
    if state.claims_on(id).next().is_some() {
        return None;
    }
    let devices = node.inventory.gpus.len();
    let mut used = nodes::used(state, id, node, When::Now);
    kept.into_iter().for_each(|kept| nodes::count(&mut used, kept, true));
    if let Some(took) = room(state, spec, &node.inventory, &used) {
        return Some((TimeMs(0), 0, took));
    }
    let end = |key: TaskKey, leaves: bool| {
        if leaves { TimeMs(0) } else { state.ends_by(key).map_or(TimeMs(u64::MAX), |it| it.0) }
    };
    // Its own members end with it, and not before.
    let others = state.live_members(id).filter(|(key, ..)| key.task != task);
    let live = others.map(|(key, attempt, member)| {
        let wanted = state.step_spec(key.task.job, key.task.step).map(|spec| &spec.resources);
        let held = wanted.map(|wanted| nodes::used_by(wanted, &member.gpus, member.gpu_alternative, devices));
        (end(key.task, attempt.preempted.is_some()), key, held)
    });
    let mut live: Vec<_> = live.collect();
    live.sort_by_key(|(end, key, _)| (*end, *key));
    for (at, (end, _, held)) in live.into_iter().enumerate() {
        nodes::count(&mut used, &held?, false);
        if let Some(took) = room(state, spec, &node.inventory, &used) {
            return Some((end, at + 1, took));
        }
    }
    None
}

/// What a member takes of a node of which so much is held, if it has room.
fn room(state: &State, spec: &StepSpec, all: &Inventory, used: &Used) -> Option<Used> {
    let wants = &spec.resources;
    let devices = all.gpus.len();
    if wants.gpus.is_empty() {
        return fits(state, wants, (&[], 0), all, used).then(|| nodes::used_by(wants, &[], 0, devices));
    }
    (0..).zip(&wants.gpus).find_map(|(alternative, request)| {
        let gpus = free_devices(request, all, used)?;
        let taken = fits(state, wants, (&gpus, alternative), all, used);
        taken.then(|| nodes::used_by(wants, &gpus, alternative, devices))
    })
}

/// The first devices that a request accepts, that have so much free and are as near to each other as they have to be.
fn free_devices(request: &GpuRequest, all: &Inventory, used: &Used) -> Option<Vec<GpuIndex>> {
    let free = |at: usize| used.gpu_milli.get(at).copied().unwrap_or(0).saturating_add(request.share_milli) <= 1_000;
    let gpus = all.gpus.iter().enumerate().filter(|(at, gpu)| gpu.healthy && request.accepts(gpu) && free(*at));
    let mut groups: BTreeMap<Option<u32>, Vec<GpuIndex>> = BTreeMap::new();
    for (at, gpu) in gpus {
        let group = request.near().map(|link| gpu.group(link));
        // In no group, it is near to none.
        if group != Some(None) {
            groups.entry(group.flatten()).or_default().push(GpuIndex(at as u32));
        }
    }
    let count = request.count as usize;
    let mut gpus = groups.into_values().find(|gpus| gpus.len() >= count)?;
    gpus.truncate(count);
    Some(gpus)
}

fn fits(
    state: &State,
    wants: &Resources,
    (gpus, alternative): (&[GpuIndex], u32),
    all: &Inventory,
    used: &Used,
) -> bool {
    let mut then = used.clone();
    nodes::count(&mut then, &nodes::used_by(wants, gpus, alternative, all.gpus.len()), true);
    // Of what it does not need, more may be held than there is.
    nodes::is_within(&then, all, state.policy())
}

/// The nodes on which room is kept for open ranks of a gang, as often as there is room for one of them.
pub fn kept_for(state: &State, task: TaskKey) -> Vec<NodeId> {
    kept(state).of.remove(&task).unwrap_or_default()
}
