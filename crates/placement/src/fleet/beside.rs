//! What work keeps away from: marks that members leave on their nodes, and marks that a shape avoids.

use std::collections::BTreeMap;

use super::spread::Spread;

/// What a shape says of what is beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beside {
    /// It goes to no node that has one of these marks. Ascending, each once.
    pub avoids: Vec<u32>,
    /// The marks that each of its members leaves on its node. Ascending, each once.
    pub leaves: Vec<u32>,
    /// Whether work without devices fills the nodes that are fullest rather than be spread.
    pub pack: bool,
    /// How its members are spread; as it comes if `None`.
    pub spread: Option<Spread>,
}

impl Beside {
    /// Whether no two of its members go to one node.
    pub(crate) fn is_alone(&self) -> bool {
        self.spread.as_ref().is_some_and(|spread| spread.one_per_node)
            || self.avoids.iter().any(|mark| self.leaves.binary_search(mark).is_ok())
    }
}

/// The marks on nodes, each as often as there are members that left it; of few nodes.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    by_node: BTreeMap<usize, Vec<u32>>,
}

impl Marks {
    /// A node has these marks; whether that is something new.
    pub(crate) fn put(&mut self, at: usize, mut marks: Vec<u32>) -> bool {
        marks.sort_unstable();
        if marks.is_empty() {
            return self.by_node.remove(&at).is_some();
        }
        match self.by_node.get_mut(&at) {
            Some(known) if *known == marks => false,
            Some(known) => {
                *known = marks;
                true
            }
            None => self.by_node.insert(at, marks).is_none(),
        }
    }

    /// Whether a node has one of some marks.
    pub(crate) fn has_any(&self, at: usize, avoided: &[u32]) -> bool {
        let has = |marks: &Vec<u32>| avoided.iter().any(|mark| marks.binary_search(mark).is_ok());
        !avoided.is_empty() && self.by_node.get(&at).is_some_and(has)
    }

    /// One more member leaves marks on a node.
    pub(crate) fn leave(&mut self, at: usize, left: &[u32]) {
        if left.is_empty() {
            return;
        }
        let marks = self.by_node.entry(at).or_default();
        for mark in left {
            let place = marks.partition_point(|known| known < mark);
            marks.insert(place, *mark);
        }
    }

    /// A member that left marks on a node is gone. What is not there any more is left out.
    pub(crate) fn lift(&mut self, at: usize, left: &[u32]) {
        let Some(marks) = self.by_node.get_mut(&at).filter(|_| !left.is_empty()) else { return };
        for mark in left {
            if let Ok(place) = marks.binary_search(mark) {
                marks.remove(place);
            }
        }
        if marks.is_empty() {
            self.by_node.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_there_until_all_who_left_it_are_gone() {
        let mut marks = Marks::default();
        assert!(marks.put(3, vec![9, 4]) && !marks.put(3, vec![4, 9]) && !marks.put(5, vec![]));
        marks.leave(3, &[4, 7]);
        assert!(marks.has_any(3, &[4]) && marks.has_any(3, &[1, 7]) && !marks.has_any(3, &[1, 8]));
        assert!(!marks.has_any(4, &[4]) && !marks.has_any(3, &[]));
        marks.lift(3, &[4]);
        assert!(marks.has_any(3, &[4]), "it was left twice");
        marks.lift(3, &[4, 7, 11]);
        assert!(!marks.has_any(3, &[4, 7]) && marks.has_any(3, &[9]));
        marks.lift(3, &[9]);
        assert!(marks.by_node.is_empty());
    }
}
