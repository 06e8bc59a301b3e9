//! Room that waiting tasks are promised: made with the evictions that free it, kept from all others, gone when its task is placed.
//!
//! Invariant: a claim is of a ready task, for its next attempt, on nodes that are usable and registered as they were then. What is
//! claimed of a node fits beside what is held there by all that do not leave, and no device is claimed twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    Changed, Claim, ClaimWish, GpuIndex, Held, JobId, Node, NodeId, QueuePath, Refusal, Seat, StepIndex, TaskIndex,
    TaskKey, TimeMs, Used, limits,
};

use crate::evict::evict;
use crate::indexes::Indexes;
use crate::plan::{check_ready, check_seat_alone};
use crate::state::State;
use crate::{near, room};

/// Makes a claim with its evictions, all of it or nothing.
pub(crate) fn make(state: &mut State, changed: &mut Changed, wish: ClaimWish) -> Result<(), Refusal> {
    let (mut then, mut touched) = (state.clone(), Changed::nothing());
    promise(&mut then, &mut touched, wish)?;
    *state = then;
    changed.merge(touched);
    Ok(())
}

fn promise(state: &mut State, changed: &mut Changed, wish: ClaimWish) -> Result<(), Refusal> {
    let ClaimWish { task: key, attempt, members, evictions } = wish;
    if state.claims.contains_key(&key) {
        return Err(Refusal::Claimed);
    }
    let job = check_ready(state, key, attempt)?.clone();
    let spec = &job.spec.steps[key.step.0 as usize];
    let active = state.step(key.job, key.step).map_or(0, |step| step.counts.active) + of_step(state, key);
    if state.claims.len() >= limits::CLAIMS || spec.max_parallel.is_some_and(|most| active >= most) {
        return Err(Refusal::AtLimit);
    }
    if members.len() != spec.size as usize || evictions.is_empty() {
        return Err(Refusal::Malformed);
    }
    for eviction in &evictions {
        evict(state, changed, key, *eviction)?;
    }
    let mut there = BTreeMap::new();
    for seat in &members {
        let node = check_seat_alone(state, spec, seat)?;
        check_devices(state, seat)?;
        let used = there.entry(seat.node).or_insert_with(|| state.used_then(seat.node, node));
        room::take(used, &node.inventory, &spec.resources, seat)?;
    }
    near::check(state, spec, &members)?;
    let footprint = footprint(state, key, &members).expect("its seats were checked");
    if state.bound_then(&job.spec.queue, &footprint.held, spec.preemptible).is_some() {
        return Err(Refusal::AtLimit);
    }
    let made_at = state.meta.time;
    let queues = evictions.iter().map(|eviction| &state.jobs[&eviction.task.job].spec.queue);
    let leave_ms = queues.map(|queue| state.contract(queue).leave_ms()).max().unwrap_or(0);
    let until = made_at.after(leave_ms).after(limits::CLAIM_GRACE_MS);
    note(&mut state.indexes, key, until, &footprint);
    changed.nodes.extend(members.iter().map(|seat| seat.node));
    state.claims.insert(key, Arc::new(Claim { attempt, members, evictions, made_at, until }));
    changed.jobs.insert(key.job);
    Ok(())
}

/// Claims of tasks of the same step.
fn of_step(state: &State, key: TaskKey) -> u32 {
    let all = |task| TaskKey { task: TaskIndex(task), ..key };
    state.claims.range(all(0)..=all(u32::MAX)).count() as u32
}

/// None of the seat's devices is claimed by anybody.
pub(crate) fn check_devices(state: &State, seat: &Seat) -> Result<(), Refusal> {
    let claimed = seat.gpus.iter().any(|gpu| state.claimant(seat.node, *gpu).is_some());
    if claimed { Err(Refusal::Claimed) } else { Ok(()) }
}

/// The claim of a task is gone, if it has one: what it kept from others is theirs again.
pub(crate) fn fall(state: &mut State, changed: &mut Changed, key: TaskKey) {
    let Some(claim) = state.claims.remove(&key) else { return };
    let footprint = footprint(state, key, &claim.members).expect("a claim is of a task, on nodes that are there");
    forget(&mut state.indexes, key, claim.until, &footprint);
    changed.nodes.extend(claim.members.iter().map(|seat| seat.node));
    changed.jobs.insert(key.job);
    changed.placement = true;
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
struct Footprint {
    queue: QueuePath,
    held: Held,
    for_good: bool,
    seats: Vec<(NodeId, Used, Vec<GpuIndex>)>,
}

/// What a task with these seats takes; `None` if there is no such task or node.
fn footprint(state: &State, key: TaskKey, members: &[Seat]) -> Option<Footprint> {
    let (job, spec) = (state.job(key.job)?, state.step_spec(key.job, key.step)?);
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
fn note(indexes: &mut Indexes, key: TaskKey, until: TimeMs, footprint: &Footprint) {
    let Footprint { queue, held, for_good, seats } = footprint;
    indexes.load_changed(queue, |load, _| load.claimed.add(held, *for_good));
    indexes.claim_ends.insert((until, key));
    for (node, used, gpus) in seats {
        room::change_used(&mut indexes.claimed, *node, used.gpu_milli.len(), |all| room::more(all, used));
        indexes.claims_on.insert((*node, key));
        indexes.claimed_gpus.extend(gpus.iter().map(|gpu| ((*node, *gpu), key)));
    }
}

/// The reverse of [`note`].
fn forget(indexes: &mut Indexes, key: TaskKey, until: TimeMs, footprint: &Footprint) {
    let Footprint { queue, held, for_good, seats } = footprint;
    indexes.load_changed(queue, |load, _| load.claimed.subtract(held, *for_good));
    indexes.claim_ends.remove(&(until, key));
    for (node, used, gpus) in seats {
        room::change_used(&mut indexes.claimed, *node, used.gpu_milli.len(), |all| room::less(all, used));
        indexes.claims_on.remove(&(*node, key));
        for gpu in gpus {
            indexes.claimed_gpus.remove(&(*node, *gpu));
        }
    }
}

/// Notes all claims of a state in indexes that have none.
pub(crate) fn note_all(indexes: &mut Indexes, state: &State) {
    for (key, claim) in &state.claims {
        if let Some(footprint) = footprint(state, *key, &claim.members) {
            note(indexes, *key, claim.until, &footprint);
        }
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

    /// What is claimed of a node; nothing if `None`.
    pub fn claimed_on(&self, node: NodeId) -> Option<&Used> {
        self.indexes.claimed.get(&node).map(Arc::as_ref)
    }

    /// The task that has a claim on a device.
    pub fn claimant(&self, node: NodeId, gpu: GpuIndex) -> Option<TaskKey> {
        self.indexes.claimed_gpus.get(&(node, gpu)).copied()
    }

    /// What will be held of a node once whoever leaves it has left, and claims on it are taken.
    pub(crate) fn used_then(&self, id: NodeId, node: &Node) -> Used {
        let mut used = node.used.clone();
        if let Some(leaving) = self.leaving_on(id) {
            room::less(&mut used, leaving);
        }
        if let Some(claimed) = self.claimed_on(id) {
            room::more(&mut used, claimed);
        }
        used
    }
}
