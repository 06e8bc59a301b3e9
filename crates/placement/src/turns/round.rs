//! One round: whoever is next is given seats and accounted for, until nothing more may be placed or the bound is
//! reached.
//!
//! # What is blocked
//! The groups of one shape in one queue are blocked together, by each alternative: because the fleet has no room for
//! a task, or because a bound leaves none. Within a round, what is blocked stays so: room and what bounds leave only
//! shrink. It leaves the order at once, so that it counts for nobody.
//! - Before the first turn every shape is tried once, and each of its queues held against its bounds.
//! - Whoever finds no more room is blocked, and so are all others of that shape.
//! - Who reaches a bound lets all be looked at that are below the queue whose bound it is and ask for what it bounds.
//!
//! # Reproducible
//! Several tasks are seated in one turn only as far as the same group would be next each time: a turn of one task at
//! a time gives the same round. What is kept between rounds changes how much work a round is and nothing else, so a
//! round that is cut by a number of tasks is a function of what was told; one that is cut by steps is not, but is cut
//! between tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bits::Bits;
use crate::fleet::{Ended, ShapeIndex};
use crate::turns::bounds::Met;
use crate::turns::group::{ALTERNATIVES, GroupKey, Need, QueueIndex};
use crate::turns::order::Turn;
use crate::turns::queues::Queues;
use crate::turns::share::{Column, Held};

/// Most tasks that are seated in one turn.
const BATCH: u32 = 64;

/// Where tasks can be seated.
pub trait Room {
    /// One task's seats.
    type Seated;

    /// Seats up to `most` tasks of a shape by one of its alternatives, each whole or not at all, only on devices of
    /// the models given (all if `None`). Takes what it does off the steps left.
    fn seat(&mut self, ask: &Ask<'_>, most: u32, steps: &mut u64, out: &mut Vec<Self::Seated>) -> Ended;

    /// Takes a task out again.
    fn give_back(&mut self, shape: ShapeIndex, seated: &Self::Seated);

    /// Thousandths of devices that a task was given, by model.
    fn models_of(&self, shape: ShapeIndex, seated: &Self::Seated) -> Vec<(u32, u64)>;

    /// Whether one task could be seated now.
    fn has_room(&mut self, ask: &Ask<'_>, steps: &mut u64) -> Ended {
        let mut seated = Vec::new();
        let ended = self.seat(ask, 1, steps, &mut seated);
        seated.iter().for_each(|seated| self.give_back(ask.shape, seated));
        ended
    }
}

/// What is to be seated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<'a> {
    /// Which shape.
    pub shape: ShapeIndex,
    /// By which of its alternatives.
    pub alternative: u32,
    /// On devices of which models; any if `None`.
    pub models: Option<&'a Bits>,
}

/// How much one round may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Tasks placed.
    pub tasks: u64,
    /// Steps: a turn, a shape looked at again in a queue, and what the room takes.
    pub steps: u64,
}

/// What a round has placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round<S> {
    /// Tasks with their seats, most urgent first.
    pub placed: Vec<(GroupKey, S)>,
    /// Steps done.
    pub steps: u64,
    /// Whether nothing more could be placed. If not, the bound was reached and there may be more to place, even if
    /// nothing was placed: call again. As long as the room remembers what it found, each call gets further than the one
    /// before, and one of them is complete.
    pub complete: bool,
    /// Whether it ended because not all that waits was counted. It would end so again: this is no bound of how much it may do.
    pub counted_out: bool,
}

/// Gives seats to whoever is next. What is placed is accounted for in the queues and taken off what waits there;
/// whoever tells the queues what is so has to do it again for these, once it is known what came of them.
pub fn round<R: Room>(queues: &mut Queues, room: &mut R, bound: Bound) -> Round<R::Seated> {
    queues.begin();
    go_round(queues, room, bound)
}

/// Another part of the same round, where there is more room or something else waits: what the round has placed before stays accounted for.
pub fn round_on<R: Room>(queues: &mut Queues, room: &mut R, bound: Bound) -> Round<R::Seated> {
    queues.begin_again();
    go_round(queues, room, bound)
}

fn go_round<R: Room>(queues: &mut Queues, room: &mut R, bound: Bound) -> Round<R::Seated> {
    let mut running =
        Running { queues, room, left: bound.steps, tasks: bound.tasks, found: BTreeMap::new(), placed: Vec::new() };
    running.survey();
    let complete = loop {
        if running.queues.is_counted_out() {
            break false;
        }
        let Some(turn) = running.queues.first() else { break true };
        if running.left == 0 || running.tasks == 0 || !running.turn(&turn) {
            break false;
        }
    };
    let counted_out = running.queues.is_counted_out();
    Round { placed: running.placed, steps: bound.steps - running.left, complete, counted_out }
}

struct Running<'a, R: Room> {
    queues: &'a mut Queues,
    room: &'a mut R,
    left: u64,
    tasks: u64,
    /// Whether there was room for a shape by an alternative on some models. What there is no room for now is as
    /// found.
    found: BTreeMap<(ShapeIndex, u32, Option<Bits>), bool>,
    placed: Vec<(GroupKey, R::Seated)>,
}

impl<R: Room> Running<'_, R> {
    /// Finds out what is blocked to begin with. The room may use half of the steps: what it was not asked for then
    /// counts as open. To look at all that waits is no step, however much that is: otherwise it would use up the steps
    /// each time, and a round that is called again would ask the room no more than the one before.
    fn survey(&mut self) {
        self.queues.settle();
        let for_turns = self.left / 2;
        let mut steps = self.left - for_turns;
        let shapes: Vec<_> = self.queues.shapes.iter().map(|(shape, facts)| (*shape, facts.clone())).collect();
        for (shape, facts) in shapes {
            for queue in facts.queues {
                let mut open = 0;
                for (alternative, need) in (0..facts.kinds.len() as u32).zip(facts.needs.iter()) {
                    if self.is_refused(shape, alternative, &None) {
                        continue;
                    }
                    let within = self.queues.within(queue, need, 1);
                    if within.most > 0 && self.try_out(shape, alternative, within.models, &mut steps) {
                        open |= 1 << alternative;
                    }
                }
                self.queues.set_open(queue, shape, open);
            }
        }
        self.left = for_turns + steps;
        self.queues.refresh();
    }

    /// Whether there is room, as found before or found out now. For some models there is none if there is none at
    /// all.
    fn try_out(&mut self, shape: ShapeIndex, alternative: u32, models: Option<Bits>, steps: &mut u64) -> bool {
        if models.is_some() && !self.try_out(shape, alternative, None, steps) {
            return false;
        }
        let key = (shape, alternative, models);
        if let Some(found) = self.found.get(&key) {
            return *found;
        }
        let ended = self.room.has_room(&Ask { shape, alternative, models: key.2.as_ref() }, steps);
        self.found.insert(key, ended != Ended::NoRoom);
        ended != Ended::NoRoom
    }

    fn is_refused(&self, shape: ShapeIndex, alternative: u32, models: &Option<Bits>) -> bool {
        let found = |models: Option<Bits>| self.found.get(&(shape, alternative, models)) == Some(&false);
        found(None) || (models.is_some() && found(models.clone()))
    }

    /// Seats what the group whose turn it is may have; whether there were steps enough.
    fn turn(&mut self, turn: &Turn) -> bool {
        self.left -= 1;
        let (key, shape) = (turn.key, turn.key.shape);
        let needs = self.queues.shapes.get(&shape).map(|facts| Arc::clone(&facts.needs));
        let open = self.queues.open(key.queue, shape);
        let alternative = turn.alternative;
        let Some(need) = needs.as_deref().and_then(|needs| needs.get(alternative as usize)) else {
            self.queues.set_open(key.queue, shape, 0);
            self.queues.refresh();
            return true;
        };
        let tasks = u32::try_from(self.tasks).unwrap_or(u32::MAX);
        let wanted = self.queues.count(&key).min(BATCH).min(tasks);
        let within = self.queues.within(key.queue, need, wanted);
        let ended = if within.most == 0 || self.is_refused(shape, alternative, &within.models) {
            Ended::NoRoom
        } else {
            let each = need.at_worst(&self.queues.capacity);
            // Another alternative may come to its bound before this one does, and that would change the order.
            let one_by_one = open.count_ones() > 1 && self.queues.is_bounded(key.queue);
            let most = if one_by_one { 1 } else { self.queues.in_a_row(turn, &each, within.most) };
            self.seat(&key, (alternative, need), (most, within.models))
        };
        if ended == Ended::Budget {
            return false;
        }
        self.look_again(key.queue, shape);
        self.queues.refresh();
        true
    }

    fn seat(&mut self, key: &GroupKey, by: (u32, &Need), up_to: (u32, Option<Bits>)) -> Ended {
        let ((alternative, need), (most, models)) = (by, up_to);
        let mut out = Vec::new();
        let ask = Ask { shape: key.shape, alternative, models: models.as_ref() };
        let ended = self.room.seat(&ask, most, &mut self.left, &mut out);
        let mut held = Held::NONE;
        for seated in &out {
            held.add(&need.held, 1);
            if need.open_gpus() > 0 {
                let models = self.room.models_of(key.shape, seated);
                held.add(&models.into_iter().map(|(model, milli)| (Column::Gpu(model), milli)).collect(), 1);
            }
        }
        let tasks = out.len() as u32;
        self.placed.extend(out.into_iter().map(|seated| (*key, seated)));
        self.tasks -= u64::from(tasks);
        if tasks > 0 {
            self.queues.charge(key, &held, tasks);
            self.queues.lessen(key, tasks);
        }
        if ended == Ended::NoRoom {
            self.refuse(key.shape, alternative, models);
        }
        ended
    }

    /// Notes that there is no room, and takes what asks for it out of the order.
    fn refuse(&mut self, shape: ShapeIndex, alternative: u32, models: Option<Bits>) {
        let everywhere = models.is_none();
        self.found.insert((shape, alternative, models), false);
        if everywhere {
            let queues = self.queues.shapes.get(&shape).map(|facts| facts.queues.clone()).unwrap_or_default();
            for queue in queues {
                let open = self.queues.open(queue, shape);
                self.queues.set_open(queue, shape, open & !(1 << alternative));
            }
        }
    }

    /// Takes what has become blocked of a shape in a queue out of the order. If that was because of bounds, those that
    /// are below and ask for the same are looked at as well, as far as the steps go: the others are found to be blocked
    /// when it is their turn.
    fn look_again(&mut self, queue: QueueIndex, shape: ShapeIndex) {
        let met = self.close(queue, shape);
        self.queues.refresh();
        for (queue, shape) in met.iter().flat_map(|met| self.bounded_by(met)).collect::<BTreeSet<_>>() {
            if self.left == 0 {
                break;
            }
            self.close(queue, shape);
        }
    }

    /// What is open below a bound and asks for what it bounds.
    fn bounded_by(&self, met: &Met) -> Vec<(QueueIndex, ShapeIndex)> {
        let asks = |queue: QueueIndex, shape: ShapeIndex| {
            let (open, facts) = (self.queues.open(queue, shape), self.queues.shapes.get(&shape));
            let needs = facts.iter().flat_map(|facts| facts.needs.iter().enumerate());
            needs.filter(|(at, _)| is_open(open, *at)).any(|(_, need)| met.is_asked_by(need))
        };
        let queues = self.queues.open_queues(met.at).into_iter();
        let pairs =
            queues.flat_map(|queue| self.queues.open_shapes(queue).into_iter().map(move |shape| (queue, shape)));
        pairs.filter(|(queue, shape)| asks(*queue, *shape)).collect()
    }

    /// Takes what is blocked of a shape in a queue out of the order; the bounds that it met.
    fn close(&mut self, queue: QueueIndex, shape: ShapeIndex) -> Vec<Met> {
        self.left = self.left.saturating_sub(1);
        let Some(needs) = self.queues.shapes.get(&shape).map(|facts| Arc::clone(&facts.needs)) else {
            return Vec::new();
        };
        let before = self.queues.open(queue, shape);
        let (mut open, mut met) = (before, Vec::new());
        for (alternative, need) in needs.iter().enumerate().filter(|(at, _)| is_open(before, *at)) {
            let mut within = self.queues.within(queue, need, 1);
            if within.most == 0 || self.is_refused(shape, alternative as u32, &within.models) {
                open &= !(1 << alternative);
            }
            met.append(&mut within.met);
        }
        self.queues.set_open(queue, shape, open);
        met
    }
}

fn is_open(open: u64, alternative: usize) -> bool {
    alternative < ALTERNATIVES && open & (1 << alternative) != 0
}
