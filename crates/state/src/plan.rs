//! Accepting a plan: each placement is checked alone against the state as it is now, and taken or refused as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, Changed, ClusterVersion, Health, Held, JobDesired, Member, MemberKey, NodeId, Phase,
    PhaseTimes, Placement, Plan, QueuePath, Rank, Refusal, Reply, Scheduling, Seat, StepSpec, TaskState, Used,
};

use crate::state::State;
use crate::step::edit_step;
use crate::task::move_task;
use crate::{accept, holding, overdue, room};

/// What there would be after a placement.
struct Taken {
    /// What each node of it would hold.
    used: BTreeMap<NodeId, Used>,
    /// What it takes altogether.
    held: Held,
}

/// Applies `CommitPlan`.
pub(crate) fn commit(state: &mut State, changed: &mut Changed, plan: Plan) -> Reply {
    let mut refused = Vec::new();
    for (at, placement) in plan.placements.into_iter().enumerate() {
        match check(state, &placement) {
            Ok(taken) => place(state, changed, placement, taken, plan.accept_ms),
            Err(refusal) => refused.push((at as u32, refusal)),
        }
    }
    Reply::PlanCommitted { refused }
}

/// What the placement would take, or why it is stale.
fn check(state: &State, placement: &Placement) -> Result<Taken, Refusal> {
    let key = placement.task;
    let job = state.job(key.job).ok_or(Refusal::TaskNotReady)?;
    if job.ended.is_some() || job.desired != JobDesired::Run {
        return Err(Refusal::TaskNotReady);
    }
    let spec = job.spec.steps.get(key.step.0 as usize).ok_or(Refusal::TaskNotReady)?;
    check_task(state, placement)?;
    check_parallel(state, placement, spec)?;
    if state.version() < ClusterVersion::ACCESS {
        check_queue_alone(state, &job.spec.queue)?;
    }
    if placement.members.len() != spec.size as usize {
        return Err(Refusal::Malformed);
    }
    let mut taken = Taken { used: BTreeMap::new(), held: Held::NONE };
    for seat in &placement.members {
        check_seat(state, spec, seat, &mut taken)?;
    }
    // Which devices are taken, and so of which model they are, is known only now.
    if state.version() >= ClusterVersion::ACCESS && state.bound_reached(&job.spec.queue, &taken.held).is_some() {
        return Err(Refusal::AtLimit);
    }
    Ok(taken)
}

/// The task is ready, or its wait is over although nobody ticked yet, and this is its next attempt.
fn check_task(state: &State, placement: &Placement) -> Result<(), Refusal> {
    let ready = match state.task_state(placement.task) {
        Some(TaskState::Ready) => true,
        Some(TaskState::Waiting(until)) => until <= state.time(),
        _ => false,
    };
    let attempts = state.task(placement.task).map_or(0, |task| task.attempts.len());
    if ready && placement.attempt.0 as usize == attempts + 1 { Ok(()) } else { Err(Refusal::TaskNotReady) }
}

fn check_parallel(state: &State, placement: &Placement, spec: &StepSpec) -> Result<(), Refusal> {
    let (job, step) = (placement.task.job, placement.task.step);
    let active = state.step(job, step).map_or(0, |step| step.counts.active);
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

/// The seat's node is as the solver saw it, suits the step, and has room beside what was taken for the ranks before.
fn check_seat(state: &State, spec: &StepSpec, seat: &Seat, taken: &mut Taken) -> Result<(), Refusal> {
    let node = state.node(seat.node).ok_or(Refusal::NodeChanged)?;
    let open = node.health == Health::Up && node.scheduling == Scheduling::Open;
    if !open || node.incarnation != seat.incarnation {
        return Err(Refusal::NodeChanged);
    }
    let connects = state.version() < ClusterVersion::ACCESS || spec.connects(&node.inventory);
    if !connects || !spec.allows(&node.inventory) {
        return Err(Refusal::Malformed);
    }
    let used = taken.used.entry(seat.node).or_insert_with(|| node.used.clone());
    room::take(used, &node.inventory, &spec.resources, seat)?;
    taken.held.add(&Held::by_member(&spec.resources, seat.gpu_alternative, &node.inventory, &seat.gpus));
    Ok(())
}

fn place(state: &mut State, changed: &mut Changed, placement: Placement, taken: Taken, accept_ms: Option<u64>) {
    let key = placement.task;
    for (id, used) in taken.used {
        let node = Arc::make_mut(state.nodes.get_mut(&id).expect("it was just checked"));
        node.used = used;
        changed.nodes.insert(id);
    }
    for (rank, seat) in placement.members.iter().enumerate() {
        let (attempt, rank, epoch) = (placement.attempt, Rank(rank as u32), state.meta.epoch);
        let member = MemberKey { task: key, attempt, rank, epoch };
        state.indexes.live.insert((seat.node, member));
    }
    holding::take(state, key.job, &taken.held);
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
    };
    state.indexes.unaccepted.extend(accept::due(&attempt).map(|until| (until, key)));
    move_task(state, key, TaskState::Active, |task| task.attempts.push(attempt));
    changed.jobs.insert(key.job);
}

fn placed_member(seat: Seat) -> Member {
    Member {
        node: seat.node,
        incarnation: seat.incarnation,
        gpus: seat.gpus,
        gpu_alternative: seat.gpu_alternative,
        phase: Phase::Placed,
        times: PhaseTimes::NONE,
        end: None,
        stuck: None,
    }
}
