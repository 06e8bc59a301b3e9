//! The nodes that some shapes may go to, best first; kept between rounds and brought up to date where nodes changed.
//!
//! Shapes of one member that may go to the same nodes and accept the same devices share an order: what each of them needs
//! beside that is tested on the way. A gang has its own, because what counts is how many of its members a node holds.

use std::collections::BTreeSet;

use super::amounts::Amounts;
use super::changes::Changes;
use super::device::Wish;
use super::gang::Domains;
use super::layout::{Filter, Layout, Layouts};
use super::mask::DeviceMask;
use super::memo::Memo;
use super::node::Node;
use super::nodes::Nodes;
use super::rank::{Rank, Score};
use super::room::Ask;
use crate::bits::Bits;

/// If more than this part of the nodes changed, sorting all costs less than moving one by one.
const MANY: usize = 8;

/// Whose order it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    /// Classes of the nodes in it.
    pub(crate) eligible: Bits,
    /// Acceptable devices; none for work without devices.
    pub(crate) filter: Option<Filter>,
    pub(crate) gang: Option<Gang>,
    /// How much better each class is.
    pub(crate) prefer: Vec<u32>,
    pub(crate) by: By,
    /// Whether work without devices goes to the fullest first.
    pub(crate) pack: bool,
}

/// What comes first in an order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// The best rank.
    Rank,
    /// The first node.
    Index,
    /// The node of which one member with this wish makes the least useless; those where it finds no devices are not in it.
    Useless(Wish),
}

/// A gang of one alternative.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gang {
    pub(crate) needs: Amounts,
    pub(crate) wish: Option<Wish>,
    pub(crate) size: u32,
    /// Marks of nodes that none of its members goes to.
    pub(crate) avoids: Vec<u32>,
    /// Whether no two of them go to one node.
    pub(crate) alone: bool,
}

/// Nodes, best first.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) scope: Scope,
    /// By layout, the acceptable devices.
    pub(crate) accepted: Vec<DeviceMask>,
    /// By node; `LAST` for those that are not in it.
    ranks: Vec<Rank>,
    sorted: BTreeSet<Rank>,
    /// For a gang: members that its nodes hold, each node counted with one gang at most.
    members: u64,
    /// For a gang, where there is a topology: the same by domain.
    domains: Option<Domains>,
    /// What one member makes useless, by the state of the devices.
    useless: Memo<Option<i64>>,
    /// The last change that was taken in.
    seen: u64,
    seed: u64,
}

impl Order {
    pub(crate) fn new(scope: Scope, layouts: &Layouts, seed: u64) -> Self {
        let mut order = Self {
            scope,
            accepted: Vec::new(),
            ranks: Vec::new(),
            sorted: BTreeSet::new(),
            members: 0,
            domains: None,
            useless: Memo::default(),
            seen: 0,
            seed,
        };
        layouts.iter().enumerate().for_each(|(number, layout)| order.cover(number, layout));
        order
    }

    /// Takes in a layout that was not there.
    pub(crate) fn cover(&mut self, number: usize, layout: &Layout) {
        let accepted = self.scope.filter.as_ref().map_or(DeviceMask::NONE, |filter| filter.accepted(layout));
        self.useless.clear();
        if number < self.accepted.len() {
            self.accepted[number] = accepted;
        } else {
            self.accepted.push(accepted);
        }
    }

    /// Takes in what changed; how many nodes that was.
    pub(crate) fn catch_up(&mut self, nodes: &Nodes, changes: &Changes) -> u64 {
        let seen = self.seen;
        self.seen = changes.last();
        let few = nodes.length() / MANY;
        if seen > 0 && changes.after(seen).nth(few).is_none() {
            return changes.after(seen).map(|at| self.update(at, nodes)).count() as u64;
        }
        let ranks = (0..nodes.length()).map(|at| self.rank(at, nodes)).collect();
        self.ranks = ranks;
        self.sorted = self.ranks.iter().copied().filter(|rank| *rank != Rank::LAST).collect();
        self.members = self.sorted.iter().map(|rank| self.held(*rank)).sum();
        self.domains = (self.scope.gang.is_some() && !nodes.tree.is_flat()).then(Domains::default);
        for rank in self.sorted.iter().copied().filter(|_| self.domains.is_some()).collect::<Vec<_>>() {
            self.join_domain(rank, nodes);
        }
        self.ranks.len() as u64
    }

    fn join_domain(&mut self, rank: Rank, nodes: &Nodes) {
        let (at, held) = (self.node(rank), self.held(rank));
        if let (Some(domains), Some(node)) = (&mut self.domains, nodes.get(at)) {
            domains.join(at, rank, held, (&nodes.tree, nodes.tree.of_class(node.class)));
        }
    }

    /// Everything is to be looked at again.
    pub(crate) fn start_again(&mut self) {
        self.seen = 0;
    }

    /// All changes up to now have been taken in one by one.
    pub(crate) fn is_up_to_date(&mut self, changes: &Changes) {
        self.seen = changes.last();
    }

    /// Takes in one node as it is now.
    pub(crate) fn update(&mut self, at: usize, nodes: &Nodes) -> Rank {
        if self.ranks.len() <= at {
            self.ranks.resize(at + 1, Rank::LAST);
        }
        let (before, now) = (self.ranks[at], self.rank(at, nodes));
        if before != now {
            if before != Rank::LAST {
                let held = self.held(before);
                self.sorted.remove(&before);
                self.members -= held;
                if let Some(domains) = &mut self.domains {
                    domains.leave(at, before, held, &nodes.tree);
                }
            }
            if now != Rank::LAST {
                self.sorted.insert(now);
                self.members += self.held(now);
                self.join_domain(now, nodes);
            }
            self.ranks[at] = now;
        }
        now
    }

    /// Members of a gang that a node of this rank holds.
    pub(crate) fn held(&self, rank: Rank) -> u64 {
        self.scope.gang.as_ref().map_or(0, |gang| u64::from(gang.size - rank.scattered()))
    }

    /// Members of a gang that all nodes hold; enough for one gang exactly if one fits.
    pub(crate) fn members(&self) -> u64 {
        self.members
    }

    /// Members of a gang that each domain holds; `None` where there is only one.
    pub(crate) fn domains(&self) -> Option<&Domains> {
        self.domains.as_ref()
    }

    /// All nodes, best first.
    pub(crate) fn sorted(&self) -> &BTreeSet<Rank> {
        &self.sorted
    }

    /// The rank that a node would have now.
    pub(crate) fn rank(&mut self, at: usize, nodes: &Nodes) -> Rank {
        let Some(node) = nodes.get(at).filter(|node| self.scope.eligible.contains(node.class as usize)) else {
            return Rank::LAST;
        };
        let (room, devices) = (nodes.room(node), self.scope.filter.is_some());
        let mut packed = devices || self.scope.pack;
        let mut scattered = 0;
        if let Some(Gang { needs, wish, size, avoids, alone }) = &self.scope.gang {
            let ask = Ask { needs, wish: wish.as_ref(), accepted: &self.accepted, avoids };
            let most = if *alone { 1 } else { u64::from(*size) }.min(nodes.starts.room(at));
            let held = ask.capacity(node, room, most);
            if held == 0 || nodes.marks.has_any(at, avoids) {
                return Rank::LAST;
            }
            (packed, scattered) = (true, size - held as u32);
        }
        let better = self.scope.prefer.get(node.class as usize).copied().unwrap_or(0);
        let more_useless = match self.scope.by {
            By::Index => {
                let score = Score { avoided: node.avoided, better, ..Score::default() };
                return Rank::of(score, !self.scope.prefer.is_empty(), at, self.seed);
            }
            By::Rank => None,
            By::Useless(_) => match self.more_useless(node, nodes) {
                None => return Rank::LAST,
                more => more,
            },
        };
        let score = Score {
            avoided: node.avoided,
            better,
            beside_devices: !devices && node.has_devices(),
            scattered,
            more_useless,
            devices_left: if devices { room.devices_left(&self.accepted[node.layout as usize]) } else { 0 },
            fullness: if packed { 1_024 - node.load.min(1_024) } else { node.load },
        };
        Rank::of(score, !self.scope.prefer.is_empty(), at, self.seed)
    }

    /// What one member would make useless of a node's devices, by those that it would take; `None` if it finds none.
    fn more_useless(&mut self, node: &Node, nodes: &Nodes) -> Option<i64> {
        let Self { scope, accepted, useless, .. } = self;
        let By::Useless(wish) = &scope.by else { return None };
        let room = nodes.room(node);
        useless.get(node.layout, room, || {
            let ask = Ask { needs: &Amounts::NONE, wish: Some(wish), accepted, avoids: &[] };
            let devices = ask.choose(node, room, None, &mut Vec::new())?;
            Some(nodes.mix.increase(node.layout, room, &devices, wish.share_milli))
        })
    }

    /// The rank of a node as far as changes have been taken in.
    pub(crate) fn known_rank(&self, at: usize) -> Rank {
        self.ranks.get(at).copied().unwrap_or(Rank::LAST)
    }

    pub(crate) fn node(&self, rank: Rank) -> usize {
        rank.node(self.seed)
    }

    /// The nodes from this rank on, best first.
    pub(crate) fn from(&self, rank: Rank) -> impl Iterator<Item = Rank> + '_ {
        self.sorted.range(rank..).copied()
    }
}
