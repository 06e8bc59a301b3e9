//! What tasks ask for and what nodes offer. Integers only; tokens are the one thing counted by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{GpuLink, Name};

/// What one member of a task needs on its node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU; at least 1.
    pub cpu_milli: u64,
    /// Memory in bytes; at least 1.
    pub memory_bytes: u64,
    /// Scratch space in bytes; 0 for no claim.
    pub disk_bytes: u64,
    /// Size of `/dev/shm` in bytes, part of the memory; 0 for the default of the agent.
    pub shm_bytes: u64,
    /// Countable things with a name, such as licences.
    pub tokens: BTreeMap<Name, u32>,
    /// Alternatives, the first that fits is taken; empty for no GPU.
    pub gpus: Vec<GpuRequest>,
}

/// One acceptable way to be given GPUs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GpuRequest {
    /// How many; at least 1.
    pub count: u32,
    /// Only devices of this model (as the inventory spells it, compared without case); any if `None`.
    pub model: Option<String>,
    /// Only devices with at least this much memory, in bytes; 0 for any.
    pub min_memory_bytes: u64,
    /// Whether all must be in one link group: [`GpuLink::Nvlink`](crate::GpuLink::Nvlink), as cluster version 1 says it.
    pub same_link_group: bool,
    /// Thousandths of each device; 1000 for whole devices.
    pub share_milli: u32,
    /// Memory of each device that goes with the share, in bytes; 0 for as large a part of the memory as the share is.
    #[serde(default)]
    pub memory_bytes: u64,
    /// The level of which all must be in one group; any if `None`. Not beside `same_link_group`, which is an older word for one of
    /// them. Only from cluster version 2 on.
    #[serde(default)]
    pub link: Option<GpuLink>,
}

impl GpuRequest {
    /// How much of each device it asks for.
    pub fn portion(&self) -> GpuPortion {
        GpuPortion { share_milli: self.share_milli, memory_bytes: self.memory_bytes }
    }
}

/// How much of a device somebody holds or asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuPortion {
    /// Thousandths of it.
    pub share_milli: u32,
    /// Bytes of its memory; 0 for as large a part as the share is.
    pub memory_bytes: u64,
}

impl GpuPortion {
    /// Nothing.
    pub const NONE: Self = Self { share_milli: 0, memory_bytes: 0 };

    /// Memory of a device of this size that goes with it, in bytes.
    pub fn memory_of(&self, device_bytes: u64) -> u64 {
        match self.memory_bytes {
            0 => (u128::from(device_bytes) * u128::from(self.share_milli) / 1_000) as u64,
            declared => declared,
        }
    }
}

/// What a node offers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inventory {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Scratch space in bytes.
    pub disk_bytes: u64,
    /// The devices; their position here is their [`GpuIndex`].
    pub gpus: Vec<Gpu>,
    /// Countable things with a name.
    pub tokens: BTreeMap<Name, u32>,
    /// For matching by constraints.
    pub labels: BTreeMap<Name, String>,
    /// What the node can enforce and run.
    pub abilities: Abilities,
    /// Where gangs meet whose first member runs here; `None` if its agent knows no gangs.
    pub rendezvous: Option<Rendezvous>,
}

/// Where members on other hosts find the first of their gang.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rendezvous {
    /// What other hosts reach this one by.
    pub address: String,
    /// Of these, each gang is given one to listen at.
    pub ports: PortRange,
}

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last; not below the first.
    pub last: u16,
}

impl PortRange {
    /// What an agent gives if nothing else is configured: below the ports that systems give to connections (from 32768 on).
    pub const USUAL: Self = Self { first: 28_000, last: 28_999 };

    /// How many there are.
    pub fn count(self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)) + 1
    }

    /// All of them, the one at this position (counted round) first.
    pub fn from_position(self, position: u64) -> impl Iterator<Item = u16> {
        let (first, count) = (self.first, self.count());
        let begin = (position % u64::from(count)) as u32;
        (0..count).map(move |at| first.saturating_add(((begin + at) % count) as u16))
    }
}

/// What an agent can do with a task; facts, probed at its start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Abilities {
    /// Whether containers can be made.
    pub containers: bool,
    /// Whether its configuration allows `isolation = "process"`.
    pub process_isolation: bool,
    /// Whether its configuration allows `image = "host"`.
    pub host_image: bool,
    /// Whether it can give a task a network of its own.
    pub private_networks: bool,
    /// How tasks are kept apart, in words (`each has users of its own, cloud metadata closed, ...`).
    pub separation: String,
    /// How limits are enforced, in words (`cpu: cgroup, memory: watched, ...`).
    pub enforcement: String,
    /// Version of the agent's build.
    pub agent_version: String,
    /// Operating system and kernel.
    pub system: String,
}

/// Position of a GPU in its node's inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuIndex(pub u32);

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gpu {
    /// The driver's UUID, or `fake-N`.
    pub id: String,
    /// Product name.
    pub model: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// NUMA node it hangs on.
    pub numa_node: Option<u32>,
    /// Devices with the same number are linked directly, or by one switch of such links (NVLink).
    pub link_group: Option<u32>,
    /// Whether it may be given out.
    pub healthy: bool,
    /// Whether it is pretended, for development.
    pub fake: bool,
    /// Of which other device it is a part, if it is one (MIG). That one is not in the inventory. Only from cluster version 2 on.
    pub part: Option<GpuPart>,
    /// Devices with the same number are below one PCIe switch, or else one PCIe root complex. Only from cluster version 2 on.
    #[serde(default)]
    pub pcie_group: Option<u32>,
}

/// That a device is a part of another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuPart {
    /// The id of the whole.
    pub of: String,
    /// The driver's number of its GPU instance.
    pub instance: u32,
    /// The driver's number of its compute instance therein.
    pub compute: u32,
}
