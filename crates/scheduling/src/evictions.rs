//! Claims: at the beginning of a round those are taken up whose room is free, and at its end what is still blocked and
//! has a right to room that others hold gets one.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    Awaited, Claim, ClaimWish, ClusterVersion, Command, Entry, Eviction, EvictionKind, NodeId, Phase, Placement, Plan,
    Reply, Revision, Seat, TaskKey, TimeMs, Used, limits,
};
use flowyard_placement::{Bound, Claims, GroupKey, Occupied, Reason, Rights, Rules, Seated, claims};
use flowyard_state::{State, apply};

use crate::evictable::Told;
use crate::filling::seats_of;
use crate::nodes::{self, When};
use crate::reserving::top;
use crate::scheduler::{Known, counts};
use crate::upgrading::Again;

/// The part of a round's steps that looking for victims may take, in hundredths: beside those of the placements.
const STEPS_PERCENT: u64 = 30;
/// Claims of one round. The next round makes more: so it is known soon of the first ones, and each round is short.
const CLAIMS_PER_ROUND: usize = 64;
/// Up to so many that might go the least loss is found exactly.
const EXACT_UP_TO: usize = 16;

/// Who leaves.
#[derive(Debug, Default)]
struct Leaving {
    tasks: BTreeSet<TaskKey>,
    /// The nodes that they are on.
    nodes: BTreeSet<NodeId>,
    /// The parts of the tree that they are in.
    tops: BTreeSet<String>,
}

impl Leaving {
    /// Whether somebody leaves who may be in a claim's way: who was asked to for it, who is on one of its nodes, who counts within the same
    /// bounds, or who holds what all nodes share. Others' leaving makes no difference to it.
    fn for_claim(&self, state: &State, task: TaskKey, claim: &Claim) -> bool {
        let own = claim.evictions.iter().any(|eviction| self.tasks.contains(&eviction.task));
        let there = || claim.members.iter().any(|seat| self.nodes.contains(&seat.node));
        let beside = || state.outline(task.job).is_some_and(|job| self.tops.contains(&top(&job.spec.queue)));
        let shared = || {
            let spec = state.step_spec(task.job, task.step);
            !self.tasks.is_empty() && spec.is_some_and(|spec| !spec.resources.tokens.is_empty())
        };
        own || there() || beside() || shared()
    }
}

/// What the end of a round comes to.
#[derive(Debug, Default)]
pub(crate) struct Claiming {
    pub(crate) wishes: Vec<ClaimWish>,
    /// Whose reservation is given up for one of these.
    pub(crate) given_up: Vec<TaskKey>,
    pub(crate) wake_at: Option<TimeMs>,
    /// Who is placed in the room of reservations, which fall.
    pub(crate) instead: Option<(Placement, Vec<TaskKey>)>,
}

impl Known {
    /// The placements of claimed tasks whose room is free now, and the claims that have become pointless. `apply` says
    /// whether a placement holds, so that this never differs from it.
    pub(crate) fn take_up_claims(&mut self) -> (Vec<Placement>, Vec<TaskKey>) {
        let (mut kept, mut drops, mut nodes) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut in_order: Vec<_> =
            self.state.claims().map(|(key, claim)| (claim.made_at, *key, claim.clone())).collect();
        in_order.sort_unstable_by_key(|(made_at, key, _)| (*made_at, *key));
        let leaving = self.leaving();
        for (_, task, claim) in in_order {
            let placement = Placement { task, attempt: claim.attempt, members: claim.members.clone() };
            let is_leaving = leaving.for_claim(&self.state, task, &claim);
            // Where there is no room it need not be tried.
            let ahead = will_hold(&self.ahead, task, &claim.members).then(|| self.ahead.clone());
            let taken = ahead.and_then(|mut it| committed(&mut it, vec![placement.clone()]).then_some(it));
            if let Some(taken) = taken {
                nodes.extend(seats_of(&claim));
                let larger = self.larger(task, &claim, &kept);
                let larger = larger.filter(|larger| committed(&mut self.ahead, vec![larger.clone()]));
                if larger.is_none() {
                    self.ahead = taken;
                }
                kept.push(larger.unwrap_or(placement));
            } else if claim.is_reservation() {
                let is_awaited = claim.awaits.iter().any(|it| lives(&self.state, it));
                if !(is_leaving || is_awaited) || !will_fit(&self.state, task, &placement.members, When::End) {
                    drops.push(task);
                }
            } else if !is_leaving || !will_fit(&self.state, task, &placement.members, When::Then) {
                drops.push(task);
            }
        }
        for placement in &kept {
            self.account_for(placement);
        }
        nodes.extend(kept.iter().flat_map(|placement| &placement.members).map(|seat| seat.node));
        self.tell_nodes(&nodes, When::Now);
        (kept, drops)
    }

    /// Those who leave, by where that may free something for a claim.
    fn leaving(&self) -> Leaving {
        let mut leaving = Leaving::default();
        for key in self.evictable.leaving() {
            let attempt = self.state.task(key).and_then(|task| task.attempts.last());
            let live = attempt.into_iter().flat_map(|attempt| &attempt.members);
            leaving.nodes.extend(live.filter(|member| member.phase != Phase::Ended).map(|member| member.node));
            leaving.tops.extend(self.state.outline(key.job).map(|job| top(&job.spec.queue)));
            leaving.tasks.insert(key);
        }
        leaving
    }

    /// A gang of no fixed size whose reserved room is free has more members than it was reserved for, if there is room for them beside
    /// what was taken up before.
    fn larger(&mut self, task: TaskKey, claim: &Claim, kept: &[Placement]) -> Option<Placement> {
        let spec = self.ahead.step_spec(task.job, task.step)?;
        if !claim.is_reservation() || claim.members.len() >= spec.size as usize || spec.placing.min_size.is_none() {
            return None;
        }
        let there = kept.iter().flat_map(|placement| &placement.members).map(|seat| seat.node).collect();
        self.tell_nodes(&there, When::Now);
        let larger = self.room_elsewhere(task).filter(|larger| larger.members.len() > claim.members.len());
        // Others are still promised what they were.
        self.tell_nodes(&seats_of(claim), When::Now);
        larger
    }

    /// What is to be evicted for what is still blocked, once what was placed is.
    pub(crate) fn claim(
        &mut self,
        placed: &[Placement],
        turns: &BTreeMap<GroupKey, usize>,
        (now, bound): (TimeMs, Bound),
    ) -> Claiming {
        let evicting = self.ahead.claims().filter(|(_, claim)| !claim.is_reservation()).count();
        let most = limits::CLAIMS.saturating_sub(evicting).min(CLAIMS_PER_ROUND);
        if self.state.version() < ClusterVersion::ACCESS || most == 0 {
            return Claiming::default();
        }
        // Who has a reservation has no less right than who waits without: it waits again, for as long as this takes.
        let again = self.wait_again();
        let before = (!again.is_empty()).then(|| self.queues_now());
        self.tell_again(&again);
        let leaving = self.evictable.leaving().collect();
        let leaving = Told::of(&self.state, &self.tree, &mut self.words, leaving, now);
        self.queues.set_aside(&leaving.running);
        let evictable = &self.evictable;
        let rights = self.queues.rights(|queue| evictable.lowest(queue));
        let claiming = if rights.is_empty() {
            Claiming::default()
        } else {
            self.look_ahead(placed);
            self.claim_by(&rights, (turns, &again), now, (most, bound.steps / 100 * STEPS_PERCENT))
        };
        self.queues.lay_back(&leaving.running);
        if let Some(before) = before {
            self.put_back(before);
        }
        claiming
    }

    fn claim_by(
        &mut self,
        rights: &Rights,
        of: (&BTreeMap<GroupKey, usize>, &Again),
        now: TimeMs,
        up_to: (usize, u64),
    ) -> Claiming {
        let told = self.told(rights, now);
        let rules = rules(now);
        // Nobody is evicted because others are starting.
        self.fleet.bound_starting(None);
        let mut occupied = Occupied::new(&mut self.fleet, &told.holdings);
        let Claims { found, wake_at_ms, free } =
            claims(&mut self.queues, &mut occupied, rights, &told.running, &rules, up_to);
        self.fleet.bound_starting(self.state.policy().throttle.per_node);
        let mut free = free.into_iter().filter(|_| found.is_empty());
        let instead = free.find_map(|(key, seated)| self.instead(&key, &seated, of));
        let mut tasks = self.claimants(of, &counts(found.iter().map(|(key, _)| *key)));
        let (mut wishes, mut devices) = (Vec::with_capacity(found.len()), BTreeSet::new());
        let mut wake_at = wake_at_ms.map(TimeMs);
        for (key, found) in found {
            let Some((task, attempt)) = tasks.get_mut(&key).and_then(Iterator::next) else { continue };
            let evictions = found.victims.iter().map(|(at, reason)| self.eviction(told.keys[*at], *reason)).collect();
            let seated: &Seated = &found.seated;
            let members = self.seats(&key, seated);
            let of = |seat: &Seat| seat.gpus.iter().map(|gpu| (seat.node, *gpu)).collect::<Vec<_>>();
            let own: BTreeSet<_> = members.iter().flat_map(of).collect();
            if !devices.is_disjoint(&own) {
                // A device is promised to one task at a time, also a part of it. What was found after this one rests on it.
                wake_at = Some(now.after(1));
                break;
            }
            devices.extend(own);
            wishes.push(ClaimWish { task, attempt, members, evictions, awaits: Vec::new() });
        }
        let given_up: Vec<_> = wishes.iter().map(|wish: &ClaimWish| wish.task).collect();
        let given_up = given_up.into_iter().filter(|task| self.ahead.claim(task).is_some()).collect();
        Claiming { wishes, given_up, wake_at, instead }
    }

    /// Tells the nodes on which something is claimed or leaving as they will be, beside what was placed in this round.
    pub(crate) fn look_ahead(&mut self, placed: &[Placement]) {
        let seats = |claimed: &[Seat]| claimed.iter().map(|seat| seat.node).collect::<Vec<_>>();
        let claimed = self.ahead.claims().flat_map(|(_, claim)| seats(&claim.members));
        let leaving = self.evictable.leaving().filter_map(|key| self.state.task(key)?.attempts.last());
        let left = leaving.flat_map(|attempt| attempt.members.iter().map(|member| member.node));
        let nodes: BTreeSet<NodeId> = claimed.chain(left).collect();
        let is_there = |placement: &&Placement| placement.members.iter().any(|seat| nodes.contains(&seat.node));
        let there: Vec<_> = placed.iter().filter(is_there).cloned().collect();
        if !there.is_empty() {
            committed(&mut self.ahead, there);
        }
        for node in nodes {
            self.touched.nodes.insert(node);
            self.tell_node(node, When::Then);
        }
    }

    /// What runs and may have to go for somebody who may have a right. What is on a node of which more is held than
    /// there is stays out: what its going would free cannot be told.
    pub(crate) fn told(&mut self, rights: &Rights, now: TimeMs) -> Told {
        let queues = &self.queues;
        let may_lose = |queue: &_| rights.by_priority.contains(queue) || queues.may_lose(*queue, rights);
        let of_queues = self.evictable.queues().filter(may_lose).flat_map(|queue| self.evictable.in_queue(queue));
        let mut within: BTreeMap<NodeId, bool> = BTreeMap::new();
        let mut is_within = |id: NodeId| {
            let of_node = || {
                let node = self.ahead.node(id)?;
                Some(nodes::is_within(
                    &nodes::used(&self.ahead, id, node, When::Then),
                    &node.inventory,
                    self.ahead.policy(),
                ))
            };
            *within.entry(id).or_insert_with(|| of_node().unwrap_or(false))
        };
        let are_within = |key: &TaskKey| {
            let attempt = self.state.task(*key).and_then(|task| task.attempts.last());
            attempt.is_some_and(|attempt| attempt.members.iter().all(|member| is_within(member.node)))
        };
        let keys: BTreeSet<_> = of_queues.filter(are_within).collect();
        Told::of(&self.state, &self.tree, &mut self.words, keys, now)
    }

    fn eviction(&self, task: TaskKey, reason: Reason) -> Eviction {
        let kind = match reason {
            Reason::Priority => EvictionKind::Priority,
            Reason::Reclaim => EvictionKind::Reclaim,
        };
        let attempts = self.state.task(task).map_or(0, |task| task.attempts.len() as u32);
        Eviction { task, attempt: flowyard_model::AttemptNumber(attempts), kind }
    }
}

/// What evictions keep to at a time.
pub(crate) fn rules(now: TimeMs) -> Rules {
    Rules { now_ms: now.0, most_relocations: limits::RELOCATIONS as u32, exact_up_to: EXACT_UP_TO }
}

/// Applies placements to a state; whether all of them were taken.
pub(crate) fn committed(state: &mut State, placements: Vec<Placement>) -> bool {
    let plan = Plan {
        based_on: state.revision(),
        seed: 0,
        budget: 0,
        placer_version: 0,
        placements,
        accept_ms: None,
        claims: Vec::new(),
        drops: Vec::new(),
        at: None,
        made_from: None,
        repairs: Vec::new(),
    };
    let entry =
        Entry { index: Revision(state.revision().0 + 1), time: state.time(), command: Command::CommitPlan(plan) };
    matches!(apply(state, entry).reply, Reply::PlanCommitted { refused, .. } if refused.is_empty())
}

/// Whether an attempt that is waited for has not ended.
pub(crate) fn lives(state: &State, awaited: &Awaited) -> bool {
    let attempt = state.attempt(awaited.task, awaited.attempt);
    attempt.is_some_and(|attempt| attempt.members.iter().any(|member| member.phase != Phase::Ended))
}

/// Whether a claim's seats have room beside all that is held on their nodes now; without that they cannot be taken.
fn will_hold(state: &State, task: TaskKey, members: &[Seat]) -> bool {
    let Some(spec) = state.step_spec(task.job, task.step) else { return false };
    let mut held: BTreeMap<NodeId, Used> = BTreeMap::new();
    for seat in members {
        let Some(node) = state.node(seat.node) else { return false };
        let used = held.entry(seat.node).or_insert_with(|| node.used.clone());
        let devices = node.inventory.gpus.len();
        nodes::count(used, &nodes::used_by(&spec.resources, &seat.gpus, seat.gpu_alternative, devices), true);
        if !nodes::is_within(used, &node.inventory, state.policy()) {
            return false;
        }
    }
    true
}

/// Whether a claim's seats are free on their nodes once all have left who leave, as far as they are not other claims'.
fn will_fit(state: &State, task: TaskKey, members: &[Seat], when: When) -> bool {
    let Some(spec) = state.step_spec(task.job, task.step) else { return false };
    members.iter().all(|seat| {
        let Some(node) = state.node(seat.node) else { return false };
        let used = nodes::used(state, seat.node, node, when);
        let wanted = spec.resources.gpus.get(seat.gpu_alternative as usize);
        let is_well = |at: u32| node.inventory.gpus.get(at as usize).is_some_and(|gpu| gpu.healthy);
        let is_same = node.incarnation == seat.incarnation && nodes::is_usable(node);
        let has_devices = wanted.is_none() || seat.gpus.iter().all(|gpu| is_well(gpu.0));
        is_same && has_devices && nodes::is_within(&used, &node.inventory, state.policy())
    })
}
