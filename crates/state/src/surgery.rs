//! Gangs that go on when they lose members: the lost ranks are open until others take them, or the gang is given up.
//!
//! Invariant: a rank is open exactly while its gang is to run, its member was lost, and others of it live. What the lost member held
//! counts as held by its queue and its owner until somebody has its rank again, so that nobody takes its place meanwhile. An attempt
//! is in `repairs` exactly while a rank of it is open.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, AttemptOutcome, Blame, Changed, End, Held, Job, JobDesired, Leaving, Member, MemberKey,
    NodeId, Phase, Rank, Reason, Refusal, Repair, RepairWish, Replaced, Seat, StepSpec, Surgery, TaskKey, TimeMs,
    limits,
};

use crate::holding;
use crate::job::stop_live_attempt;
use crate::near;
use crate::plan::{self, Taken};
use crate::state::State;
use crate::task::edit_attempt;
use crate::{beside, reserve, starting};

/// When the gang is given up unless all its ranks have somebody again.
pub(crate) fn due(attempt: &Attempt) -> Option<TimeMs> {
    attempt.repair().map(|repair| repair.until)
}

/// When each rank of an attempt first ran, whoever has it now: a gang that goes on has not begun anew.
pub(crate) fn first_ran(attempt: &Attempt) -> impl Iterator<Item = Option<TimeMs>> + '_ {
    let replaced = attempt.surgery.as_ref().map_or(&[][..], |surgery| &surgery.replaced);
    (0..).map(Rank).zip(&attempt.members).map(move |(rank, member)| {
        let before = if member.replacement == 0 { &[][..] } else { replaced };
        let mut holders = before.iter().filter(|it| it.rank == rank).map(|it| &it.member).chain([member]);
        holders.find_map(|member| member.times.running)
    })
}

/// Whether a live member may go while the others go on: they do if its step says so, and each of them lives or is replaced.
pub(crate) fn goes_on_without(state: &State, key: MemberKey) -> bool {
    let Some(attempt) = state.attempt(key.task, key.attempt) else { return false };
    let Some(spec) = state.step_spec(key.task.job, key.task.step) else { return false };
    let open = attempt.repair().map_or(0, |repair| repair.open.len());
    let vacant = attempt.surgery.as_ref().map_or(0, |surgery| surgery.vacant.len());
    let live = live(attempt);
    attempt.desired == AttemptDesired::Run
        && attempt.epoch == state.epoch()
        && live > 1
        && live + open + vacant == attempt.members.len()
        && (is_replaced(attempt, spec) || is_dispensable(spec, live - 1, [key.rank]))
}

fn live(attempt: &Attempt) -> usize {
    attempt.members.iter().filter(|member| member.phase != Phase::Ended).count()
}

/// Whether others are looked for in the place of those that it loses.
fn is_replaced(attempt: &Attempt, spec: &StepSpec) -> bool {
    let open = attempt.repair().map_or(0, |repair| repair.open.len());
    let replaced = attempt.surgery.as_ref().map_or(0, |surgery| surgery.replaced.len());
    spec.placing.replace.is_some() && replaced + open < limits::REPLACEMENTS
}

/// Whether a gang can do without these ranks, where so many others live. The first has the outputs, and is where all meet.
fn is_dispensable(spec: &StepSpec, live: usize, ranks: impl IntoIterator<Item = Rank>) -> bool {
    spec.placing.min_size.is_some()
        && live >= spec.least_size() as usize
        && !ranks.into_iter().any(|rank| rank == Rank(0))
}

/// Whether the rank of a live member that ends like this is open then.
pub(crate) fn opens(state: &State, key: MemberKey, end: &End) -> bool {
    let went = matches!(end.outcome, AttemptOutcome::Lost | AttemptOutcome::Preempted) && end.blame != Blame::User;
    // Its agent saw its device fail, or the member did by it.
    let device = (end.outcome, end.reason, end.blame) == (AttemptOutcome::Failed, Reason::Device, Blame::Hardware);
    (went || device) && goes_on_without(state, key)
}

/// The rank of a member that has just ended is open; or vacant, if nobody is looked for.
pub(crate) fn open(state: &mut State, changed: &mut Changed, key: MemberKey, held: Held) {
    let spec = state.step_spec(key.task.job, key.task.step).expect("a live member has a step");
    let replaced = state.attempt(key.task, key.attempt).is_some_and(|attempt| is_replaced(attempt, spec));
    let Some(within_ms) = spec.placing.replace.map(|replace| replace.within_ms).filter(|_| replaced) else {
        holding::give_back(state, key.task, &held, false);
        return vacate(state, changed, key, [key.rank]);
    };
    let until = state.time().after(within_ms);
    edit_attempt(state, key, |attempt| {
        let repair = surgery(attempt).repair.get_or_insert_with(|| Repair { until, open: Default::default() });
        repair.open.insert(key.rank, held);
    });
}

fn surgery(attempt: &mut Attempt) -> &mut Surgery {
    Arc::make_mut(attempt.surgery.get_or_insert_default())
}

/// Nobody will have the open ranks of a task's last attempt: what was held for them is given back.
pub(crate) fn close(state: &mut State, key: TaskKey) {
    let attempt = state.task(key).and_then(|task| task.attempts.last());
    let Some(member) = attempt.filter(|it| it.repair().is_some()).map(|it| it.member_key(key, Rank(0))) else { return };
    let repair = edit_attempt(state, member, |attempt| surgery(attempt).repair.take());
    for held in repair.iter().flat_map(|repair| repair.open.values()) {
        holding::give_back(state, key, held, false);
    }
}

/// Asks a live member to stop while its gang goes on; whether it does.
pub(crate) fn let_go(state: &mut State, changed: &mut Changed, node: NodeId, key: MemberKey, leaving: Leaving) -> bool {
    if !goes_on_without(state, key) || stays_alone(state, key) {
        return false;
    }
    edit_attempt(state, key, |attempt| {
        attempt.members[key.rank.0 as usize].leaving.get_or_insert(leaving);
    });
    changed.nodes.insert(node);
    changed.jobs.insert(key.task.job);
    true
}

/// Whether all others leave as well.
fn stays_alone(state: &State, key: MemberKey) -> bool {
    let members = state.attempt(key.task, key.attempt).map_or(&[][..], |attempt| &attempt.members);
    let stays = |(rank, member): (usize, &Member)| {
        rank != key.rank.0 as usize && member.phase != Phase::Ended && member.leaving.is_none()
    };
    !members.iter().enumerate().any(stays)
}

/// A gang goes on without these ranks; those that live are told.
fn vacate(state: &mut State, changed: &mut Changed, member: MemberKey, ranks: impl IntoIterator<Item = Rank>) {
    edit_attempt(state, member, |attempt| {
        let surgery = surgery(attempt);
        surgery.vacant.extend(ranks);
        surgery.generation = surgery.generation.saturating_add(1);
        changed.nodes.extend(attempt.members.iter().filter(|it| it.phase != Phase::Ended).map(|member| member.node));
    });
    changed.jobs.insert(member.task.job);
}

/// The open ranks that a gang can do without, if it can do without all of them.
fn dispensable(state: &State, key: TaskKey) -> Option<(MemberKey, Vec<Rank>)> {
    let (attempt, spec) = (attempt_of(state, key)?, state.step_spec(key.job, key.step)?);
    let ranks: Vec<Rank> = attempt.repair()?.open.keys().copied().collect();
    is_dispensable(spec, live(attempt), ranks.iter().copied()).then(|| (attempt.member_key(key, Rank(0)), ranks))
}

/// Gives up the gang whose time passed first, or its open ranks if it can do without; whether there was one.
pub(crate) fn give_up(state: &mut State, changed: &mut Changed) -> bool {
    let now = state.meta.time;
    let due = state.indexes.repairs.get_min().filter(|(until, _)| *until <= now).copied();
    let Some((_, key)) = due else { return false };
    if let Some((member, ranks)) = dispensable(state, key) {
        close(state, key);
        vacate(state, changed, member, ranks);
        return true;
    }
    stop_live_attempt(state, changed, key);
    changed.jobs.insert(key.job);
    true
}

/// Gives open ranks to new members, all that the wish names or none.
pub(crate) fn repair(
    state: &mut State,
    changed: &mut Changed,
    wish: RepairWish,
    accept_ms: Option<u64>,
) -> Result<(), Refusal> {
    let taken = check(state, &wish)?;
    let RepairWish { task: key, seats, .. } = wish;
    reserve::fall_awaiting_task(state, changed, key);
    let ranks: Vec<Rank> = seats.iter().map(|(rank, _)| *rank).collect();
    let open = attempt_of(state, key).and_then(Attempt::repair).map(|repair| repair.open.clone()).unwrap_or_default();
    for held in ranks.iter().filter_map(|rank| open.get(rank)) {
        holding::give_back(state, key, held, false);
    }
    plan::take_nodes(state, changed, taken.used);
    holding::take(state, key, &taken.held, false);
    let before = attempt_of(state, key).and_then(plan::main_port_of);
    let accept_by = accept_ms.map(|ms| state.time().after(ms));
    let any = attempt_of(state, key).expect("it was checked").member_key(key, Rank(0));
    edit_attempt(state, any, |attempt| {
        seats.into_iter().for_each(|(rank, seat)| replace(attempt, rank, seat));
        let surgery = surgery(attempt);
        surgery.generation = surgery.generation.saturating_add(1);
        surgery.repair.take_if(|repair| repair.open.is_empty());
        attempt.accept_by = accept_by;
        attempt.main_port = taken.main_port.or(attempt.main_port);
    });
    let task = state.task(key).expect("it was checked").clone();
    let attempt = task.attempts.last().expect("it was checked");
    let spec = state.jobs[&key.job].spec.clone();
    for rank in &ranks {
        let node = attempt.members[rank.0 as usize].node;
        state.indexes.live.insert((node, attempt.member_key(key, *rank)));
        starting::moved(state, key, node, None, Phase::Placed);
        beside::came(&mut state.indexes, &spec.steps[key.step.0 as usize], key, node);
    }
    let after = plan::main_port_of(attempt);
    // All others are told of it.
    changed.nodes.extend(attempt.members.iter().filter(|it| it.phase != Phase::Ended).map(|member| member.node));
    if before != after {
        before.map(|port| state.indexes.main_ports.remove(&port));
        state.indexes.main_ports.extend(after);
    }
    changed.jobs.insert(key.job);
    Ok(())
}

/// Somebody else has the rank.
fn replace(attempt: &mut Attempt, rank: Rank, seat: Seat) {
    let place = &mut attempt.members[rank.0 as usize];
    let replacement = place.replacement.saturating_add(1);
    let member = std::mem::replace(place, Member { replacement, ..plan::placed_member(seat) });
    let surgery = surgery(attempt);
    surgery.replaced.push(Replaced { rank, member });
    if let Some(repair) = &mut surgery.repair {
        repair.open.remove(&rank);
    }
}

fn attempt_of(state: &State, key: TaskKey) -> Option<&Attempt> {
    state.task(key)?.attempts.last()
}

/// What the new members would take, or why the wish is stale.
fn check(state: &State, wish: &RepairWish) -> Result<Taken, Refusal> {
    let runs = |job: &&Arc<Job>| job.ended.is_none() && job.desired == JobDesired::Run;
    let job = state.jobs.get(&wish.task.job).filter(runs).ok_or(Refusal::TaskNotReady)?;
    let spec = job.spec.steps.get(wish.task.step.0 as usize).ok_or(Refusal::Malformed)?;
    let attempt = attempt_of(state, wish.task).filter(|attempt| attempt.number == wish.attempt);
    let attempt = attempt.ok_or(Refusal::TaskNotReady)?;
    // After a restore the same numbers may have been given before, to members that are still somewhere.
    if attempt.epoch != state.epoch() {
        return Err(Refusal::TaskNotReady);
    }
    let repair = attempt.repair().ok_or(Refusal::TaskNotReady)?;
    let ranks: BTreeSet<Rank> = wish.seats.iter().map(|(rank, _)| *rank).collect();
    if ranks.is_empty() || ranks.len() != wish.seats.len() {
        return Err(Refusal::Malformed);
    }
    if !ranks.iter().all(|rank| repair.open.contains_key(rank)) {
        return Err(Refusal::TaskNotReady);
    }
    let mut taken = Taken::nothing();
    for (_, seat) in &wish.seats {
        plan::check_seat(state, spec, seat, &mut taken)?;
    }
    if !taken.in_the_way.is_empty() {
        return Err(Refusal::Claimed);
    }
    let seats: Vec<Seat> = wish.seats.iter().map(|(_, seat)| seat.clone()).collect();
    beside::check(state, wish.task, &seats, beside::When::Now)?;
    check_near(state, spec, attempt, wish)?;
    check_bounds(state, (job, spec), repair, wish, &taken)?;
    if let Some((_, seat)) = wish.seats.iter().find(|(rank, _)| *rank == Rank(0)) {
        taken.main_port = Some(plan::main_port(state, seat.node)?);
    }
    Ok(taken)
}

/// The new members are as near to the others as these had to be to each other.
fn check_near(state: &State, spec: &StepSpec, attempt: &Attempt, wish: &RepairWish) -> Result<(), Refusal> {
    let live = attempt.members.iter().filter(|member| member.phase != Phase::Ended).map(|member| member.node);
    near::check_nodes(state, spec, live.chain(wish.seats.iter().map(|(_, seat)| seat.node)))
}

/// Of what the lost members did not hold, a queue bounds the new ones as it bounds others.
fn check_bounds(
    state: &State,
    (job, spec): (&Job, &StepSpec),
    repair: &Repair,
    wish: &RepairWish,
    taken: &Taken,
) -> Result<(), Refusal> {
    let mut kept = Held::NONE;
    wish.seats.iter().filter_map(|(rank, _)| repair.open.get(rank)).for_each(|held| kept.add(held));
    let more = taken.held.beyond(&kept);
    if more.is_none() {
        return Ok(());
    }
    let queue = &job.spec.queue;
    let free = state.bound_now(queue, &more, spec.preemptible).is_none()
        && state.bound_then(queue, &more, spec.preemptible).is_none();
    if free { Ok(()) } else { Err(Refusal::AtLimit) }
}

impl State {
    /// Tasks of whose running gangs ranks are open, by the time at which they are given up.
    pub fn repairs(&self) -> impl Iterator<Item = (TimeMs, TaskKey)> + '_ {
        self.indexes.repairs.iter().copied()
    }
}
