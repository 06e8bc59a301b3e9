//! How far one shape has come in an order: the nodes that it passed because it does not fit there.
//!
//! Invariant: a node before `cursor` on which the shape fits, and which has not changed since `seen`, is in `early`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::changes::Changes;
use super::device::Wish;
use super::layout::Filter;
use super::nodes::Nodes;
use super::order::{By, Order};
use super::rank::Rank;
use super::room::Ask;

/// A shape's way through an order by one alternative.
#[derive(Debug)]
pub(crate) struct Seek {
    pub(crate) alternative: u32,
    pub(crate) filter: Option<Filter>,
    /// Of which nodes, for a gang that prefers some.
    pub(crate) tier: u32,
    pub(crate) order: u32,
    /// Nodes before it have too little free of any acceptable device.
    floor: Rank,
    cursor: Rank,
    /// Nodes that were passed and fit since they changed; some may have changed again.
    early: BinaryHeap<Reverse<Rank>>,
    /// Tests that failed on the way from `floor` to `cursor`: what it would cost at most to go it again.
    passed: u64,
    seen: u64,
}

/// What a look for the next node comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The best node on which one fits.
    Fits(Rank),
    /// There is none.
    Nowhere,
    /// The steps are used up.
    Budget,
}

impl Seek {
    pub(crate) fn new(
        (alternative, tier): (u32, u32),
        filter: Option<Filter>,
        order: u32,
        wish: Option<&Wish>,
        by: &By,
    ) -> Self {
        let least = |wish: &Wish| Rank::leaving(u64::from(wish.count) * u64::from(wish.share_milli));
        let floor = wish.filter(|_| *by == By::Rank).map_or(Rank::FIRST, least);
        Self { alternative, tier, filter, order, floor, cursor: floor, early: BinaryHeap::new(), passed: 0, seen: 0 }
    }

    /// Takes in what changed of the nodes that were passed; how many tests that took. Where more changed than were passed,
    /// it is cheaper to start again.
    pub(crate) fn catch_up(&mut self, order: &Order, ask: Ask<'_>, nodes: &Nodes, changes: &Changes) -> u64 {
        let mut steps = 0;
        if self.cursor > self.floor {
            for at in changes.after(self.seen) {
                let rank = order.known_rank(at);
                if rank >= self.floor && rank < self.cursor {
                    if steps >= self.passed {
                        self.start_again();
                        break;
                    }
                    steps += 1;
                    if fits(at, ask, nodes) {
                        self.early.push(Reverse(rank));
                    }
                }
            }
            self.tidy(order, nodes);
        }
        self.seen = changes.last();
        steps
    }

    fn start_again(&mut self) {
        self.cursor = self.floor;
        self.passed = 0;
        self.early.clear();
    }

    /// All changes up to now were noted one by one.
    pub(crate) fn is_up_to_date(&mut self, changes: &Changes) {
        self.seen = changes.last();
    }

    /// A node has changed and still fits.
    pub(crate) fn note(&mut self, rank: Rank) {
        if rank < self.cursor {
            self.early.push(Reverse(rank));
        }
    }

    /// Drops what is out of date, when it has become much.
    fn tidy(&mut self, order: &Order, nodes: &Nodes) {
        if self.early.len() > 2 * nodes.length() {
            let mut ranks = std::mem::take(&mut self.early).into_vec();
            ranks.retain(|Reverse(rank)| order.known_rank(order.node(*rank)) == *rank);
            ranks.sort_unstable();
            ranks.dedup();
            self.early = ranks.into();
        }
    }

    /// The best node on which one member fits.
    pub(crate) fn next(&mut self, order: &Order, ask: Ask<'_>, nodes: &Nodes, steps: &mut u64) -> Next {
        while let Some(Reverse(rank)) = self.early.peek().copied() {
            let at = order.node(rank);
            if order.known_rank(at) == rank {
                if !spend(steps) {
                    return Next::Budget;
                }
                if fits(at, ask, nodes) {
                    return Next::Fits(rank);
                }
            }
            self.early.pop();
        }
        for rank in order.from(self.cursor) {
            self.cursor = rank;
            if !spend(steps) {
                return Next::Budget;
            }
            if fits(order.node(rank), ask, nodes) {
                return Next::Fits(rank);
            }
            self.passed += 1;
        }
        self.cursor = Rank::LAST;
        Next::Nowhere
    }
}

fn fits(at: usize, ask: Ask<'_>, nodes: &Nodes) -> bool {
    nodes.get(at).is_some_and(|node| ask.fits(node, nodes.room(node))) && nodes.lets_in(at, ask.avoids)
}

/// Takes one step; whether there was one.
pub(crate) fn spend(steps: &mut u64) -> bool {
    let left = steps.checked_sub(1);
    *steps = left.unwrap_or(0);
    left.is_some()
}
