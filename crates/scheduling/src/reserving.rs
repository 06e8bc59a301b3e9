//! Reservations: what is blocked and wide gets a claim on room that falls free when others end, one in each part of the tree below the root;
//! and one what is not wide but was passed over for long by smaller work (`passed`).

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    Attempt, Awaited, Claim, ClaimWish, ClusterVersion, Command, Entry, Member, NodeId, Phase, Placement, Plan,
    QueuePath, Reply, Revision, Seat, TaskKey, TimeMs, Used, limits,
};
use flowyard_placement::{Bound, GroupKey, Occupied, QueueIndex, Reserved, Seated, ShapeIndex, reserve};
use flowyard_state::{ReadyStep, State, apply};

use crate::claimed;
use crate::evictable::Told;
use crate::evictions::committed;
use crate::nodes::{self, When};
use crate::scheduler::Known;
use crate::upgrading::Again;
use crate::waiting;

/// The part of a round's steps that looking for reservations may take, in hundredths.
const STEPS_PERCENT: u64 = 30;
/// How many are looked at in a round until a reservation can be made.
const TRIED: u64 = 4;
/// Reservations at one time: a round looks for what may go before each of them.
const RESERVATIONS: usize = 32;

/// What runs, in the order in which it ends: what need not end is last.
struct Ending {
    told: Told,
    ends: Vec<u64>,
}

impl Known {
    /// The reservation that is to be made next, if something blocked is to have one. There is one for each round: the next one is found
    /// beside it.
    pub(crate) fn reserve(&mut self, placed: &[Placement], now: TimeMs, bound: Bound) -> Option<ClaimWish> {
        if self.state.version() < ClusterVersion::ACCESS || self.ahead.claims().count() >= limits::CLAIMS {
            return None;
        }
        self.least_gangs();
        let mut asks = self.asks(now);
        if asks.is_empty() {
            return None;
        }
        let nodes = self.ahead.promised_nodes();
        self.commit_on(&nodes, placed);
        self.tell_nodes(&nodes, When::End);
        let ending = self.ending(now);
        let steps = bound.steps / 100 * STEPS_PERCENT / TRIED;
        // Who starts there now has started by then.
        self.fleet.bound_starting(None);
        let wish = (0..TRIED).find_map(|_| {
            let mut occupied = Occupied::new(&mut self.fleet, &ending.told.holdings);
            let running = (&ending.told.running[..], &ending.ends[..]);
            let (key, reserved) = reserve(&mut self.queues, &mut occupied, &asks, running, steps)?;
            // For whom room was found that cannot be kept, others are not to go without.
            asks.remove(&(key.queue, key.shape));
            self.wish(&key, &reserved, &ending, placed)
        });
        self.fleet.bound_starting(self.state.policy().throttle.per_node);
        wish
    }

    /// What is wide and waits, in those parts of the tree in which nothing wide has a reservation; and what was passed over, if nothing of
    /// that kind has one anywhere: it is given in the order of turns, and one for each part would be shares that are alike for all.
    fn asks(&self, now: TimeMs) -> BTreeSet<(QueueIndex, ShapeIndex)> {
        let mut wide = BTreeMap::new();
        let of_shape = |shape| self.fleet.is_wide(shape) || self.asks_for_half_the_tokens(shape);
        let mut is_wide = |shape| *wide.entry(shape).or_insert_with(|| of_shape(shape));
        // By the part of the tree, and whether it is wide.
        let mut taken: BTreeSet<(String, bool)> = BTreeSet::new();
        let reservations: Vec<_> = self.ahead.claims().filter(|(_, claim)| claim.is_reservation()).collect();
        if reservations.len() >= RESERVATIONS {
            return BTreeSet::new();
        }
        for (key, _) in reservations {
            let job = self.ahead.job(key.job);
            let kind = self.reserved.get(key).is_none_or(|shape| is_wide(*shape));
            taken.extend(job.map(|job| (top(&job.spec.queue), kind)));
        }
        let mut open = BTreeMap::new();
        let mut is_open = |queue: QueueIndex| {
            let path = || self.tree.path(queue).is_some_and(|path| !taken.contains(&(top(&path), true)));
            *open.entry(queue).or_insert_with(path)
        };
        let (wide, narrow): (BTreeSet<_>, BTreeSet<_>) =
            self.queues.waiting().into_iter().partition(|(_, shape)| is_wide(*shape));
        let passed = match taken.iter().any(|(_, is_wide)| !is_wide) {
            true => BTreeSet::new(),
            false => self.passed_over(narrow, now),
        };
        wide.into_iter().filter(|(queue, _)| is_open(*queue)).chain(passed).collect()
    }

    /// All that runs and is not counted as gone.
    fn ending(&mut self, now: TimeMs) -> Ending {
        let live = self.state.nodes().flat_map(|(id, _)| self.state.live_members(id));
        let stays = |key: &TaskKey, attempt: &Attempt| attempt.preempted.is_none() && !self.state.is_awaited(*key);
        let keys: BTreeSet<TaskKey> =
            live.filter(|(key, attempt, _)| stays(&key.task, attempt)).map(|(key, ..)| key.task).collect();
        let Told { keys, running, holdings } = Told::of(&self.state, &self.tree, &mut self.words, keys, now);
        let end = |key: &TaskKey| end_of(&self.state, *key, now).map_or(u64::MAX, |end| end.0);
        let mut all: Vec<_> =
            keys.into_iter().zip(running).zip(holdings).map(|((key, it), on)| (end(&key), key, it, on)).collect();
        all.sort_by_key(|(end, key, ..)| (*end, *key));
        let mut ending = Ending { told: Told::default(), ends: Vec::with_capacity(all.len()) };
        for (end, key, running, holdings) in all {
            ending.ends.push(end);
            ending.told.keys.push(key);
            ending.told.running.push(running);
            ending.told.holdings.push(holdings);
        }
        ending
    }

    /// The wish for what was found, as `apply` takes it.
    fn wish(
        &mut self,
        key: &GroupKey,
        reserved: &Reserved<Seated>,
        ending: &Ending,
        placed: &[Placement],
    ) -> Option<ClaimWish> {
        let group = self.by_key.get(key)?.clone();
        let taken: BTreeSet<TaskKey> = placed.iter().map(|placement| placement.task).collect();
        let shape = (&self.shapes, key.shape);
        let tasks = waiting::suitable(&self.ahead, &group, &self.claimed, shape, &taken, (1, |_: &ReadyStep| true));
        let (task, attempt) = tasks.into_iter().next()?;
        let seated = &reserved.seated;
        let members: Vec<Seat> = seated.seats.iter().map(|seat| self.seat(seat, seated.alternative)).collect();
        committed(&mut self.ahead, placed.to_vec());
        let gone: BTreeSet<TaskKey> = ending.told.keys[..reserved.ended].iter().copied().collect();
        let mut awaits = needed(&self.ahead, task, &members, &gone)?;
        let wish = |awaits: &BTreeSet<TaskKey>| {
            let number = |key: &TaskKey| Some(self.ahead.task(*key)?.attempts.last()?.number);
            let awaits = awaits.iter().filter_map(|key| Some(Awaited { task: *key, attempt: number(key)? })).collect();
            ClaimWish { task, attempt, members: members.clone(), evictions: Vec::new(), awaits }
        };
        if is_taken(&self.ahead, wish(&awaits)) {
            return Some(wish(&awaits));
        }
        // A bound of its queues is met until others in them have ended, too; and there are too few licences until others have that hold some.
        // So it is of what is kept free for others, until so many have ended that there is enough beside that.
        let own = top(&group.queue);
        let needs = self.shapes.get(key.shape).needs.clone();
        let is_kept = self.queues.is_kept_from(key.queue, &needs);
        let beside = gone.iter().filter(|key| {
            let job = self.ahead.job(key.job);
            is_kept || job.is_some_and(|job| top(&job.spec.queue) == own) || self.shares_tokens(**key, task)
        });
        awaits.extend(beside);
        is_taken(&self.ahead, wish(&awaits)).then(|| wish(&awaits))
    }
}

impl Known {
    /// Somebody who needs nobody to leave and has a right to the room of reservations that are in the way: it is placed there, and they
    /// fall. That right has who is promised the room, against who is not, and work of the same queue with a higher priority.
    pub(crate) fn instead(
        &mut self,
        key: &GroupKey,
        seated: &Seated,
        of: (&BTreeMap<GroupKey, usize>, &Again),
    ) -> Option<(Placement, Vec<TaskKey>)> {
        let next = self.claimants(of, &BTreeMap::from([(*key, 1)])).remove(key);
        let (task, attempt) = next.and_then(|mut tasks| tasks.next())?;
        let members: Vec<Seat> = seated.seats.iter().map(|seat| self.seat(seat, seated.alternative)).collect();
        let nodes: BTreeSet<NodeId> = members.iter().map(|seat| seat.node).collect();
        let there = nodes.iter().flat_map(|node| self.ahead.claims_on(*node)).collect::<BTreeSet<_>>();
        let reservations = there.into_iter().filter(|it| self.ahead.claim(it).is_some_and(Claim::is_reservation));
        // Its own makes room for it in any case.
        let fallen: Vec<TaskKey> = reservations.filter(|it| *it != task).collect();
        let is_owed = self.queues.is_owed(key.queue, &self.shapes.get(key.shape).needs.clone());
        let yields = |other: &TaskKey| {
            let Some(group) = claimed::group(&self.ahead, *other) else { return false };
            if self.tree.number(group.queue.as_str()) == Some(key.queue) {
                return group.priority.0 < key.priority;
            }
            let needs = self.reserved.get(other).map(|shape| self.shapes.get(*shape).needs.clone());
            let queue = self.tree.number(group.queue.as_str());
            is_owed && queue.zip(needs).is_some_and(|(queue, needs)| !self.queues.is_owed(queue, &needs))
        };
        if fallen.is_empty() || !fallen.iter().all(yields) {
            return None;
        }
        let placement = Placement { task, attempt, members };
        let mut without = self.ahead.clone();
        fallen.iter().for_each(|key| without = without.without_claim(*key));
        committed(&mut without, vec![placement.clone()]).then_some((placement, fallen))
    }
}

/// The part of the tree that a queue is in.
pub(crate) fn top(path: &QueuePath) -> String {
    path.levels().next().unwrap_or_default().to_owned()
}

/// When a task has ended, as far as that is known.
fn end_of(state: &State, key: TaskKey, now: TimeMs) -> Option<TimeMs> {
    state.ends_by(key).map(|(end, _)| end.max(now))
}

/// Whether `apply` would take it.
fn is_taken(state: &State, wish: ClaimWish) -> bool {
    let plan = Plan {
        based_on: state.revision(),
        seed: 0,
        budget: 0,
        placer_version: 0,
        placements: Vec::new(),
        repairs: Vec::new(),
        accept_ms: None,
        claims: vec![wish],
        drops: Vec::new(),
        at: None,
        made_from: None,
    };
    let (mut state, index) = (state.clone(), Revision(state.revision().0 + 1));
    let entry = Entry { index, time: state.time(), command: Command::CommitPlan(plan) };
    matches!(apply(&mut state, entry).reply, Reply::PlanCommitted { refused_claims, .. } if refused_claims.is_empty())
}

/// Of those that have ended by then, or are waited for already, those on the nodes of some seats without whose end there is no room for
/// them there; nothing if there is none even then. Who ends last is spared first.
fn needed(state: &State, task: TaskKey, members: &[Seat], gone: &BTreeSet<TaskKey>) -> Option<BTreeSet<TaskKey>> {
    let spec = state.step_spec(task.job, task.step)?;
    let mut then: BTreeMap<NodeId, Used> = BTreeMap::new();
    for seat in members {
        let node = state.node(seat.node)?;
        let used = then.entry(seat.node).or_insert_with(|| counted(state, seat.node, node));
        let devices = node.inventory.gpus.len();
        nodes::count(used, &nodes::used_by(&spec.resources, &seat.gpus, seat.gpu_alternative, devices), true);
    }
    let on = then.keys().flat_map(|id| state.live_members(*id).map(|(key, ..)| key.task));
    let may_go = |key: &TaskKey| gone.contains(key) || state.is_awaited(*key);
    let mut out: Vec<TaskKey> = on.filter(may_go).collect::<BTreeSet<_>>().into_iter().collect();
    let hold = |key: TaskKey, then: &mut BTreeMap<NodeId, Used>, holds: bool| {
        for (node, held) in held_on(state, key) {
            if let Some(used) = then.get_mut(&node) {
                nodes::count(used, &held, holds);
            }
        }
    };
    out.iter().for_each(|key| hold(*key, &mut then, false));
    let fits = |then: &BTreeMap<NodeId, Used>| {
        then.iter().all(|(id, used)| {
            state.node(*id).is_some_and(|node| nodes::is_within(used, &node.inventory, state.policy()))
        })
    };
    if !fits(&then) {
        return None;
    }
    let end = |key: &TaskKey| state.ends_by(*key).map_or(u64::MAX, |(end, _)| end.0);
    out.sort_by_key(|key| (std::cmp::Reverse(end(key)), *key));
    let mut needed = BTreeSet::new();
    for key in out {
        hold(key, &mut then, true);
        if !fits(&then) {
            hold(key, &mut then, false);
            needed.insert(key);
        }
    }
    Some(needed)
}

/// What counts as held of a node where all are there that are waited for, beside all that is promised.
fn counted(state: &State, id: NodeId, node: &flowyard_model::Node) -> Used {
    let mut used = nodes::used(state, id, node, When::Then);
    if let Some(reserved) = state.reserved_on(id) {
        nodes::count(&mut used, reserved, true);
    }
    used
}

/// What the live members of a task hold on each node.
fn held_on(state: &State, key: TaskKey) -> Vec<(NodeId, Used)> {
    let Some(spec) = state.step_spec(key.job, key.step) else { return Vec::new() };
    let attempt = state.task(key).and_then(|task| task.attempts.last());
    let live = attempt.into_iter().flat_map(|attempt| &attempt.members).filter(|member| member.phase != Phase::Ended);
    let held = |member: &Member| {
        let devices = state.node(member.node)?.inventory.gpus.len();
        Some((member.node, nodes::used_by(&spec.resources, &member.gpus, member.gpu_alternative, devices)))
    };
    live.filter_map(held).collect()
}
