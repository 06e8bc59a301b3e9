//! Which node is better. Lower is better; ties go by the node's position, counted from where the seed says.

use crate::fit::capacity;
use crate::problem::{Amounts, Node, Shape, Wish};

/// A node's place in the order. Compared field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// What the problem says it costs.
    cost: u64,
    /// Whether work without devices would take room beside devices.
    beside_devices: bool,
    /// For a gang: members that would not fit beside the first.
    scattered: u64,
    /// For work with devices: thousandths of acceptable devices left free.
    devices_left: u64,
    /// 1/1024 of the scarcest amount: what is in use for work that is spread, what is left for work that is packed.
    fullness: u64,
    /// Position, counted from the seed's.
    tie: usize,
}

/// Scores the node as it is now for one (more) task of the shape.
pub(crate) fn score(shape: &Shape, wish: Option<&Wish>, node: &Node, cost: u64, tie: usize) -> Score {
    let gang = shape.size > 1;
    let size = u64::from(shape.size);
    let load = load(&node.all, &node.free);
    let accepted = |wish: &Wish| {
        let free = node.devices.iter().filter(|device| device.healthy && wish.accepts(device));
        free.map(|device| u64::from(device.free_milli)).sum()
    };
    Score {
        cost,
        beside_devices: wish.is_none() && !node.devices.is_empty(),
        scattered: if gang { size - capacity(shape, wish, node, size) } else { 0 },
        devices_left: wish.map_or(0, accepted),
        fullness: if gang || wish.is_some() { 1_024 - load } else { load },
        tie,
    }
}

/// How much of the scarcest amount is in use, in 1/1024.
fn load(all: &Amounts, free: &Amounts) -> u64 {
    let used = |all: u64, free: u64| {
        let parts = u128::from(all.saturating_sub(free)) * 1_024;
        parts.checked_div(u128::from(all)).unwrap_or(0) as u64
    };
    used(all.cpu_milli, free.cpu_milli).max(used(all.memory_bytes, free.memory_bytes))
}
