//! The search: shape by shape, each on the best node that has room, until nothing fits or the budget is spent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::fit::{amounts_fit, choose_devices};
use crate::problem::{Node, Problem, Shape, Wish};
use crate::score::{Score, score};

/// Version of the policy; written into every plan, so that a past decision can be told from what would be decided now.
pub const PLACER_VERSION: u32 = 1;

/// How much work the solver may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Steps: a node looked at for a shape, or a member seated.
    pub steps: u64,
}

/// The solver's proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What goes where, most urgent first.
    pub placed: Vec<Placed>,
    /// Steps of work done.
    pub steps: u64,
    /// Whether every shape was looked at before the budget was spent.
    pub complete: bool,
}

/// One task of a shape with a seat for each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Position of the shape.
    pub shape: usize,
    /// By rank.
    pub seats: Vec<Seat>,
}

/// Where one member goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Position of the node.
    pub node: usize,
    /// Which alternative of devices.
    pub alternative: u32,
    /// Positions of the devices.
    pub devices: Vec<u32>,
}

/// Proposes a plan.
pub fn solve(problem: &Problem, budget: Budget, seed: u64) -> Plan {
    let mut search = Search {
        problem,
        nodes: problem.nodes.clone(),
        quotas: problem.quotas.clone(),
        first: seed.checked_rem(problem.nodes.len() as u64).unwrap_or(0) as usize,
        left: budget.steps,
        placed: Vec::new(),
    };
    let complete = (0..problem.shapes.len()).all(|shape| search.place_shape(shape));
    Plan { placed: search.placed, steps: budget.steps - search.left, complete }
}

type Candidates = BinaryHeap<Reverse<(Score, usize)>>;

struct Search<'a> {
    problem: &'a Problem,
    nodes: Vec<Node>,
    quotas: Vec<u32>,
    /// Where ties begin to count.
    first: usize,
    /// Steps left.
    left: u64,
    placed: Vec<Placed>,
}

impl Search<'_> {
    /// Places what it can of a shape; whether the budget sufficed.
    fn place_shape(&mut self, at: usize) -> bool {
        let problem = self.problem;
        let shape = &problem.shapes[at];
        let quota = shape.quota.map_or(u32::MAX, |quota| self.quotas[quota]);
        let mut wanted = shape.count.min(quota);
        let none = std::slice::from_ref(&None);
        let some: Vec<_> = shape.wishes.iter().map(Some).collect();
        let wishes = if some.is_empty() { none } else { &some };
        for (alternative, wish) in wishes.iter().enumerate() {
            if wanted == 0 {
                break;
            }
            let Some(mut candidates) = self.candidates(at, *wish) else { return false };
            while wanted > 0
                && let Some(seats) = self.seat_task(at, alternative as u32, *wish, &mut candidates)
            {
                let Some(left) = self.left.checked_sub(seats.len() as u64) else {
                    self.give_back(shape, *wish, &seats);
                    return false;
                };
                self.left = left;
                wanted -= 1;
                if let Some(quota) = shape.quota {
                    self.quotas[quota] -= 1;
                }
                self.placed.push(Placed { shape: at, seats });
            }
        }
        true
    }

    /// The nodes on which a member fits now, best first; `None` if the budget does not suffice to look.
    fn candidates(&mut self, at: usize, wish: Option<&Wish>) -> Option<Candidates> {
        let shape = &self.problem.shapes[at];
        let mut found = Vec::new();
        for node in self.problem.eligible[shape.eligible].iter() {
            self.left = self.left.checked_sub(1)?;
            if fits(shape, wish, &self.nodes[node]) {
                found.push(Reverse((self.score(at, wish, node), node)));
            }
        }
        Some(Candidates::from(found))
    }

    fn score(&self, at: usize, wish: Option<&Wish>, node: usize) -> Score {
        let cost = self.problem.costs.get(&(at, node)).copied().unwrap_or(0);
        let count = self.nodes.len();
        let tie = (node + count - self.first) % count;
        score(&self.problem.shapes[at], wish, &self.nodes[node], cost, tie)
    }

    /// Seats all members of one task, or none. Each node that is opened is filled as far as the task goes.
    fn seat_task(
        &mut self,
        at: usize,
        alternative: u32,
        wish: Option<&Wish>,
        candidates: &mut Candidates,
    ) -> Option<Vec<Seat>> {
        let shape = &self.problem.shapes[at];
        let mut seats: Vec<Seat> = Vec::with_capacity(shape.size as usize);
        let mut opened = Vec::new();
        while seats.len() < shape.size as usize
            && let Some(Reverse((_, node))) = candidates.pop()
        {
            opened.push(node);
            while seats.len() < shape.size as usize
                && let Some(devices) = self.take(shape, wish, node)
            {
                seats.push(Seat { node, alternative, devices });
            }
        }
        let whole = seats.len() == shape.size as usize;
        if !whole {
            self.give_back(shape, wish, &seats);
        }
        for node in opened {
            if fits(shape, wish, &self.nodes[node]) {
                candidates.push(Reverse((self.score(at, wish, node), node)));
            }
        }
        whole.then_some(seats)
    }

    fn take(&mut self, shape: &Shape, wish: Option<&Wish>, node: usize) -> Option<Vec<u32>> {
        let node = &mut self.nodes[node];
        if !amounts_fit(&shape.needs, &node.free) {
            return None;
        }
        let devices = choose_devices(wish, &node.devices)?;
        node.free.take(&shape.needs);
        for device in &devices {
            node.devices[*device as usize].free_milli -= wish.map_or(0, |wish| wish.share_milli);
        }
        Some(devices)
    }

    fn give_back(&mut self, shape: &Shape, wish: Option<&Wish>, seats: &[Seat]) {
        for seat in seats {
            let node = &mut self.nodes[seat.node];
            node.free.give_back(&shape.needs);
            for device in &seat.devices {
                node.devices[*device as usize].free_milli += wish.map_or(0, |wish| wish.share_milli);
            }
        }
    }
}

fn fits(shape: &Shape, wish: Option<&Wish>, node: &Node) -> bool {
    amounts_fit(&shape.needs, &node.free) && choose_devices(wish, &node.devices).is_some()
}
