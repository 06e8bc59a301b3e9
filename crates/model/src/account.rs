//! What somebody uses in a queue, over time: the ledger that fairness and reports are made from.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Column, GpuClass, Held, Name, QueuePath, TimeMs};

/// Names an account. Only queues that have jobs themselves have accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountKey {
    /// The queue.
    pub queue: QueuePath,
    /// Who submitted the jobs.
    pub owner: String,
}

/// What one owner uses in one queue; only from cluster version 2 on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What live members hold.
    pub held: Held,
    /// Tasks with a live attempt.
    pub active: u32,
    /// The time as of which the rest is.
    pub at: TimeMs,
    /// What was used, each moment of it worth half after each [`HALF_LIFE_MS`](crate::limits::HALF_LIFE_MS); in parts of
    /// [`DECAYED_PARTS`](Self::DECAYED_PARTS) of a unit.
    pub decayed: Usage,
    /// What was used since the hour began in which that time lies.
    pub current: Usage,
    /// What was used in hours before that one, oldest first. Empty ones are left out.
    pub hours: Arc<Vec<UsageBucket>>,
    /// What was used in the days before those hours, oldest first. Empty ones are left out.
    pub days: Arc<Vec<UsageBucket>>,
}

impl Account {
    /// Decayed use is kept in fractions of a unit, so that many small steps lose nothing.
    pub const DECAYED_PARTS: u128 = 1 << 16;

    /// One of which nothing is known yet.
    pub fn new(at: TimeMs) -> Self {
        Self {
            held: Held::NONE,
            active: 0,
            at,
            decayed: Usage::default(),
            current: Usage::default(),
            hours: Arc::default(),
            days: Arc::default(),
        }
    }
}

/// What was used in an hour or a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBucket {
    /// When it began, by UTC.
    pub start: TimeMs,
    /// What was used in it.
    pub used: Usage,
}

/// Resources times the milliseconds for which they were held. What was not used has no key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Thousandths of a CPU times milliseconds.
    pub cpu_milli_ms: u128,
    /// Bytes of memory times milliseconds.
    pub memory_byte_ms: u128,
    /// Bytes of scratch space times milliseconds.
    pub disk_byte_ms: u128,
    /// Thousandths of a device times milliseconds, by its model; [`GpuClass::Any`] is no key.
    pub gpu_milli_ms: BTreeMap<GpuClass, u128>,
    /// Tokens times milliseconds, by name.
    pub token_ms: BTreeMap<Name, u128>,
}

impl Usage {
    /// Whether nothing was used.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How much was used of a resource.
    pub fn get(&self, column: Column<'_>) -> u128 {
        match column {
            Column::Cpu => self.cpu_milli_ms,
            Column::Memory => self.memory_byte_ms,
            Column::Disk => self.disk_byte_ms,
            Column::Gpu(GpuClass::Any) => self.gpu_milli_ms.values().fold(0, |sum, used| sum.saturating_add(*used)),
            Column::Gpu(class) => self.gpu_milli_ms.get(class).copied().unwrap_or(0),
            Column::Token(name) => self.token_ms.get(name).copied().unwrap_or(0),
        }
    }

    /// What was used of each resource, devices by model, in one order.
    pub fn columns(&self) -> impl Iterator<Item = (Column<'_>, u128)> {
        let plain = [
            (Column::Cpu, self.cpu_milli_ms),
            (Column::Memory, self.memory_byte_ms),
            (Column::Disk, self.disk_byte_ms),
        ];
        let gpus = self.gpu_milli_ms.iter().map(|(class, used)| (Column::Gpu(class), *used));
        plain.into_iter().chain(gpus).chain(self.token_ms.iter().map(|(name, used)| (Column::Token(name), *used)))
    }

    /// Adds what holding this was worth, resource by resource.
    pub fn add_held(&mut self, held: &Held, worth: impl Fn(u64) -> u128) {
        for (column, amount) in held.columns() {
            self.add_to(column, worth(amount));
        }
    }

    /// Adds what was used elsewhere or at another time.
    pub fn add(&mut self, other: &Self) {
        for (column, used) in other.columns() {
            self.add_to(column, used);
        }
    }

    fn add_to(&mut self, column: Column<'_>, more: u128) {
        if more == 0 {
            return;
        }
        let sum = match column {
            Column::Cpu => &mut self.cpu_milli_ms,
            Column::Memory => &mut self.memory_byte_ms,
            Column::Disk => &mut self.disk_byte_ms,
            Column::Gpu(class) => sum_of(&mut self.gpu_milli_ms, class),
            Column::Token(name) => sum_of(&mut self.token_ms, name),
        };
        *sum = sum.saturating_add(more);
    }

    /// Replaces each amount by another; one of nothing goes.
    pub fn change_each(&mut self, change: impl Fn(u128) -> u128) {
        for used in [&mut self.cpu_milli_ms, &mut self.memory_byte_ms, &mut self.disk_byte_ms] {
            *used = change(*used);
        }
        let kept = |used: &mut u128| {
            *used = change(*used);
            *used > 0
        };
        self.gpu_milli_ms.retain(|_, used| kept(used));
        self.token_ms.retain(|_, used| kept(used));
    }
}

/// The sum of a key, which is copied only if it is new.
fn sum_of<'a, K: Ord + Clone>(sums: &'a mut BTreeMap<K, u128>, key: &K) -> &'a mut u128 {
    if !sums.contains_key(key) {
        sums.insert(key.clone(), 0);
    }
    sums.get_mut(key).expect("it is there or was just made")
}
