//! Members of a shape over domains: as even as there is room, and no more in one than may be.
//!
//! A domain is all nodes of some classes, or a node by itself. Since domains do not overlap, a gang fits exactly if what its
//! domains hold, each counted with no more than may be in it, comes to its size.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::gang::Share;
use super::node::NodeIndex;
use super::nodes::Nodes;
use super::rank::Rank;
use super::seat::{Ended, SeatAt, Seated, Turn};
use super::seek::spend;
use super::tree::{Near, ROOT};

/// How the members of a shape are spread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// The domain of the nodes of each class; those of other classes are each a domain by themselves.
    pub domains: Vec<Option<u32>>,
    /// Most members in a domain; as many as there is room for if `None`.
    pub at_most: Option<u32>,
    /// Whether a node has one member at most.
    pub one_per_node: bool,
    /// Members that there are already, by domain.
    pub there: BTreeMap<Domain, u32>,
    /// Nodes on which there is one already; only where a node has one at most.
    pub on: BTreeSet<NodeIndex>,
}

/// What members are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// One that has a number.
    Of(u32),
    /// A node by itself.
    Node(NodeIndex),
}

impl Spread {
    /// The domain of a node.
    pub(crate) fn domain(&self, at: usize, class: u32) -> Domain {
        let known = self.domains.get(class as usize).copied().flatten();
        known.map_or(Domain::Node(NodeIndex(at as u32)), Domain::Of)
    }

    /// How many more may be in a domain.
    pub(crate) fn room(&self, domain: Domain) -> u64 {
        let there = self.there.get(&domain).copied().unwrap_or(0);
        self.at_most.map_or(u64::MAX, |most| u64::from(most.saturating_sub(there)))
    }

    /// Whether a node may have one more, as far as nodes are counted.
    pub(crate) fn allows(&self, at: usize) -> bool {
        !self.one_per_node || !self.on.contains(&NodeIndex(at as u32))
    }

    /// A member is there.
    fn come(&mut self, at: usize, domain: Domain) {
        *self.there.entry(domain).or_insert(0) += 1;
        if self.one_per_node {
            self.on.insert(NodeIndex(at as u32));
        }
    }

    /// A member is there no more.
    pub(crate) fn go(&mut self, at: usize, nodes: &Nodes) {
        let Some(node) = nodes.get(at) else { return };
        let domain = self.domain(at, node.class);
        if let Some(there) = self.there.get_mut(&domain) {
            *there = there.saturating_sub(1);
            if *there == 0 {
                self.there.remove(&domain);
            }
        }
        self.on.remove(&NodeIndex(at as u32));
    }
}

/// The nodes on which one more fits, by domain; the next is the best node of the domain with the fewest.
#[derive(Debug, Default)]
struct Heads {
    nodes: BTreeMap<Domain, BTreeSet<Rank>>,
    /// By how much worse than what is preferred, how many there are, and the domain's best node.
    heads: BTreeSet<(u32, u32, Rank, Domain)>,
}

impl Heads {
    fn change(&mut self, spread: &Spread, domain: Domain, change: impl FnOnce(&mut BTreeSet<Rank>), before: u32) {
        let nodes = self.nodes.entry(domain).or_default();
        if let Some(first) = nodes.first() {
            self.heads.remove(&(first.worse(), before, *first, domain));
        }
        change(nodes);
        let there = spread.there.get(&domain).copied().unwrap_or(0);
        if let Some(first) = nodes.first().filter(|_| spread.room(domain) > 0) {
            self.heads.insert((first.worse(), there, *first, domain));
        }
    }
}

/// A node that holds some members of a gang.
#[derive(Debug, Clone, Copy)]
struct Cell {
    rank: Rank,
    held: u64,
    domain: Domain,
    place: Place,
}

/// What all members of a gang are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Domain(u32),
    Node(usize),
}

impl Turn<'_> {
    /// Seats tasks of one member, each in the domain that has the fewest. Every node is looked at once for each call, and that is never
    /// cut off, so that each call gets on.
    pub(crate) fn seat_spread(&mut self, left: &mut u32) -> Ended {
        let mut heads = self.heads();
        let mut is_first = true;
        let ended = loop {
            if *left == 0 {
                break Ended::Enough;
            }
            let Some((_, there, rank, domain)) = heads.heads.first().copied() else { break Ended::NoRoom };
            if !spend(self.steps) && !is_first {
                break Ended::Budget;
            }
            is_first = false;
            let at = self.order.node(rank);
            let Some(seat) = self.take(at, None) else {
                debug_assert!(false, "it was found to fit");
                break Ended::NoRoom;
            };
            self.count(std::slice::from_ref(&seat));
            self.out.push(Seated { alternative: self.seek.alternative, seats: vec![seat] });
            *left -= 1;
            let now = self.has_changed(at);
            let again = (self.may_take(at) && self.fits(at)).then_some(now);
            let Some(spread) = &*self.spread else { break Ended::NoRoom };
            let change = |nodes: &mut BTreeSet<Rank>| {
                nodes.remove(&rank);
                nodes.extend(again);
            };
            heads.change(spread, domain, change, there);
        };
        self.order.is_up_to_date(self.changes);
        ended
    }

    fn heads(&mut self) -> Heads {
        let mut heads = Heads::default();
        let ranks: Vec<Rank> = self.order.sorted().iter().copied().collect();
        *self.steps = self.steps.saturating_sub(ranks.len() as u64);
        for rank in ranks {
            let at = self.order.node(rank);
            if self.may_take(at)
                && self.fits(at)
                && let (Some(spread), Some(node)) = (&*self.spread, self.nodes.get(at))
            {
                heads.nodes.entry(spread.domain(at, node.class)).or_default().insert(rank);
            }
        }
        let Some(spread) = &*self.spread else { return heads };
        for (domain, nodes) in heads.nodes.iter().filter(|(domain, _)| spread.room(**domain) > 0) {
            let there = spread.there.get(domain).copied().unwrap_or(0);
            heads.heads.extend(nodes.first().map(|first| (first.worse(), there, *first, *domain)));
        }
        heads
    }

    /// Whether a node may have one more, as far as its own are counted.
    fn may_take(&self, at: usize) -> bool {
        let Some(spread) = &*self.spread else { return true };
        let room = |class| spread.room(spread.domain(at, class)) > 0;
        spread.allows(at) && self.nodes.get(at).is_some_and(|node| room(node.class))
    }

    /// Counts members that were seated.
    pub(crate) fn count(&mut self, seats: &[SeatAt]) {
        let Some(spread) = &mut *self.spread else { return };
        for seat in seats {
            let at = seat.node.0 as usize;
            if let Some(node) = self.nodes.get(at) {
                let domain = spread.domain(at, node.class);
                spread.come(at, domain);
            }
        }
    }

    /// Which nodes a gang goes to that is spread, and how many members to each: in the lowest domain of the topology where it is near
    /// enough and that holds it, as even over what it is spread over as there is room.
    pub(crate) fn spread_shares(&mut self, trusted: bool) -> Option<Vec<Share>> {
        let (size, tree) = (u64::from(self.facts.size), &self.nodes.tree);
        let (from, to) = match self.facts.near {
            Near::Lowest => (tree.depth(), 0),
            Near::Prefer(depth) => (depth, 0),
            Near::Need(depth) => (depth, depth),
        };
        let ranks = self.order.sorted().len() as u64;
        // Nodes with devices are left to others as long as they can be, and those that are avoided to nobody.
        let tiers = [(false, false), (true, false), (true, true)].into_iter();
        for (with_devices, with_avoided) in tiers.filter(|(_, with_avoided)| !(trusted && *with_avoided)) {
            for depth in (to..=from).rev() {
                *self.steps = self.steps.saturating_sub(ranks);
                let mut places: BTreeMap<Place, Vec<Cell>> = BTreeMap::new();
                let cells = self.cells(depth).into_iter();
                let is_let =
                    |rank: Rank| (with_devices || !rank.is_beside_devices()) && (with_avoided || !rank.is_avoided());
                for cell in cells.filter(|cell| is_let(cell.rank)) {
                    places.entry(cell.place).or_default().push(cell);
                }
                let spread = (*self.spread).as_ref()?;
                let held = |cells: &Vec<Cell>| held(spread, cells);
                let enough = places.values().filter(|cells| held(cells) >= size);
                let best = enough.min_by_key(|cells| (held(cells), cells.iter().map(|cell| cell.rank).min()));
                if let Some(cells) = best {
                    return Some(shares(spread, cells, self.facts.size));
                }
            }
        }
        None
    }

    /// What each node holds, and in which domain of this depth of the topology it is.
    fn cells(&self, depth: u32) -> Vec<Cell> {
        let Some(spread) = &*self.spread else { return Vec::new() };
        let cell = |rank: &Rank| {
            let at = self.order.node(*rank);
            let node = self.nodes.get(at).filter(|_| spread.allows(at))?;
            let home = self.nodes.tree.of_class(node.class);
            let place = self.nodes.tree.at_depth_of(home, depth).map_or(Place::Node(at), Place::Domain);
            let domain = spread.domain(at, node.class);
            Some(Cell { rank: *rank, held: self.order.held(*rank), domain, place })
        };
        let of_root = |cell: Cell| Cell { place: if depth == 0 { Place::Domain(ROOT) } else { cell.place }, ..cell };
        self.order.sorted().iter().filter_map(cell).map(of_root).collect()
    }
}

fn by_domain(cells: &[Cell]) -> BTreeMap<Domain, Vec<Cell>> {
    let mut domains: BTreeMap<Domain, Vec<Cell>> = BTreeMap::new();
    cells.iter().for_each(|cell| domains.entry(cell.domain).or_default().push(*cell));
    domains
}

/// Members that some nodes hold, no more in a domain than may be.
fn held(spread: &Spread, cells: &[Cell]) -> u64 {
    let of = |(domain, cells): (Domain, Vec<Cell>)| {
        let held = cells.iter().map(|cell| cell.held).fold(0, u64::saturating_add);
        held.min(spread.room(domain))
    };
    by_domain(cells).into_iter().map(of).fold(0, u64::saturating_add)
}

/// How many members each node is given, in the order of their ranks: one after the other to the domain that has the fewest, and in each
/// to as few nodes as hold them.
fn shares(spread: &Spread, cells: &[Cell], size: u32) -> Vec<Share> {
    let domains = by_domain(cells);
    let mut given: BTreeMap<Domain, u64> = BTreeMap::new();
    let mut line = BTreeSet::new();
    for (domain, cells) in &domains {
        let first = cells.iter().map(|cell| cell.rank).min();
        let room = held(spread, cells);
        let there = spread.there.get(domain).copied().unwrap_or(0);
        line.extend(first.filter(|_| room > 0).map(|first| (first.worse(), there, first, room, *domain)));
    }
    for _ in 0..size {
        let Some((worse, there, first, room, domain)) = line.pop_first() else { break };
        *given.entry(domain).or_insert(0) += 1;
        if room > 1 {
            line.insert((worse, there + 1, first, room - 1, domain));
        }
    }
    let mut parts: Vec<Vec<Share>> = given.iter().map(|(domain, members)| fill(&domains[domain], *members)).collect();
    parts.sort_by_key(|part| part.iter().map(|(rank, _)| *rank).min());
    parts.concat()
}

/// The fewest nodes that hold these members: those that hold most first, and the rest where it leaves the least room.
fn fill(cells: &[Cell], members: u64) -> Vec<Share> {
    let mut cells = cells.to_vec();
    let (mut shares, mut left) = (Vec::new(), members);
    while left > 0 {
        let key = |at: &usize| {
            let Cell { rank, held, .. } = cells[*at];
            if held >= left { (false, held, rank) } else { (true, u64::MAX - held, rank) }
        };
        let Some(at) = (0..cells.len()).min_by_key(key) else { break };
        let Cell { rank, held, .. } = cells.swap_remove(at);
        let share = held.min(left);
        left -= share;
        shares.push((rank, share));
    }
    shares.sort_by_key(|(rank, share)| (Reverse(*share), *rank));
    shares
}
