//! The nodes, as placement sees them: which class each is of, and what is free of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    Declared, Gpu, GpuIndex, GpuLink, GpuPortion, GpuRequest, Health, Inventory, Name, Node, NodeId, Policy, Resources,
    Standing, Used,
};
use flowyard_placement::{Amounts, Column, Device, Held, NodeFacts, NodeIndex};
use flowyard_state::State;

use crate::words::{Numbers, Words};

/// What steps ask of a node beside room: nodes of one class suit the same steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ClassKey {
    labels: BTreeMap<Name, String>,
    /// Containers, process isolation, the host's image, private networks, gangs.
    able: [bool; 5],
}

impl ClassKey {
    fn of(inventory: &Inventory) -> Self {
        let able = &inventory.abilities;
        let gangs = inventory.rendezvous.is_some();
        let able = [able.containers, able.process_isolation, able.host_image, able.private_networks, gangs];
        Self { labels: inventory.labels.clone(), able }
    }
}

/// The classes that there have been, each with an inventory that is of it.
#[derive(Debug)]
pub(crate) struct Classes {
    numbers: Numbers<ClassKey>,
    examples: Vec<Arc<Inventory>>,
}

impl Classes {
    pub(crate) fn none() -> Self {
        Self { numbers: Numbers::none(), examples: Vec::new() }
    }

    /// The class of an inventory, and whether it is a new one.
    pub(crate) fn of(&mut self, inventory: &Arc<Inventory>) -> (u32, bool) {
        let class = self.numbers.of(ClassKey::of(inventory));
        let new = class as usize == self.examples.len();
        if new {
            self.examples.push(inventory.clone());
        }
        (class, new)
    }

    /// An inventory of each class, by its number.
    pub(crate) fn examples(&self) -> &[Arc<Inventory>] {
        &self.examples
    }
}

/// A node's index is its id: ids are counted up and never given again, so equal nodes are ordered alike in every
/// scheduler.
pub(crate) fn index(node: NodeId) -> NodeIndex {
    NodeIndex(node.0 as u32)
}

/// The node of an index.
pub(crate) fn id(index: NodeIndex) -> NodeId {
    NodeId(u64::from(index.0))
}

/// Whether new work may be placed there.
pub(crate) fn is_usable(node: &Node) -> bool {
    node.takes_work()
}

/// Of which time it is asked what is free of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// What may be given out: neither held now nor promised to anybody once those who leave have left.
    Now,
    /// What is neither held nor promised once they have left, whoever waits for others to end.
    Then,
    /// What may be given out now to whom ends before those start who wait for others to end.
    Before,
    /// What is neither held nor promised once all have ended that are waited for.
    End,
}

impl When {
    /// What is promised of a node that counts then.
    pub(crate) fn kept(self, state: &State, id: NodeId) -> [Option<&Used>; 2] {
        match self {
            Self::Now | Self::End => [state.claimed_on(id), state.reserved_on(id)],
            Self::Then | Self::Before => [state.claimed_on(id), None],
        }
    }
}

/// What counts as held of a node.
pub(crate) fn used(state: &State, id: NodeId, node: &Node, when: When) -> Used {
    let mut used = node.used.clone();
    if let Some(leaving) = state.leaving_on(id) {
        combine(&mut used, leaving, u64::saturating_sub);
    }
    if let Some(claimed) = state.claimed_on(id) {
        combine(&mut used, claimed, u64::saturating_add);
    }
    let left = used.clone();
    if matches!(when, When::Now | When::End) {
        if let Some(awaited) = state.awaited_on(id) {
            combine(&mut used, awaited, u64::saturating_sub);
        }
        if let Some(reserved) = state.reserved_on(id) {
            combine(&mut used, reserved, u64::saturating_add);
        }
    }
    if matches!(when, When::Now | When::Before) {
        combine(&mut used, &left, u64::max);
        combine(&mut used, &node.used, u64::max);
    }
    used
}

/// What a member holds or would hold counts as held as well, or no more.
pub(crate) fn count(used: &mut Used, member: &Used, holds: bool) {
    combine(used, member, if holds { u64::saturating_add } else { u64::saturating_sub });
}

/// What one member holds of a node with so many devices.
pub(crate) fn used_by(wanted: &Resources, gpus: &[GpuIndex], alternative: u32, devices: usize) -> Used {
    let portion = wanted.gpus.get(alternative as usize).map_or(GpuPortion::NONE, GpuRequest::portion);
    let (mut gpu_milli, mut declared) = (vec![0; devices], Vec::new());
    if portion.memory_bytes > 0 && !gpus.is_empty() {
        declared.resize(devices, Declared::default());
    }
    for GpuIndex(at) in gpus {
        if let Some(milli) = gpu_milli.get_mut(*at as usize) {
            *milli = portion.share_milli;
        }
        if let Some(declared) = declared.get_mut(*at as usize) {
            *declared = Declared { share_milli: portion.share_milli, memory_bytes: portion.memory_bytes };
        }
    }
    let Resources { cpu_milli, memory_bytes, disk_bytes, ref tokens, .. } = *wanted;
    Used { cpu_milli, memory_bytes, disk_bytes, gpu_milli, tokens: tokens.clone(), members: 1, declared }
}

fn combine(used: &mut Used, with: &Used, by: impl Fn(u64, u64) -> u64) {
    let by_small = |one: u32, other: u32| u32::try_from(by(one.into(), other.into())).unwrap_or(u32::MAX);
    used.cpu_milli = by(used.cpu_milli, with.cpu_milli);
    used.memory_bytes = by(used.memory_bytes, with.memory_bytes);
    used.disk_bytes = by(used.disk_bytes, with.disk_bytes);
    combine_declared(used, with, &by);
    for (used, with) in used.gpu_milli.iter_mut().zip(&with.gpu_milli) {
        *used = by_small(*used, *with);
    }
    for (name, count) in &with.tokens {
        let used = used.tokens.entry(name.clone()).or_insert(0);
        *used = by_small(*used, *count);
    }
}

/// The same of what is held with declared memory. What is held without is combined by itself, so that the greater of two is
/// never less than either.
fn combine_declared(used: &mut Used, with: &Used, by: impl Fn(u64, u64) -> u64) {
    if used.declared.is_empty() && with.declared.is_empty() {
        return;
    }
    used.declared.resize(used.gpu_milli.len(), Declared::default());
    for (at, declared) in used.declared.iter_mut().enumerate() {
        let milli = |of: &[u32]| u64::from(of.get(at).copied().unwrap_or(0));
        let other = with.declared.get(at).copied().unwrap_or_default();
        let plain = |all: u64, declared: Declared| all.saturating_sub(u64::from(declared.share_milli));
        let (all, more) = (milli(&used.gpu_milli), milli(&with.gpu_milli));
        let sum_plain = by(plain(all, *declared), plain(more, other));
        declared.memory_bytes = by(declared.memory_bytes, other.memory_bytes);
        declared.share_milli = u32::try_from(by(all, more).saturating_sub(sum_plain)).unwrap_or(u32::MAX);
    }
}

/// What a node has and what of it may be given out now, where so much is kept for ranks.
pub(crate) fn facts_now(
    state: &State,
    (id, node): (NodeId, &Node),
    kept: Option<&Used>,
    class: u32,
    words: &mut Words,
) -> NodeFacts {
    let mut used = used(state, id, node, When::Now);
    kept.into_iter().for_each(|kept| count(&mut used, kept, true));
    facts(node, &used, When::Now.kept(state, id), class, words)
}

/// Whether no more counts as held of a node than there is, but for tokens that all nodes share.
pub(crate) fn is_within(used: &Used, inventory: &Inventory, policy: &Policy) -> bool {
    let memory = |(at, gpu): (usize, &Gpu)| {
        let declared = used.declared.get(at).copied().unwrap_or_default();
        let plain = used.gpu_milli.get(at).copied().unwrap_or(0).saturating_sub(declared.share_milli);
        let taken = u128::from(plain) * u128::from(gpu.memory_bytes) + u128::from(declared.memory_bytes) * 1_000;
        taken <= u128::from(gpu.memory_bytes) * 1_000
    };
    if !used.declared.is_empty() && !inventory.gpus.iter().enumerate().all(memory) {
        return false;
    }
    let mut own = used.tokens.iter().filter(|(name, _)| !policy.is_shared(name));
    used.cpu_milli <= inventory.cpu_milli
        && used.memory_bytes <= inventory.memory_bytes
        && used.disk_bytes <= inventory.disk_bytes
        && used.gpu_milli.iter().all(|milli| *milli <= 1_000)
        && own.all(|(name, count)| *count <= inventory.tokens.get(name).copied().unwrap_or(0))
}

/// What a node has and what of it is free, where so much counts as held. A device that is claimed is nobody else's,
/// whatever is free of it.
pub(crate) fn facts(node: &Node, used: &Used, kept: [Option<&Used>; 2], class: u32, words: &mut Words) -> NodeFacts {
    let inventory = &node.inventory;
    let all = all_of(inventory, words);
    let mut free = all.clone();
    let taken = words.amounts([used.cpu_milli, used.memory_bytes, used.disk_bytes], &used.tokens);
    free.cpu_milli = free.cpu_milli.saturating_sub(taken.cpu_milli);
    free.memory_bytes = free.memory_bytes.saturating_sub(taken.memory_bytes);
    free.disk_bytes = free.disk_bytes.saturating_sub(taken.disk_bytes);
    for (free, taken) in free.tokens.iter_mut().zip(taken.tokens) {
        *free = free.saturating_sub(taken);
    }
    let milli = |of: &Used, at: usize| of.gpu_milli.get(at).copied().unwrap_or(0);
    let devices = inventory.gpus.iter().enumerate().map(|(at, gpu)| Device {
        model: words.model(&gpu.model),
        memory_bytes: gpu.memory_bytes,
        groups: GpuLink::ALL.map(|link| gpu.group(link)),
        healthy: gpu.healthy && kept.iter().flatten().all(|kept| milli(kept, at) == 0),
        free_milli: 1_000_u32.saturating_sub(milli(used, at)),
        part: gpu.part.is_some(),
        free_memory: (!used.declared.is_empty()).then(|| used.free_memory(at, gpu.memory_bytes)),
    });
    let avoided = node.standing() == Standing::Avoided;
    NodeFacts { class, devices: devices.collect(), all, free, avoided }
}

fn all_of(inventory: &Inventory, words: &mut Words) -> Amounts {
    words.amounts([inventory.cpu_milli, inventory.memory_bytes, inventory.disk_bytes], &inventory.tokens)
}

/// What there is of a node that may be given out now, by the columns of queues.
pub(crate) fn free(facts: &NodeFacts) -> Held {
    let NodeFacts { free, devices, .. } = facts;
    let tokens = free.tokens.iter().enumerate().map(|(at, count)| (Column::Token(at as u32), u64::from(*count)));
    let fixed = [(Column::Cpu, free.cpu_milli), (Column::Memory, free.memory_bytes), (Column::Disk, free.disk_bytes)];
    let mut held: Held = fixed.into_iter().chain(tokens).collect();
    for device in devices.iter().filter(|device| device.healthy) {
        for column in [Column::Gpus, Column::Gpu(device.model)] {
            let sum = held.get(column) + u64::from(device.free_milli);
            held = held.with(column, sum);
        }
    }
    held
}

/// What a node adds to the capacity of which queues have their shares: all of a node that is there, also of one that
/// takes no new work, and nothing of one that is down.
pub(crate) fn capacity(node: &Node, words: &mut Words) -> Held {
    if node.health == Health::Down {
        return Held::NONE;
    }
    let inventory = &node.inventory;
    let fixed = [
        (Column::Cpu, inventory.cpu_milli),
        (Column::Memory, inventory.memory_bytes),
        (Column::Disk, inventory.disk_bytes),
        (Column::Gpus, 1_000 * inventory.gpus.len() as u64),
    ];
    let mut held: Held = fixed.into_iter().collect();
    for gpu in &inventory.gpus {
        let column = Column::Gpu(words.model(&gpu.model));
        held = {
            let sum = held.get(column) + 1_000;
            held.with(column, sum)
        };
    }
    let tokens = words.amounts([0; 3], &inventory.tokens).tokens;
    for (at, count) in tokens.into_iter().enumerate() {
        held = held.with(Column::Token(at as u32), u64::from(count));
    }
    held
}
