//! Who is asked to leave, and what is held by those who leave.
//!
//! Invariant: `leaving` of a node, and of a path, is what live members hold there whose attempts were evicted; such an attempt is
//! not to run, and of no task are there more of them than [`limits::RELOCATIONS`].

use std::sync::Arc;

use flowyard_model::{
    Attempt, AttemptDesired, Changed, Contract, Eviction, EvictionKind, JobSpec, MemberKey, NodeId, Phase, Preempted,
    QueuePath, Rank, Refusal, StepIndex, TaskKey, TaskState, TimeMs, limits,
};

use crate::job::ask_to_end;
use crate::room::{self, change_used};
use crate::state::State;
use crate::task::edit_attempt;
use crate::{holding, reserve, surgery};

/// Evicts an attempt for a task, if that task has a right to it.
pub(crate) fn evict(state: &mut State, changed: &mut Changed, by: TaskKey, eviction: Eviction) -> Result<(), Refusal> {
    check(state, by, eviction)?;
    let Eviction { task: key, kind, .. } = eviction;
    // From now on it is counted as leaving.
    reserve::await_no_more(state, key);
    let at = state.meta.time;
    edit_attempt(state, live_attempt(state, key).member_key(key, Rank(0)), |attempt| {
        attempt.preempted = Some(Preempted { kind, by, at });
    });
    ask_to_end(state, changed, key, AttemptDesired::Preempt);
    changed.jobs.insert(key.job);
    for (node, member) in live_members(state, key) {
        let held = holding::held_by_live(state, member);
        leave_node(state, node, member);
        load_leaving(state, key, |leaving| leaving.held.add(&held));
    }
    load_leaving(state, key, |leaving| leaving.tasks += 1);
    Ok(())
}

/// The last live member of an evicted attempt has ended.
pub(crate) fn has_left(state: &mut State, key: TaskKey) {
    load_leaving(state, key, |leaving| leaving.tasks -= 1);
}

fn load_leaving(state: &mut State, key: TaskKey, change: impl Fn(&mut crate::Portion)) {
    let job = state.jobs.get(&key.job).expect("an evicted task was touched");
    state.indexes.load_changed(&job.spec.queue, |load, _| change(&mut load.leaving));
}

/// What a live member holds on its node is leaving.
pub(crate) fn leave_node(state: &mut State, id: NodeId, key: MemberKey) {
    let (job, node) = (&state.jobs[&key.task.job], &state.nodes[&id]);
    let wanted = &job.spec.steps[key.task.step.0 as usize].resources;
    let attempt = state.attempt(key.task, key.attempt).expect("a live member has an attempt");
    let member = &attempt.members[key.rank.0 as usize];
    let (gpus, share) = (member.gpus.clone(), room::share(wanted, member.gpu_alternative));
    change_used(&mut state.indexes.leaving, id, node.inventory.gpus.len(), |used| {
        room::add(used, wanted, &gpus, share);
    });
}

fn live_attempt(state: &State, key: TaskKey) -> &Attempt {
    state.task(key).and_then(|task| task.attempts.last()).expect("an active task has an attempt")
}

fn live_members(state: &State, key: TaskKey) -> Vec<(NodeId, MemberKey)> {
    let attempt = live_attempt(state, key);
    let ranks = attempt.members.iter().enumerate().filter(|(_, member)| member.phase != Phase::Ended);
    ranks.map(|(rank, member)| (member.node, attempt.member_key(key, Rank(rank as u32)))).collect()
}

/// Whether the attempt is there, and may be evicted for this task now.
fn check(state: &State, by: TaskKey, eviction: Eviction) -> Result<(), Refusal> {
    let Eviction { task: key, attempt, kind } = eviction;
    let current = state.task(key).is_some_and(|task| task.attempts.len() == attempt.0 as usize);
    let due = state.evictable_at(key).is_some_and(|at| at <= state.time());
    let (Some(job), Some(claimant)) = (state.outline(key.job), state.outline(by.job)) else {
        return Err(Refusal::Protected);
    };
    let same_queue = job.spec.queue == claimant.spec.queue;
    let entitled = match kind {
        EvictionKind::Priority => same_queue && priority(job.spec, key.step) < priority(claimant.spec, by.step),
        EvictionKind::Reclaim => !same_queue,
    };
    if current && due && entitled { Ok(()) } else { Err(Refusal::Protected) }
}

/// The priority of a job's step within its queue.
pub(crate) fn priority(job: &JobSpec, step: StepIndex) -> i64 {
    i64::from(job.priority) + i64::from(job.steps[step.0 as usize].priority)
}

/// Until when an attempt may not be evicted: it has run for as long as its contract says since all its ranks ran for the first time. Fetching
/// is let so much time and no more, so that a promise has a bound. Agents' clocks are not believed where they say what cannot be.
fn protected_until(attempt: &Attempt, contract: Contract) -> TimeMs {
    let fetched_by = attempt.placed_at.after(contract.fetch_ms());
    let running: Option<Vec<TimeMs>> = surgery::first_ran(attempt).collect();
    let last = running.and_then(|times| times.into_iter().max());
    let since = last.map_or(fetched_by, |last| last.max(attempt.placed_at).min(fetched_by));
    since.after(contract.min_run_ms)
}

impl State {
    /// What attempts of jobs in this queue are promised that may be evicted: the contract of the queue, or of the nearest above
    /// it that has one.
    pub fn contract(&self, queue: &QueuePath) -> Contract {
        let mut levels = queue.levels().rev();
        levels.find_map(|level| self.queues.get(level)?.contract).unwrap_or(Contract::DEFAULT)
    }

    /// From when on the live attempt of a task may be evicted, as far as its contract goes; never if `None`: it must not be, it
    /// is asked to end already, or attempts of the task were evicted as often as may be.
    pub fn evictable_at(&self, key: TaskKey) -> Option<TimeMs> {
        let task = self.task(key).filter(|task| task.state == TaskState::Active)?;
        let attempt = task.attempts.last()?;
        let job = self.outline(key.job)?;
        let moved = task.attempts.iter().filter(|attempt| attempt.preempted.is_some()).count();
        let may = attempt.desired == AttemptDesired::Run
            && attempt.preempted.is_none()
            && job.spec.steps[key.step.0 as usize].preemptible
            && moved < limits::RELOCATIONS;
        may.then(|| protected_until(attempt, self.contract(&job.spec.queue)))
    }

    /// What is held on a node by live members of attempts that were evicted; nothing if `None`.
    pub fn leaving_on(&self, node: NodeId) -> Option<&flowyard_model::Used> {
        self.indexes.leaving.get(&node).map(Arc::as_ref)
    }
}
