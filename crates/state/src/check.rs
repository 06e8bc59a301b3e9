//! Everything that must always hold, computed anew from the records. For tests, the simulation and the operator's doubt.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    self as model, AccountKey, Attempt, AttemptDesired, AttemptOutcome, ClusterVersion, FanOut, Grant, Job, JobDesired,
    JobId, JobOutcome, LogSegment, Member, NeedKind, NodeId, Phase, Rank, Step, StepIndex, Task, TaskCounts, TaskIndex,
    TaskKey, TaskOutcome, TaskState, Used, limits,
};

use crate::holding::held_by_live;
use crate::indexes::Indexes;
use crate::ledger::key_of;
use crate::plan::main_port_of;
use crate::state::State;
use crate::step::{counter, is_complete, untouched_state};
use crate::{beside, check_claims, check_surgery, device, durations, mix, promises, room};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {rule}")]
pub struct Violation {
    /// Where: a job, step, task or node.
    pub place: String,
    /// The rule that is broken.
    pub rule: &'static str,
}

pub(crate) type Held = Result<(), Violation>;

pub(crate) fn hold(holds: bool, rule: &'static str, place: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(Violation { place: place(), rule }) }
}

/// Computes everything that can be computed and compares it with what is stored. Linear in the whole state, untouched tasks
/// of steps that follow others included.
///
/// # Errors
/// The first [`Violation`] found.
pub fn check_all(state: &State) -> Result<(), Violation> {
    hold(state.indexes == Indexes::rebuild(state), "indexes follow from the records", || "state".to_owned())?;
    for (key, _) in &state.submissions {
        let job = state.submissions[key].job;
        hold(state.jobs.contains_key(&job), "a submission key names a remembered job", || key.key.clone())?;
    }
    check_stills(state)?;
    for (id, job) in state.jobs() {
        check_job(state, id, &job)?;
    }
    for (job, step) in state.steps.keys() {
        hold(state.step_spec(*job, *step).is_some(), "a step belongs to a job", || format!("{job}/{step}"))?;
    }
    for (job, step) in state.tasks.keys() {
        hold(state.steps.contains_key(&(*job, *step)), "a task belongs to a step", || format!("{job}/{step}"))?;
    }
    check_queues(state)?;
    let known = state.policy().topology.is_empty() || state.version() >= ClusterVersion::ACCESS;
    hold(known, "a policy is put from its cluster version on", || "policy".to_owned())?;
    check_nodes(state)?;
    let clash = beside::fault(state);
    hold(clash.is_none(), "nobody is beside what keeps apart", || clash.unwrap_or_default())?;
    check_claims::check(state)?;
    durations::check(state)?;
    mix::check(state)?;
    check_ledger(state)?;
    check_past(state)?;
    check_access(state)
}

/// What can be kept small is, and nothing of it is kept twice.
fn check_stills(state: &State) -> Held {
    hold(state.stills.is_consistent(), "still jobs are kept as they were submitted", || "state".to_owned())?;
    for id in state.jobs.keys() {
        let mut frozen = state.clone();
        frozen.freeze(*id);
        hold(frozen.jobs.contains_key(id), "a job that was not touched is kept small", || format!("job {id}"))?;
    }
    for (id, _) in state.stills.iter() {
        let place = || format!("job {id}");
        let twice = state.jobs.contains_key(&id) || state.steps(id).count() != 1 || state.tasks_of(id).next().is_some();
        hold(!twice, "a still job is kept once, and has no touched task", place)?;
    }
    Ok(())
}

/// Nothing is promised twice, and nothing is asked of queues that older replicas do not know.
fn check_queues(state: &State) -> Held {
    for queue in state.queues() {
        let place = || format!("queue {}", queue.path);
        let versioned = !queue.is_newer() || state.version() >= ClusterVersion::ACCESS;
        hold(versioned, "a queue says what its cluster version knows", place)?;
        let kept = promises::fault(&state.queues, queue.path.as_str()).is_none();
        hold(kept, "a queue has what those below it are promised", place)?;
    }
    Ok(())
}

/// Accounts are of what lives now, and say of the past what can have been.
fn check_ledger(state: &State) -> Held {
    let versioned = state.accounts.is_empty() || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "accounts are kept from their cluster version on", || "state".to_owned())?;
    if state.version() < ClusterVersion::ACCESS {
        return Ok(());
    }
    let mut live: BTreeMap<AccountKey, (model::Held, u32)> = BTreeMap::new();
    for (_, key) in &state.indexes.live {
        let job = state.outline(key.task.job).expect("the job was checked");
        live.entry(key_of(job)).or_default().0.add(&held_by_live(state, *key));
    }
    for (_, key) in &state.indexes.repairs {
        let job = state.outline(key.job).expect("the job was checked");
        let attempt = state.task(*key).and_then(|task| task.attempts.last());
        let open = attempt.and_then(Attempt::repair).map(|repair| &repair.open);
        open.into_iter()
            .flat_map(|open| open.values())
            .for_each(|held| live.entry(key_of(job)).or_default().0.add(held));
    }
    for ((job, _), step) in state.steps.iter().filter(|(_, step)| step.counts.active > 0) {
        let job = state.outline(*job).expect("the job was checked");
        live.entry(key_of(job)).or_default().1 += step.counts.active;
    }
    for (key, account) in &state.accounts {
        let place = || format!("account of {} in {}", key.owner, key.queue);
        let (held, active) = live.remove(key).unwrap_or_default();
        hold(account.held == held, "an account holds what its live members hold", place)?;
        hold(account.active == active, "an account counts its active tasks", place)?;
        hold(account.at <= state.time(), "an account is as of a time that was", place)?;
        let (hours, days) = (&account.hours, &account.days);
        let closed = days.iter().chain(hours.iter()).map(|bucket| bucket.start);
        let ascend = days.iter().map(|day| day.start).is_sorted_by(|one, next| one < next)
            && hours.iter().map(|hour| hour.start).is_sorted_by(|one, next| one < next);
        hold(ascend, "hours and days of an account ascend", place)?;
        hold(closed.max().is_none_or(|last| last < account.at), "an account has no future", place)?;
        let few = hours.len() as u64 <= limits::LEDGER_HOURS && days.len() as u64 <= limits::LEDGER_DAYS;
        hold(few, "an account keeps a bounded past", place)?;
    }
    hold(live.is_empty(), "what lives has an account", || format!("{:?}", live.keys().next()))
}

/// Segments follow each other, and pages have jobs.
fn check_past(state: &State) -> Held {
    let any = state.archive_pages().next().is_some() || state.segments().next().is_some();
    let versioned = !any || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "the past is kept from its cluster version on", || "state".to_owned())?;
    for (page, it) in state.archive_pages() {
        hold(it.jobs > 0, "a page of the archive has jobs", || format!("page {page}"))?;
    }
    let mut last: Option<&LogSegment> = None;
    for segment in state.segments() {
        let place = || format!("segment {}", segment.first);
        hold(segment.first <= segment.last, "a segment has entries", place)?;
        hold(last.is_none_or(|last| last.last < segment.first), "segments follow each other", place)?;
        last = Some(segment);
    }
    Ok(())
}

/// Tokens and revocations come from entries that were applied, and let in no more than they may.
fn check_access(state: &State) -> Held {
    let allowed = !state.tokens.is_empty() || !state.revocations.is_empty() || !state.secrets.is_empty();
    let versioned = !allowed || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "access is kept from its cluster version on", || "state".to_owned())?;
    for (id, token) in &state.tokens {
        let place = || format!("token {id}");
        hold(id.0 <= state.revision().0 && id.0 > 0, "a token is named by an applied entry", place)?;
        let counted = matches!(token.grant, Grant::Join(_)) == token.uses.is_some();
        hold(counted, "exactly a token to join is counted", place)?;
        let used = token.used_by.len() as u64;
        hold(used <= u64::from(token.uses.unwrap_or(0)), "a token lets in no more than it may", place)?;
    }
    for (name, secret) in &state.secrets {
        hold(secret.revision <= state.revision(), "a secret is named by an applied entry", || name.to_string())?;
    }
    for (identity, revocation) in &state.revocations {
        let applied = revocation.revision <= state.revision();
        hold(applied, "a revocation is named by an applied entry", || identity.to_string())?;
    }
    Ok(())
}

fn check_job(state: &State, id: JobId, job: &Job) -> Held {
    let place = || format!("job {id}");
    hold(state.queues.contains_key(&job.spec.queue), "an active job has a queue", place).or_else(|violation| {
        // An ended job may outlive its queue.
        if job.ended.is_some() { Ok(()) } else { Err(violation) }
    })?;
    let waits = state.waits.iter().filter(|(_, waiting)| *waiting == id).count();
    hold(job.waits_for as usize == waits, "a job counts the jobs it waits for", place)?;
    hold(state.steps(id).count() == job.spec.steps.len(), "a job has all its steps", place)?;
    let open = state.steps(id).filter(|(_, step)| step.ended_at.is_none()).count();
    hold(job.open_steps as usize == open, "a job counts its open steps", place)?;
    hold((open == 0) == job.ended.is_some(), "a job has ended exactly when its steps have", place)?;
    let failing = job.desired == JobDesired::Stop(JobOutcome::Failed);
    hold(job.overdue.is_none() || failing, "an overdue job is stopped and fails", place)?;
    let versioned = !job.spec.is_newer() || state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "a job asks for what its cluster version knows", place)?;
    if let (Some(end), JobDesired::Stop(outcome)) = (job.ended, job.desired) {
        hold(end.outcome == outcome, "a stopped job ends as it was stopped", place)?;
    }
    for (index, step) in state.steps(id) {
        check_step(state, id, job, index, &step)?;
    }
    Ok(())
}

fn check_step(state: &State, id: JobId, job: &Job, index: StepIndex, step: &Step) -> Held {
    let place = || format!("step {id}/{index}");
    let spec = &job.spec.steps[index.0 as usize];
    let complete = |need: StepIndex| state.step(id, need).is_some_and(|step| is_complete(&step));
    let needs = spec.needs.iter().filter(|(need, kind)| **kind == NeedKind::All && !complete(**need)).count();
    let open_needs = needs as u32 + u32::from(job.waits_for > 0);
    hold(step.open_needs == open_needs, "a step counts its open needs", place)?;
    hold(step.ended_at.is_some() == is_complete(step), "a step has ended exactly when it is complete", place)?;
    let counts = recount(state, id, index, step);
    hold(counts == Some(step.counts), "a step counts its tasks by state, each in one place", place)?;
    hold(step.count.is_none_or(|count| count == step.counts.total()), "a step has all its tasks", place)?;
    hold(step.count.is_some() || step.counts == TaskCounts::NONE, "unknown tasks have no state", place)?;
    let stops = job.desired != JobDesired::Run;
    hold(!stops || step.counts.ready + step.counts.blocked + step.counts.waiting == 0, "a stopped job is idle", place)?;
    hold(stops || step.counts.cancelled == 0, "only a stopped job has cancelled tasks", place)?;
    let free = open_needs == 0;
    hold(
        free || step.counts.ready + step.counts.active + step.counts.waiting == 0,
        "nothing runs before its needs",
        place,
    )?;
    if let FanOut::Each { step: followed } = spec.fan_out {
        check_followed(state, TaskKey { job: id, step: index, task: TaskIndex(0) }, followed, free)?;
    } else {
        hold(!free || step.counts.blocked == 0, "what needs nothing is not blocked", place)?;
    }
    for (task, record) in state.tasks_from(id, index, TaskIndex(0)) {
        check_task(state, TaskKey { job: id, step: index, task }, record, stops)?;
    }
    Ok(())
}

/// Counts the tasks anew; `None` if one is in two places or out of bounds.
fn recount(state: &State, id: JobId, index: StepIndex, step: &Step) -> Option<TaskCounts> {
    let mut counts = TaskCounts::NONE;
    let mut spans: Vec<(u32, u32)> = Vec::new();
    let ranges = [
        (&step.blocked, TaskState::Blocked),
        (&step.ready, TaskState::Ready),
        (&step.cancelled, TaskState::Done(TaskOutcome::Cancelled)),
        (&step.skipped, TaskState::Done(TaskOutcome::Skipped)),
    ];
    for (range, task) in ranges {
        *counter(&mut counts, task) += range.count() as u32;
        spans.extend(range.pairs());
    }
    for (task, record) in state.tasks_from(id, index, TaskIndex(0)) {
        *counter(&mut counts, record.state) += 1;
        spans.push((task.0, task.0 + 1));
    }
    spans.sort_unstable();
    let disjoint = spans.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    let last = spans.last().map_or(0, |span| span.1);
    (disjoint && last <= step.count.unwrap_or(0)).then_some(counts)
}

/// Task by task, what the followed one allows.
fn check_followed(state: &State, first: TaskKey, followed: StepIndex, free: bool) -> Held {
    let step = state.step(first.job, first.step).expect("it is being checked");
    for index in 0..step.count.unwrap_or(0) {
        let key = TaskKey { task: TaskIndex(index), ..first };
        let leader = state.task_state(TaskKey { step: followed, ..key });
        let own = state.task_state(key);
        let holds = match own {
            Some(TaskState::Blocked) => !matches!(leader, Some(TaskState::Done(TaskOutcome::Succeeded))) || !free,
            Some(TaskState::Done(TaskOutcome::Cancelled)) => true,
            Some(TaskState::Done(TaskOutcome::Skipped)) => {
                !matches!(leader, Some(TaskState::Done(TaskOutcome::Succeeded)))
            }
            Some(_) => leader == Some(TaskState::Done(TaskOutcome::Succeeded)),
            None => false,
        };
        hold(holds, "a task follows the one it is told to", || format!("{key:?}: {own:?} after {leader:?}"))?;
    }
    Ok(())
}

fn check_task(state: &State, key: TaskKey, task: &Task, stops: bool) -> Held {
    let place = || format!("task {key:?}");
    let step = state.step(key.job, key.step).expect("it is being checked");
    hold(untouched_state(&step, key.task).is_none(), "a touched task is in no range", place)?;
    hold(!task.attempts.is_empty(), "a task is touched by its first attempt", place)?;
    let numbered = task.attempts.iter().enumerate().all(|(at, attempt)| attempt.number.0 as usize == at + 1);
    hold(numbered, "attempts are counted from 1", place)?;
    let begun = task.attempts.iter().map(|attempt| attempt.epoch).is_sorted_by(|one, next| one <= next);
    let begun = begun && task.attempts.iter().all(|attempt| attempt.epoch <= state.epoch());
    hold(begun, "an attempt belongs to an epoch that has begun", place)?;
    let live = |at: usize| task.attempts[at].members.iter().any(|member| member.phase != Phase::Ended);
    let last = task.attempts.len() - 1;
    hold((0..last).all(|at| !live(at)), "only the last attempt may be live", place)?;
    hold(live(last) == (task.state == TaskState::Active), "a task is active while its attempt lives", place)?;
    let published = task.attempts.iter().filter(|attempt| {
        let well = |member: &Member| member.end.as_ref().is_some_and(|end| end.outcome == AttemptOutcome::Succeeded);
        (0..).zip(&attempt.members).all(|(rank, member)| well(member) || attempt.is_vacant(Rank(rank)))
    });
    let succeeded = u32::from(task.state == TaskState::Done(TaskOutcome::Succeeded));
    hold(published.count() as u32 == succeeded, "a task succeeds by exactly one attempt", place)?;
    if task.state == TaskState::Active {
        let desired = task.attempts[last].desired == AttemptDesired::Run;
        hold(!(stops && desired), "nothing of a stopped job is desired", place)?;
    }
    let consistent = task.attempts.iter().flat_map(|attempt| &attempt.members);
    let ended = consistent.into_iter().all(|member| (member.phase == Phase::Ended) == member.end.is_some());
    hold(ended, "an end is recorded exactly with the last phase", place)?;
    let newer = |attempt: &Attempt| {
        let stuck = attempt.members.iter().any(|member| member.stuck.is_some());
        let evicted = attempt.preempted.is_some() || attempt.saved_at.is_some();
        let given = attempt.accept_by.is_some() || attempt.main_port.is_some();
        stuck || evicted || given || attempt.desired == AttemptDesired::GiveUp
    };
    let evicted = task.attempts.iter().filter(|attempt| attempt.preempted.is_some());
    hold(evicted.clone().count() <= limits::RELOCATIONS, "a task is evicted only so often", place)?;
    let leaves = |attempt: &Attempt| attempt.desired != AttemptDesired::Run;
    hold(evicted.into_iter().all(leaves), "what was evicted is not to run", place)?;
    let versioned = state.version() >= ClusterVersion::ACCESS || !task.attempts.iter().any(newer);
    hold(versioned, "nothing is recorded that older replicas do not know", place)?;
    check_surgery::check(state, key, task)
}

/// Each live gang has a port to itself at the node of its first member.
fn check_ports(state: &State) -> Held {
    let attempts: BTreeSet<_> = state.indexes.live.iter().map(|(_, key)| (key.task, key.attempt)).collect();
    let live = attempts.into_iter().filter_map(|(task, attempt)| Some((task, state.attempt(task, attempt)?)));
    let mut ports = BTreeSet::new();
    for (task, attempt) in live {
        let Some(port) = main_port_of(attempt) else { continue };
        let place = || format!("port {} of node {}", port.1, port.0);
        let gang = state.step_spec(task.job, task.step).is_some_and(|spec| spec.size > 1);
        hold(gang, "only a gang has a port", place)?;
        hold(ports.insert(port), "a port is given to one live gang", place)?;
    }
    Ok(())
}

/// What nodes hold, and under which registration.
fn check_nodes(state: &State) -> Held {
    let mut used: BTreeMap<NodeId, Used> =
        state.nodes.iter().map(|(id, node)| (*id, room::unused(node.inventory.gpus.len()))).collect();
    for (id, key) in &state.indexes.live {
        let place = || format!("{key:?} on node {id}");
        let attempt = state.attempt(key.task, key.attempt);
        let member = attempt.and_then(|attempt| attempt.members.get(key.rank.0 as usize));
        let (Some(member), Some(node)) = (member, state.node(*id)) else {
            return hold(false, "a live member has a record and a node", place);
        };
        hold(member.incarnation == node.incarnation, "a live member has its node's registration", place)?;
        hold(node.health != flowyard_model::Health::Down, "nothing lives on a node that is down", place)?;
        let spec = state.step_spec(key.task.job, key.task.step).expect("the job was checked");
        let inside = member.gpus.iter().all(|gpu| (gpu.0 as usize) < node.inventory.gpus.len());
        hold(inside, "a member holds devices that exist", place)?;
        let share = room::share(&spec.resources, member.gpu_alternative);
        room::add(used.get_mut(id).expect("the node exists"), &spec.resources, &member.gpus, share);
    }
    check_ports(state)?;
    let names: BTreeSet<_> = state.nodes.values().map(|node| &node.name).collect();
    hold(names.len() == state.nodes.len(), "names of nodes are unique", || "nodes".to_owned())?;
    for (id, node) in &state.nodes {
        hold(used.get(id) == Some(&node.used), "a node holds what its live members hold", || format!("node {id}"))?;
        let open = node.scheduling == flowyard_model::Scheduling::Open;
        hold(!(open && node.closure.is_some()), "only a closed node says who closed it", || format!("node {id}"))?;
        let plain = node.closure.is_none() && node.inventory.gpus.iter().all(|gpu| gpu.pcie_group.is_none());
        let versioned = plain || state.version() >= ClusterVersion::ACCESS;
        hold(versioned, "nothing is recorded that older replicas do not know", || format!("node {id}"))?;
        let whole = node.used.gpu_milli.iter().all(|milli| *milli <= 1_000);
        hold(whole, "a device is given out once", || format!("node {id}"))?;
        let within = |(at, gpu): (usize, &model::Gpu)| {
            let declared = node.used.declared.get(at).copied().unwrap_or_default();
            let plain = node.used.gpu_milli.get(at).copied().unwrap_or(0) - declared.share_milli;
            let taken = u128::from(plain) * u128::from(gpu.memory_bytes) + 1_000 * u128::from(declared.memory_bytes);
            taken <= 1_000 * u128::from(gpu.memory_bytes)
        };
        let fits = node.used.declared.is_empty() || node.inventory.gpus.iter().enumerate().all(within);
        hold(fits, "the memory of a device is given out once", || format!("node {id}"))?;
        check_discredit(state, *id, node)?;
        device::check(state, *id, node)?;
    }
    let (shunned, open) = (state.indexes.shunned.len(), state.indexes.open_nodes.len());
    hold(shunned * limits::SHUNNED_OF <= open, "few nodes are shunned at a time", || format!("{shunned} of {open}"))
}

/// What is held against a node, and that no more follows from it than may.
fn check_discredit(state: &State, id: NodeId, node: &model::Node) -> Held {
    let Some(discredit) = &node.discredit else { return Ok(()) };
    let place = || format!("node {id}");
    let versioned = state.version() >= ClusterVersion::ACCESS;
    hold(versioned, "nothing is recorded that older replicas do not know", place)?;
    let model::Discredit { points_milli, at, standing, until, recent } = &**discredit;
    let bounded = *points_milli <= limits::DISCREDIT_MILLI && recent.len() <= limits::CHARGES;
    hold(bounded, "what is held against a node is bounded", place)?;
    hold(*at <= state.time() && at < until, "what is held against a node fades", place)?;
    let users = recent.iter().all(|charge| charge.blame != model::Blame::User && charge.at <= *at);
    hold(users && !recent.is_empty(), "what users do wrong is held against no node", place)?;
    let least = match standing {
        model::Standing::Shunned => limits::SHUNNED_MILLI,
        model::Standing::Avoided => limits::AVOIDED_MILLI,
        model::Standing::Trusted => 0,
    };
    hold(*points_milli >= least, "nobody is avoided for too little", place)?;
    let given = *standing != model::Standing::Shunned || node.is_open();
    hold(given, "only who is up and open is shunned", place)
}
