//! The packed jobs of consecutive ids, in one piece: none of them has an allocation of its own.

use flowyard_model::JobId;

/// Ids that one block stands for. A change copies the block, so it is kept small.
const SLOTS: u64 = 32;

/// Where a job is: the number of its block, and its place there.
pub(super) fn place(job: JobId) -> (u64, u32) {
    (job.0 / SLOTS, (job.0 % SLOTS) as u32)
}

/// The job that is at a place.
pub(super) fn job_at(block: u64, slot: u32) -> JobId {
    JobId(block * SLOTS + u64::from(slot))
}

/// Packed jobs by their places. It is never changed, only made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// A bit for each place that is taken.
    taken: u32,
    /// Where each of them ends.
    ends: Box<[u32]>,
    bytes: Box<[u8]>,
}

impl Block {
    /// A block without a job.
    pub(super) fn empty() -> Self {
        Self { taken: 0, ends: Box::default(), bytes: Box::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// What is at a place.
    pub(super) fn get(&self, slot: u32) -> Option<&[u8]> {
        ((self.taken >> slot) & 1 == 1).then(|| self.at(self.before(slot)))
    }

    /// How many places before this one are taken.
    fn before(&self, slot: u32) -> usize {
        (self.taken & ((1 << slot) - 1)).count_ones() as usize
    }

    fn at(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[index] as usize]
    }

    /// The same with this at a place, which was free.
    pub(super) fn with(&self, slot: u32, packed: &[u8]) -> Self {
        let (before, after): (Vec<_>, Vec<_>) = self.iter().partition(|(other, _)| *other < slot);
        Self::of(before.into_iter().chain([(slot, packed)]).chain(after))
    }

    /// The same with nothing at a place.
    pub(super) fn without(&self, slot: u32) -> Self {
        Self::of(self.iter().filter(|(other, _)| *other != slot))
    }

    fn of<'a>(jobs: impl Iterator<Item = (u32, &'a [u8])> + Clone) -> Self {
        let room: usize = jobs.clone().map(|(_, packed)| packed.len()).sum();
        let (mut taken, mut ends, mut bytes) = (0, Vec::with_capacity(SLOTS as usize), Vec::with_capacity(room));
        for (slot, packed) in jobs {
            taken |= 1 << slot;
            bytes.extend_from_slice(packed);
            ends.push(bytes.len() as u32);
        }
        Self { taken, ends: ends.into(), bytes: bytes.into() }
    }

    /// All there are, by place.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, &[u8])> + Clone {
        let slots = (0..SLOTS as u32).filter(move |slot| (self.taken >> slot) & 1 == 1);
        slots.map(move |slot| (slot, self.at(self.before(slot))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in prop::collection::vec((0u32..32, 0usize..6), 0..100)) {
            let (mut block, mut map) = (Block::empty(), BTreeMap::<u32, Vec<u8>>::new());
            for (slot, length) in steps {
                if map.remove(&slot).is_some() {
                    block = block.without(slot);
                } else {
                    let packed = vec![slot as u8; length];
                    block = block.with(slot, &packed);
                    map.insert(slot, packed);
                }
                prop_assert!((0..32).all(|slot| block.get(slot) == map.get(&slot).map(Vec::as_slice)));
                prop_assert!(block.iter().eq(map.iter().map(|(slot, packed)| (*slot, packed.as_slice()))));
                prop_assert!(block.iter().rev().eq(map.iter().rev().map(|(slot, packed)| (*slot, packed.as_slice()))));
                prop_assert_eq!(block.is_empty(), map.is_empty());
            }
        }
    }

    #[test]
    fn places_and_jobs_belong_together() {
        for job in [0, 1, 31, 32, 33, u64::MAX].map(JobId) {
            let (block, slot) = place(job);
            assert_eq!(job_at(block, slot), job);
        }
    }
}
