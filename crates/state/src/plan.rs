//! Accepting a plan: each placement is checked alone against the state as it is now, and taken or refused as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, Changed, ClusterVersion, Health, JobDesired, Member, MemberKey, NodeId, Phase, PhaseTimes,
    Placement, Plan, Rank, Refusal, Reply, Scheduling, Seat, StepSpec, TaskState, Used,
};

use crate::state::State;
use crate::step::edit_step;
use crate::task::move_task;
use crate::{accept, overdue, room};

/// Applies `CommitPlan`.
pub(crate) fn commit(state: &mut State, changed: &mut Changed, plan: Plan) -> Reply {
    let mut refused = Vec::new();
    for (at, placement) in plan.placements.into_iter().enumerate() {
        match check(state, &placement) {
            Ok(held) => place(state, changed, placement, held, plan.accept_ms),
            Err(refusal) => refused.push((at as u32, refusal)),
        }
    }
    Reply::PlanCommitted { refused }
}

/// What each node of the placement would hold afterwards, or why the placement is stale.
fn check(state: &State, placement: &Placement) -> Result<BTreeMap<NodeId, Used>, Refusal> {
    let key = placement.task;
    let job = state.job(key.job).ok_or(Refusal::TaskNotReady)?;
    if job.ended.is_some() || job.desired != JobDesired::Run {
        return Err(Refusal::TaskNotReady);
    }
    let spec = job.spec.steps.get(key.step.0 as usize).ok_or(Refusal::TaskNotReady)?;
    check_task(state, placement)?;
    check_limits(state, placement, spec)?;
    if placement.members.len() != spec.size as usize {
        return Err(Refusal::Malformed);
    }
    let mut held = BTreeMap::new();
    for seat in &placement.members {
        check_seat(state, spec, seat, &mut held)?;
    }
    Ok(held)
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

fn check_limits(state: &State, placement: &Placement, spec: &StepSpec) -> Result<(), Refusal> {
    let (job, step) = (placement.task.job, placement.task.step);
    let active = state.step(job, step).map_or(0, |step| step.counts.active);
    let queue = &state.job(job).ok_or(Refusal::TaskNotReady)?.spec.queue;
    let most = state.queue(queue).and_then(|queue| queue.max_active);
    let below = |active: u32, most: Option<u32>| most.is_none_or(|most| active < most);
    if below(active, spec.max_parallel) && below(state.load(queue).active, most) {
        Ok(())
    } else {
        Err(Refusal::AtLimit)
    }
}

/// The seat's node is as the solver saw it, suits the step, and has room beside what was taken for the ranks before.
fn check_seat(state: &State, spec: &StepSpec, seat: &Seat, held: &mut BTreeMap<NodeId, Used>) -> Result<(), Refusal> {
    let node = state.node(seat.node).ok_or(Refusal::NodeChanged)?;
    let open = node.health == Health::Up && node.scheduling == Scheduling::Open;
    if !open || node.incarnation != seat.incarnation {
        return Err(Refusal::NodeChanged);
    }
    let connects = state.version() < ClusterVersion::ACCESS || spec.connects(&node.inventory);
    if !connects || !spec.allows(&node.inventory) {
        return Err(Refusal::Malformed);
    }
    let used = held.entry(seat.node).or_insert_with(|| node.used.clone());
    room::take(used, &node.inventory, &spec.resources, seat)
}

fn place(
    state: &mut State,
    changed: &mut Changed,
    placement: Placement,
    held: BTreeMap<NodeId, Used>,
    accept_ms: Option<u64>,
) {
    let key = placement.task;
    for (id, used) in held {
        let node = Arc::make_mut(state.nodes.get_mut(&id).expect("it was just checked"));
        node.used = used;
        changed.nodes.insert(id);
    }
    for (rank, seat) in placement.members.iter().enumerate() {
        let (attempt, rank, epoch) = (placement.attempt, Rank(rank as u32), state.meta.epoch);
        let member = MemberKey { task: key, attempt, rank, epoch };
        state.indexes.live.insert((seat.node, member));
    }
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
