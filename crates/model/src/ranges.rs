//! A set of task indexes kept as ranges: a million untouched tasks are one pair of numbers.

use serde::{Deserialize, Serialize};

/// Sorted, disjoint, non-adjacent, non-empty half-open ranges.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ranges {
    ranges: Vec<(u32, u32)>,
}

impl Ranges {
    /// No index.
    pub const fn none() -> Self {
        Self { ranges: Vec::new() }
    }

    /// All indexes from `start` up to, not including, `end`.
    pub fn span(start: u32, end: u32) -> Self {
        Self { ranges: if start < end { vec![(start, end)] } else { Vec::new() } }
    }

    /// Builds a set from ranges in any order. `None` if one is empty or two overlap.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u32, u32)>) -> Option<Self> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(pairs.len());
        for (start, end) in pairs {
            if start >= end || ranges.last().is_some_and(|last| last.1 > start) {
                return None;
            }
            match ranges.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => ranges.push((start, end)),
            }
        }
        Some(Self { ranges })
    }

    /// The ranges as (start, end), end not included.
    pub fn pairs(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// Number of indexes.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The smallest index.
    pub fn first(&self) -> Option<u32> {
        self.ranges.first().map(|range| range.0)
    }

    /// All indexes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(start, end)| *start..*end)
    }

    /// Whether `index` is in the set.
    pub fn contains(&self, index: u32) -> bool {
        self.position(index).is_ok()
    }

    /// Takes `index` out; whether it was in.
    pub fn remove(&mut self, index: u32) -> bool {
        let Ok(at) = self.position(index) else { return false };
        let (start, end) = self.ranges[at];
        match (start == index, index + 1 == end) {
            (true, true) => {
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at].0 = index + 1,
            (false, true) => self.ranges[at].1 = index,
            (false, false) => {
                self.ranges[at].1 = index;
                self.ranges.insert(at + 1, (index + 1, end));
            }
        }
        true
    }

    /// Puts `index` in; whether it was not in before.
    pub fn insert(&mut self, index: u32) -> bool {
        let Err(at) = self.position(index) else { return false };
        let joins_left = at > 0 && self.ranges[at - 1].1 == index;
        let joins_right = at < self.ranges.len() && self.ranges[at].0 == index + 1;
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = index + 1,
            (false, true) => self.ranges[at].0 = index,
            (false, false) => self.ranges.insert(at, (index, index + 1)),
        }
        true
    }

    /// Moves everything out, leaving the set empty.
    pub fn take(&mut self) -> Self {
        Self { ranges: std::mem::take(&mut self.ranges) }
    }

    /// Puts all of `other` in.
    ///
    /// # Panics
    /// If the two sets share an index.
    pub fn absorb(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else if !other.is_empty() {
            let pairs = std::mem::take(&mut self.ranges).into_iter().chain(other.ranges);
            *self = Self::from_pairs(pairs).expect("the two sets are disjoint");
        }
    }

    /// `Ok` with the range that holds `index`, or `Err` with the place a range of its own would have.
    fn position(&self, index: u32) -> Result<usize, usize> {
        let after = self.ranges.partition_point(|range| range.0 <= index);
        match after.checked_sub(1) {
            Some(at) if self.ranges[at].1 > index => Ok(at),
            _ => Err(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set_and_stays_normal(steps in prop::collection::vec((any::<bool>(), 0u32..40), 0..200)) {
            let (mut ranges, mut set) = (Ranges::none(), BTreeSet::new());
            for (insert, index) in steps {
                if insert {
                    prop_assert_eq!(ranges.insert(index), set.insert(index));
                } else {
                    prop_assert_eq!(ranges.remove(index), set.remove(&index));
                }
                prop_assert!(ranges.iter().eq(set.iter().copied()));
                prop_assert_eq!(ranges.count(), set.len() as u64);
                prop_assert!((0..40).all(|i| ranges.contains(i) == set.contains(&i)));
                prop_assert_eq!(Ranges::from_pairs(ranges.pairs().iter().copied()), Some(ranges.clone()));
            }
        }
    }

    #[test]
    fn a_set_absorbs_a_disjoint_one() {
        let mut ranges = Ranges::from_pairs([(0, 2), (8, 9)]).unwrap();
        ranges.absorb(Ranges::none());
        ranges.absorb(Ranges::from_pairs([(2, 3), (5, 8)]).unwrap());
        assert_eq!(ranges.pairs(), &[(0, 3), (5, 9)]);
    }

    #[test]
    fn overlapping_or_empty_pairs_are_refused() {
        assert_eq!(Ranges::from_pairs([(0, 5), (4, 6)]), None);
        assert_eq!(Ranges::from_pairs([(3, 3)]), None);
        assert_eq!(Ranges::from_pairs([(5, 6), (0, 5)]), Some(Ranges::span(0, 6)));
    }
}
