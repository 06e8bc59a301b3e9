//! The topology: domains within domains, and which of them the nodes of each class are in.
//!
//! A domain is everything below one label at one level. Nodes of a class have the same labels, so they are in the same
//! domain. A node without the label of a level is a domain of its own there and at all levels below: nothing is known to
//! be near it.

use std::collections::BTreeMap;

/// The whole fleet: the one domain at depth 0.
pub(crate) const ROOT: u32 = 0;

/// How near to each other the members of a gang have to be. Depths count the levels from the top: 1 is the topmost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Near {
    /// In the lowest domain that holds them all.
    #[default]
    Lowest,
    /// In one domain of this depth if there is one that holds them all, else in the lowest above it that does.
    Prefer(u32),
    /// In one domain of this depth, or not at all.
    Need(u32),
}

/// Domains by number. No order is read from a number: they are given out as domains become known.
#[derive(Debug)]
pub(crate) struct Tree {
    domains: Vec<Domain>,
    /// By the domain above and the label.
    numbers: BTreeMap<(u32, u32), u32>,
    /// The lowest domain of the nodes of each class.
    of_class: Vec<u32>,
}

#[derive(Debug)]
struct Domain {
    above: u32,
    depth: u32,
    below: Vec<u32>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Domain { above: ROOT, depth: 0, below: Vec::new() };
        Self { domains: vec![root], numbers: BTreeMap::new(), of_class: Vec::new() }
    }
}

impl Tree {
    /// Says where the nodes of a class are: their labels from the top. Whether that is something new.
    pub(crate) fn put(&mut self, class: u32, labels: &[u32]) -> bool {
        let home = labels.iter().fold(ROOT, |above, label| self.below(above, *label));
        let class = class as usize;
        if self.of_class.len() <= class {
            self.of_class.resize(class + 1, ROOT);
        }
        std::mem::replace(&mut self.of_class[class], home) != home
    }

    fn below(&mut self, above: u32, label: u32) -> u32 {
        let next = self.domains.len() as u32;
        let number = *self.numbers.entry((above, label)).or_insert(next);
        if number == next {
            let depth = self.domains[above as usize].depth + 1;
            self.domains.push(Domain { above, depth, below: Vec::new() });
            self.domains[above as usize].below.push(number);
        }
        number
    }

    /// Whether there is no domain but the whole fleet.
    pub(crate) fn is_flat(&self) -> bool {
        self.domains.len() == 1
    }

    /// The lowest domain of the nodes of a class.
    pub(crate) fn of_class(&self, class: u32) -> u32 {
        self.of_class.get(class as usize).copied().unwrap_or(ROOT)
    }

    /// A domain, and all that it is in, up to the whole fleet.
    pub(crate) fn upwards(&self, domain: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(domain), |at| (*at != ROOT).then(|| self.domains[*at as usize].above))
    }

    /// The domain of this depth that a domain is in; `None` if it does not reach so deep.
    pub(crate) fn at_depth_of(&self, domain: u32, depth: u32) -> Option<u32> {
        self.upwards(domain).find(|at| self.domains[*at as usize].depth == depth)
    }

    /// The domains directly within a domain.
    pub(crate) fn within(&self, domain: u32) -> &[u32] {
        &self.domains[domain as usize].below
    }

    /// All domains of a depth.
    pub(crate) fn at_depth(&self, depth: u32) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.domains).filter(move |(_, domain)| domain.depth == depth).map(|(number, _)| number)
    }

    /// The depth of the deepest domain.
    pub(crate) fn depth(&self) -> u32 {
        self.domains.iter().map(|domain| domain.depth).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_known_by_all_labels_above_it() {
        let mut tree = Tree::default();
        assert!(tree.is_flat() && !tree.put(0, &[]));
        assert!(tree.put(1, &[7, 1]) && tree.put(2, &[8, 1]) && tree.put(3, &[7]));
        assert!(!tree.put(1, &[7, 1]), "it is there already");
        let homes: Vec<u32> = (0..5).map(|class| tree.of_class(class)).collect();
        assert_eq!((homes[0], homes[4]), (ROOT, ROOT));
        assert_ne!(homes[1], homes[2], "rack 1 of block 7 is not rack 1 of block 8");
        assert_eq!(tree.at_depth_of(homes[1], 1), Some(homes[3]));
        assert_eq!(tree.at_depth_of(homes[3], 2), None);
        assert_eq!((tree.at_depth(1).count(), tree.at_depth(2).count(), tree.depth()), (2, 2, 2));
        assert_eq!(tree.upwards(homes[2]).last(), Some(ROOT));
        assert_eq!(tree.within(homes[3]), [homes[1]]);
    }
}
