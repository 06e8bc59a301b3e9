//! Reservations: claims for which nobody is asked to leave. They wait until enough of what runs has ended, and keep the room that
//! falls free until then from all that would still be there.
//!
//! Invariant: whoever is awaited is live, was not evicted, and counts on its nodes and in its queues as if it were gone where it is asked
//! what will be held then. What will have ended before a reservation starts, as far as is known, may use its room, and is awaited from then on.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    AttemptNumber, Awaited, Changed, Claim, Gpu, Held, Inventory, MemberKey, NodeId, Phase, Policy, Refusal, TaskKey,
    TaskState, TimeMs, Used, limits,
};

use crate::claims::{Footprint, fall, remove};
use crate::indexes::Indexes;
use crate::room;
use crate::state::State;

/// What the live members of an attempt hold, if it may be awaited: it is the task's present one and was not evicted.
fn held_by(state: &State, awaited: &Awaited) -> Option<Footprint> {
    let task = state.task(awaited.task).filter(|task| task.state == TaskState::Active)?;
    let attempt = task.attempts.last().filter(|it| it.number == awaited.attempt && it.preempted.is_none())?;
    let (job, spec) = (state.job(awaited.task.job)?, state.step_spec(awaited.task.job, awaited.task.step)?);
    let (mut held, mut seats) = (Held::NONE, Vec::with_capacity(attempt.members.len()));
    for member in attempt.members.iter().filter(|member| member.phase != Phase::Ended) {
        let inventory = &state.node(member.node)?.inventory;
        held.add(&Held::by_member(&spec.resources, member.gpu_alternative, inventory, &member.gpus));
        let mut used = room::unused(inventory.gpus.len());
        room::add(&mut used, &spec.resources, &member.gpus, room::share(&spec.resources, member.gpu_alternative));
        seats.push((member.node, used, member.gpus.clone()));
    }
    let lives = !seats.is_empty();
    lives.then(|| Footprint { queue: job.spec.queue.clone(), held, for_good: !spec.preemptible, seats })
}

/// One claim more waits for these.
pub(crate) fn note_awaits(indexes: &mut Indexes, state: &State, awaits: &[Awaited]) {
    for awaited in awaits {
        let Some(footprint) = held_by(state, awaited) else { continue };
        if let Some(claims) = indexes.awaited.get_mut(&awaited.task) {
            *claims += 1;
            continue;
        }
        indexes.awaited.insert(awaited.task, 1);
        indexes.load_changed(&footprint.queue, |load, _| load.awaited.add(&footprint.held, footprint.for_good));
        for (node, used, _) in &footprint.seats {
            room::change_used(&mut indexes.awaited_on, *node, used.gpu_milli.len(), |all| room::more(all, used));
        }
    }
}

/// One claim less waits for these.
pub(crate) fn forget_awaits(state: &mut State, awaits: &[Awaited]) {
    for awaited in awaits {
        if held_by(state, awaited).is_none() {
            continue;
        }
        match state.indexes.awaited.get_mut(&awaited.task) {
            Some(claims) if *claims > 1 => *claims -= 1,
            Some(_) => await_no_more(state, awaited.task),
            None => {}
        }
    }
}

/// Nobody waits for a task's live attempt any more: it is evicted, or no claim needs its end. What it holds counts again.
pub(crate) fn await_no_more(state: &mut State, key: TaskKey) {
    if state.indexes.awaited.get(&key).is_none() {
        return;
    }
    let attempt = state.task(key).map_or(AttemptNumber(0), |task| AttemptNumber(task.attempts.len() as u32));
    let Some(Footprint { queue, held, for_good, seats }) = held_by(state, &Awaited { task: key, attempt }) else {
        return;
    };
    state.indexes.awaited.remove(&key);
    state.indexes.load_changed(&queue, |load, _| load.awaited.subtract(&held, for_good));
    for (node, used, _) in &seats {
        room::change_used(&mut state.indexes.awaited_on, *node, used.gpu_milli.len(), |all| room::less(all, used));
    }
}

/// Whether a live member is of an attempt whose end is waited for.
pub(crate) fn is_awaited(state: &State, key: MemberKey) -> bool {
    state.indexes.awaited.get(&key.task).is_some()
}

/// A live member that is awaited ends, and gives back what it holds.
pub(crate) fn member_ends(state: &mut State, node: NodeId, key: MemberKey, held: &Held, used: &Used) {
    let job = state.jobs.get(&key.task.job).expect("a live member has a job");
    let for_good = !job.spec.steps[key.task.step.0 as usize].preemptible;
    let queue = job.spec.queue.clone();
    state.indexes.load_changed(&queue, |load, _| load.awaited.give_back(held, for_good));
    room::change_used(&mut state.indexes.awaited_on, node, used.gpu_milli.len(), |all| room::less(all, used));
}

/// The last live member of an attempt has ended: whoever waited for it may be nearer to its start.
pub(crate) fn has_ended(state: &mut State, changed: &mut Changed, key: TaskKey) {
    if state.indexes.awaited.remove(&key).is_some() {
        let queue = state.jobs[&key.job].spec.queue.clone();
        state.indexes.load_changed(&queue, |load, _| load.awaited.tasks -= 1);
    }
    let waits = |(_, claim): &(&TaskKey, &Arc<Claim>)| {
        let at = claim.awaits.partition_point(|awaited| awaited.task < key);
        claim.awaits.get(at).is_some_and(|awaited| awaited.task == key)
    };
    let claims: Vec<TaskKey> = state.claims.iter().filter(waits).map(|(claim, _)| *claim).collect();
    for claim in claims {
        let mut now = Claim::clone(&state.claims[&claim]);
        now.awaits.retain(|awaited| awaited.task != key);
        now.starts_at = earlier(now.starts_at, starts_at(state, &now.awaits));
        state.claims.insert(claim, Arc::new(now));
        changed.jobs.insert(claim.job);
    }
}

/// A start is never put off: what ends before it is chosen by it.
fn earlier(before: Option<TimeMs>, now: Option<TimeMs>) -> Option<TimeMs> {
    match (before, now) {
        (Some(before), Some(now)) => Some(before.min(now)),
        (before, now) => before.or(now),
    }
}

/// By when all of these will have ended, as far as that is known; nothing if it is not of one of them.
fn starts_at(state: &State, awaits: &[Awaited]) -> Option<TimeMs> {
    let live = awaits.iter().filter(|awaited| held_by(state, awaited).is_some());
    live.map(|awaited| state.ends_by(awaited.task)).try_fold(state.time(), |last, end| Some(last.max(end?.0)))
}

/// What waits for somebody's end on a node falls: what is held there is about to be counted otherwise.
pub(crate) fn fall_awaiting(state: &mut State, changed: &mut Changed, id: NodeId) {
    let tasks: BTreeSet<TaskKey> = state.live_keys(id).map(|key| key.task).collect();
    let waits = |(_, claim): &(&TaskKey, &Arc<Claim>)| claim.awaits.iter().any(|it| tasks.contains(&it.task));
    let claims: Vec<TaskKey> = state.claims.iter().filter(waits).map(|(key, _)| *key).collect();
    claims.into_iter().for_each(|key| fall(state, changed, key));
}

/// What waits for the end of a task's live attempt falls: others are about to come in the place of members that it lost.
pub(crate) fn fall_awaiting_task(state: &mut State, changed: &mut Changed, task: TaskKey) {
    let waits = |(_, claim): &(&TaskKey, &Arc<Claim>)| claim.awaits.iter().any(|it| it.task == task);
    let claims: Vec<TaskKey> = state.claims.iter().filter(waits).map(|(key, _)| *key).collect();
    claims.into_iter().for_each(|key| fall(state, changed, key));
}

/// The nodes on which a claim, or whom it waits for, holds or will hold something.
pub(crate) fn touched(state: &State, claim: &Claim) -> BTreeSet<NodeId> {
    let awaited = claim.awaits.iter().filter_map(|awaited| state.task(awaited.task)?.attempts.last());
    let live = awaited.flat_map(|attempt| &attempt.members).filter(|member| member.phase != Phase::Ended);
    let held = live.map(|member| member.node);
    claim.members.iter().map(|seat| seat.node).chain(held).collect()
}

/// A claim waits for these: they are live, and nobody's who leaves; by when they have to have ended.
pub(crate) fn wait_for(state: &mut State, awaits: &mut Vec<Awaited>) -> Result<Option<TimeMs>, Refusal> {
    awaits.sort_unstable();
    awaits.dedup();
    if awaits.len() > limits::AWAITED {
        return Err(Refusal::AtLimit);
    }
    if awaits.iter().any(|awaited| held_by(state, awaited).is_none()) {
        return Err(Refusal::Protected);
    }
    let mut indexes = std::mem::replace(&mut state.indexes, Indexes::none());
    note_awaits(&mut indexes, state, awaits);
    state.indexes = indexes;
    Ok(starts_at(state, awaits))
}

/// The reservations that a placement may go before on these nodes: it will have ended before each of them starts, as far as that is known.
pub(crate) fn gone_before(state: &State, key: TaskKey, nodes: &BTreeSet<NodeId>) -> Result<Vec<TaskKey>, Refusal> {
    let end = state.lasts(key.job, key.step).map(|(lasts, _)| state.time().after(lasts));
    let on = nodes.iter().flat_map(|node| state.claims_on(*node)).collect::<BTreeSet<_>>();
    let reservations = on.into_iter().filter(|key| state.claims[key].is_reservation());
    let may = |key: TaskKey| {
        let claim = &state.claims[&key];
        let in_time = end.zip(claim.starts_at).is_some_and(|(end, starts_at)| end <= starts_at);
        if in_time && claim.awaits.len() < limits::AWAITED { Ok(key) } else { Err(Refusal::Claimed) }
    };
    reservations.map(may).collect()
}

/// What was just placed there is awaited by these reservations.
pub(crate) fn await_newcomer(state: &mut State, changed: &mut Changed, reservations: &[TaskKey], newcomer: Awaited) {
    for key in reservations {
        let Some(claim) = state.claims.get_mut(key) else { continue };
        let awaits = &mut Arc::make_mut(claim).awaits;
        if let Err(at) = awaits.binary_search(&newcomer) {
            awaits.insert(at, newcomer);
        }
        changed.jobs.insert(key.job);
        let mut indexes = std::mem::replace(&mut state.indexes, Indexes::none());
        note_awaits(&mut indexes, state, &[newcomer]);
        state.indexes = indexes;
    }
}

/// Reservations on these nodes that do not fit there any more fall, the latest first: they are made anew.
pub(crate) fn settle(state: &mut State, changed: &mut Changed, nodes: BTreeSet<NodeId>) {
    let mut left = nodes;
    while let Some(id) = left.pop_first() {
        let Some(node) = state.nodes.get(&id).filter(|_| state.reserved_on(id).is_some()) else { continue };
        if is_within(&state.used_then(id, node), &node.inventory, &state.policy) && !is_taken(state, id) {
            continue;
        }
        let here = state.claims_on(id).map(|key| (state.claims[&key].made_at, key));
        let last = here.filter(|(_, key)| state.claims[key].is_reservation()).max();
        if let Some((_, key)) = last {
            let claim = remove(state, changed, key);
            left.extend(claim.iter().flat_map(|claim| touched(state, claim)));
            left.insert(id);
        }
    }
}

/// Whether a device of a reservation on a node is claimed by somebody for whom others leave.
fn is_taken(state: &State, id: NodeId) -> bool {
    let of = |key: &TaskKey| state.claims[key].members.iter().filter(|seat| seat.node == id);
    let mut reserved = state.claims_on(id).filter(|key| state.claims[key].is_reservation());
    reserved.any(|key| of(&key).flat_map(|seat| &seat.gpus).any(|gpu| state.claimant(id, *gpu).is_some()))
}

/// Whether a node has all that counts as held of it, but for tokens that all nodes share.
pub(crate) fn is_within(used: &Used, all: &Inventory, policy: &Policy) -> bool {
    // Where nobody declares memory, all hold as large a part of it as of the device.
    let memory = |(at, gpu): (usize, &Gpu)| {
        let declared = used.declared.get(at).copied().unwrap_or_default();
        let parts = used.gpu_milli.get(at).copied().unwrap_or(0).saturating_sub(declared.share_milli);
        let held = u128::from(parts) * u128::from(gpu.memory_bytes) + u128::from(declared.memory_bytes) * 1_000;
        held <= u128::from(gpu.memory_bytes) * 1_000
    };
    if !used.declared.is_empty() && !all.gpus.iter().enumerate().all(memory) {
        return false;
    }
    let plain = used.cpu_milli <= all.cpu_milli
        && used.memory_bytes <= all.memory_bytes
        && used.disk_bytes <= all.disk_bytes
        && used.gpu_milli.iter().all(|milli| *milli <= 1_000);
    let mut own = used.tokens.iter().filter(|(name, _)| !policy.is_shared(name));
    plain && own.all(|(name, count)| *count <= all.tokens.get(name).copied().unwrap_or(0))
}

impl State {
    /// Whether a claim waits for the end of a task's live attempt.
    pub fn is_awaited(&self, key: TaskKey) -> bool {
        self.indexes.awaited.get(&key).is_some()
    }

    /// Whether a task that is placed on a node now may have the room there of all who wait for others to end, because it will have ended
    /// before each of them starts.
    pub fn may_go_before(&self, task: TaskKey, node: NodeId) -> bool {
        gone_before(self, task, &BTreeSet::from([node])).is_ok()
    }

    /// What is reserved of a node by claims that wait for others to end; nothing if `None`.
    pub fn reserved_on(&self, node: NodeId) -> Option<&Used> {
        self.indexes.reserved.get(&node).map(Arc::as_ref)
    }

    /// What is held on a node by whom a claim waits for; nothing if `None`.
    pub fn awaited_on(&self, node: NodeId) -> Option<&Used> {
        self.indexes.awaited_on.get(&node).map(Arc::as_ref)
    }

    /// Nodes on which anything is promised, or held by whom leaves or is waited for.
    pub fn promised_nodes(&self) -> BTreeSet<NodeId> {
        let Indexes { claimed, leaving, reserved, awaited_on, .. } = &self.indexes;
        [claimed, leaving, reserved, awaited_on].into_iter().flat_map(|nodes| nodes.keys().copied()).collect()
    }

    /// The state without a claim, as if it had never been made.
    #[must_use]
    pub fn without_claim(&self, key: TaskKey) -> Self {
        let mut without = self.clone();
        remove(&mut without, &mut Changed::nothing(), key);
        without
    }
}
