//! Accepting a plan: each placement is checked alone against the state as it is now, and taken or refused as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, AttemptNumber, Awaited, Changed, ClusterVersion, Health, Held, JobDesired, JobSpec,
    Member, MemberKey, Node, NodeId, Phase, PhaseTimes, Placement, Plan, QueuePath, Rank, Refusal, Reply, Scheduling,
    Seat, Standing, StepSpec, TaskKey, TaskState, Used,
};

use crate::reading::Outline;
use crate::state::State;
use crate::step::edit_step;
use crate::task::move_task;
use crate::{accept, beside, claims, holding, near, overdue, reserve, room, starting, surgery};

/// What there would be after a placement.
pub(crate) struct Taken {
    /// The port that a gang is given at its first member's node.
    pub(crate) main_port: Option<u16>,
    /// What each node of it would hold.
    pub(crate) used: BTreeMap<NodeId, Used>,
    /// What each node of it on which something is claimed would hold once whoever leaves has left.
    left: BTreeMap<NodeId, Used>,
    /// What each node of it on which something is reserved would hold in the end.
    then: BTreeMap<NodeId, Used>,
    /// What it takes altogether.
    pub(crate) held: Held,
    /// Nodes of it on which it is in the way of a reservation.
    pub(crate) in_the_way: BTreeSet<NodeId>,
    /// The reservations before whose start it will have ended.
    before: Vec<TaskKey>,
}

impl Taken {
    pub(crate) fn nothing() -> Self {
        let (used, then, left, in_the_way, before) = Default::default();
        Self { main_port: None, used, left, then, held: Held::NONE, in_the_way, before }
    }
}

/// Applies `CommitPlan`.
pub(crate) fn commit(state: &mut State, changed: &mut Changed, plan: Plan) -> Reply {
    let given_up: BTreeSet<TaskKey> = plan.claims.iter().map(|wish| wish.task).collect();
    for task in plan.drops {
        // A reservation is given up for a claim. Who made this plan may not have seen that it was already, and that others leave by now.
        let is_made = state.claim(&task).is_some_and(|claim| !claim.is_reservation());
        if !(is_made && given_up.contains(&task)) {
            claims::fall(state, changed, task);
        }
    }
    for wish in plan.repairs {
        // What is stale is looked at again.
        changed.placement |= surgery::repair(state, changed, wish, plan.accept_ms).is_err();
    }
    let mut refused = Vec::new();
    for (at, mut placement) in plan.placements.into_iter().enumerate() {
        if state.version() >= ClusterVersion::ACCESS {
            placement.members = in_order_of_nodes(placement.members);
        }
        match check_with_own_claim(state, &placement) {
            Ok(taken) => place(state, changed, placement, taken, plan.accept_ms),
            Err(refusal) => refused.push((at as u32, refusal)),
        }
    }
    let claims = plan.claims.into_iter().zip(0..);
    let refused_claims = claims.filter_map(|(wish, at)| Some((at, claims::make(state, changed, wish).err()?)));
    let refused_claims = refused_claims.collect();
    Reply::PlanCommitted { refused, refused_claims }
}

/// What a task has a claim on is kept from all others only. It was waited for, so that it starts whatever else is starting.
fn check_with_own_claim(state: &State, placement: &Placement) -> Result<Taken, Refusal> {
    let Some(claim) = state.claim(&placement.task) else {
        let taken = check(state, placement, false)?;
        starting::check(state, placement.task.job, &placement.members)?;
        return Ok(taken);
    };
    check(&state.without_claim(placement.task), placement, !claim.is_reservation())
}

/// Members on one node have consecutive ranks: programs count them through the nodes.
fn in_order_of_nodes(mut members: Vec<Seat>) -> Vec<Seat> {
    let mut places = BTreeMap::new();
    for seat in &members {
        let next = places.len();
        places.entry(seat.node).or_insert(next);
    }
    members.sort_by_key(|seat| places[&seat.node]);
    members
}

/// What the placement would take, or why it is stale. Who others have left for goes before who waits for others to end.
fn check(state: &State, placement: &Placement, goes_before: bool) -> Result<Taken, Refusal> {
    let job = check_ready(state, placement.task, placement.attempt)?;
    let spec = &job.steps[placement.task.step.0 as usize];
    check_parallel(state, placement, spec)?;
    if state.version() < ClusterVersion::ACCESS {
        check_queue_alone(state, &job.queue)?;
    }
    if !spec.takes(placement.members.len()) {
        return Err(Refusal::Malformed);
    }
    let mut taken = Taken::nothing();
    for seat in &placement.members {
        check_seat(state, spec, seat, &mut taken)?;
    }
    near::check(state, spec, &placement.members)?;
    beside::check(state, placement.task, &placement.members, beside::When::Now)?;
    if !taken.in_the_way.is_empty() {
        taken.before = reserve::gone_before(state, placement.task, &taken.in_the_way)?;
    }
    // Which devices are taken, and so of which model they are, is known only now.
    if state.version() < ClusterVersion::ACCESS {
        return Ok(taken);
    }
    if state.bound_now(&job.queue, &taken.held, spec.preemptible).is_some() {
        return Err(Refusal::AtLimit);
    }
    let bound = match goes_before {
        true => state.bound_left(&job.queue, &taken.held, spec.preemptible),
        false => state.bound_then(&job.queue, &taken.held, spec.preemptible),
    };
    if bound.is_some() {
        return Err(Refusal::Claimed);
    }
    if spec.size > 1 {
        let first = placement.members.first().ok_or(Refusal::Malformed)?.node;
        taken.main_port = Some(main_port(state, first)?);
    }
    Ok(taken)
}

/// A port that no other live gang has at the first member's node. Where the search begins changes with each entry, so that what an
/// earlier gang left behind there is met as late as may be.
pub(crate) fn main_port(state: &State, first: NodeId) -> Result<u16, Refusal> {
    let node = state.node(first).ok_or(Refusal::NodeChanged)?;
    let rendezvous = node.inventory.rendezvous.as_ref().ok_or(Refusal::Malformed)?;
    let mut ports = rendezvous.ports.from_position(state.revision().0);
    ports.find(|port| !state.indexes.main_ports.contains(&(first, *port))).ok_or(Refusal::NoRoom)
}

/// The job runs, the task is ready, or its wait is over although nobody ticked yet, and this is its next attempt.
pub(crate) fn check_ready(state: &State, key: TaskKey, attempt: AttemptNumber) -> Result<&Arc<JobSpec>, Refusal> {
    let runs = |job: &Outline<'_>| job.ended.is_none() && job.desired == JobDesired::Run;
    let job = state.outline(key.job).filter(runs).ok_or(Refusal::TaskNotReady)?;
    let ready = match state.task_state(key) {
        Some(TaskState::Ready) => true,
        Some(TaskState::Waiting(until)) => until <= state.time(),
        _ => false,
    };
    let attempts = state.task(key).map_or(0, |task| task.attempts.len());
    if ready && attempt.0 as usize == attempts + 1 { Ok(job.spec) } else { Err(Refusal::TaskNotReady) }
}

fn check_parallel(state: &State, placement: &Placement, spec: &StepSpec) -> Result<(), Refusal> {
    let (job, step) = (placement.task.job, placement.task.step);
    let active = state.counts(job, step).map_or(0, |counts| counts.active);
    below(active, spec.max_parallel)
}

/// The bound that a queue had before cluster version 2: on its own tasks only, whatever is above and below it.
fn check_queue_alone(state: &State, queue: &QueuePath) -> Result<(), Refusal> {
    let most = state.queue(queue).and_then(|queue| queue.max_active);
    below(state.load(queue).own_active, most)
}

fn below(active: u32, most: Option<u32>) -> Result<(), Refusal> {
    if most.is_none_or(|most| active < most) { Ok(()) } else { Err(Refusal::AtLimit) }
}

/// The seat's node is as the solver saw it, and suits the step.
pub(crate) fn check_seat_alone<'a>(state: &'a State, spec: &StepSpec, seat: &Seat) -> Result<&'a Node, Refusal> {
    let node = state.node(seat.node).ok_or(Refusal::NodeChanged)?;
    let open = node.health == Health::Up && node.scheduling == Scheduling::Open;
    if !open || node.standing() == Standing::Shunned || node.incarnation != seat.incarnation {
        return Err(Refusal::NodeChanged);
    }
    let connects = state.version() < ClusterVersion::ACCESS || spec.connects(&node.inventory);
    if !connects || !spec.allows(&node.inventory) {
        return Err(Refusal::Malformed);
    }
    Ok(node)
}

/// The seat's node has room beside what was taken for the ranks before, and nobody is promised that room.
pub(crate) fn check_seat(state: &State, spec: &StepSpec, seat: &Seat, taken: &mut Taken) -> Result<(), Refusal> {
    let node = check_seat_alone(state, spec, seat)?;
    let used = taken.used.entry(seat.node).or_insert_with(|| node.used.clone());
    room::take(&state.policy, used, &node.inventory, &spec.resources, seat)?;
    if state.claimed_on(seat.node).is_some() {
        claims::check_devices(state, seat)?;
        let left = taken.left.entry(seat.node).or_insert_with(|| state.used_left(seat.node, node));
        room::take(&state.policy, left, &node.inventory, &spec.resources, seat).map_err(|_| Refusal::Claimed)?;
    }
    if state.reserved_on(seat.node).is_some() {
        let then = taken.then.entry(seat.node).or_insert_with(|| state.used_then(seat.node, node));
        let fits = room::take(&state.policy, then, &node.inventory, &spec.resources, seat).is_ok();
        let reserved = |gpu| state.indexes.reserved_gpus.contains_key(&(seat.node, gpu));
        if !fits || seat.gpus.iter().any(|gpu| reserved(*gpu)) {
            taken.in_the_way.insert(seat.node);
        }
    }
    taken.held.add(&Held::by_member(&spec.resources, seat.gpu_alternative, &node.inventory, &seat.gpus));
    Ok(())
}

fn place(state: &mut State, changed: &mut Changed, placement: Placement, taken: Taken, accept_ms: Option<u64>) {
    let key = placement.task;
    state.thaw(key.job);
    // The others have room for theirs with it in its place, as was just checked.
    claims::remove(state, changed, key);
    take_nodes(state, changed, taken.used);
    let spec = state.jobs[&key.job].spec.clone();
    for (rank, seat) in placement.members.iter().enumerate() {
        let (attempt, rank, epoch) = (placement.attempt, Rank(rank as u32), state.meta.epoch);
        let member = MemberKey { task: key, attempt, rank, epoch, replacement: 0 };
        state.indexes.live.insert((seat.node, member));
        starting::moved(state, key, seat.node, None, Phase::Placed);
        beside::came(&mut state.indexes, &spec.steps[key.step.0 as usize], key, seat.node);
    }
    holding::take(state, key, &taken.held, false);
    overdue::placed(state, key.job);
    let now = state.meta.time;
    edit_step(state, (key.job, key.step), |step| {
        step.started_at.get_or_insert(now);
    });
    let attempt = Attempt {
        number: placement.attempt,
        placed_at: now,
        desired: AttemptDesired::Run,
        members: placement.members.into_iter().map(placed_member).collect(),
        checkpoint: None,
        accept_by: accept_ms.map(|ms| now.after(ms)),
        epoch: state.meta.epoch,
        main_port: taken.main_port,
        preempted: None,
        saved_at: None,
        surgery: None,
    };
    state.indexes.main_ports.extend(main_port_of(&attempt));
    state.indexes.unaccepted.extend(accept::due(&attempt).map(|until| (until, key)));
    move_task(state, key, TaskState::Active, |task| task.attempts.push(attempt));
    changed.jobs.insert(key.job);
    let newcomer = Awaited { task: key, attempt: placement.attempt };
    reserve::await_newcomer(state, changed, &taken.before, newcomer);
}

/// These nodes hold this from now on.
pub(crate) fn take_nodes(state: &mut State, changed: &mut Changed, used: BTreeMap<NodeId, Used>) {
    for (id, used) in used {
        let node = Arc::make_mut(state.nodes.get_mut(&id).expect("it was just checked"));
        node.used = used;
        changed.nodes.insert(id);
    }
}

/// The port that a gang has while it lives, and where.
pub(crate) fn main_port_of(attempt: &Attempt) -> Option<(NodeId, u16)> {
    Some((attempt.members.first()?.node, attempt.main_port?))
}

/// Who sits there from now on.
pub(crate) fn placed_member(seat: Seat) -> Member {
    Member {
        node: seat.node,
        incarnation: seat.incarnation,
        gpus: seat.gpus,
        gpu_alternative: seat.gpu_alternative,
        phase: Phase::Placed,
        times: PhaseTimes::NONE,
        end: None,
        stuck: None,
        replacement: 0,
        leaving: None,
    }
}
