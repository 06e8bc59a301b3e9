//! Writes a log: every step is a function of the seed, its number and the log before it, so that whoever opens the log knows
//! what it should hold after any number of steps.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use flowyard_coordinator::raft::engine::{
    Ballot, EngineKind, EngineState, GroupLog, LogEngine, LogOpenError, LogPoint, Op, Record, open_log,
};

use super::{Ended, Order, chain, say};
use crate::dice::Dice;

/// Steps that are under way at once, so that some share a barrier.
const AT_ONCE: u64 = 8;

/// What a log should hold.
#[derive(Debug, Clone, Default)]
struct Expected {
    steps: u64,
    vote: Option<Ballot>,
    purged: Option<LogPoint>,
    committed: Option<LogPoint>,
    /// Where each entry stands and which step wrote it.
    entries: VecDeque<(LogPoint, u64)>,
}

impl Expected {
    fn last(&self) -> Option<LogPoint> {
        self.entries.back().map(|(point, _)| *point).or(self.purged)
    }

    fn term(&self) -> u64 {
        self.vote.map_or(0, |vote| vote.term)
    }

    /// Takes the next step; what the log has to be told for it.
    fn step(&mut self, seed: u64) -> Vec<Op> {
        let mut dice = Dice::new(seed ^ self.steps.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let kind = if self.steps == 0 { 0 } else { dice.within(0, 99) };
        let ops = match kind {
            0..=4 => self.cast(&mut dice),
            5..=9 => self.truncate(&mut dice).unwrap_or_else(|| self.append(seed, &mut dice)),
            10..=14 => self.purge(&mut dice).unwrap_or_else(|| self.append(seed, &mut dice)),
            _ => self.append(seed, &mut dice),
        };
        self.steps += 1;
        ops
    }

    fn cast(&mut self, dice: &mut Dice) -> Vec<Op> {
        let ballot = Ballot { term: self.term() + 1, candidate: dice.within(1, 3), granted: dice.chance(500) };
        self.vote = Some(ballot);
        vec![Op::PutVote(ballot)]
    }

    fn truncate(&mut self, dice: &mut Dice) -> Option<Vec<Op>> {
        let last = self.last()?;
        let settled = self.committed.map_or(0, |committed| committed.index + 1);
        let free = self.entries.iter().filter(|(point, _)| point.index >= settled).count() as u64;
        if free == 0 {
            return None;
        }
        let left = (last.index + 1).checked_sub(dice.within(1, free.min(5)))?;
        self.entries.retain(|(point, _)| point.index < left);
        Some(vec![Op::TruncateAfter(left.checked_sub(1))])
    }

    fn purge(&mut self, dice: &mut Dice) -> Option<Vec<Op>> {
        let committed = self.committed?.index;
        let settled = self.entries.iter().filter(|(point, _)| point.index <= committed).count() as u64;
        let at = dice.within(0, settled.checked_sub(8)?) as usize;
        let (point, _) = self.entries[at];
        self.entries.drain(..=at);
        self.purged = Some(point);
        Some(vec![Op::PurgeTo(point)])
    }

    fn append(&mut self, seed: u64, dice: &mut Dice) -> Vec<Op> {
        let first = self.last().map_or(0, |last| last.index + 1);
        let points = (first..=first + dice.within(0, 3)).map(|index| LogPoint { term: self.term(), index });
        let points: Vec<LogPoint> = points.collect();
        self.entries.extend(points.iter().map(|point| (*point, self.steps)));
        let records = points.iter().map(|point| record(seed, *point, self.steps)).collect();
        let mut ops = vec![Op::Append(records)];
        if dice.chance(300) {
            self.committed = points.first().copied();
            ops.push(Op::PutCommitted(self.committed));
        }
        ops
    }

    /// Whether the log holds just this.
    fn is_held(&self, seed: u64, state: &EngineState, records: &[Record]) -> bool {
        let marks = (state.vote, state.purged, state.last) == (self.vote, self.purged, self.last());
        let committed = state.committed.map(|point| point.index) <= self.committed.map(|point| point.index);
        marks
            && committed
            && records.len() == self.entries.len()
            && records.iter().zip(&self.entries).all(|(found, (point, step))| *found == record(seed, *point, *step))
    }
}

/// The entry at `point` that step `step` wrote.
fn record(seed: u64, point: LogPoint, step: u64) -> Record {
    let mut dice = Dice::new(seed.rotate_left(32) ^ (step << 20) ^ point.index);
    let bytes = match dice.within(0, 99) {
        0 => dice.within(65_000, 150_000),
        1..=9 => dice.within(2_000, 20_000),
        _ => dice.within(0, 900),
    };
    let mut payload = format!("step {step} entry {} ", point.index).into_bytes();
    while (payload.len() as u64) < bytes {
        payload.extend_from_slice(&dice.roll().to_le_bytes());
    }
    Record { point, payload: Bytes::from(payload) }
}

pub(super) fn write(order: &Order, engine: EngineKind) -> Result<Infallible, Ended> {
    let log = open_log(engine, &order.folder.join("log")).map_err(|error| match error {
        LogOpenError::Quarantined { .. } => Ended::Refused(chain(&error)),
        other => Ended::failed(&other),
    })?;
    let acknowledged = order.acks.last().map_or(0, |ack| ack.parse().expect("an ack is a number of steps"));
    let mut expected = recognise(order.seed, acknowledged, &log)?;
    say("ready");
    // Whoever opened the log has seen this much, and may have told others.
    say(&format!("ack {}", expected.steps));
    go_on(order.seed, Arc::new(log), &mut expected)
}

/// Finds after which step the log stands: the last acknowledged one, or one of those that were under way.
fn recognise(seed: u64, acknowledged: u64, log: &GroupLog) -> Result<Expected, Ended> {
    let state = log.state();
    let records = log.read(0..u64::MAX, usize::MAX).map_err(|error| Ended::failed(&error))?;
    let mut expected = Expected::default();
    while expected.steps < acknowledged {
        expected.step(seed);
    }
    for _ in 0..=2 * AT_ONCE {
        if expected.is_held(seed, &state, &records) {
            return Ok(expected);
        }
        expected.step(seed);
    }
    let first = records.first().map(|record| record.point);
    Err(Ended::Wrong(format!("{acknowledged} steps were acknowledged; the log holds {state:?} from {first:?} on")))
}

fn go_on(seed: u64, log: Arc<GroupLog>, expected: &mut Expected) -> Result<Infallible, Ended> {
    let (room, free) = sync_channel(AT_ONCE as usize);
    for _ in 0..AT_ONCE {
        room.send(Ok(())).expect("both ends are here");
    }
    loop {
        let settled: Result<(), Ended> = free.recv().expect("both ends are here");
        settled?;
        let ops = expected.step(seed);
        let (room, steps) = (room.clone(), expected.steps);
        let done = move |result: Result<(), _>| {
            if result.is_ok() {
                say(&format!("ack {steps}"));
            }
            // The other end is gone when the log failed before.
            let _ = room.send(result.map_err(|error| Ended::failed(&error)));
        };
        log.submit(ops, Box::new(done)).map_err(|error| Ended::failed(&error))?;
    }
}
