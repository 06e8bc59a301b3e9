//! Devices, and what may be asked of them.

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

impl Wish {
    /// Whether the device is of the kind asked for.
    pub fn accepts(&self, device: &Device) -> bool {
        self.model.is_none_or(|model| model == device.model) && device.memory_bytes >= self.min_memory_bytes
    }
}
