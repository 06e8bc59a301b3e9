//! Which node is better: lower is better.

/// A node's place among others, compared part by part, in this order:
/// - whether it is avoided;
/// - how much better it is, where some are preferred: better is lower;
/// - whether work without devices would take room beside devices;
/// - for a gang: members that would not fit beside the first;
/// - for one member with devices: what becomes useless of what is free, where that is looked at;
/// - for work with devices: thousandths of acceptable devices left free;
/// - 1/1024 of the scarcest amount: what is in use for work that is spread, what is left for work that is packed;
/// - the node's index, mixed with the seed so that each seed has its own first among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u128);

/// The most that a node can be better.
const BETTER: u32 = 0x3fff;

/// The parts of a rank but for the last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    pub(crate) avoided: bool,
    pub(crate) better: u32,
    pub(crate) beside_devices: bool,
    pub(crate) scattered: u32,
    /// Of a thousandth of a device 1/2^16; only of one member.
    pub(crate) more_useless: Option<i64>,
    pub(crate) devices_left: u64,
    pub(crate) fullness: u32,
}

impl Rank {
    /// Before all others.
    pub(crate) const FIRST: Self = Self(0);
    /// After all others; no node has it.
    pub(crate) const LAST: Self = Self(u128::MAX);
    /// The first of those at which work without devices would take room beside devices.
    pub(crate) const BESIDE_DEVICES: Self = Self(1 << 112);
    /// The first of those that are avoided.
    pub(crate) const AVOIDED: Self = Self(1 << 127);
    /// The first of those that are avoided at which work without devices would take room beside devices.
    pub(crate) const AVOIDED_BESIDE_DEVICES: Self = Self(1 << 127 | 1 << 112);

    pub(crate) fn of(score: Score, prefers: bool, node: usize, seed: u64) -> Self {
        let left = score.more_useless.map_or_else(
            || u128::from(score.devices_left.min(u64::from(u32::MAX))),
            |more| u128::from(above_zero(more)) << 24 | u128::from(score.devices_left.min(0xff_ffff)),
        );
        let worse = if prefers { BETTER - score.better.min(BETTER) } else { 0 };
        let high = u128::from(score.avoided) << 127
            | u128::from(worse) << 113
            | u128::from(score.beside_devices) << 112
            | u128::from(score.scattered) << 80
            | left << 48;
        Self(high | u128::from(score.fullness.min(0xffff)) << 32 | u128::from(node as u32 ^ seed as u32))
    }

    /// How much worse it is than what is preferred most.
    pub(crate) fn worse(self) -> u32 {
        (self.0 >> 113) as u32
    }

    /// Whether work without devices would take room beside devices there.
    pub(crate) fn is_beside_devices(self) -> bool {
        self.0 >> 112 & 1 == 1
    }

    /// Whether the node is avoided.
    pub(crate) fn is_avoided(self) -> bool {
        self.0 >> 127 == 1
    }

    /// The lowest rank of a node that leaves so many thousandths of devices.
    pub(crate) fn leaving(devices: u64) -> Self {
        Self(u128::from(devices.min(u64::from(u32::MAX))) << 48)
    }

    /// The lowest rank of those equal in the first part, with so many members scattered.
    pub(crate) fn scattering(self, members: u32) -> Self {
        Self(self.0 >> 112 << 112 | u128::from(members) << 80)
    }

    /// Members that would not fit beside the first.
    pub(crate) fn scattered(self) -> u32 {
        (self.0 >> 80) as u32
    }

    /// The node that has this rank.
    pub(crate) fn node(self, seed: u64) -> usize {
        (self.0 as u32 ^ seed as u32) as usize
    }
}

/// The same order without negative numbers, in 40 bits.
fn above_zero(more_useless: i64) -> u64 {
    const MIDDLE: i64 = 1 << 39;
    (more_useless.clamp(-MIDDLE, MIDDLE - 1) + MIDDLE) as u64
}
