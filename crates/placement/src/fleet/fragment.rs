//! How much of what is free of the devices is of no use to the work there is, and how much more of it a seat would make.
//!
//! This is the measure of fragmentation gradient descent (Weng and others, ATC 2023), in integers: of a node, over the kinds of
//! work, the thousandths of devices that are free and that this kind cannot use, weighed by how common it is. It depends on
//! the mix that was told last and on the devices alone, never on how they came to be as they are. What amounts a node lacks beside
//! its devices is left out: so a score can be remembered by the state of the devices.

use std::collections::BTreeMap;

use super::device::Wish;
use super::layout::{Filter, Layout, Layouts};
use super::mask::DeviceMask;
use super::node::WHOLE;
use super::room::Room;

/// All kinds together weigh this much.
const PARTS: u64 = 1 << 16;
/// Kinds that are told apart; of more, the most common.
const KINDS: usize = 16;
/// Devices of a node that need no allocation to be looked at as they would be.
const FEW: usize = 16;

/// By what a node is chosen for work with devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Where it makes the least of what is free useless to the work there is; then, and as long as nobody said what work there is, as
    /// [`Fit::Best`].
    Fragmentation,
    /// Where it leaves the least free of the devices that it could take.
    Best,
    /// The first node on which it fits; only to compare with.
    First,
}

impl Fit {
    /// The rule that it comes to as long as no mix is told.
    pub(crate) fn untold(self) -> Self {
        if self == Self::Fragmentation { Self::Best } else { self }
    }
}

/// What is free of all devices, and how much of that is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragments {
    /// Thousandths of devices that are free.
    pub free_milli: u64,
    /// Thousandths of them that a kind of work cannot use where they are, averaged over the mix.
    pub useless_milli: u64,
}

/// The kinds of work with devices, by how common they are. As long as none is told, nothing counts as useless.
#[derive(Debug, Default)]
pub(crate) struct Mix {
    kinds: Vec<(Wish, u64)>,
    /// By layout, and in it by kind: the devices that are of the kind asked for.
    accepted: Vec<Vec<DeviceMask>>,
}

impl Mix {
    /// The same whatever the order in which the kinds are told.
    pub(crate) fn of(told: &[(Wish, u64)], layouts: &Layouts) -> Self {
        let mut mix = Self { kinds: weighed(told), accepted: Vec::new() };
        layouts.iter().enumerate().for_each(|(number, layout)| mix.cover(number, layout));
        mix
    }

    /// Whether no kind was told.
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Takes in a layout that was not there.
    pub(crate) fn cover(&mut self, number: usize, layout: &Layout) {
        if self.accepted.len() <= number {
            self.accepted.resize_with(number + 1, Vec::new);
        }
        self.accepted[number] = self.kinds.iter().map(|(wish, _)| Filter::of(wish).accepted(layout)).collect();
    }

    /// What is free in a node's room, and what of it is of no use, each thousandth weighed by parts of 2^16.
    pub(crate) fn useless(&self, layout: u32, room: Room<'_>) -> u64 {
        let free = room.devices_left(&room.layout.all);
        let kinds = self.kinds.iter().zip(self.accepted.get(layout as usize).into_iter().flatten());
        kinds.map(|((wish, parts), accepted)| parts * (free - room.of_use(wish, accepted))).sum()
    }

    /// By how much that grows if a share of these devices is taken.
    pub(crate) fn increase(&self, layout: u32, room: Room<'_>, devices: &DeviceMask, share_milli: u32) -> i64 {
        let after = with_taken(room, devices, share_milli, |after| self.useless(layout, after));
        after as i64 - self.useless(layout, room) as i64
    }
}

impl Fragments {
    pub(crate) const NONE: Self = Self { free_milli: 0, useless_milli: 0 };

    /// The sum over rooms, each with the number of its layout.
    pub(crate) fn of<'a>(mix: &Mix, rooms: impl Iterator<Item = (u32, Room<'a>)>) -> Self {
        let mut weighed = 0;
        let mut fragments = Self::NONE;
        for (layout, room) in rooms {
            fragments.free_milli += room.devices_left(&room.layout.all);
            weighed += mix.useless(layout, room);
        }
        Self { useless_milli: weighed / PARTS, ..fragments }
    }
}

/// The most common kinds in the one order that equal mixes have, with their parts.
fn weighed(told: &[(Wish, u64)]) -> Vec<(Wish, u64)> {
    let mut sums: BTreeMap<Wish, u64> = BTreeMap::new();
    for (wish, weight) in told.iter().filter(|(_, weight)| *weight > 0) {
        let wish = Wish { count: wish.count.max(1), share_milli: wish.share_milli.clamp(1, WHOLE), ..wish.clone() };
        let sum = sums.entry(wish).or_default();
        *sum = sum.saturating_add(*weight);
    }
    let mut kinds: Vec<_> = sums.into_iter().collect();
    kinds.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    kinds.truncate(KINDS);
    let sum: u128 = kinds.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let parts = |weight: u64| (u128::from(weight) * u128::from(PARTS)).checked_div(sum).unwrap_or(0) as u64;
    kinds.into_iter().map(|(wish, weight)| (wish, parts(weight))).collect()
}

/// The room as it would be with a share of these devices taken.
fn with_taken<T>(room: Room<'_>, devices: &DeviceMask, share_milli: u32, look: impl FnOnce(Room<'_>) -> T) -> T {
    let (mut few, mut many) = ([0; FEW], Vec::new());
    let count = room.free_milli.len();
    let free_milli = if count <= FEW {
        &mut few[..count]
    } else {
        many.resize(count, 0);
        &mut many[..]
    };
    free_milli.copy_from_slice(room.free_milli);
    let (mut whole, mut broken) = (room.whole.clone(), room.broken.clone());
    for at in devices.iter() {
        free_milli[at] = free_milli[at].saturating_sub(share_milli);
        whole.remove(at);
        if free_milli[at] > 0 { broken.insert(at) } else { broken.remove(at) }
    }
    look(Room { whole: &whole, broken: &broken, free_milli, ..room })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(count: u32, share_milli: u32) -> Wish {
        Wish { count, model: None, min_memory_bytes: 0, link: None, share_milli, memory_bytes: 0 }
    }

    #[test]
    fn equal_mixes_are_equal_however_told() {
        let one = weighed(&[(wish(1, 500), 3), (wish(2, 1_000), 4), (wish(1, 500), 1)]);
        assert_eq!(one, weighed(&[(wish(2, 1_000), 400), (wish(8, 1_000), 0), (wish(1, 500), 400)]));
        assert_eq!(one.iter().map(|(_, parts)| *parts).collect::<Vec<_>>(), [1 << 15, 1 << 15]);
    }

    #[test]
    fn of_many_kinds_the_most_common_count() {
        let many: Vec<_> = (1..100).map(|count| (wish(count, 1_000), u64::from(count))).collect();
        let kinds = weighed(&many);
        assert_eq!(kinds.len(), KINDS);
        assert!(kinds.iter().all(|(wish, parts)| wish.count > 83 && *parts > 0));
        assert!(weighed(&[(wish(1, 1), u64::MAX), (wish(2, 1), u64::MAX)]).iter().all(|(_, parts)| *parts == 1 << 15));
    }
}
