//! All nodes by their index.

use super::beside::Marks;
use super::fragment::{Fragments, Mix};
use super::layout::Layouts;
use super::node::{Node, NodeFacts};
use super::room::Room;
use super::starts::Starts;
use super::tree::Tree;

/// The nodes and what their devices are.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    list: Vec<Option<Node>>,
    pub(crate) layouts: Layouts,
    /// What is near to what.
    pub(crate) tree: Tree,
    /// Models of devices that were ever seen, ascending.
    models: Vec<u32>,
    pub(crate) mix: Mix,
    pub(crate) marks: Marks,
    pub(crate) starts: Starts,
}

/// What came of putting a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is what it was.
    Same,
    /// It changed.
    Changed,
    /// It changed, and its layout of this number is one that no node had.
    Added(u32),
}

impl Nodes {
    pub(crate) fn put(&mut self, at: usize, facts: NodeFacts) -> Put {
        if self.list.len() <= at {
            self.list.resize_with(at + 1, || None);
        }
        let before = &self.list[at];
        if before.as_ref().is_some_and(|node| node.equals(&facts, &self.layouts)) {
            return Put::Same;
        }
        let (layout, added) = self.layouts.join(&facts.devices);
        for device in &facts.devices {
            if let Err(place) = self.models.binary_search(&device.model) {
                self.models.insert(place, device.model);
            }
        }
        if let Some(before) = self.list[at].replace(Node::of(facts, layout)) {
            self.layouts.leave(before.layout);
        }
        if added {
            self.mix.cover(layout as usize, self.layouts.get(layout));
        }
        if added { Put::Added(layout) } else { Put::Changed }
    }

    /// Whether there was one.
    pub(crate) fn remove(&mut self, at: usize) -> bool {
        let gone = self.list.get_mut(at).and_then(Option::take);
        gone.map(|node| self.layouts.leave(node.layout)).is_some()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Node> {
        self.list.get(at)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Node> {
        self.list.get_mut(at)?.as_mut()
    }

    /// One more than the highest index there ever was.
    pub(crate) fn length(&self) -> usize {
        self.list.len()
    }

    /// The nodes with their index, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.list.iter().enumerate().filter_map(|(at, node)| Some((at, node.as_ref()?)))
    }

    /// The node's room as it is now.
    pub(crate) fn room<'a>(&'a self, node: &'a Node) -> Room<'a> {
        node.room(self.layouts.get(node.layout))
    }

    /// What is free of their devices, and of no use.
    pub(crate) fn fragments(&self, mix: &Mix) -> Fragments {
        Fragments::of(mix, self.iter().map(|(_, node)| (node.layout, self.room(node))))
    }

    /// Whether a member that avoids these marks may come to a node, whatever room there is.
    pub(crate) fn lets_in(&self, at: usize, avoided: &[u32]) -> bool {
        !self.marks.has_any(at, avoided) && self.starts.room(at) > 0
    }

    pub(crate) fn models(&self) -> &[u32] {
        &self.models
    }
}
