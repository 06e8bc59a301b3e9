//! The times at which something must be looked at, earliest first; one per key.

use std::collections::BTreeSet;

/// An ordered set of (time, key).
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    ordered: BTreeSet<(u64, usize)>,
}

impl Deadlines {
    /// Moves `key` from the time it had to the one it shall have.
    pub(crate) fn set(&mut self, key: usize, before: Option<u64>, after: Option<u64>) {
        if before != after {
            before.map(|at| self.ordered.remove(&(at, key)));
            after.map(|at| self.ordered.insert((at, key)));
        }
    }

    /// The earliest time.
    pub(crate) fn first(&self) -> Option<u64> {
        self.ordered.first().map(|(at, _)| *at)
    }

    /// A key whose time has come.
    pub(crate) fn due(&self, now: u64) -> Option<usize> {
        self.ordered.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_moved_ones_do_not_come_twice() {
        let mut deadlines = Deadlines::default();
        deadlines.set(1, None, Some(50));
        deadlines.set(2, None, Some(40));
        deadlines.set(2, Some(40), Some(60));
        assert_eq!((deadlines.first(), deadlines.due(49), deadlines.due(50)), (Some(50), None, Some(1)));
        deadlines.set(1, Some(50), None);
        assert_eq!(deadlines.first(), Some(60));
    }
}
