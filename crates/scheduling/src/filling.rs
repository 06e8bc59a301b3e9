//! Room that is kept for whom waits until enough has ended is used until then: by what will have ended before. And whoever waits for such a
//! room is placed elsewhere if there is room for it sooner.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{AccountKey, AttemptNumber, Claim, ClusterVersion, NodeId, Placement, TaskKey, TimeMs};
use flowyard_placement::{Bound, GroupFacts, GroupKey, round_on};
use flowyard_state::{ReadyGroup, ReadyStep};

use crate::claimed::Portion;
use crate::evictions::committed;
use crate::nodes::When;
use crate::scheduler::{Known, counts};
use crate::throttle;
use crate::waiting;

/// Tasks of one group that are looked at for what ends early, in one round.
const TASKS_LOOKED_AT: usize = 256;
/// So long before the start of whom it goes before a task has to have ended, beside what it declares: a plan takes some time to get
/// into the log.
const MARGIN_MS: u64 = 2_000;
/// Steps of looking for room elsewhere for one task.
const STEPS_ELSEWHERE: u64 = 100_000;

/// Tasks of each group that end early enough.
type Early = BTreeMap<GroupKey, Vec<(TaskKey, AttemptNumber)>>;

impl Known {
    /// Places beside what was placed whoever has a reservation and finds room sooner than there, and what ends before reservations start.
    pub(crate) fn fill(&mut self, placed: &mut Vec<Placement>, now: TimeMs, bound: Bound) {
        let reserves = self.ahead.claims().any(|(_, claim)| claim.is_reservation());
        if self.state.version() < ClusterVersion::ACCESS || !reserves {
            return;
        }
        // All of it, wherever it is: it counts in the bounds of queues.
        committed(&mut self.ahead, placed.clone());
        let nodes = self.ahead.promised_nodes();
        self.tell_nodes(&nodes, When::Now);
        self.place_elsewhere(placed);
        self.backfill(placed, now, bound);
    }

    /// Takes up what was placed on these nodes.
    pub(crate) fn commit_on(&mut self, nodes: &BTreeSet<NodeId>, placed: &[Placement]) {
        let is_there = |placement: &&Placement| placement.members.iter().any(|seat| nodes.contains(&seat.node));
        let there: Vec<_> = placed.iter().filter(is_there).cloned().collect();
        if !there.is_empty() {
            // What was taken up before is refused, which changes nothing.
            committed(&mut self.ahead, there);
        }
    }

    pub(crate) fn tell_nodes(&mut self, nodes: &BTreeSet<NodeId>, when: When) {
        for node in nodes {
            self.touched.nodes.insert(*node);
            self.tell_node(*node, when);
        }
    }

    fn place_elsewhere(&mut self, placed: &mut Vec<Placement>) {
        let reservations = self.ahead.claims().filter(|(_, claim)| claim.is_reservation());
        let mut in_order: Vec<_> = reservations.map(|(key, claim)| (claim.made_at, *key)).collect();
        in_order.sort_unstable();
        let mut accounted = BTreeSet::new();
        for (_, task) in in_order {
            let Some(own) = self.ahead.claim(&task).map(seats_of) else { continue };
            let placement = self.room_elsewhere(task);
            if let Some(placement) = placement.filter(|it| committed(&mut self.ahead, vec![it.clone()])) {
                let nodes = placement.members.iter().map(|seat| seat.node).collect();
                self.tell_nodes(&nodes, When::Now);
                self.account_beside(&placement, placed, &mut accounted);
                placed.push(placement);
            }
            self.tell_nodes(&own, When::Now);
        }
    }

    /// Where there is room for whom has a reservation, as if it had none: with as many members as there is room for, if its size is not
    /// fixed. The nodes of its reservation are told so, and have to be told anew.
    pub(crate) fn room_elsewhere(&mut self, task: TaskKey) -> Option<Placement> {
        let (claim, shape) = (self.ahead.claim(&task)?, self.reserved.get(&task).copied()?);
        let (own, attempt, queue) = (seats_of(claim), claim.attempt, self.ahead.outline(task.job)?.spec.queue.clone());
        let without = self.ahead.without_claim(task);
        let with = std::mem::replace(&mut self.ahead, without);
        self.tell_nodes(&own, When::Now);
        let seated = self.seat_as_many(&queue, shape, STEPS_ELSEWHERE);
        self.ahead = with;
        let seated = seated?;
        let members = seated.seats.iter().map(|seat| self.seat(seat, seated.alternative)).collect();
        Some(Placement { task, attempt, members })
    }

    /// Who waited for others to end starts, beside what else of the same account was placed in this round.
    fn account_beside(&mut self, placement: &Placement, placed: &[Placement], accounted: &mut BTreeSet<AccountKey>) {
        let account = |task: TaskKey| {
            let job = self.ahead.outline(task.job)?;
            Some(AccountKey { queue: job.spec.queue.clone(), owner: job.owner.to_owned() })
        };
        let Some(own) = account(placement.task) else { return };
        if accounted.insert(own.clone()) {
            let same = placed.iter().filter(|other| account(other.task).as_ref() == Some(&own));
            let mut all = Portion::default();
            for other in same {
                if let Some(spec) = self.state.step_spec(other.task.job, other.task.step) {
                    all.add(&self.state, spec, &other.members);
                }
            }
            self.account_more(&own, all);
        }
        self.account_for(placement);
    }

    fn backfill(&mut self, placed: &mut Vec<Placement>, now: TimeMs, bound: Bound) {
        let starts = self.starts();
        if starts.is_empty() {
            return;
        }
        // What waits is told otherwise meanwhile; what is given out is accounted for with the next round.
        let queues = self.queues_now();
        for (start, nodes) in starts {
            let left_ms = start.0.saturating_sub(now.0).saturating_sub(MARGIN_MS);
            let early = self.early(left_ms, placed);
            if left_ms == 0 || early.is_empty() {
                continue;
            }
            self.tell_early(&early);
            self.tell_nodes(&nodes, When::Before);
            let round = round_on(&mut self.queues, &mut self.fleet, bound);
            let turns = counts(round.placed.iter().map(|(key, _)| *key));
            let mut tasks: BTreeMap<_, _> =
                turns.keys().filter_map(|key| Some((*key, early.get(key)?.clone().into_iter()))).collect();
            let mut more = Vec::with_capacity(round.placed.len());
            for (key, seated) in round.placed {
                let Some((task, attempt)) = tasks.get_mut(&key).and_then(Iterator::next) else { continue };
                more.push(Placement { task, attempt, members: self.seats(&key, &seated) });
            }
            let mut more = throttle::kept(&self.ahead, more);
            committed(&mut self.ahead, more.clone());
            let promised = self.ahead.promised_nodes();
            self.tell_nodes(&promised, When::Now);
            placed.append(&mut more);
        }
        self.put_back(queues);
    }

    /// The nodes on which something is reserved and nobody knows a time at which it starts left out, by the first such time on each.
    fn starts(&self) -> BTreeMap<TimeMs, BTreeSet<NodeId>> {
        let mut first: BTreeMap<NodeId, Option<TimeMs>> = BTreeMap::new();
        for (_, claim) in self.ahead.claims().filter(|(_, claim)| claim.is_reservation()) {
            for seat in &claim.members {
                let known = first.entry(seat.node).or_insert(claim.starts_at);
                *known = known.zip(claim.starts_at).map(|(one, other)| one.min(other));
            }
        }
        let mut starts: BTreeMap<TimeMs, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, start) in first {
            if let Some(start) = start {
                starts.entry(start).or_default().insert(node);
            }
        }
        starts
    }

    /// Of what waits, and was not placed yet, the tasks that will have ended so soon.
    fn early(&self, left_ms: u64, placed: &[Placement]) -> Early {
        let taken: BTreeSet<TaskKey> = placed.iter().map(|placement| placement.task).collect();
        let ends =
            |ready: &ReadyStep| self.ahead.lasts(ready.job, ready.step).is_some_and(|(lasts, _)| lasts <= left_ms);
        let of_key = |group: &ReadyGroup, key: &GroupKey| {
            let shape = (&self.shapes, key.shape);
            let tasks = waiting::suitable(&self.ahead, group, &self.claimed, shape, &taken, (TASKS_LOOKED_AT, ends));
            (!tasks.is_empty()).then_some((*key, tasks))
        };
        let of_group = |(group, keys): (&ReadyGroup, &Vec<GroupKey>)| {
            keys.iter().filter_map(|key| of_key(group, key)).collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// Of what waits only these are to be placed.
    fn tell_early(&mut self, early: &Early) {
        for key in self.groups.values().flatten() {
            let Some(tasks) = early.get(key) else {
                self.queues.remove_group(*key);
                continue;
            };
            let (first, needs) = (tasks[0].0, self.shapes.get(key.shape).needs.clone());
            let facts =
                GroupFacts { oldest: (first.job.0, first.step.0), count: tasks.len() as u32, more: false, needs };
            self.queues.put_group(*key, &facts);
        }
    }
}

/// The nodes of a claim's seats.
pub(crate) fn seats_of(claim: &Claim) -> BTreeSet<NodeId> {
    claim.members.iter().map(|seat| seat.node).collect()
}
