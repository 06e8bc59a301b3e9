//! The smallest changes that would let a task start now. Each is verified: the scheduler is run on the state with that change and all
//! other work that waits, and places the task.

use std::collections::BTreeSet;

use flowyard_model::{Name, NodeId, Placing, QueuePath, StepSpec, TaskKey, TimeMs};
use flowyard_state::State;

use super::change::{Base, Change};
use super::effort::{Effort, FORECAST_ROUNDS, Verdict};
use super::fit::Fit;
use super::raise::{Raise, raises};
use super::{KeptFree, lending, own_of};
use crate::scheduler::Line;

/// Rounds that one kind of change may cost.
const ROUNDS_PER_KIND: u32 = 7;
/// Other models that are tried for one alternative.
const MODELS: usize = 8;

/// Changes, together, that would let the task start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What to change; more than one only where several bounds are met.
    pub changes: Vec<Change>,
    /// Where it would be placed.
    pub nodes: Vec<NodeId>,
    /// Whether one unit less is known not to do.
    pub smallest: bool,
}

/// A way to change something by more or less.
pub(crate) struct Kind<'a> {
    /// By how much at most.
    pub(crate) most: u64,
    /// The changes of a size.
    pub(crate) of_size: Box<dyn Fn(u64) -> Vec<Change> + 'a>,
}

/// What is looked for, and with what.
pub(crate) struct Search<'a> {
    pub(crate) base: &'a Base<'a>,
    fit: Fit,
    line: Line,
    pub(crate) now: TimeMs,
    pub(crate) effort: &'a mut Effort,
}

/// Looks for what would let the task start, which waits in this state.
pub(crate) fn find(
    base: &Base<'_>,
    (state, task): (&State, TaskKey),
    kept: &[KeptFree],
    now: TimeMs,
    effort: &mut Effort,
) -> Vec<Fix> {
    let found = state.outline(task.job).zip(state.step_spec(task.job, task.step)).zip(state.step(task.job, task.step));
    let Some(((job, spec), step)) = found else { return Vec::new() };
    let (mut kinds, mut raised) = (Vec::new(), Vec::new());
    let needed = step.counts.active + base.rank() + 1;
    match spec.max_parallel.filter(|most| needed > *most) {
        Some(from) => kinds.push(one(Change::MaxParallel { from, to: needed })),
        None => {
            raised = raises(&state.without_claim(task), &job.spec.queue, spec);
            kinds.extend(lending::lent(state, kept).into_iter().map(several));
            kinds.extend(fewer_devices(spec));
            kinds.extend(unlinked(spec).map(one));
            kinds.extend(fewer_members(spec));
            kinds.extend(less(spec));
            kinds.extend(fewer_tokens(spec));
            kinds.extend(smaller_parts(spec));
            kinds.extend(other_models(state, spec));
            kinds.extend(spec.constraints.iter().map(|constraint| one(Change::Without(constraint.clone()))));
            kinds.extend(given_up(spec).into_iter().map(one));
            kinds.extend(priorities(state, &job.spec.queue, job.spec.priority, spec.priority));
        }
    }
    // What is possible is looked for without what is kept for itself, or for whom waits for others to end: a change may go before that.
    let claims = state.claims().filter(|(key, claim)| **key == task || claim.is_reservation());
    let claims: Vec<TaskKey> = claims.map(|(key, _)| *key).collect();
    let free = claims.into_iter().fold(state.clone(), |free, key| free.without_claim(key));
    let mut search =
        Search { base, fit: Fit::of(&free, spec, own_of(state, task)), line: Line::of(&free), now, effort };
    let mut fixes: Vec<_> = raised.iter().filter_map(|raise: &Raise| search.raised(raise)).collect();
    fixes.extend(kinds.iter().filter_map(|kind| search.smallest(kind)));
    fixes.sort_by_key(|fix| (fix.changes.len(), fix.changes.iter().map(Change::size).max()));
    fixes
}

fn one<'a>(change: Change) -> Kind<'a> {
    several(vec![change])
}

/// Changes that are made together or not at all.
fn several<'a>(changes: Vec<Change>) -> Kind<'a> {
    Kind { most: 1, of_size: Box::new(move |_| changes.clone()) }
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

/// Fewer members of a gang, down to two; of one of no fixed size, that it may start with fewer, down to one.
fn fewer_members<'a>(spec: &StepSpec) -> Option<Kind<'a>> {
    let (from, is_least) = (spec.least_size(), spec.placing.min_size.is_some());
    let to = move |less: u64| vec![Change::Members { from, to: from - less as u32, is_least }];
    let least = if is_least { 1 } else { 2 };
    (from > least).then(|| Kind { most: u64::from(from - least), of_size: Box::new(to) })
}

/// Fewer of each token.
fn fewer_tokens<'a>(spec: &StepSpec) -> Vec<Kind<'a>> {
    let fewer = |(name, from): (&Name, &u32)| {
        let (name, from) = (name.clone(), *from);
        let to = move |less: u64| vec![Change::Tokens { name: name.clone(), from, to: from - less as u32 }];
        Kind { most: u64::from(from), of_size: Box::new(to) }
    };
    spec.resources.tokens.iter().filter(|(_, count)| **count > 0).map(fewer).collect()
}

/// A smaller part of each device, with less of its memory, and devices with less memory.
fn smaller_parts<'a>(spec: &StepSpec) -> Vec<Kind<'a>> {
    let mut kinds = Vec::new();
    for (alternative, request) in (0..).zip(&spec.resources.gpus) {
        let (share, own, least) = (request.share_milli, request.memory_bytes, request.min_memory_bytes);
        if share < 1_000 {
            let to = move |less: u64| vec![Change::Share { alternative, from: share, to: share - less as u32 }];
            kinds.push(Kind { most: u64::from(share) - 1, of_size: Box::new(to) });
        }
        let memory = move |less: u64| vec![Change::ShareMemory { alternative, from: own, to: own - less }];
        // None at all is as large a part of the memory as the share is, which may be more.
        kinds.extend((own > 1).then(|| Kind { most: own - 1, of_size: Box::new(memory) }));
        let memory = move |less: u64| vec![Change::GpuMemory { alternative, from: least, to: least - less }];
        kinds.extend((least > 0).then(|| Kind { most: least, of_size: Box::new(memory) }));
    }
    kinds
}

/// What a step says of what is near to and beside it, and that it must not be evicted, each taken back.
fn given_up(spec: &StepSpec) -> Vec<Change> {
    let Placing { near, spread, unique_host, apart, .. } = &spec.placing;
    let near = near.as_ref().filter(|near| near.need && spec.size > 1);
    let near = near.map(|near| Change::NotNear(near.level.clone()));
    let may_be_evicted = (!spec.preemptible).then_some(Change::Preemptible);
    let spread = spread.clone().map(Change::NotSpread);
    let apart = (!apart.is_empty()).then(|| Change::NotApart(apart.iter().cloned().collect()));
    let beside = spread.into_iter().chain(unique_host.then_some(Change::NotUnique)).chain(apart);
    near.into_iter().chain(beside).chain(may_be_evicted).collect()
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
    // The same as somebody's may do, too.
    let targets = passed.into_iter().flat_map(|priority| [priority, priority + 1]).map(|to| to - i64::from(of_step));
    let targets: BTreeSet<i32> = targets.filter_map(|to| i32::try_from(to).ok()).filter(|to| *to > from).collect();
    let targets: Vec<i32> = targets.into_iter().collect();
    let most = targets.len() as u64;
    let to = move |at: u64| vec![Change::Priority { from, to: targets[at as usize - 1] }];
    (most > 0).then(|| Kind { most, of_size: Box::new(to) })
}

impl Search<'_> {
    /// The smallest change of a kind by which the task is placed, as far as the rounds go.
    fn smallest(&mut self, kind: &Kind<'_>) -> Option<Fix> {
        // To look for the least that is of any use takes its time, too.
        if !self.has_rounds() {
            return None;
        }
        let least = self.least_possible(kind)?;
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

    /// Whether there are rounds left beside those for when it would start.
    pub(crate) fn has_rounds(&mut self) -> bool {
        let has = self.effort.left() > FORECAST_ROUNDS;
        self.effort.cut |= !has;
        has
    }

    fn is_possible(&mut self, kind: &Kind<'_>, size: u64) -> bool {
        self.may_do(&(kind.of_size)(size))
    }

    /// Whether the changes are not known to be of no use.
    pub(crate) fn may_do(&mut self, changes: &[Change]) -> bool {
        let Some((state, task)) = self.base.with(changes) else { return false };
        let Some((job, spec)) = state.outline(task.job).zip(state.step_spec(task.job, task.step)) else { return false };
        // A queue that may hold more may be entitled to more, too.
        let line = changes.iter().all(|change| change.queue().is_none()).then_some(&mut self.line);
        let spec = spec.of_size(spec.least_size());
        self.fit.is_possible(&state, &job.spec.queue, &spec, line)
    }

    fn placed(&mut self, kind: &Kind<'_>, size: u64) -> Option<Vec<NodeId>> {
        self.placed_with(&(kind.of_size)(size))
    }

    /// Where the task is placed with these changes; nothing if it is not, or that is not known.
    pub(crate) fn placed_with(&mut self, changes: &[Change]) -> Option<Vec<NodeId>> {
        let (state, task) = self.base.with(changes)?;
        match self.effort.verdict(&state, self.now, task) {
            Verdict::Placed(nodes) => Some(nodes),
            Verdict::Waits | Verdict::Unknown => None,
        }
    }

    /// Whether it is known that the task is not placed with these changes.
    pub(crate) fn waits_with(&mut self, changes: &[Change]) -> bool {
        let Some((state, task)) = self.base.with(changes) else { return true };
        self.effort.verdict(&state, self.now, task) == Verdict::Waits
    }
}
