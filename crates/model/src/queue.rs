//! The tenant tree: queues, and how much of what they are promised, allowed and holding.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Contract, Name, QueuePath};

/// A queue of the tenant tree. Its bounds are those of everything below it together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its path.
    pub path: QueuePath,
    /// Share relative to its siblings; at least 1.
    pub weight: u32,
    /// Most tasks active at one time; no bound if `None`.
    pub max_active: Option<u32>,
    /// Most it may hold. What is not named has no bound.
    pub limit: QueueAmounts,
    /// What it is promised, within its limit. What is not named is not promised.
    pub reserve: QueueAmounts,
    /// Most it may hold beyond its reserve. What is not named has no bound.
    pub borrow: QueueAmounts,
    /// Most of its unused reserve that others may hold. What is not named is lent as far as it is unused.
    pub lend: QueueAmounts,
    /// What attempts of it and of the queues below it are promised that may be evicted; that of the queue above if `None`.
    pub contract: Option<Contract>,
    /// Most that those may hold which must not be evicted. What no queue on the path names, such work may not hold.
    pub no_preempt: QueueAmounts,
}

impl Queue {
    /// A queue of weight 1 without bounds and promises.
    pub fn new(path: QueuePath) -> Self {
        let nothing = QueueAmounts::default;
        Self {
            path,
            weight: 1,
            max_active: None,
            limit: nothing(),
            reserve: nothing(),
            borrow: nothing(),
            lend: nothing(),
            contract: None,
            no_preempt: nothing(),
        }
    }

    /// Whether it says what only a cluster of version [`ClusterVersion::ACCESS`](crate::ClusterVersion::ACCESS) knows.
    pub fn is_newer(&self) -> bool {
        let amounts = [&self.limit, &self.reserve, &self.borrow, &self.lend, &self.no_preempt];
        self.contract.is_some() || amounts.into_iter().any(|amounts| !amounts.is_empty())
    }
}

/// An amount of each resource that is named. What it means that one is not is said where they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueAmounts {
    /// Thousandths of a CPU.
    pub cpu_milli: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Scratch space in bytes.
    pub disk_bytes: Option<u64>,
    /// Thousandths of a device, by model.
    pub gpu_milli: BTreeMap<GpuClass, u64>,
    /// Tokens by name.
    pub tokens: BTreeMap<Name, u64>,
}

impl QueueAmounts {
    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Devices that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuClass {
    /// All devices.
    Any,
    /// Those of one model, in lower case: models are compared without case.
    Model(String),
}

impl GpuClass {
    /// The devices of a model, however it is spelled.
    pub fn model(name: &str) -> Self {
        Self::Model(name.to_ascii_lowercase())
    }
}

/// As it is written in a queue file: the model, or `any`.
impl fmt::Display for GpuClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Model(model) => f.write_str(model),
        }
    }
}
