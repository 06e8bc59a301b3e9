//! Why a shape does not fit: each node's lacks, counted.

use std::collections::BTreeMap;

use super::device::Wish;
use super::layout::Filter;
use super::mask::DeviceMask;
use super::node::Node;
use super::nodes::Nodes;
use super::room::{Ask, Room};
use super::shapes::ShapeFacts;
use super::spread::{Domain, Spread};
use super::tree::{Near, ROOT};

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
    /// Nothing: it fits, but is kept apart from what is there.
    Apart,
    /// Nothing: it fits, but there are as many of its own in the domain, or on the node, as may be.
    Spread,
}

/// Where a shape stands on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Nodes in all.
    pub nodes: usize,
    /// Nodes on which one member fits now.
    pub fitting: usize,
    /// Members of one task that find room at the same time, as near to each other as they have to be, by the alternative for which that is
    /// most; at most its size.
    pub seats: u64,
    /// For each lack: how many nodes have it, and the first of them. A node may have several.
    pub lacks: BTreeMap<Lack, (usize, usize)>,
    /// The node with the fewest lacks (but not of eligibility) and what they are; the first among equals.
    pub nearest: Option<(usize, Vec<Lack>)>,
}

/// Looks at every node for one task of a shape, as it is now.
pub(crate) fn explain(nodes: &Nodes, shape: &ShapeFacts) -> Explanation {
    let asks = Asks::of(nodes, shape);
    let mut result = Explanation { nodes: 0, fitting: 0, seats: 0, lacks: BTreeMap::new(), nearest: None };
    for (index, node) in nodes.iter() {
        let lacks = asks.lacks(nodes, index, node);
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
    result.seats = asks.seats(nodes);
    if result.fitting > 0 && result.seats < u64::from(shape.size) {
        result.lacks.insert(Lack::Gang, (result.fitting, result.nearest.as_ref().map_or(0, |nearest| nearest.0)));
    }
    result
}

/// Whether one task of the shape would fit if nothing ran and all devices were well.
pub(crate) fn could_ever_fit(nodes: &Nodes, shape: &ShapeFacts) -> bool {
    Asks::of(nodes, shape).fits_when_empty(nodes, |node| node.room_when_empty(nodes.layouts.get(node.layout)))
}

/// Where there may be room for all members, and how many it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NearRoom {
    /// Domains of the level in one of which all members have to be, with those nodes that are one by themselves, as far as the
    /// shape may go there.
    pub domains: usize,
    /// A node of the domain that holds most now, and how many members that is; the first among equals.
    pub most: Option<(usize, u64)>,
    /// The most members that one of them would hold if nothing ran and all devices were well.
    pub most_when_empty: u64,
}

/// The domains in one of which all members of a shape have to be, as they are now.
pub(crate) fn near_room(nodes: &Nodes, shape: &ShapeFacts) -> NearRoom {
    let asks = Asks::of(nodes, shape);
    let mut told = NearRoom { domains: 0, most: None, most_when_empty: 0 };
    for ask in asks.iter() {
        let now = asks.held(ask, nodes, true, |node| nodes.room(node));
        let empty = asks.held(ask, nodes, false, |node| node.room_when_empty(nodes.layouts.get(node.layout)));
        told.domains = now.len();
        told.most_when_empty = empty.values().copied().fold(told.most_when_empty, u64::max);
        let before = told.most.map_or(0, |(_, members)| members);
        let most = now.values().copied().max().filter(|most| *most > before);
        let first = most.and_then(|most| {
            let mut here = nodes.iter().filter(|(_, node)| shape.eligible.contains(node.class as usize));
            here.find(|(at, node)| now.get(&asks.place(nodes, *at, node)) == Some(&most)).map(|(at, _)| (at, most))
        });
        told.most = first.or(told.most);
    }
    told
}

/// What all members of a gang have to be in: a domain, or a node that is one by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Domain(u32),
    Node(usize),
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
        self.list.iter().map(move |(wish, accepted)| Ask {
            needs,
            wish: *wish,
            accepted,
            avoids: &self.shape.beside.avoids,
        })
    }

    /// Whether one task fits by any alternative into the rooms that the nodes are said to have if nothing runs.
    fn fits_when_empty<'n>(&self, nodes: &'n Nodes, room: impl Fn(&'n Node) -> Room<'n>) -> bool {
        let size = u64::from(self.shape.size);
        self.iter().any(|ask| self.held(ask, nodes, false, &room).into_iter().any(|(_, members)| members >= size))
    }

    /// Members that each domain holds of those in one of which all have to be, beside what is there now or if nothing is.
    fn held<'n>(
        &self,
        ask: Ask<'_>,
        nodes: &'n Nodes,
        is_now: bool,
        room: impl Fn(&'n Node) -> Room<'n>,
    ) -> BTreeMap<Place, u64> {
        let beside = &self.shape.beside;
        let spread = beside.spread.as_ref();
        let most = if beside.is_alone() { 1 } else { u64::from(self.shape.size) };
        let mut parts: BTreeMap<(Place, Option<Domain>), u64> = BTreeMap::new();
        for (at, node) in nodes.iter().filter(|(_, node)| self.shape.eligible.contains(node.class as usize)) {
            let shut = is_now && (nodes.marks.has_any(at, ask.avoids) || spread.is_some_and(|it| !it.allows(at)));
            let domain = spread.map(|spread| spread.domain(at, node.class));
            let starts = if is_now { nodes.starts.room(at) } else { u64::MAX };
            let held = if shut { 0 } else { ask.capacity(node, room(node), most).min(starts) };
            *parts.entry((self.place(nodes, at, node), domain)).or_insert(0) += held;
        }
        let mut all = BTreeMap::new();
        for ((place, domain), held) in parts {
            let may = |spread: &Spread| match (domain, is_now) {
                (Some(domain), true) => spread.room(domain),
                _ => spread.at_most.map_or(u64::MAX, u64::from),
            };
            *all.entry(place).or_insert(0) += spread.map_or(held, |spread| held.min(may(spread)));
        }
        all
    }

    fn place(&self, nodes: &Nodes, at: usize, node: &Node) -> Place {
        let home = nodes.tree.of_class(node.class);
        match self.shape.near {
            Near::Need(depth) => nodes.tree.at_depth_of(home, depth).map_or(Place::Node(at), Place::Domain),
            Near::Lowest | Near::Prefer(_) => Place::Domain(ROOT),
        }
    }

    /// How many members of one task find room now as near to each other as they have to be, by the alternative for which that is most.
    fn seats(&self, nodes: &Nodes) -> u64 {
        let size = u64::from(self.shape.size);
        let by = |ask: Ask<'_>| self.held(ask, nodes, true, |node| nodes.room(node)).into_values().max();
        self.iter().filter_map(by).max().unwrap_or(0).min(size)
    }

    fn lacks(&self, nodes: &Nodes, at: usize, node: &Node) -> Vec<Lack> {
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
        let beside = &self.shape.beside;
        lacks.extend(nodes.marks.has_any(at, &beside.avoids).then_some(Lack::Apart));
        let is_full = |spread: &Spread| !spread.allows(at) || spread.room(spread.domain(at, node.class)) == 0;
        lacks.extend(beside.spread.as_ref().is_some_and(is_full).then_some(Lack::Spread));
        lacks
    }
}
