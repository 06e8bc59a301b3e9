//! A network that delays, loses, doubles, reorders and cuts, until it is healed.
//!
//! What is sent on a cut way waits, as TCP keeps trying, and arrives late if its stream still lives. A message that is lost takes
//! its stream with it, some time later.

use std::collections::{BTreeMap, BTreeSet};

use crate::dice::Dice;
use crate::schedule::{Event, Schedule};

/// Which way something goes between an agent and a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Up,
    Down,
}

/// A connection from an agent to a process of a coordinator.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) agent: usize,
    pub(crate) replica: usize,
    /// When the last message of each way arrives.
    last: [u64; 2],
}

#[derive(Debug)]
pub(crate) struct Network {
    /// Messages lost, doubled and overtaken, of a thousand.
    pub(crate) loss: u64,
    pub(crate) doubling: u64,
    pub(crate) reorder: u64,
    /// Longest delay in milliseconds.
    pub(crate) delay_ms: u64,
    /// What is cut, by agent and replica; how often.
    cut: BTreeMap<(usize, usize, Way), u32>,
    held: BTreeMap<(usize, usize, Way), Vec<(u64, Event)>>,
    streams: BTreeMap<u64, Stream>,
    made: u64,
}

/// The delay of a network on which nothing is wrong.
pub(crate) const USUAL_DELAY_MS: u64 = 20;

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            loss: 0,
            doubling: 0,
            reorder: 0,
            delay_ms: USUAL_DELAY_MS,
            cut: BTreeMap::new(),
            held: BTreeMap::new(),
            streams: BTreeMap::new(),
            made: 0,
        }
    }

    pub(crate) fn open(&mut self, agent: usize, replica: usize) -> u64 {
        self.made += 1;
        self.streams.insert(self.made, Stream { agent, replica, last: [0; 2] });
        self.made
    }

    pub(crate) fn stream(&self, stream: u64) -> Option<&Stream> {
        self.streams.get(&stream)
    }

    /// The streams of an agent, or to a replica.
    pub(crate) fn streams_of(&self, whose: impl Fn(&Stream) -> bool) -> Vec<u64> {
        self.streams.iter().filter(|(_, stream)| whose(stream)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_cut(&self, agent: usize, replica: usize, way: Way) -> bool {
        self.cut.contains_key(&(agent, replica, way))
    }

    pub(crate) fn cut(&mut self, agent: usize, replica: usize, way: Way) {
        *self.cut.entry((agent, replica, way)).or_insert(0) += 1;
    }

    /// Mends one cut; what waited is on its way again when there is no other.
    pub(crate) fn mend(&mut self, schedule: &mut Schedule, dice: &mut Dice, at: (usize, usize, Way)) {
        let Some(count) = self.cut.get_mut(&at) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.cut.remove(&at);
        for (stream, event) in self.held.remove(&at).unwrap_or_default() {
            self.carry(schedule, dice, stream, at.2, event);
        }
    }

    pub(crate) fn heal(&mut self, schedule: &mut Schedule, dice: &mut Dice) {
        (self.loss, self.doubling, self.reorder, self.delay_ms) = (0, 0, 0, USUAL_DELAY_MS);
        let cut: BTreeSet<_> = self.cut.keys().copied().collect();
        for at in cut {
            self.cut.insert(at, 1);
            self.mend(schedule, dice, at);
        }
    }

    /// Sends something over a stream.
    pub(crate) fn send(&mut self, schedule: &mut Schedule, dice: &mut Dice, stream: u64, way: Way, event: Event) {
        if !self.streams.contains_key(&stream) {
            return;
        }
        if dice.chance(self.loss) {
            // Both ends give it up, but not at once.
            return self.reset_later(schedule, stream, dice.within(200, 8_000));
        }
        if dice.chance(self.doubling) {
            self.carry(schedule, dice, stream, way, event.clone());
        }
        self.carry(schedule, dice, stream, way, event);
    }

    fn carry(&mut self, schedule: &mut Schedule, dice: &mut Dice, stream: u64, way: Way, event: Event) {
        let Some(ends) = self.streams.get_mut(&stream) else { return };
        let at = (ends.agent, ends.replica, way);
        if self.cut.contains_key(&at) {
            self.held.entry(at).or_default().push((stream, event));
            return;
        }
        let mut time = schedule.now() + dice.within(1, self.delay_ms);
        if dice.chance(self.reorder) {
            time += dice.within(0, 500);
        } else {
            time = time.max(ends.last[way as usize]);
            ends.last[way as usize] = time;
        }
        schedule.at(time, event);
    }

    /// One end closes a stream, or its process dies; the other learns it if the way there is not cut.
    pub(crate) fn close(&mut self, schedule: &mut Schedule, dice: &mut Dice, stream: u64, told: Way) {
        let Some(Stream { agent, replica, .. }) = self.streams.remove(&stream) else { return };
        if self.is_cut(agent, replica, told) {
            return;
        }
        let delay = dice.within(1, self.delay_ms);
        schedule.after(delay, end(stream, agent, replica, told));
    }

    /// One end is gone without a word.
    pub(crate) fn vanish(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    /// Both ends learn after a while that a stream is over; what was on its way is lost.
    pub(crate) fn reset_later(&mut self, schedule: &mut Schedule, stream: u64, delay_ms: u64) {
        let Some(Stream { agent, replica, .. }) = self.streams.remove(&stream) else { return };
        schedule.after(delay_ms, end(stream, agent, replica, Way::Up));
        schedule.after(delay_ms, end(stream, agent, replica, Way::Down));
    }
}

fn end(stream: u64, agent: usize, replica: usize, told: Way) -> Event {
    match told {
        Way::Up => Event::EndsAbove { replica, stream },
        Way::Down => Event::EndsBelow { agent, stream },
    }
}
