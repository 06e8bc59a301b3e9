//! Reservations: when a task could start first if what runs ended one after the other, and where.
//!
//! Whoever ends frees room, and nobody takes any: so what fits once some have ended fits once more of them have, and the first time is found
//! by halving. It is exact as far as seats are: a task fits if the fleet finds seats for it.

use std::collections::BTreeSet;

use crate::fleet::{Ended, ShapeIndex};
use crate::turns::bounds::Reckon;
use crate::turns::group::{GroupKey, QueueIndex};
use crate::turns::queues::Queues;
use crate::turns::rights::Running;
use crate::turns::round::Ask;
use crate::turns::victims::Scratch;

/// Of the steps that are left, one search takes at most this part.
const PART_OF_STEPS: u64 = 4;

/// Where a task can start first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved<S> {
    /// By which alternative.
    pub alternative: u32,
    /// Where.
    pub seated: S,
    /// How many have to have ended, of those that run, in their order.
    pub ended: usize,
}

impl Queues {
    /// The shapes that wait, with the queues they wait in.
    pub fn waiting(&self) -> Vec<(QueueIndex, ShapeIndex)> {
        let of_shape =
            self.shapes.iter().flat_map(|(shape, facts)| facts.queues.iter().map(move |queue| (*queue, *shape)));
        of_shape.collect()
    }
}

/// Of those that wait in these queues with these shapes, in the order of turns, the first that could start once some of those that run have
/// ended, which are told in the order of their ends. Queues and seats are as before afterwards.
pub fn reserve<S: Scratch>(
    queues: &mut Queues,
    scratch: &mut S,
    asks: &BTreeSet<(QueueIndex, ShapeIndex)>,
    (running, ends): (&[Running], &[u64]),
    mut steps: u64,
) -> Option<(GroupKey, Reserved<S::Seated>)> {
    queues.settle();
    queues.begin_again();
    for (queue, shape) in asks {
        let all = queues.all_ways(*shape);
        queues.set_open(*queue, *shape, all);
    }
    queues.refresh();
    queues.reckon(Reckon::InTheEnd);
    let mut found = None;
    while found.is_none()
        && steps > 0
        && let Some(turn) = queues.first()
    {
        let part = steps.div_ceil(PART_OF_STEPS);
        let mut left = part;
        let mut search = Search { queues, scratch, key: turn.key, running, out: 0, steps: &mut left };
        let reserved = search.first(ends);
        search.to(0);
        steps -= (part - left).max(1);
        found = reserved.map(|reserved| (turn.key, reserved));
        queues.set_open(turn.key.queue, turn.key.shape, 0);
        queues.refresh();
    }
    queues.reckon(Reckon::Beside);
    for (queue, shape) in asks {
        queues.set_open(*queue, *shape, 0);
    }
    queues.refresh();
    found
}

struct Search<'a, S: Scratch> {
    queues: &'a mut Queues,
    scratch: &'a mut S,
    key: GroupKey,
    running: &'a [Running],
    /// So many of those that run are taken out, from the first.
    out: usize,
    steps: &'a mut u64,
}

impl<S: Scratch> Search<'_, S> {
    fn first(&mut self, ends: &[u64]) -> Option<Reserved<S::Seated>> {
        // Those that end at one time are gone together.
        let is_cut = |at: &usize| *at == 0 || *at == ends.len() || ends[*at - 1] < ends[*at];
        let cuts: Vec<usize> = (0..=ends.len()).filter(is_cut).collect();
        let (mut low, mut high) = (0, cuts.len() - 1);
        self.to(cuts[high]);
        self.fits()?;
        while low < high {
            let middle = usize::midpoint(low, high);
            self.to(cuts[middle]);
            if self.fits().is_some() { high = middle } else { low = middle + 1 }
        }
        self.to(cuts[high]);
        let alternative = self.fits()?;
        let seated = self.seat(alternative)?;
        Some(Reserved { alternative, seated, ended: cuts[high] })
    }

    /// Takes out or puts back until so many are out.
    fn to(&mut self, count: usize) {
        *self.steps = self.steps.saturating_sub(count.abs_diff(self.out) as u64);
        while self.out < count {
            self.queues.lift(&self.running[self.out]);
            self.scratch.take_out(self.out);
            self.out += 1;
        }
        while self.out > count {
            self.out -= 1;
            self.scratch.put_back(self.out);
            self.queues.lay(&self.running[self.out]);
        }
    }

    /// The first alternative by which the task fits now.
    fn fits(&mut self) -> Option<u32> {
        let needs = self.queues.shapes.get(&self.key.shape)?.needs.clone();
        (0..).zip(needs.iter()).find_map(|(alternative, need)| {
            let within = self.queues.within(self.key.queue, need, 1);
            let ask = Ask { shape: self.key.shape, alternative, models: within.models.as_ref() };
            let fits = within.most > 0 && self.scratch.has_room(&ask, self.steps) == Ended::Enough;
            fits.then_some(alternative)
        })
    }

    fn seat(&mut self, alternative: u32) -> Option<S::Seated> {
        let needs = self.queues.shapes.get(&self.key.shape)?.needs.clone();
        let within = self.queues.within(self.key.queue, needs.get(alternative as usize)?, 1);
        let ask = Ask { shape: self.key.shape, alternative, models: within.models.as_ref() };
        // It was seated before, so this does not depend on how many steps are left.
        let (mut seated, mut steps) = (Vec::new(), u64::MAX);
        self.scratch.seat(&ask, 1, &mut steps, &mut seated);
        let seated = seated.pop()?;
        self.scratch.give_back(self.key.shape, &seated);
        Some(seated)
    }
}
