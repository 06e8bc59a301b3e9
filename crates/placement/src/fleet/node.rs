//! A node as the search keeps it: its room in a form in which a fit is tested without looking at each device.

use super::amounts::Amounts;
use super::device::{Device, Portion};
use super::layout::{Layout, Layouts};
use super::mask::DeviceMask;
use super::room::Room;

/// A whole device, in thousandths.
pub(crate) const WHOLE: u32 = 1_000;

/// Position of a node, chosen by the caller; low and dense, since lists go as far as the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// A node: what it has in all, and what of it is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Number of its class: which shapes may go to it. Low and dense.
    pub class: u32,
    /// All it has.
    pub all: Amounts,
    /// What is free.
    pub free: Amounts,
    /// Its devices; their position is their index.
    pub devices: Vec<Device>,
    /// Whether it is given only what fits nowhere else.
    pub avoided: bool,
}

/// A node and its room.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) class: u32,
    pub(crate) layout: u32,
    pub(crate) avoided: bool,
    /// 1/1024 of the scarcest amount that is in use.
    pub(crate) load: u32,
    all: Amounts,
    pub(crate) free: Amounts,
    well: DeviceMask,
    /// Well, and free as a whole.
    whole: DeviceMask,
    /// Well, and free in part.
    broken: DeviceMask,
    free_milli: Vec<u32>,
    /// Memory by device.
    memory: Vec<u64>,
    /// What is free of it, in thousandths of a byte; empty if of each device that is as large a part as is free of it.
    free_memory: Vec<u128>,
}

impl Node {
    pub(crate) fn of(facts: NodeFacts, layout: u32) -> Self {
        let mut node = Self {
            class: facts.class,
            layout,
            avoided: facts.avoided,
            load: 0,
            all: facts.all,
            free: facts.free,
            well: DeviceMask::NONE,
            whole: DeviceMask::NONE,
            broken: DeviceMask::NONE,
            free_milli: Vec::new(),
            memory: Vec::new(),
            free_memory: Vec::new(),
        };
        node.set_devices(&facts.devices);
        node.load = load(&node.all, &node.free);
        node
    }

    fn set_devices(&mut self, devices: &[Device]) {
        self.well = (0..devices.len()).filter(|at| devices[*at].healthy).collect();
        self.free_milli = devices.iter().map(|device| device.free_milli.min(WHOLE)).collect();
        self.memory = devices.iter().map(|device| device.memory_bytes).collect();
        if devices.iter().any(|device| device.free_memory.is_some()) {
            self.free_memory = (0..devices.len()).map(|at| free_memory(&devices[at])).collect();
            self.forget_memory();
        }
        (0..devices.len()).for_each(|at| self.sort(at));
    }

    /// Memory is looked at by itself only where it is another part than what is free of the device.
    fn forget_memory(&mut self) {
        let same = |at: usize| self.free_memory[at] == u128::from(self.free_milli[at]) * u128::from(self.memory[at]);
        if (0..self.free_memory.len()).all(same) {
            self.free_memory.clear();
        }
    }

    fn part_of_memory(&self, at: usize) -> u128 {
        u128::from(self.free_milli[at]) * u128::from(self.memory[at])
    }

    /// Changes what is free of the memory of some devices, before what is free of them is changed.
    fn change_memory(&mut self, devices: &DeviceMask, portion: Portion, by: impl Fn(u128, u128) -> u128) {
        if portion.memory_bytes == 0 && self.free_memory.is_empty() {
            return;
        }
        if self.free_memory.is_empty() {
            self.free_memory = (0..self.memory.len()).map(|at| self.part_of_memory(at)).collect();
        }
        let memory = &self.memory;
        for at in devices.iter() {
            if let Some(free) = self.free_memory.get_mut(at) {
                *free = by(*free, portion.memory_of(memory[at])).min(u128::from(memory[at]) * u128::from(WHOLE));
            }
        }
    }

    /// Whether this is what is kept.
    pub(crate) fn equals(&self, facts: &NodeFacts, layouts: &Layouts) -> bool {
        let as_kept = |(at, device): (usize, &Device)| {
            let memory = self.free_memory.get(at).copied().unwrap_or_else(|| self.part_of_memory(at));
            let as_much = device.free_milli.min(WHOLE) == self.free_milli[at];
            device.healthy == self.well.contains(at) && as_much && free_memory(device) == memory
        };
        self.class == facts.class
            && self.avoided == facts.avoided
            && self.free == facts.free
            && self.all == facts.all
            && layouts.get(self.layout).describes(&facts.devices)
            && facts.devices.iter().enumerate().all(as_kept)
    }

    /// The room there is now.
    pub(crate) fn room<'a>(&'a self, layout: &'a Layout) -> Room<'a> {
        let (whole, broken) = (&self.whole, &self.broken);
        let (free_milli, free_memory) = (&self.free_milli[..], &self.free_memory[..]);
        Room { amounts: &self.free, layout, whole, broken, free_milli, free_memory }
    }

    /// The room there is now, if all devices were well and free.
    pub(crate) fn room_when_well<'a>(&'a self, layout: &'a Layout) -> Room<'a> {
        Room { whole: &layout.all, broken: &DeviceMask::NONE, free_memory: &[], ..self.room(layout) }
    }

    /// The room there would be if nothing ran and all devices were well.
    pub(crate) fn room_when_empty<'a>(&'a self, layout: &'a Layout) -> Room<'a> {
        Room { amounts: &self.all, ..self.room_when_well(layout) }
    }

    /// Takes what one member needs, and a share of each of the devices. There must be room.
    pub(crate) fn take(&mut self, needs: &Amounts, devices: &DeviceMask, portion: Portion) {
        self.free.take(needs);
        self.load = load(&self.all, &self.free);
        self.change_memory(devices, portion, u128::saturating_sub);
        for at in devices.iter() {
            self.free_milli[at] -= portion.share_milli;
            self.sort(at);
        }
    }

    /// The reverse of `take`, but never more than all there is: the node may have been replaced since.
    pub(crate) fn give_back(&mut self, needs: &Amounts, devices: &DeviceMask, portion: Portion) {
        self.free.give_back_within(needs, &self.all);
        self.load = load(&self.all, &self.free);
        self.change_memory(devices, portion, u128::saturating_add);
        for at in devices.iter().filter(|at| *at < self.free_milli.len()).collect::<Vec<_>>() {
            self.free_milli[at] = (self.free_milli[at].saturating_add(portion.share_milli)).min(WHOLE);
            self.sort(at);
        }
        self.forget_memory();
    }

    /// The reverse of `give_back`, where that gave back all it was told to.
    pub(crate) fn take_again(&mut self, needs: &Amounts, devices: &DeviceMask, portion: Portion) {
        self.free.take_what_there_is(needs);
        self.load = load(&self.all, &self.free);
        self.change_memory(devices, portion, u128::saturating_sub);
        for at in devices.iter().filter(|at| *at < self.free_milli.len()).collect::<Vec<_>>() {
            self.free_milli[at] = self.free_milli[at].saturating_sub(portion.share_milli);
            self.sort(at);
        }
        self.forget_memory();
    }

    /// Puts the device into the sets that its free part says.
    fn sort(&mut self, at: usize) {
        let (well, free) = (self.well.contains(at), self.free_milli[at]);
        let put = |mask: &mut DeviceMask, inside: bool| if inside { mask.insert(at) } else { mask.remove(at) };
        put(&mut self.whole, well && free >= WHOLE);
        put(&mut self.broken, well && free > 0 && free < WHOLE);
    }

    /// Whether something that needs this is at least half of all there is, of anything it needs.
    pub(crate) fn is_half(&self, needs: &Amounts, device_milli: u64) -> bool {
        let half = |needs: u64, all: u64| needs > 0 && needs.saturating_mul(2) >= all;
        half(needs.cpu_milli, self.all.cpu_milli)
            || half(needs.memory_bytes, self.all.memory_bytes)
            || half(device_milli, self.free_milli.len() as u64 * u64::from(WHOLE))
    }

    pub(crate) fn has_devices(&self) -> bool {
        !self.free_milli.is_empty()
    }
}

/// What is free of a device's memory, in thousandths of a byte.
fn free_memory(device: &Device) -> u128 {
    let part = u128::from(device.free_milli.min(WHOLE)) * u128::from(device.memory_bytes);
    device.free_memory.unwrap_or(part)
}

/// How much of the scarcest amount is in use, in 1/1024.
fn load(all: &Amounts, free: &Amounts) -> u32 {
    let used = |all: u64, free: u64| -> u64 {
        let used = all.saturating_sub(free);
        let wide = || (u128::from(used) * 1_024).checked_div(u128::from(all)).unwrap_or(0) as u64;
        used.checked_mul(1_024).map_or_else(wide, |parts| parts.checked_div(all).unwrap_or(0))
    };
    used(all.cpu_milli, free.cpu_milli).max(used(all.memory_bytes, free.memory_bytes)) as u32
}
