//! A claim is taken up soon once its room is free, is dropped only where nothing can come of it, and ends at its time; the start of one that waits for
//! others to end is never put off.

use std::collections::BTreeMap;

use flowyard_model::{Claim, Command, Entry, Phase, Placement, Plan, Reply, Revision, TaskKey};
use flowyard_state::{State, apply};

use super::{Checker, Seen, require};

/// How long a claim's room may be free, while entries follow each other closely.
const FREE_MS: u64 = 60_000;
/// What counts of a longer time without entries: nobody leads then.
const GAP_MS: u64 = 1_000;
/// By so much a leader may be late.
const LATE_MS: u64 = 600_000;

pub(super) struct ClaimsAreTakenUp {
    /// How long the room of claims has been free.
    free_ms: BTreeMap<(TaskKey, u64), u64>,
}

impl ClaimsAreTakenUp {
    pub(super) fn new() -> Self {
        Self { free_ms: BTreeMap::new() }
    }
}

impl Checker for ClaimsAreTakenUp {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        if seen.before.claims().next().is_none() && seen.state.claims().next().is_none() {
            return Ok(());
        }
        let gap_ms = (seen.state.time().0 - seen.before.time().0).min(GAP_MS);
        let mut free_ms = BTreeMap::new();
        for (task, claim) in seen.state.claims() {
            let (now, until) = (seen.state.time().0, claim.until.0);
            require(now <= until.saturating_add(LATE_MS), || {
                format!("the claim of {task:?} is over since {}", now - until)
            })?;
            let was = seen.before.claim(task).filter(|was| was.made_at == claim.made_at);
            let starts_at = was.and_then(|was| was.starts_at);
            let is_put_off = starts_at.is_some_and(|was| claim.starts_at.is_none_or(|now| now > was));
            require(!is_put_off, || {
                format!("{task:?} was to start by {starts_at:?}, and now by {:?}", claim.starts_at)
            })?;
            if could_start(seen.state, *task, claim) {
                let key = (*task, claim.made_at.0);
                let free = self.free_ms.get(&key).map_or(0, |free| free + gap_ms);
                require(free <= FREE_MS, || format!("the room that {task:?} has claimed is free for {free} ms"))?;
                free_ms.insert(key, free);
            }
        }
        self.free_ms = free_ms;
        let Command::CommitPlan(plan) = &seen.entry.command else { return Ok(()) };
        for task in plan.drops.iter().filter(|task| seen.state.claim(task).is_none()) {
            let Some(claim) = seen.before.claim(task) else { continue };
            let in_vain = has_left(seen.before, claim) || is_broken(seen.before, claim);
            require(in_vain, || format!("the claim of {task:?} is dropped while who was evicted for it leaves"))?;
        }
        Ok(())
    }
}

/// Whether all that were evicted for a claim have left.
fn has_left(state: &State, claim: &Claim) -> bool {
    let is_there = |eviction: &flowyard_model::Eviction| {
        let attempt = state.attempt(eviction.task, eviction.attempt);
        attempt.is_some_and(|attempt| attempt.members.iter().any(|member| member.phase != Phase::Ended))
    };
    !claim.evictions.iter().any(is_there)
}

/// Whether a device of a claim is not well any more.
fn is_broken(state: &State, claim: &Claim) -> bool {
    claim.members.iter().any(|seat| {
        let node = state.node(seat.node);
        let is_well =
            |at: u32| node.is_some_and(|node| node.inventory.gpus.get(at as usize).is_some_and(|gpu| gpu.healthy));
        node.is_none() || !seat.gpus.iter().all(|gpu| is_well(gpu.0))
    })
}

/// Whether the task could be placed on what it has claimed.
fn could_start(state: &State, task: TaskKey, claim: &Claim) -> bool {
    let placement = Placement { task, attempt: claim.attempt, members: claim.members.clone() };
    let plan = Plan {
        based_on: state.revision(),
        seed: 0,
        budget: 0,
        placer_version: 0,
        placements: vec![placement],
        accept_ms: None,
        claims: Vec::new(),
        drops: Vec::new(),
        at: None,
        made_from: None,
        repairs: Vec::new(),
    };
    let (mut state, index) = (state.clone(), Revision(state.revision().0 + 1));
    let entry = Entry { index, time: state.time(), command: Command::CommitPlan(plan) };
    matches!(apply(&mut state, entry).reply, Reply::PlanCommitted { refused, .. } if refused.is_empty())
}
