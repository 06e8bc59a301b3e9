//! How much is starting on nodes, where that is bounded.

use std::collections::BTreeMap;

/// Members by node that are placed and do not run yet.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    most: Option<u32>,
    by_node: BTreeMap<usize, u32>,
}

impl Starts {
    /// How many more may start on a node at this time: any number where none does.
    pub(crate) fn room(&self, at: usize) -> u64 {
        let Some(most) = self.most else { return u64::MAX };
        self.by_node.get(&at).map_or(u64::MAX, |there| u64::from(most.saturating_sub(*there)))
    }

    /// So many start on a node; whether that is something new.
    pub(crate) fn put(&mut self, at: usize, members: u32) -> bool {
        let before = if members == 0 { self.by_node.remove(&at) } else { self.by_node.insert(at, members) };
        before.unwrap_or(0) != members
    }

    /// What bounds them from now on; the nodes for which it may matter.
    pub(crate) fn bound(&mut self, most: Option<u32>) -> Vec<usize> {
        let is_other = std::mem::replace(&mut self.most, most) != most;
        self.by_node.keys().copied().filter(|_| is_other).collect()
    }

    /// One more starts. Where nothing is bounded it is not counted, here and when it is taken back.
    pub(crate) fn come(&mut self, at: usize) {
        if self.most.is_some() {
            *self.by_node.entry(at).or_insert(0) += 1;
        }
    }

    /// One that was to start is taken back.
    pub(crate) fn go(&mut self, at: usize) {
        if let Some(there) = self.by_node.get_mut(&at).filter(|_| self.most.is_some()) {
            *there -= 1;
            if *there == 0 {
                self.by_node.remove(&at);
            }
        }
    }
}
