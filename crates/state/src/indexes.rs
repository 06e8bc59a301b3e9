//! What is kept beside the records so that nothing has to be searched for.
//!
//! Invariant: [`Indexes::rebuild`] gives the same from the records alone. That is how a snapshot is loaded, and checked.

use std::cmp::{Ordering, Reverse};
use std::ops::Deref;
use std::sync::Arc;

use flowyard_model::{
    AccountKey, Attempt, DurationKey, GpuIndex, GpuRequest, Held, Identity, Job, JobId, JobSpec, Member, MemberKey,
    Name, NodeId, Overdue, Phase, QueuePath, Rank, StepIndex, StepSpec, Task, TaskCounts, TaskKey, TaskState, TimeMs,
    TokenId, Used, limits,
};
use imbl::{OrdMap, OrdSet};

use crate::beside::{self, Beside};
use crate::closing::deadline;
use crate::ledger::lapses_at;
use crate::plan::main_port_of;
use crate::reading::Outline;
use crate::shape::OwnShape;
use crate::starting::{self, Starting};
use crate::state::{State, StepKey};
use crate::{accept, claims, discredit, holding, mix, overdue, room, surgery};

/// A step that has a ready task and may have one more active; ordered by queue, then urgency, then owner, then
/// shape, then age. Reads like its group, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyStep {
    /// The group it is in. Steps of one group share it, so that there can be a million of them.
    pub of: Arc<ReadyGroup>,
    /// The job.
    pub job: JobId,
    /// The step in it.
    pub step: StepIndex,
}

/// Ready steps that placement need not tell apart: whatever it looks at is the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyGroup {
    /// The queue of their jobs.
    pub queue: QueuePath,
    /// Priority of the job and the step together.
    pub priority: Reverse<i64>,
    /// Who submitted their jobs.
    pub owner: String,
    /// Fingerprint of their shape.
    pub shape: u64,
}

impl ReadyStep {
    /// The group it is in.
    pub fn group(&self) -> ReadyGroup {
        ReadyGroup::clone(&self.of)
    }
}

impl Ord for ReadyStep {
    fn cmp(&self, other: &Self) -> Ordering {
        // Most are compared with steps of their own group.
        let group = if Arc::ptr_eq(&self.of, &other.of) { Ordering::Equal } else { self.of.cmp(&other.of) };
        group.then(self.job.cmp(&other.job)).then(self.step.cmp(&other.step))
    }
}

impl PartialOrd for ReadyStep {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Deref for ReadyStep {
    type Target = ReadyGroup;

    fn deref(&self) -> &ReadyGroup {
        &self.of
    }
}

impl ReadyGroup {
    /// Not after any of its steps.
    pub(crate) fn first(&self) -> ReadyStep {
        ReadyStep { of: Arc::new(self.clone()), job: JobId(0), step: StepIndex(0) }
    }
}

/// What a queue carries: itself and all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Jobs that have not ended.
    pub jobs: u64,
    /// Of these, jobs of the queue itself.
    pub own_jobs: u64,
    /// Tasks with a live attempt.
    pub active: u32,
    /// Of these, tasks of the queue itself.
    pub own_active: u32,
    /// What live members hold.
    pub held: Held,
    /// Of this, what must not be evicted.
    pub held_for_good: Held,
    /// Of all this, what belongs to attempts that were evicted.
    pub leaving: Portion,
    /// What waiting tasks are promised for which others leave.
    pub claimed: Portion,
    /// What waiting tasks are promised that wait for others to end.
    pub reserved: Portion,
    /// Of what is held, what belongs to attempts whose end is waited for, and which do not leave.
    pub awaited: Portion,
}

/// Tasks, and what they hold or will hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion {
    /// How many.
    pub tasks: u32,
    /// What they hold.
    pub held: Held,
    /// Of this, what must not be evicted.
    pub held_for_good: Held,
}

impl Portion {
    /// Nothing.
    pub const NONE: Self = Self { tasks: 0, held: Held::NONE, held_for_good: Held::NONE };

    pub(crate) fn add(&mut self, held: &Held, for_good: bool) {
        self.tasks += 1;
        self.held.add(held);
        if for_good {
            self.held_for_good.add(held);
        }
    }

    pub(crate) fn subtract(&mut self, held: &Held, for_good: bool) {
        self.tasks -= 1;
        self.held.subtract(held);
        if for_good {
            self.held_for_good.subtract(held);
        }
    }
}

impl Portion {
    /// A task gives this back and is still counted.
    pub(crate) fn give_back(&mut self, held: &Held, for_good: bool) {
        self.held.subtract(held);
        if for_good {
            self.held_for_good.subtract(held);
        }
    }
}

impl Load {
    /// Nothing.
    pub const NONE: Self = Self {
        jobs: 0,
        own_jobs: 0,
        active: 0,
        own_active: 0,
        held: Held::NONE,
        held_for_good: Held::NONE,
        leaving: Portion::NONE,
        claimed: Portion::NONE,
        reserved: Portion::NONE,
        awaited: Portion::NONE,
    };

    pub(crate) fn take(&mut self, held: &Held, for_good: bool, leaves: bool) {
        self.held.add(held);
        if for_good {
            self.held_for_good.add(held);
        }
        if leaves {
            self.leaving.held.add(held);
        }
    }

    pub(crate) fn give_back(&mut self, held: &Held, for_good: bool, leaves: bool) {
        self.held.subtract(held);
        if for_good {
            self.held_for_good.subtract(held);
        }
        if leaves {
            self.leaving.held.subtract(held);
        }
    }
}

/// What is forgotten at its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lapse {
    /// A token that has expired.
    Token(TokenId),
    /// A revocation that voids nothing any more.
    Revocation(Identity),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Indexes {
    pub(crate) node_names: OrdMap<Name, NodeId>,
    /// Paths that carry something, whether or not there is a queue.
    pub(crate) loads: OrdMap<QueuePath, Arc<Load>>,
    pub(crate) ready: OrdSet<ReadyStep>,
    /// How many steps have each shape, of jobs that have not ended.
    pub(crate) shapes: OrdMap<Arc<OwnShape>, u64>,
    /// The same of each person's jobs.
    pub(crate) shapes_of: OrdMap<String, OrdMap<Arc<OwnShape>, u64>>,
    /// Touched tasks that are ready.
    pub(crate) retries: OrdSet<TaskKey>,
    /// Touched tasks that are not done.
    pub(crate) open: OrdSet<TaskKey>,
    /// Tasks that wait for a time.
    pub(crate) waiting: OrdSet<(TimeMs, TaskKey)>,
    /// Members that have not ended, by node.
    pub(crate) live: OrdSet<(NodeId, MemberKey)>,
    /// Ended jobs by the time of their end.
    pub(crate) finished: OrdSet<(TimeMs, JobId)>,
    /// Ended jobs by the time until which they are remembered.
    pub(crate) expiry: OrdSet<(TimeMs, JobId)>,
    /// Ended jobs whose end has not been passed on to all jobs that wait for them.
    pub(crate) settling: OrdSet<JobId>,
    /// Tokens and revocations by the time of their end.
    pub(crate) lapsing: OrdSet<(TimeMs, Lapse)>,
    /// Tasks whose attempt no agent has taken, by the time at which it is given up.
    pub(crate) unaccepted: OrdSet<(TimeMs, TaskKey)>,
    /// Active jobs by each of their times that can still pass.
    pub(crate) due: OrdSet<(TimeMs, JobId, Overdue)>,
    /// Accounts that hold nothing, by the time at which they are forgotten.
    pub(crate) idle: OrdSet<(TimeMs, AccountKey)>,
    /// Nodes by the time at which what still runs there is asked to stop.
    pub(crate) draining: OrdSet<(TimeMs, NodeId)>,
    /// Tasks of whose running gangs ranks are open, by the time at which they are given up.
    pub(crate) repairs: OrdSet<(TimeMs, TaskKey)>,
    /// Ports that live gangs have, at the nodes of their first members.
    pub(crate) main_ports: OrdSet<(NodeId, u16)>,
    /// What is claimed of nodes, of those on which something is.
    pub(crate) claimed: OrdMap<NodeId, Arc<Used>>,
    /// What is held on nodes by attempts that were evicted, of those on which something is.
    pub(crate) leaving: OrdMap<NodeId, Arc<Used>>,
    /// Devices that are claimed, and for which task.
    pub(crate) claimed_gpus: OrdMap<(NodeId, GpuIndex), TaskKey>,
    /// What is reserved of nodes, of those on which something is.
    pub(crate) reserved: OrdMap<NodeId, Arc<Used>>,
    /// Devices that are reserved, and for which task.
    pub(crate) reserved_gpus: OrdMap<(NodeId, GpuIndex), TaskKey>,
    /// Tasks whose live attempts are waited for and do not leave, and by how many claims.
    pub(crate) awaited: OrdMap<TaskKey, u32>,
    /// What those hold of nodes, of those on which they hold something.
    pub(crate) awaited_on: OrdMap<NodeId, Arc<Used>>,
    /// Steps of whom it is remembered how long they took, by when they were learned from last.
    pub(crate) durations: OrdSet<(TimeMs, DurationKey)>,
    /// Tasks with claims by the nodes these are on.
    pub(crate) claims_on: OrdSet<(NodeId, TaskKey)>,
    /// Tasks with claims by the time at which these end.
    pub(crate) claim_ends: OrdSet<(TimeMs, TaskKey)>,
    /// What may be beside what.
    pub(crate) beside: Beside,
    /// What is placed and does not run yet.
    pub(crate) starting: Starting,
    /// Nodes that are up and open.
    pub(crate) open_nodes: OrdSet<NodeId>,
    /// Nodes that something is held against, by the time at which less follows from it.
    pub(crate) discredited: OrdSet<(TimeMs, NodeId)>,
    /// Of these, nodes that are given nothing.
    pub(crate) shunned: OrdSet<(TimeMs, NodeId)>,
    /// What tasks ask for of devices that are ready or active, by kind.
    pub(crate) asked: OrdMap<GpuRequest, mix::Asked>,
}

impl Indexes {
    pub(crate) fn none() -> Self {
        Self {
            node_names: OrdMap::new(),
            loads: OrdMap::new(),
            ready: OrdSet::new(),
            shapes: OrdMap::new(),
            shapes_of: OrdMap::new(),
            retries: OrdSet::new(),
            open: OrdSet::new(),
            waiting: OrdSet::new(),
            live: OrdSet::new(),
            finished: OrdSet::new(),
            expiry: OrdSet::new(),
            settling: OrdSet::new(),
            lapsing: OrdSet::new(),
            draining: OrdSet::new(),
            due: OrdSet::new(),
            idle: OrdSet::new(),
            unaccepted: OrdSet::new(),
            repairs: OrdSet::new(),
            main_ports: OrdSet::new(),
            claimed: OrdMap::new(),
            leaving: OrdMap::new(),
            claimed_gpus: OrdMap::new(),
            reserved: OrdMap::new(),
            reserved_gpus: OrdMap::new(),
            awaited: OrdMap::new(),
            awaited_on: OrdMap::new(),
            durations: OrdSet::new(),
            claims_on: OrdSet::new(),
            claim_ends: OrdSet::new(),
            beside: Beside::default(),
            starting: Starting::default(),
            open_nodes: OrdSet::new(),
            discredited: OrdSet::new(),
            shunned: OrdSet::new(),
            asked: OrdMap::new(),
        }
    }

    /// Computes all of it from the records.
    pub(crate) fn rebuild(state: &State) -> Self {
        let mut indexes = Self::none();
        for (id, node) in &state.nodes {
            indexes.node_names.insert(node.name.clone(), *id);
            indexes.draining.extend(deadline(node).map(|until| (until, *id)));
            indexes.open_nodes.extend(node.is_open().then_some(*id));
            discredit::note(&mut indexes, *id, node);
        }
        for (id, job) in &state.jobs {
            match job.ended {
                None => {
                    indexes.job_came(&job.owner, &job.spec);
                    beside::job_came(&mut indexes, &job.spec);
                    indexes.due.extend(overdue::times(state, *id, job));
                }
                Some(_) => indexes.job_ended(*id, job),
            }
        }
        for (waited_for, _) in &state.waits {
            if state.jobs.get(waited_for).is_some_and(|job| job.ended.is_some()) {
                indexes.settling.insert(*waited_for);
            }
        }
        for (key, step) in &state.steps {
            if let Some(job) = state.jobs.get(&key.0) {
                indexes.counts_changed(Outline::of(job), *key, TaskCounts::NONE, step.counts);
            }
        }
        for (id, still) in state.stills.iter() {
            let counts = TaskCounts { ready: still.tasks(), ..TaskCounts::NONE };
            indexes.job_came(still.owner(), still.spec());
            beside::job_came(&mut indexes, still.spec());
            let outline = state.outline(id).expect("it is there");
            indexes.counts_changed(outline, (id, StepIndex(0)), TaskCounts::NONE, counts);
        }
        for ((job, step), tasks) in &state.tasks {
            for (index, task) in tasks {
                indexes.add_task(state, TaskKey { job: *job, step: *step, task: *index }, task);
            }
        }
        indexes.starting = starting::count(state, &indexes, &state.policy);
        claims::note_all(&mut indexes, state);
        indexes.durations = state.durations.iter().map(|(key, known)| (known.last_at, key.clone())).collect();
        let idle = state.accounts.iter();
        indexes.idle = idle.filter_map(|(key, account)| Some((lapses_at(account)?, key.clone()))).collect();
        let tokens = state.tokens.iter().map(|(id, token)| (token.expires_at, Lapse::Token(*id)));
        let revocations = state.revocations.iter();
        let revocations =
            revocations.filter_map(|(identity, it)| Some((it.until?, Lapse::Revocation(identity.clone()))));
        indexes.lapsing = tokens.chain(revocations).collect();
        indexes
    }

    fn add_task(&mut self, state: &State, key: TaskKey, task: &Task) {
        self.task_changed(key, TaskState::Blocked, task.state);
        if let Some(spec) = state.step_spec(key.job, key.step) {
            beside::note(self, spec, key, task);
        }
        for attempt in &task.attempts {
            self.unaccepted.extend(accept::due(attempt).map(|until| (until, key)));
            self.add_open(state, key, attempt);
            let lives = attempt.members.iter().any(|member| member.phase != Phase::Ended);
            self.main_ports.extend(main_port_of(attempt).filter(|_| lives));
            for (rank, member) in attempt.members.iter().enumerate() {
                if member.phase != Phase::Ended {
                    let member_key = attempt.member_key(key, Rank(rank as u32));
                    self.live.insert((member.node, member_key));
                    self.add_member(state, key, attempt, member);
                }
            }
            let leaves = attempt.preempted.is_some();
            if leaves && attempt.members.iter().any(|member| member.phase != Phase::Ended) {
                let queue = state.outline(key.job).map(|job| &job.spec.queue);
                queue.into_iter().for_each(|queue| self.load_changed(queue, |load, _| load.leaving.tasks += 1));
            }
        }
    }

    /// What is held for the open ranks of an attempt.
    fn add_open(&mut self, state: &State, key: TaskKey, attempt: &Attempt) {
        self.repairs.extend(surgery::due(attempt).map(|until| (until, key)));
        let Some((job, spec)) = state.job(key.job).zip(state.step_spec(key.job, key.step)) else { return };
        for held in attempt.repair().iter().flat_map(|repair| repair.open.values()) {
            self.load_changed(&job.spec.queue, |load, _| load.take(held, !spec.preemptible, false));
        }
    }

    fn add_member(&mut self, state: &State, key: TaskKey, attempt: &Attempt, member: &Member) {
        let Some((job, spec)) = state.outline(key.job).zip(state.step_spec(key.job, key.step)) else { return };
        let held = holding::held_by(state, key, member);
        let leaves = attempt.preempted.is_some();
        self.load_changed(&job.spec.queue, |load, _| load.take(&held, !spec.preemptible, leaves));
        if let Some(node) = state.node(member.node).filter(|_| leaves) {
            let share = room::share(&spec.resources, member.gpu_alternative);
            room::change_used(&mut self.leaving, member.node, node.inventory.gpus.len(), |used| {
                room::add(used, &spec.resources, &member.gpus, share);
            });
        }
    }

    /// The earliest time at which something falls due by itself. Jobs fall due only where the state `forgets` them by itself.
    pub(crate) fn first_deadline(&self, forgets: bool) -> Option<TimeMs> {
        let waiting = self.waiting.get_min().map(|(time, _)| *time);
        let expiry = self.expiry.get_min().map(|(time, _)| *time).filter(|_| forgets);
        let lapsing = self.lapsing.get_min().map(|(time, _)| *time);
        let draining = self.draining.get_min().map(|(time, _)| *time);
        let due = self.due.get_min().map(|(time, ..)| *time);
        let unaccepted = self.unaccepted.get_min().map(|(time, _)| *time);
        let claims = self.claim_ends.get_min().map(|(time, _)| *time);
        let repairs = self.repairs.get_min().map(|(time, _)| *time);
        let discredited = self.discredited.get_min().map(|(time, _)| *time);
        let nodes = draining.into_iter().chain(unaccepted).chain(claims).chain(repairs).chain(discredited);
        waiting.into_iter().chain(expiry).chain(lapsing).chain(due).chain(nodes).min()
    }

    /// A touched task went from one state to another. A task that is touched for the first time comes from `Blocked`, which
    /// no index holds.
    pub(crate) fn task_changed(&mut self, key: TaskKey, from: TaskState, to: TaskState) {
        match from {
            TaskState::Ready => drop(self.retries.remove(&key)),
            TaskState::Waiting(until) => drop(self.waiting.remove(&(until, key))),
            TaskState::Blocked | TaskState::Active | TaskState::Done(_) => {}
        }
        match to {
            TaskState::Ready => drop(self.retries.insert(key)),
            TaskState::Waiting(until) => drop(self.waiting.insert((until, key))),
            TaskState::Blocked | TaskState::Active | TaskState::Done(_) => {}
        }
        match to {
            TaskState::Blocked | TaskState::Done(_) => drop(self.open.remove(&key)),
            TaskState::Ready | TaskState::Waiting(_) | TaskState::Active => drop(self.open.insert(key)),
        }
    }

    /// The counts of a step went from one value to another.
    pub(crate) fn counts_changed(&mut self, job: Outline<'_>, key: StepKey, from: TaskCounts, to: TaskCounts) {
        let spec = &job.spec.steps[key.1.0 as usize];
        mix::counts_changed(&mut self.asked, spec, from, to);
        let most = spec.max_parallel;
        let placeable = |counts: TaskCounts| counts.ready > 0 && most.is_none_or(|most| counts.active < most);
        if placeable(from) != placeable(to) {
            let ready = ready_step(job, key);
            if placeable(to) {
                let ready = self.in_its_group(ready);
                self.ready.insert(ready);
            } else {
                self.ready.remove(&ready);
            }
        }
        if from.active != to.active {
            let moved = |active: u32| active + to.active - from.active;
            self.load_changed(&job.spec.queue, |load, own| {
                load.active = moved(load.active);
                load.own_active = if own { moved(load.own_active) } else { load.own_active };
            });
        }
    }

    /// A job ended.
    pub(crate) fn job_ended(&mut self, id: JobId, job: &Job) {
        let end = job.ended.expect("an ended job has an end");
        self.finished.insert((end.at, id));
        self.expiry.insert((expires_at(job), id));
    }

    /// An ended job is forgotten.
    pub(crate) fn job_forgotten(&mut self, id: JobId, job: &Job) {
        let end = job.ended.expect("only ended jobs are forgotten");
        self.finished.remove(&(end.at, id));
        self.expiry.remove(&(expires_at(job), id));
    }

    /// The same step with the group that other steps of it have, if there are any.
    fn in_its_group(&self, ready: ReadyStep) -> ReadyStep {
        let first = ReadyStep { of: ready.of.clone(), job: JobId(0), step: StepIndex(0) };
        let other = self.ready.range(first..).next().filter(|other| other.of == ready.of);
        ReadyStep { of: other.map_or(ready.of, |other| other.of.clone()), ..ready }
    }

    /// There is one more job that has not ended.
    pub(crate) fn job_came(&mut self, owner: &str, spec: &JobSpec) {
        for step in &spec.steps {
            let shape = OwnShape::of(step);
            *self.shapes.entry(shape.clone()).or_insert(0) += 1;
            match self.shapes_of.get_mut(owner) {
                Some(own) => *own.entry(shape).or_insert(0) += 1,
                None => drop(self.shapes_of.insert(owner.to_owned(), OrdMap::unit(shape, 1))),
            }
        }
        self.load_changed(&spec.queue, |load, own| {
            load.jobs += 1;
            load.own_jobs += u64::from(own);
        });
    }

    /// There is one job less that has not ended.
    pub(crate) fn job_left(&mut self, owner: &str, spec: &JobSpec) {
        for step in &spec.steps {
            let shape = OwnShape::of(step);
            count_less(&mut self.shapes, &shape);
            let own = self.shapes_of.get_mut(owner).expect("a shape is counted while somebody has it");
            count_less(own, &shape);
            if own.is_empty() {
                self.shapes_of.remove(owner);
            }
        }
        self.load_changed(&spec.queue, |load, own| {
            load.jobs -= 1;
            load.own_jobs -= u64::from(own);
        });
    }

    /// Changes what a queue and each above it carry; `change` is told which is the queue itself.
    pub(crate) fn load_changed(&mut self, queue: &QueuePath, change: impl Fn(&mut Load, bool)) {
        for level in queue.levels() {
            let own = level.len() == queue.as_str().len();
            if let Some(load) = self.loads.get_mut(level) {
                let load = Arc::make_mut(load);
                change(load, own);
                if *load == Load::NONE {
                    self.loads.remove(level);
                }
            } else {
                let mut load = Load::NONE;
                change(&mut load, own);
                if load != Load::NONE {
                    let path = level.parse().expect("what a path starts with is a path");
                    self.loads.insert(path, Arc::new(load));
                }
            }
        }
    }
}

/// A step as it is known while it is ready.
pub(crate) fn ready_step(job: Outline<'_>, (id, step): StepKey) -> ReadyStep {
    let spec = &job.spec.steps[step.0 as usize];
    let priority = Reverse(i64::from(job.spec.priority) + i64::from(spec.priority));
    let (queue, owner) = (job.spec.queue.clone(), job.owner.to_owned());
    let group = ReadyGroup { queue, priority, owner, shape: fingerprint(spec, (id, step)) };
    ReadyStep { of: Arc::new(group), job: id, step }
}

/// The fingerprint of a step's shape. A step for which it matters where its own members are has a shape of its own.
pub fn fingerprint(spec: &StepSpec, (job, step): StepKey) -> u64 {
    let shape = spec.shape().fingerprint();
    let own = |number: u64| (number ^ job.0 ^ u64::from(step.0) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    if spec.placing.counts_its_own() { own(shape) } else { shape }
}

fn expires_at(job: &Job) -> TimeMs {
    let end = job.ended.expect("only ended jobs expire");
    end.at.after(job.spec.retention_ms.unwrap_or(limits::RETENTION_MS))
}

fn count_less(shapes: &mut OrdMap<Arc<OwnShape>, u64>, shape: &Arc<OwnShape>) {
    let count = shapes.get_mut(shape).expect("a shape is counted while somebody has it");
    *count -= 1;
    if *count == 0 {
        shapes.remove(shape);
    }
}
