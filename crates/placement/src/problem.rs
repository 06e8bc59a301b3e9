//! What is asked: nodes with their room, and shapes of work with how many of each wait. Everything is a position in a list.

use std::collections::BTreeMap;

use crate::bits::Bits;

/// A question to the solver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The nodes; their position is their index.
    pub nodes: Vec<Node>,
    /// The work, most urgent first; their position is their index.
    pub shapes: Vec<Shape>,
    /// Sets of nodes that shapes refer to: those that satisfy the same conditions.
    pub eligible: Vec<Bits>,
    /// Bounds that shapes share: how many more tasks may be placed under each.
    pub quotas: Vec<u32>,
    /// Cost of a (shape, node), 0 where none is given. Cheaper nodes are taken first.
    pub costs: BTreeMap<(usize, usize), u64>,
}

/// Divisible amounts. Tokens are by position; a missing one is 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Scratch space in bytes.
    pub disk_bytes: u64,
    /// Tokens by their position.
    pub tokens: Vec<u32>,
}

/// A node: what it has in all, and what of it is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// All it has.
    pub all: Amounts,
    /// What is free.
    pub free: Amounts,
    /// Its devices; their position is their index.
    pub devices: Vec<Device>,
}

/// A device of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Number of its model; devices of equal models have equal numbers.
    pub model: u32,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Devices of a node with the same number are linked.
    pub link_group: Option<u32>,
    /// Whether it may be given out.
    pub healthy: bool,
    /// Thousandths of it that are free.
    pub free_milli: u32,
}

/// Work that is alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What each member needs.
    pub needs: Amounts,
    /// Alternatives of devices, the first that fits is taken; empty for none.
    pub wishes: Vec<Wish>,
    /// Members of a task, at least 1.
    pub size: u32,
    /// Position of the set of nodes it may go to.
    pub eligible: usize,
    /// Position of the quota it counts against.
    pub quota: Option<usize>,
    /// How many tasks to place at most.
    pub count: u32,
}

/// An acceptable set of devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wish {
    /// How many, at least 1.
    pub count: u32,
    /// Only of this model.
    pub model: Option<u32>,
    /// Only with at least this much memory.
    pub min_memory_bytes: u64,
    /// All in one link group.
    pub same_link_group: bool,
    /// Thousandths of each.
    pub share_milli: u32,
}

impl Amounts {
    /// None of anything.
    pub const NONE: Self = Self { cpu_milli: 0, memory_bytes: 0, disk_bytes: 0, tokens: Vec::new() };

    /// The amount of a token.
    pub fn token(&self, at: usize) -> u32 {
        self.tokens.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn take(&mut self, needs: &Self) {
        self.cpu_milli -= needs.cpu_milli;
        self.memory_bytes -= needs.memory_bytes;
        self.disk_bytes -= needs.disk_bytes;
        for (at, count) in needs.tokens.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.tokens[at] -= count;
        }
    }

    pub(crate) fn give_back(&mut self, needs: &Self) {
        self.cpu_milli += needs.cpu_milli;
        self.memory_bytes += needs.memory_bytes;
        self.disk_bytes += needs.disk_bytes;
        for (at, count) in needs.tokens.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.tokens[at] += count;
        }
    }
}

impl Wish {
    /// Whether the device is of the kind asked for.
    pub fn accepts(&self, device: &Device) -> bool {
        self.model.is_none_or(|model| model == device.model) && device.memory_bytes >= self.min_memory_bytes
    }

    /// Whether the device can be given now.
    pub(crate) fn can_take(&self, device: &Device) -> bool {
        device.healthy && device.free_milli >= self.share_milli && self.accepts(device)
    }
}

impl Problem {
    /// The same cluster with nothing running and all devices well: what could ever be.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut problem = self.clone();
        for node in &mut problem.nodes {
            node.free = node.all.clone();
            for device in &mut node.devices {
                device.healthy = true;
                device.free_milli = 1_000;
            }
        }
        problem
    }
}
