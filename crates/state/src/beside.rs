//! What may be beside what: steps that are spread, that have a node to themselves among their own, and that keep apart from others.
//!
//! Invariant: of a step that has `unique_host` a node has one live member at most, and on no node do two attempts of one tenant live one of
//! which keeps apart from a tag of the other's job. Of what is spread it is not invariant that no more are in a domain than may be: nodes may come
//! back with other labels.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    Attempt, Domain, JobId, JobSpec, MemberKey, NodeId, Phase, Refusal, Rejection, Seat, StepIndex, StepSpec, Task,
    TaskIndex, TaskKey,
};
use imbl::OrdMap;

use crate::indexes::Indexes;
use crate::state::{State, StepKey};

/// What is kept so that it need not be searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Tags that steps of jobs that have not ended keep apart from, with whose they are, and of how many jobs.
    pub(crate) apart: OrdMap<(String, String), u32>,
    /// Live members of steps that count their own, by node.
    pub(crate) own: OrdMap<(JobId, StepIndex, NodeId), u32>,
}

/// When it is looked at what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Now, beside what is claimed.
    Now,
    /// Once whoever leaves has left, beside what is claimed.
    Then,
}

fn tags_of(spec: &JobSpec) -> impl Iterator<Item = (String, String)> + '_ {
    let tags: BTreeSet<&String> = spec.steps.iter().flat_map(|step| &step.placing.apart).collect();
    tags.into_iter().map(|tag| (spec.queue.tenant().to_owned(), tag.clone()))
}

/// A job came that has not ended.
pub(crate) fn job_came(indexes: &mut Indexes, spec: &JobSpec) {
    for tag in tags_of(spec) {
        *indexes.beside.apart.entry(tag).or_insert(0) += 1;
    }
}

/// A job ended.
pub(crate) fn job_ended(indexes: &mut Indexes, spec: &JobSpec) {
    for tag in tags_of(spec) {
        lessen(&mut indexes.beside.apart, tag);
    }
}

/// A member of a step lives on a node.
pub(crate) fn came(indexes: &mut Indexes, spec: &StepSpec, key: TaskKey, node: NodeId) {
    if spec.placing.counts_its_own() {
        *indexes.beside.own.entry((key.job, key.step, node)).or_insert(0) += 1;
    }
}

/// A member of a step lives on a node no more.
pub(crate) fn left(indexes: &mut Indexes, spec: &StepSpec, key: TaskKey, node: NodeId) {
    if spec.placing.counts_its_own() {
        lessen(&mut indexes.beside.own, (key.job, key.step, node));
    }
}

fn lessen<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: K) {
    match counts.get(&key).copied() {
        None | Some(0 | 1) => drop(counts.remove(&key)),
        Some(more) => drop(counts.insert(key, more - 1)),
    }
}

/// Notes the live members of a task in indexes that do not have them.
pub(crate) fn note(indexes: &mut Indexes, spec: &StepSpec, key: TaskKey, task: &Task) {
    let members = task.attempts.iter().flat_map(|attempt| &attempt.members);
    let live = members.filter(|member| member.phase != Phase::Ended);
    live.for_each(|member| came(indexes, spec, key, member.node));
}

/// A label that a step is not to pass by must be one that there is.
pub(crate) fn known(state: &State, step: &StepSpec) -> Result<(), Rejection> {
    let bound = step.placing.spread.as_ref().filter(|spread| spread.at_most.is_some() && !spread.is_by_host());
    let Some(spread) = bound else { return Ok(()) };
    let has = |label| state.nodes.values().any(|node| node.inventory.labels.contains_key(label));
    if state.policy.depth(&spread.over).is_some() || state.nodes.is_empty() || has(&spread.over) {
        return Ok(());
    }
    let (path, levels) = (format!("steps.{}.spread.over", step.name), state.policy.levels());
    let message = format!(
        "no node has a label `{}`, so that each would be a domain by itself (\"host\" says that); levels of the topology: {levels}",
        spread.over
    );
    Err(Rejection::Invalid { path, message })
}

/// The seats of a task may be beside what is there and claimed; their nodes are known. What the task itself has claimed counts, so that it
/// is to be gone before.
pub(crate) fn check(state: &State, key: TaskKey, seats: &[Seat], when: When) -> Result<(), Refusal> {
    let Some(spec) = state.step_spec(key.job, key.step) else { return Ok(()) };
    check_own(state, key, spec, seats)?;
    let placing = &spec.placing;
    if placing.apart.is_empty() && state.indexes.beside.apart.is_empty() {
        return Ok(());
    }
    let Some(job) = state.job(key.job) else { return Ok(()) };
    if placing.apart.is_empty() && job.spec.tags.is_empty() {
        return Ok(());
    }
    let nodes: BTreeSet<NodeId> = seats.iter().map(|seat| seat.node).collect();
    let shuns_itself = !placing.apart.is_disjoint(&job.spec.tags);
    if shuns_itself && nodes.len() < seats.len() {
        return Err(Refusal::NoRoom);
    }
    // Of a gang that others join, its own members are there already.
    let clashes = |other: TaskKey| if other == key { shuns_itself } else { are_apart(state, key, other) };
    let is_there = |node: &NodeId| state.neighbours(*node, when).into_iter().any(clashes);
    if nodes.iter().any(is_there) { Err(Refusal::NoRoom) } else { Ok(()) }
}

/// Whether one of two tasks keeps apart from a tag of the other, which is of the same tenant.
pub(crate) fn are_apart(state: &State, one: TaskKey, other: TaskKey) -> bool {
    let shuns = |shy: TaskKey, shunned: TaskKey| {
        let (Some(spec), Some(job)) = (state.step_spec(shy.job, shy.step), state.job(shunned.job)) else {
            return false;
        };
        !spec.placing.apart.is_disjoint(&job.spec.tags)
    };
    let queue = |key: TaskKey| state.outline(key.job).map(|job| &job.spec.queue);
    let tenants = queue(one).zip(queue(other));
    if tenants.is_some_and(|(one, other)| one.tenant() != other.tenant()) {
        return false;
    }
    shuns(one, other) || shuns(other, one)
}

fn check_own(state: &State, key: TaskKey, spec: &StepSpec, seats: &[Seat]) -> Result<(), Refusal> {
    if !spec.placing.counts_its_own() {
        return Ok(());
    }
    let mut own = state.own_of((key.job, key.step));
    for seat in seats {
        *own.entry(seat.node).or_insert(0) += 1;
    }
    let taken = |seat: &Seat| own.get(&seat.node).is_some_and(|members| *members > 1);
    if spec.placing.unique_host && seats.iter().any(taken) {
        return Err(Refusal::AtLimit);
    }
    let Some((spread, most)) = spec.placing.spread.as_ref().and_then(|spread| Some((spread, spread.at_most?))) else {
        return Ok(());
    };
    let domain = |node: NodeId| Some(spread.domain(&state.policy, node, &state.node(node)?.inventory));
    let mut members: BTreeMap<Domain<'_>, u32> = BTreeMap::new();
    for (node, count) in &own {
        domain(*node).into_iter().for_each(|domain| *members.entry(domain).or_insert(0) += count);
    }
    let is_full = |seat: &Seat| domain(seat.node).is_some_and(|domain| members[&domain] > most);
    if seats.iter().any(is_full) { Err(Refusal::AtLimit) } else { Ok(()) }
}

impl State {
    /// Whether some job of a tenant that has not ended keeps apart from a tag: of tags from which none does it need not be known who has them.
    pub fn is_shunned(&self, tenant: &str, tag: &str) -> bool {
        self.indexes.beside.apart.contains_key(&(tenant.to_owned(), tag.to_owned()))
    }

    /// All tags from which some job that has not ended keeps apart, with the tenant whose they are.
    pub fn shunned_tags(&self) -> impl Iterator<Item = &(String, String)> {
        self.indexes.beside.apart.keys()
    }

    /// Of a step that counts its own: live members by node, with those that have a claim there.
    pub fn own_of(&self, (job, step): StepKey) -> BTreeMap<NodeId, u32> {
        let live = self.indexes.beside.own.range((job, step, NodeId(0))..=(job, step, NodeId(u64::MAX)));
        let mut own: BTreeMap<NodeId, u32> = live.map(|((_, _, node), count)| (*node, *count)).collect();
        let task = |task| TaskKey { job, step, task: TaskIndex(task) };
        for (_, claim) in self.claims.range(task(0)..=task(u32::MAX)) {
            claim.members.iter().for_each(|seat| *own.entry(seat.node).or_insert(0) += 1);
        }
        own
    }

    /// The tasks that have a live member on a node, or a claim there.
    pub fn beside(&self, node: NodeId) -> BTreeSet<TaskKey> {
        self.neighbours(node, When::Now)
    }

    fn neighbours(&self, node: NodeId, when: When) -> BTreeSet<TaskKey> {
        let stays = |key: &MemberKey| {
            let attempt: Option<&Attempt> = self.attempt(key.task, key.attempt);
            when == When::Now || attempt.is_some_and(|attempt| attempt.preempted.is_none())
        };
        let live = self.live_keys(node).filter(stays).map(|key| key.task);
        live.chain(self.claims_on(node)).collect()
    }
}

/// What is wrong with who is beside whom; for `check_all`.
pub(crate) fn fault(state: &State) -> Option<String> {
    for ((job, step, node), members) in &state.indexes.beside.own {
        let unique = state.step_spec(*job, *step).is_some_and(|spec| spec.placing.unique_host);
        if unique && *members > 1 {
            return Some(format!("step {} of job {job} has {members} members on node {node}", step.0));
        }
    }
    if state.indexes.beside.apart.is_empty() {
        return None;
    }
    state.nodes.keys().find_map(|node| {
        let there: Vec<TaskKey> = state.neighbours(*node, When::Then).into_iter().collect();
        let is_apart = |at: &usize| there[..*at].iter().any(|other| are_apart(state, there[*at], *other));
        let clash = (0..there.len()).find(is_apart);
        clash.map(|at| format!("{:?} is on node {node} beside what it keeps apart from", there[at]))
    })
}
