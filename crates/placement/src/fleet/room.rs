//! Whether a member fits into a node's room, by which devices, and how many fit beside each other. No test allocates.

use super::amounts::Amounts;
use super::device::Wish;
use super::layout::Layout;
use super::link::Link;
use super::mask::{DeviceMask, ones};
use super::node::{Node, WHOLE};

/// What is free of a node, as it is or as it might be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room<'a> {
    pub(crate) amounts: &'a Amounts,
    pub(crate) layout: &'a Layout,
    pub(crate) whole: &'a DeviceMask,
    pub(crate) broken: &'a DeviceMask,
    /// Free thousandths by device; asked only for the broken ones.
    pub(crate) free_milli: &'a [u32],
    /// What is free of the memory of each, in thousandths of a byte; empty if that is as large a part as is free of the device.
    pub(crate) free_memory: &'a [u128],
}

/// What one member asks of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) needs: &'a Amounts,
    pub(crate) wish: Option<&'a Wish>,
    /// By layout, the devices that the wish accepts.
    pub(crate) accepted: &'a [DeviceMask],
    /// Marks of nodes that it does not go to.
    pub(crate) avoids: &'a [u32],
}

impl<'a> Ask<'a> {
    fn accepted(&self, node: &Node) -> &'a DeviceMask {
        self.accepted.get(node.layout as usize).unwrap_or(&DeviceMask::NONE)
    }

    /// Whether one member fits.
    pub(crate) fn fits(&self, node: &Node, room: Room<'_>) -> bool {
        self.needs.fit_in(room.amounts) && self.finds_devices(node, room)
    }

    /// Whether one member finds its devices, whatever else it lacks.
    pub(crate) fn finds_devices(&self, node: &Node, room: Room<'_>) -> bool {
        let Some(wish) = self.wish else { return true };
        let accepted = self.accepted(node);
        match wish.near() {
            Some(link) => {
                let mut groups = room.layout.groups(link).iter();
                groups.any(|group| room.usable(wish, accepted, group) >= wish.count)
            }
            None => room.usable(wish, accepted, accepted) >= wish.count,
        }
    }

    /// The devices one member would take, best fit first, of some only if they are given; `None` if it does not find them. No
    /// wish takes none.
    pub(crate) fn choose(
        &self,
        node: &Node,
        room: Room<'_>,
        of: Option<&DeviceMask>,
        scratch: &mut Vec<u128>,
    ) -> Option<DeviceMask> {
        let Some(wish) = self.wish else { return Some(DeviceMask::NONE) };
        let accepted = self.accepted(node);
        let inside = |at: usize| of.map_or(u64::MAX, |of| of.word(at));
        let mut usable = DeviceMask::of_words(accepted.words(), |at| room.usable_word(wish, accepted, at) & inside(at));
        if let Some(link) = wish.near() {
            usable = smallest_group(&usable, room.layout, link, wish.count)?;
        }
        match usable.len().cmp(&(wish.count as usize)) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(usable),
            std::cmp::Ordering::Greater => Some(best(&usable, wish, room, scratch)),
        }
    }

    /// The group of near devices to take those of some members from, and how many it holds: the group that they fill best, or else
    /// the one that holds most. `None` if no group holds one, or if it would cost room to keep to groups.
    pub(crate) fn group_for(&self, node: &Node, room: Room<'_>, members: u64) -> Option<(DeviceMask, u64)> {
        let wish = self.wish.filter(|wish| wish.count == 1 || wish.share_milli > WHOLE / 2)?;
        let accepted = self.accepted(node);
        let groups = room.layout.groups(wish.near().unwrap_or_else(|| room.layout.usual()));
        let groups = groups.iter().map(|group| (group, room.sets(wish, accepted, group, u64::MAX)));
        let worse = |held: u64| if held >= members { (false, held) } else { (true, u64::MAX - held) };
        let (group, held) = groups.filter(|(_, held)| *held > 0).min_by_key(|(_, held)| worse(*held))?;
        Some((group.clone(), held))
    }

    /// Members that the room holds beside each other, at most `most`.
    pub(crate) fn capacity(&self, node: &Node, room: Room<'_>, most: u64) -> u64 {
        let amounts = self.needs.times_in(room.amounts, most);
        let Some(wish) = self.wish.filter(|_| amounts > 0) else { return amounts };
        let accepted = self.accepted(node);
        match wish.near() {
            Some(link) => {
                let groups = room.layout.groups(link).iter();
                groups.map(|group| room.sets(wish, accepted, group, amounts)).fold(0, u64::saturating_add).min(amounts)
            }
            None => room.sets(wish, accepted, accepted, amounts),
        }
    }
}

impl Room<'_> {
    /// Thousandths free of acceptable devices.
    pub(crate) fn devices_left(&self, accepted: &DeviceMask) -> u64 {
        let word = |at: usize| {
            let whole = u64::from((accepted.word(at) & self.whole.word(at)).count_ones()) * u64::from(WHOLE);
            let broken = ones(accepted.word(at) & self.broken.word(at));
            whole + broken.map(|bit| u64::from(self.free_milli[at * 64 + bit])).sum::<u64>()
        };
        (0..accepted.words()).map(word).sum()
    }

    /// Thousandths free of the devices of which the wish could have its share, all of them together; 0 if it cannot be had at all.
    pub(crate) fn of_use(&self, wish: &Wish, accepted: &DeviceMask) -> u64 {
        let of_word = |at: usize, set: u64| {
            let usable = self.usable_word(wish, accepted, at) & set;
            let whole = usable & self.whole.word(at);
            let broken = ones(usable & !whole).map(|bit| u64::from(self.free_milli[at * 64 + bit])).sum::<u64>();
            (usable.count_ones(), u64::from(whole.count_ones()) * u64::from(WHOLE) + broken)
        };
        let of = |set: &DeviceMask| {
            let words = (0..accepted.words()).map(|at| of_word(at, set.word(at)));
            let (count, free) = words.fold((0, 0), |(count, free), word| (count + word.0, free + word.1));
            if count >= wish.count { free } else { 0 }
        };
        match wish.near() {
            Some(link) => self.layout.groups(link).iter().map(of).sum(),
            None => of(accepted),
        }
    }

    /// Of 64 devices those of which the wish could have its share.
    fn usable_word(&self, wish: &Wish, accepted: &DeviceMask, at: usize) -> u64 {
        let (accepted, share) = (accepted.word(at), wish.share_milli);
        let whole = if share > WHOLE { 0 } else { accepted & self.whole.word(at) };
        let broken = if share >= WHOLE { 0 } else { accepted & self.broken.word(at) };
        if broken == 0 {
            return whole;
        }
        let enough = |bit: &usize| {
            let device = at * 64 + bit;
            self.free_milli[device] >= share && self.times_in_memory(wish, device) > 0
        };
        ones(broken).filter(enough).fold(whole, |word, bit| word | 1 << bit)
    }

    /// How often the memory that goes with the wish is free of a device.
    fn times_in_memory(&self, wish: &Wish, at: usize) -> u64 {
        if wish.memory_bytes == 0 && self.free_memory.is_empty() {
            return u64::MAX;
        }
        let all = self.layout.memory(at);
        let part = u128::from(self.free_of(at)) * u128::from(all);
        let free = if self.whole.contains(at) { part } else { self.free_memory.get(at).copied().unwrap_or(part) };
        let times = free.checked_div(wish.portion().memory_of(all)).unwrap_or(u128::MAX);
        u64::try_from(times).unwrap_or(u64::MAX)
    }

    /// How many devices in a set the wish could have its share of.
    fn usable(&self, wish: &Wish, accepted: &DeviceMask, set: &DeviceMask) -> u32 {
        let words = accepted.words().min(set.words());
        (0..words).map(|at| (self.usable_word(wish, accepted, at) & set.word(at)).count_ones()).sum()
    }

    /// How often the wish can be had of a set of devices, at most `most`.
    fn sets(&self, wish: &Wish, accepted: &DeviceMask, set: &DeviceMask, most: u64) -> u64 {
        let count = u64::from(wish.count);
        if wish.share_milli > WHOLE / 2 {
            return (u64::from(self.usable(wish, accepted, set)) / count).min(most);
        }
        // A device takes part in a set once, in as many sets as it has free shares. That many sets can be made exactly if
        // the devices have shares enough for them, each counted no more often than there are sets.
        let enough = |sets: u64| self.shares(wish, accepted, set, sets) >= sets.saturating_mul(count);
        let (mut low, mut high) = (0, most.min(self.shares(wish, accepted, set, u64::MAX) / count));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if enough(middle) { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// Free shares in a set of devices, each device counted with `most` at most.
    fn shares(&self, wish: &Wish, accepted: &DeviceMask, set: &DeviceMask, most: u64) -> u64 {
        let of = |at: usize| self.shares_of(wish, at).min(most);
        let word =
            |at: usize| ones(self.usable_word(wish, accepted, at) & set.word(at)).map(|bit| of(at * 64 + bit)).sum();
        (0..accepted.words().min(set.words())).map(word).fold(0, |sum: u64, word: u64| sum.saturating_add(word))
    }

    /// How often a device has the wish's share free, with the memory that goes with it.
    fn shares_of(&self, wish: &Wish, at: usize) -> u64 {
        u64::from(self.free_of(at) / wish.share_milli.max(1)).min(self.times_in_memory(wish, at))
    }

    fn free_of(&self, at: usize) -> u32 {
        if self.whole.contains(at) { WHOLE } else { self.free_milli[at] }
    }
}

/// How many of a group are in a set.
fn inside(set: &DeviceMask, group: &DeviceMask) -> u32 {
    (0..set.words().min(group.words())).map(|at| (set.word(at) & group.word(at)).count_ones()).sum()
}

/// The devices of the group of a level with the fewest usable ones that still suffice. Among equals that which is of the most broken
/// groups on the other levels, as its first device is; then the first.
fn smallest_group(usable: &DeviceMask, layout: &Layout, link: Link, count: u32) -> Option<DeviceMask> {
    let enough = layout.groups(link).iter().filter(|group| inside(usable, group) >= count);
    let rank = |group: &&DeviceMask| {
        let mut words = (0..usable.words()).map(|at| (at, usable.word(at) & group.word(at)));
        let first = words.find(|(_, word)| *word != 0).map_or(0, |(at, word)| at * 64 + word.trailing_zeros() as usize);
        (inside(usable, group), Link::ALL.map(|other| left_around(usable, layout, first, other)))
    };
    let group = enough.min_by_key(rank)?;
    Some(DeviceMask::of_words(usable.words(), |at| usable.word(at) & group.word(at)))
}

/// How many usable devices are near to one on a level, itself among them.
fn left_around(usable: &DeviceMask, layout: &Layout, device: usize, link: Link) -> u32 {
    layout.group_of(device, link).map_or(0, |(_, group)| inside(usable, group))
}

/// More shares of one device than these are ranked alike.
const SHARES_TOLD_APART: u64 = 1_023;

/// The devices that waste least: those already shared out most, then the smallest that will do, then those whose group is the most
/// broken on the level of links; then the same on the others. Where groups are equally broken, one is used up before the next is
/// touched. When several devices are asked for at once, those with the most shares come first instead, then the emptiest, so that as many
/// sets as possible can be made.
fn best(usable: &DeviceMask, wish: &Wish, room: Room<'_>, scratch: &mut Vec<u128>) -> DeviceMask {
    let rank = |at: usize| {
        let free = room.free_of(at);
        let (taken, free) = match wish.count {
            1 => (0, free),
            _ => (SHARES_TOLD_APART - room.shares_of(wish, at).min(SHARES_TOLD_APART), WHOLE - free),
        };
        let left = |link: Link| left_around(usable, room.layout, at, link);
        let group = |link: Link| room.layout.group_of(at, link).map_or(0, |(group, _)| group as u32);
        let words = [
            (taken as u32, 10),
            (free, 10),
            (room.layout.grade(at), 10),
            (left(Link::Nvlink), 11),
            (group(Link::Nvlink), 10),
            (left(Link::Pcie), 11),
            (left(Link::Numa), 11),
            (group(Link::Numa), 10),
            (group(Link::Pcie), 10),
            (at as u32, 32),
        ];
        // Where there are more devices than the bits tell apart, the last of them are ranked alike.
        words.into_iter().fold(0, |rank, (word, bits)| rank << bits | u128::from(word).min((1 << bits) - 1))
    };
    if wish.count == 1 {
        return usable.iter().map(rank).min().map(|rank| rank as u32 as usize).into_iter().collect();
    }
    scratch.clear();
    scratch.extend(usable.iter().map(rank));
    scratch.sort_unstable();
    scratch.iter().take(wish.count as usize).map(|rank| *rank as u32 as usize).collect()
}
