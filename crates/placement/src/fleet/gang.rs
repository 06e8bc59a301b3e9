//! Where a gang goes in the topology: in the lowest domain that holds it, in as few parts of each domain as possible.
//!
//! Members are alike and what domains hold adds up, so the fewest parts of a domain are found by taking those that hold
//! most, and for the rest the one that it fills best. A part of a domain is a domain within it, or a node.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::order::Order;
use super::rank::Rank;
use super::tree::{Near, ROOT, Tree};

/// What the domains hold of a gang; kept with its order.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    /// By number; those of which nothing is known hold nothing.
    list: Vec<Room>,
    /// By node, the lowest domain it is in, as far as it holds something.
    homes: Vec<u32>,
}

/// What a domain holds.
#[derive(Debug, Default)]
struct Room {
    /// Members on the nodes of each tier.
    members: [u64; 3],
    /// The nodes directly in it, best first.
    nodes: BTreeSet<Rank>,
}

/// Which nodes are looked at: work without devices leaves those with devices to others as long as it can, and all work those
/// that are avoided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    Plain = 0,
    Trusted = 1,
    All = 2,
}

const TIERS: [Tier; 3] = [Tier::Plain, Tier::Trusted, Tier::All];

/// Those to be looked at, one after the other.
fn tiers(trusted: bool) -> impl Iterator<Item = Tier> {
    TIERS.into_iter().filter(move |tier| !trusted || *tier != Tier::All)
}

impl Tier {
    /// Whether a node of this rank is looked at. Those that are come before those that are not.
    fn takes(self, rank: Rank) -> bool {
        match self {
            Self::Plain => !rank.is_avoided() && !rank.is_beside_devices(),
            Self::Trusted => !rank.is_avoided(),
            Self::All => true,
        }
    }
}

/// A node, and how many members it is given.
pub(crate) type Share = (Rank, u64);

/// Part of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Domain(u32),
    Node(Rank),
}

impl Domains {
    /// A node holds so many members from now on.
    pub(crate) fn join(&mut self, at: usize, rank: Rank, held: u64, (tree, home): (&Tree, u32)) {
        if self.homes.len() <= at {
            self.homes.resize(at + 1, ROOT);
        }
        self.homes[at] = home;
        self.room_mut(home).nodes.insert(rank);
        for domain in tree.upwards(home) {
            let members = &mut self.room_mut(domain).members;
            TIERS.into_iter().filter(|tier| tier.takes(rank)).for_each(|tier| members[tier as usize] += held);
        }
    }

    /// A node held so many members up to now.
    pub(crate) fn leave(&mut self, at: usize, rank: Rank, held: u64, tree: &Tree) {
        let home = self.homes[at];
        self.room_mut(home).nodes.remove(&rank);
        for domain in tree.upwards(home) {
            let members = &mut self.room_mut(domain).members;
            TIERS.into_iter().filter(|tier| tier.takes(rank)).for_each(|tier| members[tier as usize] -= held);
        }
    }

    fn room_mut(&mut self, domain: u32) -> &mut Room {
        let at = domain as usize;
        if self.list.len() <= at {
            self.list.resize_with(at + 1, Room::default);
        }
        &mut self.list[at]
    }

    fn members(&self, domain: u32, tier: Tier) -> u64 {
        self.list.get(domain as usize).map_or(0, |room| room.members[tier as usize])
    }

    /// The nodes directly in a domain that come after one, best first.
    fn nodes(&self, domain: u32, tier: Tier, after: Option<Rank>) -> impl Iterator<Item = Rank> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let nodes = self.list.get(domain as usize).into_iter();
        let nodes = nodes.flat_map(move |room| room.nodes.range((from, Bound::Unbounded)).copied());
        nodes.take_while(move |rank| tier.takes(*rank))
    }
}

/// The seats of a gang as they are found; how many domains were looked at.
pub(crate) struct Search<'a> {
    pub(crate) order: &'a Order,
    pub(crate) domains: &'a Domains,
    pub(crate) tree: &'a Tree,
    pub(crate) size: u64,
    pub(crate) looked_at: u64,
}

impl Search<'_> {
    /// Where all members go, in the order of their ranks, also to nodes that are avoided unless only `trusted` ones will do; `None` if there
    /// is no room so near.
    pub(crate) fn shares(&mut self, near: Near, trusted: bool) -> Option<Vec<Share>> {
        tiers(trusted).find_map(|tier| {
            let enough = self.domains.members(ROOT, tier) >= self.size;
            let part = enough.then(|| self.lowest(near, tier)).flatten()?;
            let mut shares = Vec::new();
            self.descend(part, self.size, tier, &mut shares);
            Some(shares)
        })
    }

    /// What the gang is placed in: the best of the lowest that hold it, from the level where it is near enough upwards.
    fn lowest(&mut self, near: Near, tier: Tier) -> Option<Part> {
        let node = whole_node(self.order, self.size, tier).map(Part::Node);
        let (from, to) = match near {
            Near::Lowest if node.is_some() => return node,
            Near::Lowest => (self.tree.depth(), 0),
            Near::Prefer(depth) => (depth, 0),
            Near::Need(depth) => (depth, depth),
        };
        let best = self.best_at(from, tier);
        // A node that holds all and is in no domain of that depth is one by itself, and one part of it.
        let first = best.filter(|best| node.is_none() || self.parts(*best, self.size, tier).len() == 1);
        first
            .map(Part::Domain)
            .or(node)
            .or_else(|| (to..from).rev().find_map(|depth| self.best_at(depth, tier)).map(Part::Domain))
    }

    /// Of the domains of a depth that hold all members, that which needs the fewest of its parts for them, and of these
    /// that which is filled best.
    fn best_at(&mut self, depth: u32, tier: Tier) -> Option<u32> {
        let domains = self.tree.at_depth(depth);
        let holding: Vec<u32> = domains.filter(|domain| self.domains.members(*domain, tier) >= self.size).collect();
        self.looked_at += holding.len() as u64;
        self.fullest(holding, self.size, tier)
    }

    fn fullest(&mut self, domains: Vec<u32>, members: u64, tier: Tier) -> Option<u32> {
        if domains.len() < 2 {
            return domains.first().copied();
        }
        domains.into_iter().min_by_key(|domain| {
            let parts = self.parts(*domain, members, tier).len();
            (parts, self.domains.members(*domain, tier), self.first(*domain))
        })
    }

    /// The best node of a domain, to tell equal ones apart.
    fn first(&self, domain: u32) -> Option<Rank> {
        let within = self.tree.within(domain).iter().filter_map(|domain| self.first(*domain));
        within.chain(self.domains.nodes(domain, Tier::All, None).next()).min()
    }

    fn descend(&mut self, part: Part, members: u64, tier: Tier, shares: &mut Vec<Share>) {
        match part {
            Part::Node(rank) => shares.push((rank, members)),
            Part::Domain(domain) => {
                for (part, members) in self.parts(domain, members, tier) {
                    self.descend(part, members, tier, shares);
                }
            }
        }
    }

    /// The fewest parts of a domain that hold these members, those which hold most first.
    fn parts(&mut self, domain: u32, members: u64, tier: Tier) -> Vec<(Part, u64)> {
        let within = self.tree.within(domain).iter().copied();
        let mut within: Vec<u32> = within.filter(|domain| self.domains.members(*domain, tier) > 0).collect();
        self.looked_at += within.len() as u64;
        let (mut parts, mut left, mut last_node) = (Vec::new(), members, None);
        while left > 0 {
            let node =
                self.next_node(domain, last_node, left, tier).map(|rank| (Part::Node(rank), self.order.held(rank)));
            let below = self.next_domain(&within, left, tier);
            let below = below.map(|domain| (Part::Domain(domain), self.domains.members(domain, tier)));
            let Some((part, held)) = better(below, node, left) else {
                debug_assert!(false, "a domain holds what its parts hold");
                break;
            };
            match part {
                Part::Domain(domain) => within.retain(|other| *other != domain),
                Part::Node(rank) => last_node = Some(rank),
            }
            let share = held.min(left);
            left -= share;
            parts.push((part, share));
        }
        parts
    }

    /// Of some domains the one that the members fill best, or else the one that holds most.
    fn next_domain(&self, domains: &[u32], members: u64, tier: Tier) -> Option<u32> {
        let held = |domain: &u32| self.domains.members(*domain, tier);
        let enough = domains.iter().copied().filter(|domain| held(domain) >= members);
        enough.min_by_key(|domain| (held(domain), self.first(*domain))).or_else(|| {
            domains.iter().copied().min_by_key(|domain| (std::cmp::Reverse(held(domain)), self.first(*domain)))
        })
    }

    /// The next of the nodes directly in a domain: the one that the members fill best, or else the one that holds most.
    fn next_node(&self, domain: u32, last: Option<Rank>, members: u64, tier: Tier) -> Option<Rank> {
        let nodes = &self.domains.list.get(domain as usize)?.nodes;
        let first = self.domains.nodes(domain, tier, last).next()?;
        Some(best_filled(nodes, first, members, self.order))
    }
}

/// The best node that holds all members.
fn whole_node(order: &Order, size: u64, tier: Tier) -> Option<Rank> {
    // Those which hold most come first among their kind.
    let kinds = [Rank::FIRST, Rank::BESIDE_DEVICES, Rank::AVOIDED, Rank::AVOIDED_BESIDE_DEVICES];
    let firsts = kinds.into_iter().filter_map(|kind| order.from(kind).next());
    firsts.take_while(|rank| tier.takes(*rank)).find(|rank| order.held(*rank) >= size)
}

/// Where all members go where there is only one domain: to the nodes that hold most, and the rest to the node that it fills
/// best. If they have to be nearer than that, to one node. The same as what a search finds in a tree without domains.
pub(crate) fn in_one_domain(order: &Order, size: u64, near: Near, trusted: bool) -> Option<Vec<Share>> {
    let (mut shares, mut left, mut after) = (Vec::new(), size, Bound::Unbounded);
    while left > 0 {
        let first = order.sorted().range((after, Bound::Unbounded)).next().copied()?;
        let rank = best_filled(order.sorted(), first, left, order);
        let share = order.held(rank).min(left);
        left -= share;
        shares.push((rank, share));
        after = Bound::Excluded(rank);
    }
    let needs = matches!(near, Near::Need(_));
    let enough = |tier: &Tier| !needs && shares.iter().all(|(rank, _)| tier.takes(*rank));
    let tier = TIERS.into_iter().find(enough).unwrap_or(Tier::All);
    if tier == Tier::Plain {
        return Some(shares);
    }
    let some_avoided = trusted && shares.iter().any(|(rank, _)| rank.is_avoided());
    let whole = whole_node(order, size, if trusted { Tier::Trusted } else { tier }).map(|rank| vec![(rank, size)]);
    whole.or_else(|| (!needs && !some_avoided).then_some(shares))
}

/// Of the nodes from the first on that are as good as it in all but how many members they hold: the one that the members
/// fill best, or else the first, which holds most.
pub(crate) fn best_filled(nodes: &BTreeSet<Rank>, first: Rank, members: u64, order: &Order) -> Rank {
    let held = order.held(first);
    if held <= members {
        return first;
    }
    let too_few = first.scattering(first.scattered() + (held - members) as u32 + 1);
    let last = nodes.range(first..too_few).next_back().copied().unwrap_or(first);
    nodes.range(first.max(last.scattering(last.scattered()))..).next().copied().unwrap_or(first)
}

/// Of two parts the one that the members fill best, or else the one that holds most.
fn better(one: Option<(Part, u64)>, other: Option<(Part, u64)>, members: u64) -> Option<(Part, u64)> {
    let (Some((_, held)), Some((_, other_held))) = (one, other) else { return one.or(other) };
    let fuller = match (held >= members, other_held >= members) {
        (true, true) => held <= other_held,
        (false, false) => held >= other_held,
        (enough, _) => enough,
    };
    if fuller { one } else { other }
}
