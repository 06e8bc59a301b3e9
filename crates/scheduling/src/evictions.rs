//! Claims: at the beginning of a round those are taken up whose room is free, and at its end what is still blocked and
//! has a right to room that others hold gets one.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    ClaimWish, ClusterVersion, Command, Entry, Eviction, EvictionKind, NodeId, Placement, Plan, Reply, Revision, Seat,
    TaskKey, TimeMs, limits,
};
use flowyard_placement::{Bound, Claims, GroupKey, Occupied, Reason, Rights, Rules, Seated, claims};
use flowyard_state::{State, apply};

use crate::evictable::Told;
use crate::nodes::{self, When};
use crate::scheduler::{Known, counts};

/// The part of a round's steps that looking for victims may take, in hundredths: beside those of the placements.
const STEPS_PERCENT: u64 = 30;
/// Up to so many that might go the least loss is found exactly.
const EXACT_UP_TO: usize = 16;

/// What the end of a round comes to.
#[derive(Debug, Default)]
pub(crate) struct Claiming {
    pub(crate) wishes: Vec<ClaimWish>,
    pub(crate) wake_at: Option<TimeMs>,
}

impl Known {
    /// The placements of claimed tasks whose room is free now, and the claims that have become pointless. `apply` says
    /// whether a placement holds, so that this never differs from it.
    pub(crate) fn take_up_claims(&mut self) -> (Vec<Placement>, Vec<TaskKey>) {
        let (mut kept, mut drops) = (Vec::new(), Vec::new());
        let mut in_order: Vec<_> =
            self.state.claims().map(|(key, claim)| (claim.made_at, *key, claim.clone())).collect();
        in_order.sort_unstable_by_key(|(made_at, key, _)| (*made_at, *key));
        for (_, task, claim) in in_order {
            let placement = Placement { task, attempt: claim.attempt, members: claim.members };
            let is_leaving = self.evictable.leaving().next().is_some();
            if committed(&mut self.ahead, vec![placement.clone()]) {
                kept.push(placement);
            } else if !is_leaving || !will_fit(&self.state, task, &placement.members) {
                drops.push(task);
            }
        }
        let nodes: BTreeSet<_> = kept.iter().flat_map(|placement| &placement.members).map(|seat| seat.node).collect();
        for node in nodes {
            self.touched.nodes.insert(node);
            self.tell_node(node, When::Now);
        }
        (kept, drops)
    }

    /// What is to be evicted for what is still blocked, once what was placed is.
    pub(crate) fn claim(
        &mut self,
        placed: &[Placement],
        turns: &BTreeMap<GroupKey, usize>,
        (now, bound): (TimeMs, Bound),
    ) -> Claiming {
        let most = limits::CLAIMS.saturating_sub(self.ahead.claims().count());
        if self.state.version() < ClusterVersion::ACCESS || most == 0 {
            return Claiming::default();
        }
        let leaving = self.evictable.leaving().collect();
        let leaving = Told::of(&self.state, &self.tree, &mut self.words, leaving, now);
        self.queues.set_aside(&leaving.running);
        let evictable = &self.evictable;
        let rights = self.queues.rights(|queue| evictable.lowest(queue));
        let claiming = if rights.is_empty() {
            Claiming::default()
        } else {
            self.look_ahead(placed);
            self.claim_by(&rights, turns, now, (most, bound.steps / 100 * STEPS_PERCENT))
        };
        self.queues.lay_back(&leaving.running);
        claiming
    }

    fn claim_by(
        &mut self,
        rights: &Rights,
        turns: &BTreeMap<GroupKey, usize>,
        now: TimeMs,
        up_to: (usize, u64),
    ) -> Claiming {
        let told = self.told(rights, now);
        let rules = Rules { now_ms: now.0, most_relocations: limits::RELOCATIONS as u32, exact_up_to: EXACT_UP_TO };
        let mut occupied = Occupied::new(&mut self.fleet, &told.holdings);
        let Claims { found, wake_at_ms } =
            claims(&mut self.queues, &mut occupied, rights, &told.running, &rules, up_to);
        let mut tasks = self.next_tasks(turns, &counts(found.iter().map(|(key, _)| *key)));
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
            wishes.push(ClaimWish { task, attempt, members, evictions });
        }
        Claiming { wishes, wake_at }
    }

    /// Tells the nodes on which something is claimed or leaving as they will be, beside what was placed in this round.
    fn look_ahead(&mut self, placed: &[Placement]) {
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
    fn told(&mut self, rights: &Rights, now: TimeMs) -> Told {
        let queues = &self.queues;
        let may_lose = |queue: &_| rights.by_priority.contains(queue) || queues.may_lose(*queue, rights);
        let of_queues = self.evictable.queues().filter(may_lose).flat_map(|queue| self.evictable.in_queue(queue));
        let mut within: BTreeMap<NodeId, bool> = BTreeMap::new();
        let mut is_within = |id: NodeId| {
            let of_node = || {
                let node = self.ahead.node(id)?;
                Some(nodes::is_within(&nodes::used(&self.ahead, id, node, When::Then), &node.inventory))
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

/// Applies placements to a state; whether all of them were taken.
fn committed(state: &mut State, placements: Vec<Placement>) -> bool {
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
    };
    let entry =
        Entry { index: Revision(state.revision().0 + 1), time: state.time(), command: Command::CommitPlan(plan) };
    matches!(apply(state, entry).reply, Reply::PlanCommitted { refused, .. } if refused.is_empty())
}

/// Whether a claim's seats are free on their nodes once all have left who leave, as far as they are not other claims'.
fn will_fit(state: &State, task: TaskKey, members: &[Seat]) -> bool {
    let Some(spec) = state.step_spec(task.job, task.step) else { return false };
    members.iter().all(|seat| {
        let Some(node) = state.node(seat.node) else { return false };
        let used = nodes::used(state, seat.node, node, When::Then);
        let wanted = spec.resources.gpus.get(seat.gpu_alternative as usize);
        let is_well = |at: u32| node.inventory.gpus.get(at as usize).is_some_and(|gpu| gpu.healthy);
        let is_same = node.incarnation == seat.incarnation && nodes::is_usable(node);
        let has_devices = wanted.is_none() || seat.gpus.iter().all(|gpu| is_well(gpu.0));
        is_same && has_devices && nodes::is_within(&used, &node.inventory)
    })
}
