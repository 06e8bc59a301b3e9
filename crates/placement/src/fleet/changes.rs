//! Which nodes changed, and when: each node once, at its last change. Who remembers the number of the last change it saw
//! finds all later ones without looking at any other node, however long it was away.

/// No node.
const END: u32 = u32::MAX;

/// Nodes by their last change, in a list that runs through them.
#[derive(Debug)]
pub(crate) struct Changes {
    links: Vec<Link>,
    newest: u32,
    last: u64,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
    /// Number of the last change; 0 for none.
    changed: u64,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { links: Vec::new(), newest: END, last: 0 }
    }

    /// Number of the last change; before the first it is 0.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The node changed.
    pub(crate) fn note(&mut self, node: usize) {
        if self.links.len() <= node {
            self.links.resize(node + 1, Link { newer: END, older: END, changed: 0 });
        }
        self.last += 1;
        let at = node as u32;
        if self.newest != at {
            self.unlink(node);
            let newest = self.newest;
            self.links[node] = Link { newer: END, older: newest, changed: 0 };
            if newest != END {
                self.links[newest as usize].newer = at;
            }
            self.newest = at;
        }
        self.links[node].changed = self.last;
    }

    fn unlink(&mut self, node: usize) {
        let Link { newer, older, .. } = self.links[node];
        if newer != END {
            self.links[newer as usize].older = older;
        }
        if older != END {
            self.links[older as usize].newer = newer;
        }
    }

    /// The nodes that changed after the change of this number, the last first.
    pub(crate) fn after(&self, seen: u64) -> impl Iterator<Item = usize> + '_ {
        let changed = move |at: u32| (at != END && self.links[at as usize].changed > seen).then_some(at);
        std::iter::successors(changed(self.newest), move |at| changed(self.links[*at as usize].older))
            .map(|at| at as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_once_at_its_last_change() {
        let mut changes = Changes::new();
        assert_eq!(changes.after(0).count(), 0);
        [5, 2, 5, 5, 0].into_iter().for_each(|node| changes.note(node));
        assert_eq!(changes.after(0).collect::<Vec<_>>(), [0, 5, 2]);
        assert_eq!(changes.after(2).collect::<Vec<_>>(), [0, 5]);
        let seen = changes.last();
        assert_eq!(changes.after(seen).count(), 0);
        [2, 9].into_iter().for_each(|node| changes.note(node));
        assert_eq!(changes.after(seen).collect::<Vec<_>>(), [9, 2]);
        assert_eq!(changes.after(0).collect::<Vec<_>>(), [9, 2, 0, 5]);
    }
}
