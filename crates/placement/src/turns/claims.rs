//! Claims: room that others hold is found for what waits and has a right to it, in the order of turns.
//!
//! It comes after a round that was complete: what still waits is blocked then. Only work of queues that may have a
//! right at all is looked at, so where nobody has one it costs a look at each queue in which something waits. Each
//! claim is accounted for before the next one is looked for: its task holds what it claims, and its victims hold
//! nothing.

use std::collections::BTreeSet;

use crate::fleet::ShapeIndex;
use crate::turns::bounds::Reckon;
use crate::turns::group::{GroupKey, Need, QueueIndex};
use crate::turns::queues::{At, Queues, node_of, own_of};
use crate::turns::rights::{Rules, Running};
use crate::turns::round::Ask;
use crate::turns::share::{Column, Held};
use crate::turns::victims::{Evictions, Scratch, victims};

/// Of the steps that are left, one search takes at most this part, so that one that finds nothing leaves some to the
/// others.
const PART_OF_STEPS: u64 = 4;
/// So many that might go are looked at for one step.
const LOOKS_PER_STEP: usize = 8;
/// Of so many that need nobody to leave it is told where they could be seated.
const MOST_FREE: usize = 4;

/// Which queues have waiting work that may have others evicted, as far as is known without looking at those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Those in which something of lower priority runs.
    pub by_priority: BTreeSet<QueueIndex>,
    /// Those that are promised more than they hold.
    pub by_promise: BTreeSet<QueueIndex>,
    /// Everything above the latter.
    above: BTreeSet<At>,
}

impl Rights {
    /// Whether nobody has any.
    pub fn is_empty(&self) -> bool {
        self.by_priority.is_empty() && self.by_promise.is_empty()
    }
}

/// Who is promised room, and who has to go for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims<S> {
    /// Most urgent first.
    pub found: Vec<(GroupKey, Evictions<S>)>,
    /// When the first may be evicted for somebody who found nothing, of those that may not be yet.
    pub wake_at_ms: Option<u64>,
    /// The first that need nobody to leave, and where each would be seated: only who waits for others to end may be in its way.
    pub free: Vec<(GroupKey, S)>,
}

impl Queues {
    /// Whether a queue, or one above it, may have all that a shape in it needs by one of its alternatives of what is promised to it.
    pub fn is_owed(&self, queue: QueueIndex, needs: &[Need]) -> bool {
        needs.iter().any(|need| self.path(own_of(queue)).any(|at| !self.owed(at, need).is_empty()))
    }

    /// Which queues may have a right, where the lowest priority of what runs in a queue and may be evicted is this.
    pub fn rights(&mut self, lowest: impl Fn(QueueIndex) -> Option<i64>) -> Rights {
        self.settle();
        let mut rights = Rights::default();
        for at in 0..self.leaves.len() {
            let queue = QueueIndex(at as u32);
            let Some(highest) = self.leaves[at].highest() else { continue };
            if lowest(queue).is_some_and(|lowest| lowest < highest) {
                rights.by_priority.insert(queue);
            }
            if self.is_owed_something(queue) {
                rights.by_promise.insert(queue);
                rights.above.extend(self.path(own_of(queue)));
            }
        }
        rights
    }

    fn is_owed_something(&self, queue: QueueIndex) -> bool {
        if self.path(own_of(queue)).all(|at| self.nodes[at].entitled.is_none()) {
            return false;
        }
        let shapes = self.leaves[queue.0 as usize].pairs.keys().filter_map(|shape| self.shapes.get(shape));
        let mut needs = shapes.flat_map(|shape| shape.needs.iter());
        needs.any(|need| self.path(own_of(queue)).any(|at| !self.owed(at, need).is_empty()))
    }

    /// Whether what runs in a queue may have to go for a promise: the queue holds more than it is promised, or it is
    /// above one that is owed something.
    pub fn may_lose(&self, queue: QueueIndex, rights: &Rights) -> bool {
        let is_over = |at: At| {
            let node = &self.nodes[at];
            node.held.entries().any(|(column, held)| held > node.entitled.at(column))
        };
        let at = node_of(queue);
        !rights.by_promise.is_empty() && at < self.nodes.len() && (rights.above.contains(&at) || is_over(at))
    }

    /// Takes what is leaving out of the sums, until it is laid back. What is free is not changed by it.
    pub fn set_aside(&mut self, leaving: &[Running]) {
        let given = self.given.clone();
        leaving.iter().for_each(|running| self.lift_for_good(running));
        self.given = given;
    }

    /// Puts back what was set aside.
    pub fn lay_back(&mut self, leaving: &[Running]) {
        let given = self.given.clone();
        leaving.iter().for_each(|running| self.lay_for_good(running));
        self.given = given;
    }

    fn lift_for_good(&mut self, running: &Running) {
        self.lift(running);
        self.path(own_of(running.queue)).collect::<Vec<_>>().into_iter().for_each(|at| self.mark(at));
    }

    fn lay_for_good(&mut self, running: &Running) {
        self.lay(running);
        self.path(own_of(running.queue)).collect::<Vec<_>>().into_iter().for_each(|at| self.mark(at));
    }

    /// The waiting work of the queues that may have a right is looked at, or no more.
    fn open_by_right(&mut self, rights: &Rights, open: bool) {
        self.begin_again();
        for queue in rights.by_priority.union(&rights.by_promise) {
            for shape in self.leaves[queue.0 as usize].pairs.keys().copied().collect::<Vec<_>>() {
                self.set_open(*queue, shape, if open { self.all_ways(shape) } else { 0 });
            }
        }
        self.refresh();
    }

    /// Of those that run and are meant, the positions of those to whom a group has a right, each as the only one to leave.
    fn subject_to(
        &self,
        key: &GroupKey,
        running: &[Running],
        rules: &Rules,
        is_meant: impl Fn(&Running) -> bool,
    ) -> Vec<usize> {
        let Some(facts) = self.shapes.get(&key.shape) else { return Vec::new() };
        let claims: Vec<_> = facts.needs.iter().map(|need| self.claim(key, need, rules)).collect();
        let has = |running: &Running| claims.iter().any(|claim| self.right_to(claim, running, false).is_some());
        let subject = (0..).zip(running).filter(|(_, running)| is_meant(running) && has(running));
        subject.map(|(at, _)| at).collect()
    }

    pub(crate) fn all_ways(&self, shape: ShapeIndex) -> u64 {
        let ways = self.shapes.get(&shape).map_or(0, |facts| facts.kinds.len());
        (0..ways).fold(0, |all, way| all | 1 << way)
    }
}

/// Of those that run, the positions of all that a task of a group has a right to have evicted, whether they may be yet or not; none if it needs
/// nobody to leave, or if it could not start whoever of them left, as far as the steps go. Queues and seats are as before afterwards.
pub fn may_leave<S: Scratch>(
    queues: &mut Queues,
    scratch: &mut S,
    key: &GroupKey,
    running: &[Running],
    rules: &Rules,
    mut steps: u64,
) -> Vec<usize> {
    let later = Rules { now_ms: u64::MAX, ..*rules };
    // As for claims: who waits for others to end yields to who has a right.
    queues.reckon(Reckon::Without);
    let found = victims(queues, scratch, key, running, &later, &mut steps);
    let subject = found.map_or_else(Vec::new, |_| queues.subject_to(key, running, &later, |_| true));
    queues.reckon(Reckon::Beside);
    subject
}

/// Finds room for what waits and has a right to it, up to `most` tasks, by evicting some of those that run. What is
/// claimed is accounted for in the queues as what a round places is; the room is as before afterwards.
pub fn claims<S: Scratch>(
    queues: &mut Queues,
    scratch: &mut S,
    rights: &Rights,
    running: &[Running],
    rules: &Rules,
    (most, mut steps): (usize, u64),
) -> Claims<S::Seated> {
    let mut claiming = Claiming {
        queues,
        scratch,
        running: running.to_vec(),
        rules,
        found: Vec::new(),
        wake_at_ms: None,
        free: Vec::new(),
    };
    // Who waits for others to end yields to who has a right.
    claiming.queues.reckon(Reckon::Without);
    claiming.queues.open_by_right(rights, true);
    while claiming.found.len() < most
        && steps > 0
        && let Some(turn) = claiming.queues.first()
    {
        claiming.look(&turn.key, &mut steps);
    }
    claiming.queues.open_by_right(rights, false);
    claiming.queues.reckon(Reckon::Beside);
    claiming.end()
}

struct Claiming<'a, S: Scratch> {
    queues: &'a mut Queues,
    scratch: &'a mut S,
    /// Those that are evicted are not evicted again.
    running: Vec<Running>,
    rules: &'a Rules,
    found: Vec<(GroupKey, Evictions<S::Seated>)>,
    wake_at_ms: Option<u64>,
    free: Vec<(GroupKey, S::Seated)>,
}

impl<S: Scratch> Claiming<'_, S> {
    fn look(&mut self, key: &GroupKey, steps: &mut u64) {
        let part = steps.div_ceil(PART_OF_STEPS);
        let mut left = part;
        let found = victims(self.queues, self.scratch, key, &self.running, self.rules, &mut left);
        let looks = (self.running.len() / LOOKS_PER_STEP) as u64;
        *steps = steps.saturating_sub((part - left).max(1) + looks);
        if let Some(found) = found
            && let Some(seated) = self.take(key, &found)
        {
            self.found.push((*key, Evictions { seated, ..found }));
        } else {
            if self.free.len() < MOST_FREE {
                let seated = self.seat_now(key, part);
                self.free.extend(seated.map(|seated| (*key, seated)));
            }
            self.wake_at_ms = self.wake_at_ms.into_iter().chain(self.first_to_come(key)).min();
            // What else is of that shape in the queue has no more right.
            self.queues.set_open(key.queue, key.shape, 0);
        }
        self.queues.refresh();
    }

    /// Where a task could be seated if nobody left.
    fn seat_now(&mut self, key: &GroupKey, mut steps: u64) -> Option<S::Seated> {
        let needs = self.queues.shapes.get(&key.shape)?.needs.clone();
        (0..).zip(needs.iter()).find_map(|(alternative, need)| {
            let within = self.queues.within(key.queue, need, 1);
            let ask = Ask { shape: key.shape, alternative, models: within.models.as_ref() };
            let mut seated = Vec::new();
            if within.most > 0 {
                self.scratch.seat(&ask, 1, &mut steps, &mut seated);
            }
            let seated = seated.pop()?;
            self.scratch.give_back(key.shape, &seated);
            Some(seated)
        })
    }

    /// Takes the victims out and seats the task in their place.
    fn take(&mut self, key: &GroupKey, found: &Evictions<S::Seated>) -> Option<S::Seated> {
        let needs = self.queues.shapes.get(&key.shape)?.needs.clone();
        let need = needs.get(found.alternative as usize)?;
        for (at, _) in &found.victims {
            self.queues.lift_for_good(&self.running[*at]);
            self.scratch.take_out(*at);
        }
        let within = self.queues.within(key.queue, need, 1);
        let ask = Ask { shape: key.shape, alternative: found.alternative, models: within.models.as_ref() };
        // It was seated there before, so this does not depend on how many steps are left.
        let (mut seated, mut steps) = (Vec::new(), u64::MAX);
        self.scratch.seat(&ask, 1, &mut steps, &mut seated);
        let Some(seated) = seated.pop() else {
            self.put_back(found);
            return None;
        };
        found.victims.iter().for_each(|(at, _)| self.running[*at].preemptible = false);
        let held = self.held(key, need, &seated);
        self.queues.charge(key, &held, 1);
        self.queues.lessen(key, 1);
        Some(seated)
    }

    fn held(&self, key: &GroupKey, need: &Need, seated: &S::Seated) -> Held {
        let mut held = need.held.clone();
        if need.open_gpus() > 0 {
            let models = self.scratch.models_of(key.shape, seated);
            held.add(&models.into_iter().map(|(model, milli)| (Column::Gpu(model), milli)).collect(), 1);
        }
        held
    }

    fn put_back(&mut self, found: &Evictions<S::Seated>) {
        for (at, _) in &found.victims {
            self.scratch.put_back(*at);
            self.queues.lay_for_good(&self.running[*at]);
        }
    }

    /// When the first of those may be evicted for a group that may not be yet.
    fn first_to_come(&self, key: &GroupKey) -> Option<u64> {
        let later = Rules { now_ms: u64::MAX, ..*self.rules };
        let to_come = |running: &Running| running.protected_until_ms > self.rules.now_ms;
        let subject = self.queues.subject_to(key, &self.running, &later, to_come);
        subject.into_iter().map(|at| self.running[at].protected_until_ms).min()
    }

    /// Puts back all that was taken out.
    fn end(mut self) -> Claims<S::Seated> {
        let found = std::mem::take(&mut self.found);
        for (key, found) in found.iter().rev() {
            self.scratch.give_back(key.shape, &found.seated);
            self.put_back(found);
        }
        Claims { found, wake_at_ms: self.wake_at_ms, free: self.free }
    }
}
