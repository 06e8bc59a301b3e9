//! How much of what is free of devices is of no use to the work there is, where it is free.

use std::collections::BTreeSet;

use flowyard_model::{GpuRequest, NodeId, Policy};
use flowyard_placement::{Fleet, Fragments};
use flowyard_state::State;

use crate::nodes;
use crate::words::Words;

/// Nodes that are looked at by the kinds of work that there are.
#[derive(Debug)]
pub struct Gauge {
    fleet: Fleet,
    words: Words,
}

impl Gauge {
    /// No nodes yet, and kinds of work, each as common as it says.
    pub fn new<'a>(kinds: impl Iterator<Item = (&'a GpuRequest, u64)>) -> Self {
        let (mut fleet, mut words) = (Fleet::new(0), Words::of(&Policy::default()));
        fleet.set_mix(&words.mix(kinds));
        Self { fleet, words }
    }

    /// Takes in nodes as they are now: what counts is what may be given out of those that take work.
    pub fn look(&mut self, state: &State, nodes: &BTreeSet<NodeId>) {
        for id in nodes {
            match state.node(*id).filter(|node| nodes::is_usable(node) && !node.inventory.gpus.is_empty()) {
                Some(node) => {
                    let facts = nodes::facts_now(state, (*id, node), None, 0, &mut self.words);
                    self.fleet.put_node(nodes::index(*id), facts);
                }
                None => self.fleet.remove_node(nodes::index(*id)),
            }
        }
    }

    /// What is free, and of no use.
    pub fn fragments(&self) -> Fragments {
        self.fleet.fragments()
    }
}

/// What is free of devices in this state, and of no use to the work that placement is told of.
pub fn fragments(state: &State) -> Fragments {
    let mut gauge = Gauge::new(state.mix().told().map(|(kind, parts)| (kind, u64::from(parts))));
    gauge.look(state, &state.nodes().map(|(id, _)| id).collect());
    gauge.fragments()
}
