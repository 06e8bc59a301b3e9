//! Bounds that are raised so that a task may start: by exactly as much as it and those need who go before it.
//!
//! How much that is follows from no formula, since who goes before depends on what there is. So the bounds are taken away, the scheduler is
//! asked, and it is counted what those hold whom it places up to the task: that much has to be allowed. It is verified like any change,
//! and so is that one less would not do.

use flowyard_model::{Command, Placement, Plan, QueuePath, StepSpec, TaskKey, TimeMs};
use flowyard_state::State;

use super::bounds::{BoundOn, BoundReached, Reckon, alternatives, counted, way};
use super::change::{Change, perform};
use super::fixes::{Fix, Search};
use crate::scheduler::Proposal;

/// How many tasks' worth bounds are raised by at most, the most first: what a queue may say depends on what is said of others.
const RAISED: [u64; 3] = [1_024, 64, 8];
/// How often less is tried than was counted.
const LESS: u32 = 1;

/// Bounds to be raised together.
pub(crate) struct Raise {
    /// Each with what is promised beside what may be borrowed.
    bounds: Vec<(u64, BoundReached)>,
}

/// All that may be raised for a task: the bounds of each of its alternatives, and where any model will do, of each model.
pub(crate) fn raises(state: &State, queue: &QueuePath, spec: &StepSpec) -> Vec<Raise> {
    let by = |alternative| way(state, queue, (spec, alternative), Reckon::Kept, None).bounds;
    // What is kept from eviction is raised by nobody but an operator who means it, and licences have to be bought.
    let is_fixed =
        |bound: &BoundReached| matches!(bound.on, BoundOn::NoPreempt(_) | BoundOn::NoQuota(_) | BoundOn::Cluster(_));
    let mut seen: Vec<Vec<(QueuePath, BoundOn, u64)>> = Vec::new();
    let mut raises = Vec::new();
    for set in alternatives(spec).flat_map(by).filter(|set| !set.iter().any(is_fixed)) {
        let key: Vec<_> = set.iter().map(|it| (it.queue.clone(), it.on.clone(), it.need)).collect();
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let reserved = |bound: &BoundReached| match (&bound.on, state.queue(&bound.queue)) {
            (BoundOn::Borrow(resource), Some(queue)) => queue.reserve.promised(resource.column()),
            _ => 0,
        };
        raises.push(Raise { bounds: set.into_iter().map(|bound| (reserved(&bound), bound)).collect() });
    }
    raises
}

impl Raise {
    /// The changes by which each bound is so much.
    fn to(&self, most: impl Fn(&BoundReached) -> u64) -> Vec<Change> {
        self.bounds.iter().map(|(reserved, bound)| raise(bound, *reserved, most(bound))).collect()
    }

    fn for_tasks(&self, tasks: u64) -> Vec<Change> {
        self.to(|bound| bound.held.saturating_add(bound.kept).saturating_add(bound.need.saturating_mul(tasks)))
    }

    /// The changes by which each bound is what counts in it in a state, but no less than what the task needs.
    fn as_in(&self, state: &State) -> Vec<Change> {
        self.to(|bound| {
            let (held, kept) = counted(state, &bound.queue, &bound.on);
            held.saturating_add(kept).max(bound.most.saturating_add(1))
        })
    }
}

fn raise(bound: &BoundReached, reserved: u64, to: u64) -> Change {
    let BoundReached { queue, on, most, .. } = bound.clone();
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    match on {
        BoundOn::Tasks => Change::MaxActive { queue, from: small(most), to: small(to) },
        BoundOn::Limit(resource) => Change::Limit { queue, resource, from: most, to },
        BoundOn::Borrow(resource)
        | BoundOn::NoPreempt(resource)
        | BoundOn::NoQuota(resource)
        | BoundOn::Cluster(resource) => {
            let beyond = |amount: u64| amount.saturating_sub(reserved);
            Change::Borrow { queue, resource, from: beyond(most), to: beyond(to) }
        }
    }
}

/// The same changes, by one less each of them that is a change then, too; nothing if none is.
fn one_less(changes: &[Change]) -> Option<Vec<Change>> {
    let mut lowered = false;
    let less = |change: &Change| {
        let mut less = change.clone();
        match &mut less {
            Change::MaxActive { from, to, .. } if *from + 1 < *to => {
                *to -= 1;
                lowered = true;
            }
            Change::Limit { from, to, .. } | Change::Borrow { from, to, .. } if *from + 1 < *to => {
                *to -= 1;
                lowered = true;
            }
            _ => {}
        }
        less
    };
    let all = changes.iter().map(less).collect();
    lowered.then_some(all)
}

impl Search<'_> {
    /// The smallest raise by which the task is placed, as far as the rounds go.
    pub(crate) fn raised(&mut self, raise: &Raise) -> Option<Fix> {
        let least = raise.for_tasks(1);
        if !self.may_do(&least) || !self.has_rounds() {
            return None;
        }
        if let Some(nodes) = self.placed_with(&least) {
            let smallest = raise.bounds.iter().all(|(_, bound)| bound.kept == 0) || self.is_smallest(&least);
            return Some(Fix { changes: least, nodes, smallest });
        }
        let (state, proposal, task) = RAISED.iter().find_map(|tasks| self.proposed(&raise.for_tasks(*tasks)))?;
        let mut found = raise.as_in(&up_to(state, &proposal, task, self.now)?);
        let mut nodes = self.placed_with(&found)?;
        for _ in 0..LESS {
            if least.iter().zip(&found).all(|(low, high)| target(high) <= target(low).saturating_add(1)) {
                break;
            }
            let middle = raise.bounds.iter().zip(least.iter().zip(&found)).map(|((reserved, bound), (low, high))| {
                let middle = target(low) + (target(high).saturating_sub(target(low))) / 2;
                self::raise(bound, *reserved, middle.saturating_add(added(bound, *reserved)))
            });
            let middle: Vec<_> = middle.collect();
            let Some((state, proposal, task)) = self.proposed(&middle) else { break };
            let Some(less) = up_to(state, &proposal, task, self.now).map(|state| raise.as_in(&state)) else { break };
            let Some(there) = self.placed_with(&less) else { break };
            (found, nodes) = (less, there);
        }
        let smallest = self.is_smallest(&found);
        Some(Fix { changes: found, nodes, smallest })
    }

    /// Whether it is known that one less of each does not do.
    fn is_smallest(&mut self, changes: &[Change]) -> bool {
        match one_less(changes) {
            None => true,
            Some(less) => self.has_rounds() && self.waits_with(&less),
        }
    }

    /// What a round does with these changes, if it places the task.
    fn proposed(&mut self, changes: &[Change]) -> Option<(State, Proposal, TaskKey)> {
        let (state, task) = self.base.with(changes)?;
        let proposal = self.effort.round(&state, self.now)?;
        let is_ours = |placement: &Placement| placement.task == task;
        proposal.plans.iter().any(|plan| plan.placements.iter().any(is_ours)).then_some((state, proposal, task))
    }
}

/// What a change raises a bound to.
fn target(change: &Change) -> u64 {
    match change {
        Change::MaxActive { to, .. } => (*to).into(),
        Change::Limit { to, .. } | Change::Borrow { to, .. } => *to,
        _ => 0,
    }
}

/// What is promised beside what may be borrowed, of a bound on that.
fn added(bound: &BoundReached, reserved: u64) -> u64 {
    if matches!(bound.on, BoundOn::Borrow(_)) { reserved } else { 0 }
}

/// The state once a task was placed, and what is placed before it.
fn up_to(mut state: State, proposal: &Proposal, task: TaskKey, now: TimeMs) -> Option<State> {
    for plan in &proposal.plans {
        let at = plan.placements.iter().position(|placement| placement.task == task);
        let placements = plan.placements[..at.map_or(plan.placements.len(), |at| at + 1)].to_vec();
        let claims = if at.is_some() { Vec::new() } else { plan.claims.clone() };
        let plan = Plan { placements, claims, ..plan.clone() };
        perform(&mut state, now, Command::CommitPlan(plan))?;
        if at.is_some() {
            return Some(state);
        }
    }
    None
}
