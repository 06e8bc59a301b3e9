//! A day of a fleet under one rule: what arrives is seated as soon as it fits, in the order of arrival, and nobody waits for somebody
//! else's room.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use flowyard_placement::*;

use crate::trace::{Size, Trace, milli, node};

/// How often what waits is looked at.
const ROUND_S: u64 = 30;
/// How often the state is measured.
const MEASURED_S: u64 = 600;
/// How often the mix is told anew, for the rule that is told.
const TOLD_S: u64 = 3_600;

/// Where the rule has the mix from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// From nobody.
    Untold,
    /// Every hour, from all that has arrived so far, by how many tasks are of a kind.
    Tasks,
    /// The same, by the devices that they ask for.
    Devices,
}

/// What came of a day; devices in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Free and of no use at the end, and on average over the day.
    pub(crate) useless_at_end: u64,
    pub(crate) useless_mean: u64,
    /// Of what was free, how much was of no use on average, in thousandths.
    pub(crate) useless_of_free: u64,
    pub(crate) in_use_mean: u64,
    pub(crate) in_use_at_end: u64,
    pub(crate) devices: u64,
    pub(crate) arrived: u64,
    pub(crate) waiting_at_end: u64,
    /// Seconds that tasks waited on average, also those that still do; and those alone that ask for several devices.
    pub(crate) wait_s: u64,
    pub(crate) wait_of_several_s: u64,
}

struct Day<'a> {
    trace: &'a Trace,
    fleet: Fleet,
    /// By arrival, the first first.
    waiting: VecDeque<usize>,
    running: BinaryHeap<Reverse<(u64, usize)>>,
    seats: Vec<Option<Seated>>,
    /// By arrival, when it was seated.
    seated_s: Vec<Option<u64>>,
    in_use: u64,
}

/// Lives through a day.
pub(crate) fn day(trace: &Trace, size: Size, fit: Fit, mix: Mix) -> Told {
    let mut fleet = Fleet::with_fit(0, fit);
    (0..size.nodes).for_each(|at| fleet.put_node(NodeIndex(at), node(at)));
    (0..).zip(&trace.shapes).for_each(|(at, shape)| fleet.put_shape(ShapeIndex(at), shape.clone()));
    let mut day = Day {
        trace,
        fleet,
        waiting: VecDeque::new(),
        running: BinaryHeap::new(),
        seats: vec![None; trace.arrivals.len()],
        seated_s: vec![None; trace.arrivals.len()],
        in_use: 0,
    };
    let mut told =
        Told { devices: (0..size.nodes).map(|at| 1_000 * node(at).devices.len() as u64).sum(), ..Told::default() };
    let (mut next, mut measured, ends) = (0, 0, size.hours * 3_600);
    for now in (0..=ends).step_by(ROUND_S as usize) {
        day.tasks_end(now);
        while trace.arrivals.get(next).is_some_and(|arrival| arrival.at_s <= now) {
            day.waiting.push_back(next);
            next += 1;
        }
        if mix != Mix::Untold && now.is_multiple_of(TOLD_S) {
            day.tell_mix(next, mix == Mix::Devices);
        }
        day.round(now);
        if now.is_multiple_of(MEASURED_S) {
            measured += 1;
            day.measure(&mut told);
        }
    }
    for mean in [&mut told.useless_mean, &mut told.in_use_mean, &mut told.useless_of_free] {
        *mean /= measured;
    }
    told.arrived = next as u64;
    day.waits(ends, &mut told);
    told
}

impl Day<'_> {
    fn wish(&self, arrival: usize) -> &Wish {
        &self.trace.shapes[self.trace.arrivals[arrival].shape as usize].wishes[0]
    }

    fn tasks_end(&mut self, now: u64) {
        while let Some(Reverse((ends, which))) = self.running.peek().copied()
            && ends <= now
        {
            self.running.pop();
            self.in_use -= milli(self.wish(which));
            let shape = ShapeIndex(self.trace.arrivals[which].shape);
            if let Some(seated) = self.seats[which].take() {
                self.fleet.give_back(shape, &seated);
            }
        }
    }

    fn tell_mix(&mut self, arrived: usize, by_devices: bool) {
        let weight = |wish: &Wish| if by_devices { milli(wish) } else { 1 };
        let mix: Vec<_> = (0..arrived).map(|which| (self.wish(which).clone(), weight(self.wish(which)))).collect();
        self.fleet.set_mix(&mix);
    }

    fn round(&mut self, now: u64) {
        let mut blocked = BTreeSet::new();
        let mut still = VecDeque::new();
        let mut out = Vec::new();
        while let Some(which) = self.waiting.pop_front() {
            let shape = self.trace.arrivals[which].shape;
            let fits = !blocked.contains(&shape)
                && self.fleet.seat(ShapeIndex(shape), 1, None, &mut { u64::MAX }, &mut out) == Ended::Enough;
            if fits {
                self.in_use += milli(self.wish(which));
                self.seats[which] = out.pop();
                self.seated_s[which] = Some(now);
                self.running.push(Reverse((now + self.trace.arrivals[which].runs_s, which)));
            } else {
                blocked.insert(shape);
                still.push_back(which);
            }
        }
        self.waiting = still;
    }

    fn measure(&self, told: &mut Told) {
        let Fragments { free_milli, useless_milli } = self.fleet.fragments_for(&self.trace.mix);
        told.useless_at_end = useless_milli;
        told.useless_mean += useless_milli;
        told.useless_of_free += (useless_milli * 1_000).checked_div(free_milli).unwrap_or(0);
        told.in_use_at_end = self.in_use;
        told.in_use_mean += self.in_use;
        assert_eq!(free_milli + self.in_use, told.devices, "what is not in use is free");
    }

    fn waits(&self, ends: u64, told: &mut Told) {
        told.waiting_at_end = self.waiting.len() as u64;
        let mean = |several: bool| {
            let which = (0..told.arrived as usize).filter(|which| !several || self.wish(*which).count > 1);
            let wait = |which: usize| self.seated_s[which].unwrap_or(ends) - self.trace.arrivals[which].at_s;
            let (count, sum) = which.fold((0, 0), |(count, sum), which| (count + 1, sum + wait(which)));
            sum / u64::max(count, 1)
        };
        (told.wait_s, told.wait_of_several_s) = (mean(false), mean(true));
    }
}
