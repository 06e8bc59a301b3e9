//! What is placed and does not run yet, where a policy bounds how much that may be.
//!
//! Counted only while there is such a bound: what nobody asks about costs nothing.

use std::collections::BTreeMap;

use flowyard_model::{JobId, NodeId, Phase, Policy, Refusal, Seat, TaskKey, Throttle};
use imbl::OrdMap;

use crate::indexes::Indexes;
use crate::state::State;

/// Members that are starting; nothing of what has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Starting {
    pub(crate) by_job: OrdMap<JobId, u32>,
    pub(crate) by_node: OrdMap<NodeId, u32>,
}

/// A member of a task on a node went from one phase to another; from none if it was just placed.
pub(crate) fn moved(state: &mut State, key: TaskKey, node: NodeId, from: Option<Phase>, to: Phase) {
    if state.policy.throttle.is_none() {
        return;
    }
    let starts = |phase: Phase| phase < Phase::Running;
    match (from.is_some_and(starts), starts(to)) {
        (false, true) => come(&mut state.indexes.starting, key.job, node),
        (true, false) => {
            lessen(&mut state.indexes.starting.by_job, key.job);
            lessen(&mut state.indexes.starting.by_node, node);
        }
        _ => {}
    }
}

fn come(starting: &mut Starting, job: JobId, node: NodeId) {
    *starting.by_job.entry(job).or_insert(0) += 1;
    *starting.by_node.entry(node).or_insert(0) += 1;
}

fn lessen<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: K) {
    match counts.get(&key).copied() {
        None | Some(0 | 1) => drop(counts.remove(&key)),
        Some(more) => drop(counts.insert(key, more - 1)),
    }
}

/// Counts what is starting of all that lives in these indexes, as far as a policy asks for it.
pub(crate) fn count(state: &State, indexes: &Indexes, policy: &Policy) -> Starting {
    let mut starting = Starting::default();
    for (node, key) in indexes.live.iter().filter(|_| !policy.throttle.is_none()) {
        let attempt = state.attempt(key.task, key.attempt);
        let member = attempt.and_then(|attempt| attempt.members.get(key.rank.0 as usize));
        if member.is_some_and(|member| member.phase < Phase::Running) {
            come(&mut starting, key.task.job, *node);
        }
    }
    starting
}

/// As many may be starting as there would be.
pub(crate) fn check(state: &State, job: JobId, seats: &[Seat]) -> Result<(), Refusal> {
    let Throttle { per_job, per_node } = state.policy.throttle;
    let room = |most, starting| Throttle::room(most, starting);
    if seats.len() as u64 > u64::from(room(per_job, state.starting_of(job))) {
        return Err(Refusal::AtLimit);
    }
    let mut there: BTreeMap<NodeId, u32> = BTreeMap::new();
    seats.iter().filter(|_| per_node.is_some()).for_each(|seat| *there.entry(seat.node).or_insert(0) += 1);
    let is_over = |(node, members): (NodeId, u32)| members > room(per_node, state.starting_on(node));
    if there.into_iter().any(is_over) { Err(Refusal::AtLimit) } else { Ok(()) }
}

impl State {
    /// Members of a job that are placed and do not run yet; 0 where no policy bounds that.
    pub fn starting_of(&self, job: JobId) -> u32 {
        self.indexes.starting.by_job.get(&job).copied().unwrap_or(0)
    }

    /// Members on a node that are placed and do not run yet; 0 where no policy bounds that.
    pub fn starting_on(&self, node: NodeId) -> u32 {
        self.indexes.starting.by_node.get(&node).copied().unwrap_or(0)
    }
}
