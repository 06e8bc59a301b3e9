//! Which node is better: lower is better.

/// A node's place among others, compared part by part, in this order:
/// - whether work without devices would take room beside devices;
/// - for a gang: members that would not fit beside the first;
/// - for work with devices: thousandths of acceptable devices left free;
/// - 1/1024 of the scarcest amount: what is in use for work that is spread, what is left for work that is packed;
/// - the node's index, mixed with the seed so that each seed has its own first among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u128);

/// The parts of a rank but for the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    pub(crate) beside_devices: bool,
    pub(crate) scattered: u32,
    pub(crate) devices_left: u64,
    pub(crate) fullness: u32,
}

impl Rank {
    /// Before all others.
    pub(crate) const FIRST: Self = Self(0);
    /// After all others; no node has it.
    pub(crate) const LAST: Self = Self(u128::MAX);

    pub(crate) fn of(score: Score, node: usize, seed: u64) -> Self {
        let left = score.devices_left.min(u64::from(u32::MAX)) as u128;
        let high = u128::from(score.beside_devices) << 112 | u128::from(score.scattered) << 80 | left << 48;
        Self(high | u128::from(score.fullness.min(0xffff)) << 32 | u128::from(node as u32 ^ seed as u32))
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
