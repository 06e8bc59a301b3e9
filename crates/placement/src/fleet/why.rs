//! Why a shape does not fit: each node's lacks, counted.

use std::collections::BTreeMap;

use super::device::Wish;
use super::layout::Filter;
use super::mask::DeviceMask;
use super::node::Node;
use super::nodes::Nodes;
use super::room::{Ask, Room};
use super::shapes::ShapeFacts;

/// Something that a node lacks for one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// It may not go there: conditions on labels, or what the agent can do.
    Eligible,
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
    /// Scratch space.
    Disk,
    /// A token, by its position.
    Token(usize),
    /// The node has no such devices, however free.
    Devices,
    /// It has them, but not free, well and linked as asked for.
    FreeDevices,
    /// Nothing: one member fits, but not all members of a gang find room at the same time.
    Gang,
    /// Nothing: it fits, but the quota it counts against is used up.
    Quota,
}

/// Where a shape stands on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Nodes in all.
    pub nodes: usize,
    /// Nodes on which one member fits now.
    pub fitting: usize,
    /// For each lack: how many nodes have it, and the first of them. A node may have several.
    pub lacks: BTreeMap<Lack, (usize, usize)>,
    /// The node with the fewest lacks (but not of eligibility) and what they are; the first among equals.
    pub nearest: Option<(usize, Vec<Lack>)>,
}

/// Looks at every node for one task of a shape, as it is now.
pub(crate) fn explain(nodes: &Nodes, shape: &ShapeFacts) -> Explanation {
    let asks = Asks::of(nodes, shape);
    let mut result = Explanation { nodes: 0, fitting: 0, lacks: BTreeMap::new(), nearest: None };
    for (index, node) in nodes.iter() {
        let lacks = asks.lacks(nodes, node);
        result.nodes += 1;
        result.fitting += usize::from(lacks.is_empty());
        for lack in &lacks {
            result.lacks.entry(*lack).or_insert((0, index)).0 += 1;
        }
        let nearer = result.nearest.as_ref().is_none_or(|(_, best)| lacks.len() < best.len());
        if !lacks.contains(&Lack::Eligible) && nearer {
            result.nearest = Some((index, lacks));
        }
    }
    if result.fitting > 0 && !asks.fit(nodes, |node| nodes.room(node)) {
        result.lacks.insert(Lack::Gang, (result.fitting, result.nearest.as_ref().map_or(0, |nearest| nearest.0)));
    }
    result
}

/// Whether one task of the shape would fit if nothing ran and all devices were well.
pub(crate) fn could_ever_fit(nodes: &Nodes, shape: &ShapeFacts) -> bool {
    Asks::of(nodes, shape).fit(nodes, |node| node.room_when_empty(nodes.layouts.get(node.layout)))
}

/// A shape's alternatives.
struct Asks<'a> {
    shape: &'a ShapeFacts,
    /// With the devices that each accepts, by layout.
    list: Vec<(Option<&'a Wish>, Vec<DeviceMask>)>,
}

impl<'a> Asks<'a> {
    fn of(nodes: &Nodes, shape: &'a ShapeFacts) -> Self {
        let accepted = |wish: &Wish| nodes.layouts.iter().map(|layout| Filter::of(wish).accepted(layout)).collect();
        let list = shape.alternatives().map(|wish| (wish, wish.map_or(Vec::new(), accepted))).collect();
        Self { shape, list }
    }

    fn iter(&self) -> impl Iterator<Item = Ask<'_>> {
        let needs = &self.shape.needs;
        self.list.iter().map(move |(wish, accepted)| Ask { needs, wish: *wish, accepted })
    }

    /// Whether one task fits by any alternative into the rooms that the nodes are said to have.
    fn fit<'n>(&self, nodes: &'n Nodes, room: impl Fn(&'n Node) -> Room<'n>) -> bool {
        let size = u64::from(self.shape.size);
        self.iter().any(|ask| {
            let eligible = nodes.iter().filter(|(_, node)| self.shape.eligible.contains(node.class as usize));
            let mut members = eligible.map(|(_, node)| ask.capacity(node, room(node), size));
            members.try_fold(size, |left, members| left.checked_sub(members).filter(|left| *left > 0)).is_none()
        })
    }

    fn lacks(&self, nodes: &Nodes, node: &Node) -> Vec<Lack> {
        if !self.shape.eligible.contains(node.class as usize) {
            return vec![Lack::Eligible];
        }
        let (needs, free) = (&self.shape.needs, &node.free);
        let plain = [
            (needs.cpu_milli > free.cpu_milli, Lack::Cpu),
            (needs.memory_bytes > free.memory_bytes, Lack::Memory),
            (needs.disk_bytes > free.disk_bytes, Lack::Disk),
        ];
        let mut lacks: Vec<_> = plain.into_iter().filter(|(missing, _)| *missing).map(|(_, lack)| lack).collect();
        let tokens = needs.tokens.iter().enumerate();
        lacks.extend(tokens.filter(|(at, count)| **count > free.token(*at)).map(|(at, _)| Lack::Token(at)));
        if !self.iter().any(|ask| ask.finds_devices(node, nodes.room(node))) {
            let well = node.room_when_well(nodes.layouts.get(node.layout));
            let found = self.iter().any(|ask| ask.finds_devices(node, well));
            lacks.push(if found { Lack::FreeDevices } else { Lack::Devices });
        }
        lacks
    }
}
