//! The smallest changes that would let a task start now. Each is verified: the scheduler is run on the state with that change and all
//! other work that waits, and places the task.

use std::collections::BTreeSet;

use flowyard_model::{NodeId, Placing, QueuePath, StepSpec, TaskKey, TimeMs};
use flowyard_state::State;

use super::bounds::{BoundOn, BoundReached, alternatives, met};
use super::change::{Base, Change};
use super::effort::{Effort, FORECAST_ROUNDS, Verdict};
use super::fit::Fit;
use super::own_of;
use crate::scheduler::Line;

/// Rounds that one kind of change may cost.
const ROUNDS_PER_KIND: u32 = 7;
/// Other models that are tried for one alternative.
const MODELS: usize = 8;
/// How many tasks' worth a bound is raised by at most.
const RAISED: u64 = 1_024;

/// Changes, together, that would let the task start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What to change; more than one only where several bounds are met.
    pub changes: Vec<Change>,
    /// Where it would be placed.
    pub nodes: Vec<NodeId>,
    /// Whether a smaller change of this kind is known not to do.
    pub smallest: bool,
}

/// A way to change something by more or less.
struct Kind<'a> {
    /// By how much at most.
    most: u64,
    /// The changes of a size.
    of_size: Box<dyn Fn(u64) -> Vec<Change> + 'a>,
}

/// What is looked for, and with what.
struct Search<'a> {
    base: &'a Base<'a>,
    fit: Fit,
    line: Line,
    now: TimeMs,
    effort: &'a mut Effort,
}

/// Looks for what would let the task start, which waits in this state.
pub(crate) fn find(base: &Base<'_>, state: &State, task: TaskKey, now: TimeMs, effort: &mut Effort) -> Vec<Fix> {
    let found = state.outline(task.job).zip(state.step_spec(task.job, task.step)).zip(state.step(task.job, task.step));
    let Some(((job, spec), step)) = found else { return Vec::new() };
    let mut kinds = Vec::new();
    let needed = step.counts.active + base.rank() + 1;
    match spec.max_parallel.filter(|most| needed > *most) {
        Some(from) => kinds.push(one(Change::MaxParallel { from, to: needed })),
        None => {
            kinds.extend(raised_bounds(state, &job.spec.queue, spec));
            kinds.extend(fewer_devices(spec));
            kinds.extend(unlinked(spec).map(one));
            kinds.extend(less(spec));
            kinds.extend(other_models(state, spec));
            kinds.extend(spec.constraints.iter().map(|constraint| one(Change::Without(constraint.clone()))));
            kinds.extend(less_apart(spec).into_iter().map(one));
            kinds.extend(priorities(state, &job.spec.queue, job.spec.priority, spec.priority));
        }
    }
    // What is possible is looked for without what is kept for itself, or for whom waits for others to end: a change may go before that.
    let claims = state.claims().filter(|(key, claim)| **key == task || claim.is_reservation());
    let claims: Vec<TaskKey> = claims.map(|(key, _)| *key).collect();
    let free = claims.into_iter().fold(state.clone(), |free, key| free.without_claim(key));
    let mut search =
        Search { base, fit: Fit::of(&free, spec, own_of(state, task)), line: Line::of(&free), now, effort };
    let mut fixes: Vec<_> = kinds.iter().filter_map(|kind| search.smallest(kind)).collect();
    fixes.sort_by_key(|fix| (fix.changes.len(), fix.changes.iter().map(Change::size).max()));
    fixes
}

fn one<'a>(change: Change) -> Kind<'a> {
    Kind { most: 1, of_size: Box::new(move |_| vec![change.clone()]) }
}

/// All bounds that are met by an alternative, each raised by as many tasks' worth.
fn raised_bounds<'a>(state: &State, queue: &QueuePath, spec: &StepSpec) -> Vec<Kind<'a>> {
    let by = |alternative| met(state, queue, spec, alternative);
    let sets = alternatives(spec).map(by).filter(|found| {
        // What is kept from eviction is raised by nobody but an operator who means it, and licences have to be bought.
        let is_fixed = |bound: &BoundReached| matches!(bound.on, BoundOn::NoPreempt(_) | BoundOn::Cluster(_));
        !found.is_empty() && !found.iter().any(is_fixed)
    });
    sets.map(|found| {
        let reserved = |bound: &BoundReached| match (&bound.on, state.queue(&bound.queue)) {
            (BoundOn::Borrow(resource), Some(queue)) => queue.reserve.promised(resource.column()),
            _ => 0,
        };
        let found: Vec<_> = found.into_iter().map(|bound| (reserved(&bound), bound)).collect();
        let raised = move |tasks: u64| found.iter().map(|(reserved, bound)| raise(bound, *reserved, tasks)).collect();
        Kind { most: RAISED, of_size: Box::new(raised) }
    })
    .collect()
}

fn raise(bound: &BoundReached, reserved: u64, tasks: u64) -> Change {
    let BoundReached { queue, on, held, need, most, .. } = bound.clone();
    let to = held.saturating_add(need.saturating_mul(tasks));
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    match on {
        BoundOn::Tasks => Change::MaxActive { queue, from: small(most), to: small(to) },
        BoundOn::Limit(resource) => Change::Limit { queue, resource, from: most, to },
        BoundOn::Borrow(resource) | BoundOn::NoPreempt(resource) | BoundOn::Cluster(resource) => {
            let beyond = |amount: u64| amount.saturating_sub(reserved);
            Change::Borrow { queue, resource, from: beyond(most), to: beyond(to) }
        }
    }
}

fn fewer_devices<'a>(spec: &StepSpec) -> Vec<Kind<'a>> {
    let requests = (0..).zip(&spec.resources.gpus).map(|(alternative, request)| (alternative, request.count));
    let several = requests.filter(|(_, count)| *count > 1);
    let fewer = |(alternative, from): (u32, u32)| {
        let to = move |less: u64| vec![Change::Gpus { alternative, from, to: from - less as u32 }];
        Kind { most: u64::from(from) - 1, of_size: Box::new(to) }
    };
    several.map(fewer).collect()
}

/// Each alternative without how near its devices have to be.
fn unlinked(spec: &StepSpec) -> impl Iterator<Item = Change> {
    let requests = (0..).zip(&spec.resources.gpus);
    requests.filter_map(|(alternative, request)| Some(Change::Unlinked { alternative, from: request.near()? }))
}

fn less<'a>(spec: &StepSpec) -> Vec<Kind<'a>> {
    let (cpu, memory, disk) = (spec.resources.cpu_milli, spec.resources.memory_bytes, spec.resources.disk_bytes);
    let of_cpu = move |less: u64| vec![Change::Cpu { from: cpu, to: cpu - less }];
    let of_memory = move |less: u64| vec![Change::Memory { from: memory, to: memory - less }];
    let of_disk = move |less: u64| vec![Change::Disk { from: disk, to: disk - less }];
    // A step asks for some of both, and for at least what its /dev/shm takes of the memory.
    let memory_most = memory.saturating_sub(spec.resources.shm_bytes.max(1));
    [
        Kind { most: cpu.saturating_sub(1), of_size: Box::new(of_cpu) },
        Kind { most: memory_most, of_size: Box::new(of_memory) },
        Kind { most: disk, of_size: Box::new(of_disk) },
    ]
    .into_iter()
    .filter(|kind| kind.most > 0)
    .collect()
}

/// What a step says of what is beside it, each taken back.
fn less_apart(spec: &StepSpec) -> Vec<Change> {
    let Placing { spread, unique_host, apart, .. } = &spec.placing;
    let spread = spread.clone().map(Change::NotSpread);
    let apart = (!apart.is_empty()).then(|| Change::NotApart(apart.iter().cloned().collect()));
    spread.into_iter().chain(unique_host.then_some(Change::NotUnique)).chain(apart).collect()
}

fn other_models<'a>(state: &State, spec: &StepSpec) -> Vec<Kind<'a>> {
    let gpus = || state.nodes().flat_map(|(_, node)| &node.inventory.gpus);
    let listed = &spec.resources.gpus;
    let is_listed = |model: &str| {
        listed.iter().any(|request| request.model.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(model)))
    };
    let mut seen = BTreeSet::new();
    let others = gpus().filter(|gpu| !is_listed(&gpu.model) && seen.insert(gpu.model.to_ascii_lowercase()));
    let others: Vec<&String> = others.map(|gpu| &gpu.model).take(MODELS).collect();
    let mut kinds = Vec::new();
    for (alternative, request) in (0..).zip(listed) {
        let Some(from) = &request.model else { continue };
        let to = |to: &&String| one(Change::Model { alternative, from: from.clone(), to: (*to).clone() });
        kinds.extend(others.iter().map(to));
    }
    kinds
}

/// Above each priority in the queue that goes before the task's own, and above its own.
fn priorities<'a>(state: &State, queue: &QueuePath, from: i32, of_step: i32) -> Option<Kind<'a>> {
    let own = i64::from(from) + i64::from(of_step);
    let waiting = state.ready_groups().filter(|ready| ready.queue == *queue).map(|ready| ready.priority.0);
    let passed: BTreeSet<i64> = waiting.filter(|priority| *priority >= own).chain([own]).collect();
    let above = passed.into_iter().map(|priority| priority + 1 - i64::from(of_step));
    let targets: Vec<i32> = above.filter_map(|to| i32::try_from(to).ok()).filter(|to| *to > from).collect();
    let most = targets.len() as u64;
    let to = move |at: u64| vec![Change::Priority { from, to: targets[at as usize - 1] }];
    (most > 0).then(|| Kind { most, of_size: Box::new(to) })
}

impl Search<'_> {
    /// The smallest change of a kind by which the task is placed, as far as the rounds go.
    fn smallest(&mut self, kind: &Kind<'_>) -> Option<Fix> {
        let least = self.least_possible(kind)?;
        if self.effort.left() <= FORECAST_ROUNDS {
            self.effort.cut = true;
            return None;
        }
        let mut rounds = ROUNDS_PER_KIND - 1;
        if let Some(nodes) = self.placed(kind, least) {
            return Some(Fix { changes: (kind.of_size)(least), nodes, smallest: true });
        }
        if least == kind.most {
            return None;
        }
        // How much would do at all: twice as much each time, and everything at last.
        let (mut low, mut high, mut nodes) = (least, kind.most, None);
        let mut step = 1;
        while nodes.is_none() && rounds > 0 {
            rounds -= 1;
            high = if rounds <= 2 { kind.most } else { low.saturating_add(step).min(kind.most) };
            step = step.saturating_mul(4);
            nodes = self.placed(kind, high);
            if nodes.is_none() {
                if high == kind.most {
                    return None;
                }
                low = high;
            }
        }
        let mut nodes = nodes?;
        while high - low > 1 && rounds > 0 {
            rounds -= 1;
            let middle = low + (high - low) / 2;
            match self.placed(kind, middle) {
                Some(there) => (high, nodes) = (middle, there),
                None => low = middle,
            }
        }
        Some(Fix { changes: (kind.of_size)(high), nodes, smallest: high - low == 1 })
    }

    /// The smallest size that is not known to be of no use.
    fn least_possible(&mut self, kind: &Kind<'_>) -> Option<u64> {
        if !self.is_possible(kind, kind.most) {
            return None;
        }
        let (mut no, mut yes) = (0, kind.most);
        while yes - no > 1 {
            let middle = no + (yes - no) / 2;
            if self.is_possible(kind, middle) { yes = middle } else { no = middle }
        }
        Some(yes)
    }

    fn is_possible(&mut self, kind: &Kind<'_>, size: u64) -> bool {
        let changes = (kind.of_size)(size);
        let Some((state, task)) = self.base.with(&changes) else { return false };
        let Some((job, spec)) = state.outline(task.job).zip(state.step_spec(task.job, task.step)) else { return false };
        // A queue that may hold more may be entitled to more, too.
        let line = changes.iter().all(|change| change.queue().is_none()).then_some(&mut self.line);
        self.fit.is_possible(&state, &job.spec.queue, spec, line)
    }

    fn placed(&mut self, kind: &Kind<'_>, size: u64) -> Option<Vec<NodeId>> {
        let (state, task) = self.base.with(&(kind.of_size)(size))?;
        match self.effort.verdict(&state, self.now, task) {
            Verdict::Placed(nodes) => Some(nodes),
            Verdict::Waits | Verdict::Unknown => None,
        }
    }
}
