//! A node as the search keeps it: its room in a form in which a fit is tested without looking at each device.

use super::amounts::Amounts;
use super::device::Device;
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
}

/// A node and its room.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) class: u32,
    pub(crate) layout: u32,
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
}

impl Node {
    pub(crate) fn of(facts: NodeFacts, layout: u32) -> Self {
        let mut node = Self {
            class: facts.class,
            layout,
            load: 0,
            all: facts.all,
            free: facts.free,
            well: DeviceMask::NONE,
            whole: DeviceMask::NONE,
            broken: DeviceMask::NONE,
            free_milli: Vec::new(),
        };
        node.set_devices(&facts.devices);
        node.load = load(&node.all, &node.free);
        node
    }

    fn set_devices(&mut self, devices: &[Device]) {
        self.well = (0..devices.len()).filter(|at| devices[*at].healthy).collect();
        self.free_milli = devices.iter().map(|device| device.free_milli.min(WHOLE)).collect();
        (0..devices.len()).for_each(|at| self.sort(at));
    }

    /// Whether this is what is kept.
    pub(crate) fn equals(&self, facts: &NodeFacts, layouts: &Layouts) -> bool {
        let as_kept = |(at, device): (usize, &Device)| {
            device.healthy == self.well.contains(at) && device.free_milli.min(WHOLE) == self.free_milli[at]
        };
        self.class == facts.class
            && self.free == facts.free
            && self.all == facts.all
            && layouts.get(self.layout).describes(&facts.devices)
            && facts.devices.iter().enumerate().all(as_kept)
    }

    /// The room there is now.
    pub(crate) fn room<'a>(&'a self, layout: &'a Layout) -> Room<'a> {
        let (whole, broken) = (&self.whole, &self.broken);
        Room { amounts: &self.free, layout, whole, broken, free_milli: &self.free_milli }
    }

    /// The room there is now, if all devices were well and free.
    pub(crate) fn room_when_well<'a>(&'a self, layout: &'a Layout) -> Room<'a> {
        Room { whole: &layout.all, broken: &DeviceMask::NONE, ..self.room(layout) }
    }

    /// The room there would be if nothing ran and all devices were well.
    pub(crate) fn room_when_empty<'a>(&'a self, layout: &'a Layout) -> Room<'a> {
        Room { amounts: &self.all, ..self.room_when_well(layout) }
    }

    /// Takes what one member needs, and a share of each of the devices. There must be room.
    pub(crate) fn take(&mut self, needs: &Amounts, devices: &DeviceMask, share_milli: u32) {
        self.free.take(needs);
        self.load = load(&self.all, &self.free);
        for at in devices.iter() {
            self.free_milli[at] -= share_milli;
            self.sort(at);
        }
    }

    /// The reverse of `take`, but never more than all there is: the node may have been replaced since.
    pub(crate) fn give_back(&mut self, needs: &Amounts, devices: &DeviceMask, share_milli: u32) {
        self.free.give_back_within(needs, &self.all);
        self.load = load(&self.all, &self.free);
        for at in devices.iter().filter(|at| *at < self.free_milli.len()).collect::<Vec<_>>() {
            self.free_milli[at] = (self.free_milli[at].saturating_add(share_milli)).min(WHOLE);
            self.sort(at);
        }
    }

    /// The reverse of `give_back`, where that gave back all it was told to.
    pub(crate) fn take_again(&mut self, needs: &Amounts, devices: &DeviceMask, share_milli: u32) {
        self.free.take_what_there_is(needs);
        self.load = load(&self.all, &self.free);
        for at in devices.iter().filter(|at| *at < self.free_milli.len()).collect::<Vec<_>>() {
            self.free_milli[at] = self.free_milli[at].saturating_sub(share_milli);
            self.sort(at);
        }
    }

    /// Puts the device into the sets that its free part says.
    fn sort(&mut self, at: usize) {
        let (well, free) = (self.well.contains(at), self.free_milli[at]);
        let put = |mask: &mut DeviceMask, inside: bool| if inside { mask.insert(at) } else { mask.remove(at) };
        put(&mut self.whole, well && free >= WHOLE);
        put(&mut self.broken, well && free > 0 && free < WHOLE);
    }

    pub(crate) fn has_devices(&self) -> bool {
        !self.free_milli.is_empty()
    }
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
