//! The nodes, as placement sees them: which class each is of, and what is free of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{Health, Inventory, Name, Node, NodeId, Scheduling};
use flowyard_placement::{Amounts, Column, Device, Held, NodeFacts, NodeIndex};

use crate::words::{Numbers, Words};

/// What steps ask of a node beside room: nodes of one class suit the same steps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ClassKey {
    labels: BTreeMap<Name, String>,
    /// Containers, process isolation, the host's image, private networks.
    able: [bool; 4],
}

impl ClassKey {
    fn of(inventory: &Inventory) -> Self {
        let able = &inventory.abilities;
        let able = [able.containers, able.process_isolation, able.host_image, able.private_networks];
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

/// A node's index is its id: ids are counted up and never given again, so equal nodes are ordered alike in every scheduler.
pub(crate) fn index(node: NodeId) -> NodeIndex {
    NodeIndex(node.0 as u32)
}

/// The node of an index.
pub(crate) fn id(index: NodeIndex) -> NodeId {
    NodeId(u64::from(index.0))
}

/// Whether new work may be placed there.
pub(crate) fn is_usable(node: &Node) -> bool {
    node.health == Health::Up && node.scheduling == Scheduling::Open
}

/// What a node has and what of it is free.
pub(crate) fn facts(node: &Node, class: u32, words: &mut Words) -> NodeFacts {
    let (inventory, used) = (&node.inventory, &node.used);
    let all = all_of(inventory, words);
    let mut free = all.clone();
    let taken = words.amounts([used.cpu_milli, used.memory_bytes, used.disk_bytes], &used.tokens);
    free.cpu_milli = free.cpu_milli.saturating_sub(taken.cpu_milli);
    free.memory_bytes = free.memory_bytes.saturating_sub(taken.memory_bytes);
    free.disk_bytes = free.disk_bytes.saturating_sub(taken.disk_bytes);
    for (free, taken) in free.tokens.iter_mut().zip(taken.tokens) {
        *free = free.saturating_sub(taken);
    }
    let devices = inventory.gpus.iter().enumerate().map(|(at, gpu)| Device {
        model: words.model(&gpu.model),
        memory_bytes: gpu.memory_bytes,
        link_group: gpu.link_group,
        healthy: gpu.healthy,
        free_milli: 1_000_u32.saturating_sub(used.gpu_milli.get(at).copied().unwrap_or(0)),
    });
    NodeFacts { class, devices: devices.collect(), all, free }
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

/// What a node adds to the capacity of which queues have their shares: all of a node that is there, also of one that takes no new
/// work, and nothing of one that is down.
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
