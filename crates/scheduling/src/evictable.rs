//! What runs and might be evicted, by queue and priority, kept by what differs; and what is leaving. All that is said
//! of one of them is read from the state when somebody has a right to it.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{Attempt, GpuIndex, Held, Member, NodeId, Phase, Resources, StepSpec, TaskKey, TaskState, TimeMs};
use flowyard_placement::{self as placement, DeviceMask, Holding, Portion, QueueIndex, Running};
use flowyard_state::State;

use crate::beside;
use crate::nodes;
use crate::tree::Tree;
use crate::words::{self, Words};

/// What it is reckoned to take to start again what has not started yet, in milliseconds; and the least and the most of
/// others.
const START_MS: (u64, u64, u64) = (10_000, 1_000, 600_000);

/// Tasks that run.
#[derive(Debug)]
pub(crate) struct Evictable {
    tasks: BTreeMap<TaskKey, (QueueIndex, i64)>,
    by_queue: BTreeMap<QueueIndex, BTreeMap<i64, BTreeSet<TaskKey>>>,
    leaving: BTreeSet<TaskKey>,
    /// What must not be evicted, and what each of them holds of what is bounded of that.
    for_good: BTreeMap<TaskKey, (QueueIndex, placement::Held)>,
    sums: BTreeMap<QueueIndex, placement::Held>,
    /// Queues whose sum is another.
    changed: BTreeSet<QueueIndex>,
}

impl Evictable {
    pub(crate) fn none() -> Self {
        Self {
            tasks: BTreeMap::new(),
            by_queue: BTreeMap::new(),
            leaving: BTreeSet::new(),
            for_good: BTreeMap::new(),
            sums: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// A task may be otherwise than it was.
    pub(crate) fn tell(&mut self, state: &State, tree: &Tree, words: &Words, key: TaskKey) {
        self.forget(key);
        let Some((attempt, spec, queue, priority)) = found(state, tree, key) else { return };
        if !spec.preemptible {
            let mut held = Held::NONE;
            live(attempt).for_each(|member| held.add(&held_by(state, spec, member)));
            let open = attempt.repair().map(|repair| &repair.open);
            open.into_iter().flat_map(|open| open.values()).for_each(|kept| held.add(kept));
            self.hold_for_good(key, queue, words.for_good(&held));
        } else if attempt.preempted.is_some() {
            self.leaving.insert(key);
        } else if state.evictable_at(key).is_some() {
            self.tasks.insert(key, (queue, priority));
            self.by_queue.entry(queue).or_default().entry(priority).or_default().insert(key);
        }
    }

    fn hold_for_good(&mut self, key: TaskKey, queue: QueueIndex, held: placement::Held) {
        self.sums.entry(queue).or_default().add(&held, 1);
        self.for_good.insert(key, (queue, held));
        self.changed.insert(queue);
    }

    /// What must not be evicted holds this, in the queues where that is otherwise than before.
    pub(crate) fn changed_for_good(&mut self) -> Vec<(QueueIndex, placement::Held)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|queue| (queue, self.sums.get(&queue).cloned().unwrap_or_default())).collect()
    }

    fn forget(&mut self, key: TaskKey) {
        self.leaving.remove(&key);
        if let Some((queue, held)) = self.for_good.remove(&key) {
            self.sums.entry(queue).or_default().take(&held);
            self.changed.insert(queue);
        }
        let Some((queue, priority)) = self.tasks.remove(&key) else { return };
        let Some(priorities) = self.by_queue.get_mut(&queue) else { return };
        if let Some(tasks) = priorities.get_mut(&priority) {
            tasks.remove(&key);
            if tasks.is_empty() {
                priorities.remove(&priority);
            }
        }
        if priorities.is_empty() {
            self.by_queue.remove(&queue);
        }
    }

    /// The lowest priority of what runs in a queue and might be evicted.
    pub(crate) fn lowest(&self, queue: QueueIndex) -> Option<i64> {
        self.by_queue.get(&queue)?.first_key_value().map(|(priority, _)| *priority)
    }

    /// The queues in which something runs that might be evicted.
    pub(crate) fn queues(&self) -> impl Iterator<Item = QueueIndex> + '_ {
        self.by_queue.keys().copied()
    }

    /// What runs in a queue and might be evicted.
    pub(crate) fn in_queue(&self, queue: QueueIndex) -> impl Iterator<Item = TaskKey> + '_ {
        self.by_queue.get(&queue).into_iter().flat_map(|priorities| priorities.values().flatten().copied())
    }

    /// What was evicted and has not left yet.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = TaskKey> + '_ {
        self.leaving.iter().copied()
    }
}

/// A task's live attempt, with what was asked for, its queue and its priority there.
fn found<'a>(state: &'a State, tree: &Tree, key: TaskKey) -> Option<(&'a Attempt, &'a StepSpec, QueueIndex, i64)> {
    let task = state.task(key).filter(|task| task.state == TaskState::Active)?;
    let attempt = task.attempts.last().filter(|attempt| live(attempt).next().is_some())?;
    let job = state.outline(key.job)?;
    let spec = job.spec.steps.get(key.step.0 as usize)?;
    let queue = tree.number(job.spec.queue.as_str())?;
    Some((attempt, spec, queue, i64::from(job.spec.priority) + i64::from(spec.priority)))
}

fn relocations(state: &State, key: TaskKey) -> usize {
    let attempts = state.task(key).map_or(&[][..], |task| &task.attempts);
    attempts.iter().filter(|attempt| attempt.preempted.is_some()).count()
}

/// What a live member holds.
fn held_by(state: &State, spec: &StepSpec, member: &Member) -> Held {
    let of_node = |node: &std::sync::Arc<flowyard_model::Node>| {
        Held::by_member(&spec.resources, member.gpu_alternative, &node.inventory, &member.gpus)
    };
    state.node(member.node).map_or(Held::NONE, of_node)
}

/// What the live attempt of a task holds in all.
pub(crate) fn held(state: &State, key: TaskKey) -> Held {
    let (mut all, spec) = (Held::NONE, state.step_spec(key.job, key.step));
    let attempt = state.task(key).and_then(|task| task.attempts.last());
    for (spec, attempt) in spec.into_iter().zip(attempt) {
        live(attempt).for_each(|member| all.add(&held_by(state, spec, member)));
    }
    all
}

fn live(attempt: &Attempt) -> impl Iterator<Item = &Member> {
    attempt.members.iter().filter(|member| member.phase != Phase::Ended)
}

/// What runs, as placement is told of it when somebody has a right to it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Which they are, ascending.
    pub(crate) keys: Vec<TaskKey>,
    pub(crate) running: Vec<Running>,
    pub(crate) holdings: Vec<Vec<Holding>>,
}

impl Told {
    /// These of those that run, at a time.
    pub(crate) fn of(state: &State, tree: &Tree, words: &mut Words, keys: BTreeSet<TaskKey>, now: TimeMs) -> Self {
        let mut told = Self::default();
        for key in keys {
            if let Some((running, holdings)) = running(state, tree, words, key, now) {
                told.keys.push(key);
                told.running.push(running);
                told.holdings.push(holdings);
            }
        }
        told
    }
}

fn running(
    state: &State,
    tree: &Tree,
    words: &mut Words,
    key: TaskKey,
    now: TimeMs,
) -> Option<(Running, Vec<Holding>)> {
    let (attempt, spec, queue, priority) = found(state, tree, key)?;
    let mut seats: BTreeMap<NodeId, Held> = BTreeMap::new();
    let (mut all, mut holdings) = (Held::NONE, Vec::new());
    let job = state.job(key.job)?;
    let marks = beside::left(state, (job.spec.queue.tenant(), spec), &job.spec.tags, words);
    for member in live(attempt) {
        let held = held_by(state, spec, member);
        seats.entry(member.node).or_insert(Held::NONE).add(&held);
        all.add(&held);
        let marks = marks.clone();
        holdings.push(Holding { marks, ..holding(&spec.resources, member, words) });
    }
    let began = began(attempt);
    let start_ms = began.map_or(START_MS.0, |began| began.0.saturating_sub(attempt.placed_at.0));
    let saved = attempt.saved_at.into_iter().chain(attempt.checkpoint.map(|checkpoint| checkpoint.at));
    let kept_since = saved.chain(began).max().unwrap_or(now);
    let running = Running {
        queue,
        priority,
        held: words.held(&all),
        seats: seats.into_iter().map(|(node, held)| (nodes::index(node), words.held(&held))).collect(),
        lost_ms: now.0.saturating_sub(kept_since.0),
        restart_ms: start_ms.clamp(START_MS.1, START_MS.2),
        relocations: relocations(state, key) as u32,
        protected_until_ms: state.evictable_at(key).unwrap_or(TimeMs(0)).0,
        preemptible: state.evictable_at(key).is_some(),
    };
    Some((running, holdings))
}

fn holding(wanted: &Resources, member: &Member, words: &mut Words) -> Holding {
    let devices: DeviceMask = member.gpus.iter().map(|GpuIndex(at)| *at as usize).collect();
    let portion = wanted.gpus.get(member.gpu_alternative as usize).map_or(Portion::NONE, words::portion);
    Holding { node: nodes::index(member.node), amounts: words.needs(wanted), devices, portion, marks: Vec::new() }
}

/// When the first of its members began to run.
fn began(attempt: &Attempt) -> Option<TimeMs> {
    attempt.members.iter().filter_map(|member| member.times.running).min()
}
