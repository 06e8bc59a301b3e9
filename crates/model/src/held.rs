//! What live members hold together, and the amounts of a queue resource by resource.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{GpuClass, GpuIndex, Inventory, Name, QueueAmounts, Resources};

/// One resource of those that queues are bounded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column<'a> {
    /// Thousandths of a CPU.
    Cpu,
    /// Memory in bytes.
    Memory,
    /// Scratch space in bytes.
    Disk,
    /// Thousandths of the devices of a class.
    Gpu(&'a GpuClass),
    /// A token.
    Token(&'a Name),
}

/// As people are told of it.
impl fmt::Display for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("memory"),
            Self::Disk => f.write_str("disk"),
            Self::Gpu(class) => write!(f, "gpu {class}"),
            Self::Token(name) => write!(f, "token {name}"),
        }
    }
}

impl QueueAmounts {
    /// What is named, in one order.
    pub fn named(&self) -> impl Iterator<Item = (Column<'_>, u64)> {
        let plain =
            [(Column::Cpu, self.cpu_milli), (Column::Memory, self.memory_bytes), (Column::Disk, self.disk_bytes)];
        let plain = plain.into_iter().filter_map(|(column, amount)| Some((column, amount?)));
        let gpus = self.gpu_milli.iter().map(|(class, milli)| (Column::Gpu(class), *milli));
        plain.chain(gpus).chain(self.tokens.iter().map(|(name, count)| (Column::Token(name), *count)))
    }

    /// The amount of a resource, if it is named.
    pub fn get(&self, column: Column<'_>) -> Option<u64> {
        match column {
            Column::Cpu => self.cpu_milli,
            Column::Memory => self.memory_bytes,
            Column::Disk => self.disk_bytes,
            Column::Gpu(class) => self.gpu_milli.get(class).copied(),
            Column::Token(name) => self.tokens.get(name).copied(),
        }
    }

    /// The amount of a resource that is promised by these: what is not named is not, and whoever is promised devices of some
    /// models is promised as many devices.
    pub fn promised(&self, column: Column<'_>) -> u64 {
        let of_models = || self.gpu_milli.values().fold(0, |sum: u64, milli| sum.saturating_add(*milli));
        let implied = if column == Column::Gpu(&GpuClass::Any) { of_models() } else { 0 };
        self.get(column).unwrap_or(implied)
    }
}

/// What live members hold together. What is not held has no key.
///
/// Sums are taken modulo 2^64, so that whatever was added can be taken away again exactly; no cluster holds as much.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Scratch space in bytes.
    pub disk_bytes: u64,
    /// Thousandths of a device, by its model. [`GpuClass::Any`] is no key: it is the sum.
    pub gpu_milli: BTreeMap<GpuClass, u64>,
    /// Tokens by name.
    pub tokens: BTreeMap<Name, u64>,
}

impl Held {
    /// Nothing.
    pub const NONE: Self =
        Self { cpu_milli: 0, memory_bytes: 0, disk_bytes: 0, gpu_milli: BTreeMap::new(), tokens: BTreeMap::new() };

    /// What a member holds on a node of this inventory: what it asks for, and of each device it was given its share. Devices
    /// are counted by the model that the node says they are, whatever was asked for.
    pub fn by_member(wanted: &Resources, alternative: u32, inventory: &Inventory, gpus: &[GpuIndex]) -> Self {
        let share = wanted.gpus.get(alternative as usize).map_or(0, |request| u64::from(request.share_milli));
        let mut held = Self::by_member_without_devices(wanted);
        for gpu in gpus.iter().filter_map(|gpu| inventory.gpus.get(gpu.0 as usize)) {
            more(&mut held.gpu_milli, &GpuClass::model(&gpu.model), share);
        }
        held
    }

    /// What one member will hold by an alternative of its request, before it has devices. Devices whose model is not asked for
    /// count among all devices only.
    pub fn by_request(wanted: &Resources, alternative: u32) -> Self {
        let mut held = Self::by_member_without_devices(wanted);
        if let Some(request) = wanted.gpus.get(alternative as usize) {
            let class = GpuClass::model(request.model.as_deref().unwrap_or(""));
            more(&mut held.gpu_milli, &class, u64::from(request.count) * u64::from(request.share_milli));
        }
        held
    }

    fn by_member_without_devices(wanted: &Resources) -> Self {
        let Resources { cpu_milli, memory_bytes, disk_bytes, .. } = *wanted;
        let mut held = Self { cpu_milli, memory_bytes, disk_bytes, ..Self::NONE };
        for (name, count) in &wanted.tokens {
            more(&mut held.tokens, name, u64::from(*count));
        }
        held
    }

    /// Whether nothing is held.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// How much is held of a resource.
    pub fn get(&self, column: Column<'_>) -> u64 {
        match column {
            Column::Cpu => self.cpu_milli,
            Column::Memory => self.memory_bytes,
            Column::Disk => self.disk_bytes,
            Column::Gpu(GpuClass::Any) => self.gpu_milli.values().fold(0, |sum, milli| sum.wrapping_add(*milli)),
            Column::Gpu(class) => self.gpu_milli.get(class).copied().unwrap_or(0),
            Column::Token(name) => self.tokens.get(name).copied().unwrap_or(0),
        }
    }

    /// What is held of each resource, devices by model, in one order.
    pub fn columns(&self) -> impl Iterator<Item = (Column<'_>, u64)> {
        let plain =
            [(Column::Cpu, self.cpu_milli), (Column::Memory, self.memory_bytes), (Column::Disk, self.disk_bytes)];
        let gpus = self.gpu_milli.iter().map(|(class, milli)| (Column::Gpu(class), *milli));
        plain.into_iter().chain(gpus).chain(self.tokens.iter().map(|(name, count)| (Column::Token(name), *count)))
    }

    /// What this is more than another, of each resource.
    pub fn beyond(&self, other: &Self) -> Self {
        let mut more = self.clone();
        more.cpu_milli = self.cpu_milli.saturating_sub(other.cpu_milli);
        more.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        more.disk_bytes = self.disk_bytes.saturating_sub(other.disk_bytes);
        for (class, milli) in &mut more.gpu_milli {
            *milli = milli.saturating_sub(other.gpu_milli.get(class).copied().unwrap_or(0));
        }
        for (name, count) in &mut more.tokens {
            *count = count.saturating_sub(other.tokens.get(name).copied().unwrap_or(0));
        }
        more.gpu_milli.retain(|_, milli| *milli > 0);
        more.tokens.retain(|_, count| *count > 0);
        more
    }

    /// Holds this as well.
    pub fn add(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.wrapping_add(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.wrapping_add(other.memory_bytes);
        self.disk_bytes = self.disk_bytes.wrapping_add(other.disk_bytes);
        other.gpu_milli.iter().for_each(|(class, milli)| more(&mut self.gpu_milli, class, *milli));
        other.tokens.iter().for_each(|(name, count)| more(&mut self.tokens, name, *count));
    }

    /// Holds this no more.
    pub fn subtract(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.wrapping_sub(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.wrapping_sub(other.memory_bytes);
        self.disk_bytes = self.disk_bytes.wrapping_sub(other.disk_bytes);
        other.gpu_milli.iter().for_each(|(class, milli)| more(&mut self.gpu_milli, class, milli.wrapping_neg()));
        other.tokens.iter().for_each(|(name, count)| more(&mut self.tokens, name, count.wrapping_neg()));
    }
}

/// Adds to the amount of a key; a sum of nothing has no key.
fn more<K: Ord + Clone>(amounts: &mut BTreeMap<K, u64>, key: &K, amount: u64) {
    if amount == 0 {
        return;
    }
    if let Some(held) = amounts.get_mut(key) {
        *held = held.wrapping_add(amount);
        if *held == 0 {
            amounts.remove(key);
        }
    } else {
        amounts.insert(key.clone(), amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(cpu_milli: u64, gpus: &[(&str, u64)], tokens: &[(&str, u64)]) -> Held {
        let gpu_milli = gpus.iter().map(|(model, milli)| (GpuClass::model(model), *milli)).collect();
        let tokens = tokens.iter().map(|(name, count)| (name.parse().unwrap(), *count)).collect();
        Held { cpu_milli, gpu_milli, tokens, ..Held::NONE }
    }

    #[test]
    fn what_was_added_is_taken_away_again_and_leaves_no_key() {
        let parts = [held(1, &[("A100", 500)], &[("x", 1)]), held(u64::MAX, &[("a100", u64::MAX), ("l4", 7)], &[])];
        let mut sum = Held::NONE;
        parts.iter().for_each(|part| sum.add(part));
        assert_eq!(sum.get(Column::Gpu(&GpuClass::model("l4"))), 7);
        parts.iter().for_each(|part| sum.subtract(part));
        assert!(sum.is_none(), "{sum:?}");
    }

    #[test]
    fn devices_of_any_model_are_all_of_them_together() {
        let held = held(0, &[("a100", 1_500), ("l4", 500)], &[]);
        assert_eq!(held.get(Column::Gpu(&GpuClass::Any)), 2_000);
        assert_eq!(held.get(Column::Gpu(&GpuClass::model("A100"))), 1_500);
        assert_eq!(held.get(Column::Gpu(&GpuClass::model("h200"))), 0);
    }

    #[test]
    fn who_is_promised_devices_of_models_is_promised_as_many_devices() {
        let any = GpuClass::Any;
        let models = [(GpuClass::model("a100"), 2_000), (GpuClass::model("l4"), 1_000)];
        let mut amounts = QueueAmounts { gpu_milli: models.into(), ..QueueAmounts::default() };
        assert_eq!((amounts.get(Column::Gpu(&any)), amounts.promised(Column::Gpu(&any))), (None, 3_000));
        amounts.gpu_milli.insert(GpuClass::Any, 5_000);
        assert_eq!(amounts.promised(Column::Gpu(&any)), 5_000);
        assert_eq!(amounts.promised(Column::Cpu), 0);
    }
}
