//! Room that waiting tasks are promised: made with the evictions that free it, kept from all others, gone when its task is placed.
//!
//! Somebody leaves for a claim, or it is a reservation (see `reserve`), which yields to those for which somebody does.
//!
//! Invariant: a claim is of a ready task, for its next attempt, on nodes that are usable and registered as they were then. What is
//! claimed of a node fits beside what is held there by all that do not leave, and no device is claimed twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{
    Changed, Claim, ClaimWish, Eviction, GpuIndex, Held, JobId, Node, NodeId, QueuePath, Refusal, Seat, StepIndex,
    StepSpec, TaskIndex, TaskKey, TimeMs, Used, limits,
};

use crate::evict::evict;
use crate::indexes::Indexes;
use crate::plan::{check_ready, check_seat_alone};
use crate::state::State;
use crate::{beside, near, reserve, room};

/// Makes a claim with its evictions, all of it or nothing.
pub(crate) fn make(state: &mut State, changed: &mut Changed, wish: ClaimWish) -> Result<(), Refusal> {
    let (mut then, mut touched) = (state.clone(), Changed::nothing());
    promise(&mut then, &mut touched, wish)?;
    *state = then;
    changed.merge(touched);
    Ok(())
}

fn promise(state: &mut State, changed: &mut Changed, wish: ClaimWish) -> Result<(), Refusal> {
    let ClaimWish { task: key, attempt, members, evictions, mut awaits } = wish;
    if state.claims.contains_key(&key) {
        return Err(Refusal::Claimed);
    }
    let job = check_ready(state, key, attempt)?.clone();
    let spec = &job.steps[key.step.0 as usize];
    let active = state.counts(key.job, key.step).map_or(0, |counts| counts.active) + of_step(state, key);
    if !evictions.is_empty() {
        make_way(state, changed);
    }
    if state.claims.len() >= limits::CLAIMS || spec.max_parallel.is_some_and(|most| active >= most) {
        return Err(Refusal::AtLimit);
    }
    if !spec.takes(members.len()) || evictions.is_empty() == awaits.is_empty() {
        return Err(Refusal::Malformed);
    }
    let reserves = evictions.is_empty();
    for eviction in &evictions {
        evict(state, changed, key, *eviction)?;
    }
    let starts_at = if reserves { reserve::wait_for(state, &mut awaits)? } else { None };
    check_room(state, spec, &members, reserves)?;
    beside::check(state, key, &members, beside::When::Then)?;
    let footprint = footprint(state, key, &members).expect("its seats were checked");
    let bound = match reserves {
        true => state.bound_in_the_end(&job.queue, &footprint.held, spec.preemptible),
        false => state.bound_left(&job.queue, &footprint.held, spec.preemptible),
    };
    if bound.is_some() {
        return Err(Refusal::AtLimit);
    }
    let made_at = state.meta.time;
    let until = if reserves { TimeMs(u64::MAX) } else { until(state, &evictions) };
    let claim = Claim { attempt, members, evictions, made_at, until, awaits, starts_at };
    note(&mut state.indexes, key, &claim, &footprint);
    let nodes: BTreeSet<_> = claim.members.iter().map(|seat| seat.node).collect();
    changed.nodes.extend(reserve::touched(state, &claim));
    state.claims.insert(key, Arc::new(claim));
    changed.jobs.insert(key.job);
    // What ends before a reservation starts may go there now.
    changed.placement |= reserves;
    if !reserves {
        reserve::settle(state, changed, nodes);
    }
    Ok(())
}

/// Whoever others leave for is not kept out by reservations: where there are as many claims as may be, the latest of them falls.
fn make_way(state: &mut State, changed: &mut Changed) {
    if state.claims.len() < limits::CLAIMS {
        return;
    }
    let reservations = state.claims.iter().filter(|(_, claim)| claim.is_reservation());
    if let Some((_, key)) = reservations.map(|(key, claim)| (claim.made_at, *key)).max() {
        fall(state, changed, key);
    }
}

/// There will be room for all members beside each other: beside all that is promised, or at least beside all for which others leave.
fn check_room(state: &State, spec: &StepSpec, members: &[Seat], reserves: bool) -> Result<(), Refusal> {
    let mut there = BTreeMap::new();
    for seat in members {
        let node = check_seat_alone(state, spec, seat)?;
        check_devices(state, seat)?;
        if reserves && seat.gpus.iter().any(|gpu| state.indexes.reserved_gpus.contains_key(&(seat.node, *gpu))) {
            return Err(Refusal::Claimed);
        }
        let used = there.entry(seat.node).or_insert_with(|| match reserves {
            true => state.used_then(seat.node, node),
            false => state.used_left(seat.node, node),
        });
        room::take(&state.policy, used, &node.inventory, &spec.resources, seat)?;
    }
    near::check(state, spec, members)
}

/// Until when those have left for certain who leave, and rounds have been made since.
fn until(state: &State, evictions: &[Eviction]) -> TimeMs {
    let queues = evictions.iter().map(|eviction| &state.jobs[&eviction.task.job].spec.queue);
    let leave_ms = queues.map(|queue| state.contract(queue).leave_ms()).max().unwrap_or(0);
    state.meta.time.after(leave_ms).after(limits::CLAIM_GRACE_MS)
}

/// Claims of tasks of the same step.
fn of_step(state: &State, key: TaskKey) -> u32 {
    let all = |task| TaskKey { task: TaskIndex(task), ..key };
    state.claims.range(all(0)..=all(u32::MAX)).count() as u32
}

/// None of the seat's devices is claimed by anybody for whom others leave.
pub(crate) fn check_devices(state: &State, seat: &Seat) -> Result<(), Refusal> {
    let claimed = seat.gpus.iter().any(|gpu| state.claimant(seat.node, *gpu).is_some());
    if claimed { Err(Refusal::Claimed) } else { Ok(()) }
}

/// The claim of a task is gone, if it has one: what it kept from others is theirs again.
pub(crate) fn fall(state: &mut State, changed: &mut Changed, key: TaskKey) {
    let Some(claim) = remove(state, changed, key) else { return };
    if claim.is_reservation() {
        // Others may have relied on somebody's end that only this one waited for.
        reserve::settle(state, changed, reserve::touched(state, &claim));
    }
}

/// Takes a claim out; what it is that is gone. Others that it has no room for without it are still there.
pub(crate) fn remove(state: &mut State, changed: &mut Changed, key: TaskKey) -> Option<Arc<Claim>> {
    let claim = state.claims.remove(&key)?;
    let footprint = footprint(state, key, &claim.members).expect("a claim is of a task, on nodes that are there");
    forget(&mut state.indexes, key, &claim, &footprint);
    reserve::forget_awaits(state, &claim.awaits);
    changed.nodes.extend(reserve::touched(state, &claim));
    changed.jobs.insert(key.job);
    changed.placement = true;
    Some(claim)
}

/// The claims of a job's tasks are gone.
pub(crate) fn fall_of(state: &mut State, changed: &mut Changed, job: JobId) {
    let key = |rest| TaskKey { job, step: StepIndex(rest), task: TaskIndex(rest) };
    let claims: Vec<TaskKey> = state.claims.range(key(0)..=key(u32::MAX)).map(|(key, _)| *key).collect();
    claims.into_iter().for_each(|key| fall(state, changed, key));
}

/// The claims on a node are gone: it cannot be used, or is not the one it was.
pub(crate) fn fall_on(state: &mut State, changed: &mut Changed, node: NodeId) {
    let claims: Vec<TaskKey> = state.claims_on(node).collect();
    claims.into_iter().for_each(|key| fall(state, changed, key));
}

/// Drops the claim whose time was up first; whether there was one.
pub(crate) fn fall_due(state: &mut State, changed: &mut Changed) -> bool {
    let now = state.meta.time;
    let due = state.indexes.claim_ends.get_min().filter(|(until, _)| *until <= now).copied();
    let Some((_, key)) = due else { return false };
    fall(state, changed, key);
    true
}

/// What a claim takes, for the indexes.
pub(crate) struct Footprint {
    pub(crate) queue: QueuePath,
    pub(crate) held: Held,
    pub(crate) for_good: bool,
    pub(crate) seats: Vec<(NodeId, Used, Vec<GpuIndex>)>,
}

/// What a task with these seats takes; `None` if there is no such task or node.
fn footprint(state: &State, key: TaskKey, members: &[Seat]) -> Option<Footprint> {
    let (job, spec) = (state.outline(key.job)?, state.step_spec(key.job, key.step)?);
    let (mut held, mut seats) = (Held::NONE, Vec::with_capacity(members.len()));
    for Seat { node: id, gpus, gpu_alternative, .. } in members {
        let inventory = &state.node(*id)?.inventory;
        held.add(&Held::by_member(&spec.resources, *gpu_alternative, inventory, gpus));
        let mut used = room::unused(inventory.gpus.len());
        room::add(&mut used, &spec.resources, gpus, room::share(&spec.resources, *gpu_alternative));
        seats.push((*id, used, gpus.clone()));
    }
    Some(Footprint { queue: job.spec.queue.clone(), held, for_good: !spec.preemptible, seats })
}

/// Notes a claim in all indexes.
fn note(indexes: &mut Indexes, key: TaskKey, claim: &Claim, footprint: &Footprint) {
    let Footprint { queue, held, for_good, seats } = footprint;
    indexes.claims_on.extend(seats.iter().map(|(node, ..)| (*node, key)));
    if claim.is_reservation() {
        indexes.load_changed(queue, |load, _| load.reserved.add(held, *for_good));
        for (node, used, gpus) in seats {
            room::change_used(&mut indexes.reserved, *node, used.gpu_milli.len(), |all| room::more(all, used));
            indexes.reserved_gpus.extend(gpus.iter().map(|gpu| ((*node, *gpu), key)));
        }
        return;
    }
    indexes.load_changed(queue, |load, _| load.claimed.add(held, *for_good));
    indexes.claim_ends.insert((claim.until, key));
    for (node, used, gpus) in seats {
        room::change_used(&mut indexes.claimed, *node, used.gpu_milli.len(), |all| room::more(all, used));
        indexes.claimed_gpus.extend(gpus.iter().map(|gpu| ((*node, *gpu), key)));
    }
}

/// The reverse of [`note`].
fn forget(indexes: &mut Indexes, key: TaskKey, claim: &Claim, footprint: &Footprint) {
    let Footprint { queue, held, for_good, seats } = footprint;
    for (node, ..) in seats {
        indexes.claims_on.remove(&(*node, key));
    }
    if claim.is_reservation() {
        indexes.load_changed(queue, |load, _| load.reserved.subtract(held, *for_good));
        for (node, used, gpus) in seats {
            room::change_used(&mut indexes.reserved, *node, used.gpu_milli.len(), |all| room::less(all, used));
            for gpu in gpus {
                indexes.reserved_gpus.remove(&(*node, *gpu));
            }
        }
        return;
    }
    indexes.load_changed(queue, |load, _| load.claimed.subtract(held, *for_good));
    indexes.claim_ends.remove(&(claim.until, key));
    for (node, used, gpus) in seats {
        room::change_used(&mut indexes.claimed, *node, used.gpu_milli.len(), |all| room::less(all, used));
        for gpu in gpus {
            indexes.claimed_gpus.remove(&(*node, *gpu));
        }
    }
}

/// Notes all claims of a state in indexes that have none.
pub(crate) fn note_all(indexes: &mut Indexes, state: &State) {
    for (key, claim) in &state.claims {
        if let Some(footprint) = footprint(state, *key, &claim.members) {
            note(indexes, *key, claim, &footprint);
        }
        reserve::note_awaits(indexes, state, &claim.awaits);
    }
}

impl State {
    /// All claims, by task.
    pub fn claims(&self) -> impl Iterator<Item = (&TaskKey, &Claim)> {
        self.claims.iter().map(|(key, claim)| (key, &**claim))
    }

    /// The claim of a task.
    pub fn claim(&self, task: &TaskKey) -> Option<&Claim> {
        self.claims.get(task).map(Arc::as_ref)
    }

    /// Tasks that have a claim on a node.
    pub fn claims_on(&self, node: NodeId) -> impl Iterator<Item = TaskKey> + '_ {
        let key = |job, rest| TaskKey { job: JobId(job), step: StepIndex(rest), task: TaskIndex(rest) };
        let claims = self.indexes.claims_on.range((node, key(0, 0))..=(node, key(u64::MAX, u32::MAX)));
        claims.map(|(_, key)| *key)
    }

    /// What is claimed of a node by whom others leave for; nothing if `None`.
    pub fn claimed_on(&self, node: NodeId) -> Option<&Used> {
        self.indexes.claimed.get(&node).map(Arc::as_ref)
    }

    /// The task that has a claim on a device, for which others leave.
    pub fn claimant(&self, node: NodeId, gpu: GpuIndex) -> Option<TaskKey> {
        self.indexes.claimed_gpus.get(&(node, gpu)).copied()
    }

    /// What will be held of a node once whoever leaves it has left, and claims are taken for which they do.
    pub(crate) fn used_left(&self, id: NodeId, node: &Node) -> Used {
        let mut used = node.used.clone();
        if let Some(leaving) = self.leaving_on(id) {
            room::less(&mut used, leaving);
        }
        if let Some(claimed) = self.claimed_on(id) {
            room::more(&mut used, claimed);
        }
        used
    }

    /// What will be held of a node once in addition all have ended that are waited for, and all claims on it are taken.
    pub(crate) fn used_then(&self, id: NodeId, node: &Node) -> Used {
        let mut used = self.used_left(id, node);
        if let Some(awaited) = self.awaited_on(id) {
            room::less(&mut used, awaited);
        }
        if let Some(reserved) = self.reserved_on(id) {
            room::more(&mut used, reserved);
        }
        used
    }
}
