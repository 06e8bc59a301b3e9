//! Devices, and what may be asked of them.

use super::link::Link;

/// A device of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Number of its model; devices of equal models have equal numbers.
    pub model: u32,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// By level its group, if it is in one: devices of a node with the same number are near to each other.
    pub groups: [Option<u32>; Link::COUNT],
    /// Whether it may be given out.
    pub healthy: bool,
    /// Thousandths of it that are free.
    pub free_milli: u32,
    /// What is free of its memory, in thousandths of a byte; `None` if that is as large a part as is free of the device.
    pub free_memory: Option<u128>,
    /// Whether it is a part of another device.
    pub part: bool,
}

/// How much of a device is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// Thousandths of it.
    pub share_milli: u32,
    /// Bytes of its memory; 0 for as large a part as the share is.
    pub memory_bytes: u64,
}

impl Portion {
    /// Nothing.
    pub const NONE: Self = Self { share_milli: 0, memory_bytes: 0 };

    /// What it takes of the memory of a device of this size, in thousandths of a byte.
    pub(crate) fn memory_of(self, device_bytes: u64) -> u128 {
        match self.memory_bytes {
            0 => u128::from(self.share_milli) * u128::from(device_bytes),
            declared => u128::from(declared) * 1_000,
        }
    }
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
    /// All in one group of this level. One device is near to itself, also in no group.
    pub link: Option<Link>,
    /// Thousandths of each.
    pub share_milli: u32,
    /// Bytes of the memory of each; 0 for as large a part as the share is.
    pub memory_bytes: u64,
}

impl Wish {
    /// The level of which several devices must be in one group.
    pub(crate) fn near(&self) -> Option<Link> {
        self.link.filter(|_| self.count > 1)
    }

    /// Whether parts of devices will do: only for who says which, or how large.
    pub(crate) fn takes_parts(&self) -> bool {
        self.model.is_some() || self.min_memory_bytes > 0 || self.memory_bytes > 0
    }

    /// How much of each device it takes.
    pub fn portion(&self) -> Portion {
        Portion { share_milli: self.share_milli, memory_bytes: self.memory_bytes }
    }

    /// Whether the device is of the kind asked for.
    pub fn accepts(&self, device: &Device) -> bool {
        let as_asked = !device.part || self.takes_parts();
        as_asked
            && self.model.is_none_or(|model| model == device.model)
            && device.memory_bytes >= self.min_memory_bytes.max(self.memory_bytes)
    }
}
