//! Seats: tasks of one shape by one alternative, each on the best node there is at that time.

use super::changes::Changes;
use super::device::{Portion, Wish};
use super::gang::{self, Search, Share};
use super::mask::DeviceMask;
use super::node::{Node, NodeIndex};
use super::nodes::Nodes;
use super::order::Order;
use super::rank::Rank;
use super::room::Ask;
use super::seek::{Next, Seek, spend};
use super::shapes::ShapeFacts;
use super::spread::Spread;

/// One task with a seat for each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seated {
    /// Which alternative of devices.
    pub alternative: u32,
    /// By rank.
    pub seats: Vec<SeatAt>,
}

/// Where one member goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatAt {
    /// The node.
    pub node: NodeIndex,
    /// Its devices.
    pub devices: DeviceMask,
}

/// Why no more tasks were seated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As many as asked for were.
    Enough,
    /// No more fits now, on devices of the models that were asked for.
    NoRoom,
    /// The steps are used up. A later call goes on from here.
    Budget,
}

/// One alternative of a shape, and all that is needed to seat it.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) facts: &'a ShapeFacts,
    pub(crate) wish: Option<&'a Wish>,
    pub(crate) seek: &'a mut Seek,
    pub(crate) order: &'a mut Order,
    pub(crate) nodes: &'a mut Nodes,
    pub(crate) changes: &'a mut Changes,
    pub(crate) scratch: &'a mut Vec<u128>,
    pub(crate) steps: &'a mut u64,
    pub(crate) out: &'a mut Vec<Seated>,
    pub(crate) spread: &'a mut Option<Spread>,
    /// Whether a gang goes to nodes only that are not avoided.
    pub(crate) trusted: bool,
}

impl Turn<'_> {
    /// Seats tasks as long as some are left, and counts them down.
    pub(crate) fn seat(mut self, left: &mut u32) -> Ended {
        // Bringing the order up to date is never cut off, so that each call with a step left gets on.
        let looked_at = self.order.catch_up(self.nodes, self.changes);
        *self.steps = self.steps.saturating_sub(looked_at);
        match (self.facts.size > 1, &*self.spread) {
            (true, _) => self.seat_gangs(left),
            (false, None) => self.seat_singles(left),
            (false, Some(_)) => self.seat_spread(left),
        }
    }

    fn seat_singles(&mut self, left: &mut u32) -> Ended {
        let tests = self.seek.catch_up(self.order, ask(self.facts, self.wish, self.order), self.nodes, self.changes);
        *self.steps = self.steps.saturating_sub(tests);
        let ended = loop {
            if *left == 0 {
                break Ended::Enough;
            }
            match self.seek.next(self.order, ask(self.facts, self.wish, self.order), self.nodes, self.steps) {
                Next::Fits(rank) => self.fill(rank, left),
                Next::Nowhere => break Ended::NoRoom,
                Next::Budget => break Ended::Budget,
            }
            if *self.steps == 0 && *left > 0 {
                break Ended::Budget;
            }
        };
        self.seek.is_up_to_date(self.changes);
        self.order.is_up_to_date(self.changes);
        ended
    }

    /// Seats tasks on the best node as long as it stays the best.
    fn fill(&mut self, found: Rank, left: &mut u32) {
        let at = self.order.node(found);
        let (before, mut fits) = (*left, true);
        while *left > 0 && spend(self.steps) {
            let Some(seat) = self.take(at, None) else {
                fits = false;
                break;
            };
            *left -= 1;
            self.out.push(Seated { alternative: self.seek.alternative, seats: vec![seat] });
            if self.order.rank(at, self.nodes) > found {
                break;
            }
        }
        if *left == before {
            debug_assert_eq!(*self.steps, 0, "it was found to fit");
            return;
        }
        let now = self.has_changed(at);
        if now != found && fits && self.fits(at) {
            self.seek.note(now);
        }
    }

    fn seat_gangs(&mut self, left: &mut u32) -> Ended {
        let size = self.facts.size;
        let ended = loop {
            if *left == 0 {
                break Ended::Enough;
            }
            if self.order.members() < u64::from(size) {
                break Ended::NoRoom;
            }
            let Some(steps) = self.steps.checked_sub(u64::from(size)) else { break Ended::Budget };
            *self.steps = steps;
            let Some(seats) = self.shares().and_then(|shares| self.seat_gang(&shares)) else { break Ended::NoRoom };
            *left -= 1;
            self.count(&seats);
            self.out.push(Seated { alternative: self.seek.alternative, seats });
        };
        self.order.is_up_to_date(self.changes);
        ended
    }

    /// Which nodes a gang goes to, and how many members to each; `None` if nowhere is room so near. Domains that were looked
    /// at are steps, but the search is not cut off by them.
    fn shares(&mut self) -> Option<Vec<Share>> {
        if self.spread.is_some() {
            return self.spread_shares(self.trusted);
        }
        let size = u64::from(self.facts.size);
        let Some(domains) = self.order.domains() else {
            return gang::in_one_domain(self.order, size, self.facts.near, self.trusted);
        };
        let mut search = Search { order: self.order, domains, tree: &self.nodes.tree, size, looked_at: 0 };
        let shares = search.shares(self.facts.near, self.trusted);
        *self.steps = self.steps.saturating_sub(search.looked_at);
        shares
    }

    /// Seats one whole gang. `None`, and nothing is taken, if the order had counted wrongly.
    fn seat_gang(&mut self, shares: &[Share]) -> Option<Vec<SeatAt>> {
        let mut seats = Vec::with_capacity(self.facts.size as usize);
        for (rank, members) in shares {
            let (at, before) = (self.order.node(*rank), seats.len());
            self.take_side_by_side(at, *members, &mut seats);
            self.has_changed(at);
            if (seats.len() - before) as u64 != *members {
                debug_assert!(false, "the order counts the members that fit");
                seats.iter().for_each(|seat| self.give_back(seat));
                return None;
            }
        }
        Some(seats)
    }

    /// Takes what some members of a gang need from a node, from as few of its groups of linked devices as possible.
    fn take_side_by_side(&mut self, at: usize, members: u64, seats: &mut Vec<SeatAt>) {
        let end = seats.len() as u64 + members;
        while (seats.len() as u64) < end
            && let Some((group, fitting)) = self.group_for(at, end - seats.len() as u64)
        {
            let before = seats.len();
            let here = fitting.min(end - before as u64);
            seats.extend((0..here).map_while(|_| self.take(at, Some(&group))));
            if seats.len() == before {
                break;
            }
        }
        // What is left finds no group for itself: its devices are of several, or of none.
        while (seats.len() as u64) < end
            && let Some(seat) = self.take(at, None)
        {
            seats.push(seat);
        }
    }

    fn group_for(&self, at: usize, members: u64) -> Option<(DeviceMask, u64)> {
        let node = self.nodes.get(at)?;
        ask(self.facts, self.wish, self.order).group_for(node, self.nodes.room(node), members)
    }

    fn give_back(&mut self, seat: &SeatAt) {
        let (at, portion) = (seat.node.0 as usize, self.portion());
        if let Some(node) = self.nodes.get_mut(at) {
            node.give_back(&self.facts.needs, &seat.devices, portion);
            self.nodes.marks.lift(at, &self.facts.beside.leaves);
            self.nodes.starts.go(at);
            self.has_changed(at);
        }
    }

    pub(super) fn has_changed(&mut self, at: usize) -> Rank {
        self.changes.note(at);
        self.order.update(at, self.nodes)
    }

    /// Takes what one member needs from a node, if it fits; its devices of some only, if they are given.
    pub(super) fn take(&mut self, at: usize, of: Option<&DeviceMask>) -> Option<SeatAt> {
        let ask = ask(self.facts, self.wish, self.order);
        let node = self.nodes.get(at)?;
        let room = self.nodes.room(node);
        // How many members of a gang may start there was counted before the first.
        let may_start = self.facts.size > 1 || self.nodes.starts.room(at) > 0;
        if !ask.needs.fit_in(room.amounts) || self.nodes.marks.has_any(at, ask.avoids) || !may_start {
            return None;
        }
        let devices = ask.choose(node, room, of, self.scratch)?;
        let portion = self.portion();
        self.nodes.get_mut(at)?.take(&self.facts.needs, &devices, portion);
        self.nodes.marks.leave(at, &self.facts.beside.leaves);
        self.nodes.starts.come(at);
        Some(SeatAt { node: NodeIndex(at as u32), devices })
    }

    /// How much of each device a member takes.
    fn portion(&self) -> Portion {
        self.wish.map_or(Portion::NONE, Wish::portion)
    }

    pub(super) fn fits(&self, at: usize) -> bool {
        let fits = |node: &Node| ask(self.facts, self.wish, self.order).fits(node, self.nodes.room(node));
        self.nodes.get(at).is_some_and(fits) && self.nodes.lets_in(at, &self.facts.beside.avoids)
    }
}

fn ask<'a>(facts: &'a ShapeFacts, wish: Option<&'a Wish>, order: &'a Order) -> Ask<'a> {
    Ask { needs: &facts.needs, wish, accepted: &order.accepted, avoids: &facts.beside.avoids }
}
