//! The tables, and how they are read. Written only by the modules beside this one, from within `apply`.
//!
//! Invariant: whatever `indexes` holds can be computed from the other tables; `check_all` does it.

use std::ops::{Bound, Deref};
use std::sync::Arc;

use flowyard_model::{
    Account, AccountKey, ArchivePage, Attempt, AttemptNumber, Claim, ClusterVersion, DurationKey, Durations, Epoch,
    Identity, Job, JobId, KeptSecret, LogSegment, Member, MemberKey, Meta, Mix, Name, Node, NodeId, Policy, Queue,
    QueuePath, Revision, Revocation, Step, StepIndex, Submission, SubmissionKey, Task, TaskIndex, TaskKey, TaskState,
    TimeMs, Token, TokenId,
};
use imbl::{OrdMap, OrdSet};

use crate::forget::forgets_by_itself;
use crate::indexes::{Indexes, Load, ReadyGroup, ReadyStep};
use crate::still::Stills;

/// One step of one job, as tables order them.
pub type StepKey = (JobId, StepIndex);

/// Everything the cluster agreed on, as of one revision.
///
/// All tables are persistent maps: cloning costs a few reference counts, whatever their size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(crate) meta: Meta,
    pub(crate) queues: OrdMap<QueuePath, Arc<Queue>>,
    /// From cluster version 2 on.
    pub(crate) accounts: OrdMap<AccountKey, Arc<Account>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) submissions: OrdMap<SubmissionKey, Submission>,
    pub(crate) jobs: OrdMap<JobId, Arc<Job>>,
    /// (waited for, waiting).
    pub(crate) waits: OrdSet<(JobId, JobId)>,
    pub(crate) steps: OrdMap<StepKey, Arc<Step>>,
    /// Touched tasks only. A step without any has no map here.
    pub(crate) tasks: OrdMap<StepKey, OrdMap<TaskIndex, Arc<Task>>>,
    /// Jobs that are in none of the tables above, nor are their steps and submissions: nothing has touched them yet.
    pub(crate) stills: Stills,
    /// Room that waiting tasks are promised; from cluster version 2 on.
    pub(crate) claims: OrdMap<TaskKey, Arc<Claim>>,
    pub(crate) tokens: OrdMap<TokenId, Arc<Token>>,
    pub(crate) revocations: OrdMap<Identity, Revocation>,
    pub(crate) archive: OrdMap<u64, ArchivePage>,
    /// By first entry.
    pub(crate) segments: OrdMap<u64, LogSegment>,
    pub(crate) secrets: OrdMap<Name, Arc<KeptSecret>>,
    /// From cluster version 2 on.
    pub(crate) policy: Arc<Policy>,
    /// How long steps took; from cluster version 2 on.
    pub(crate) durations: OrdMap<DurationKey, Arc<Durations>>,
    /// What the work asks for of devices; from cluster version 2 on.
    pub(crate) mix: Arc<Mix>,
    pub(crate) indexes: Indexes,
}

/// An immutable snapshot of the state. Cheap to make, to clone and to keep; reads like the [`State`] it was made from.
#[derive(Debug, Clone)]
pub struct View(Arc<State>);

impl Deref for View {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl State {
    /// A cluster in which nothing has happened yet: no entry applied, one queue.
    pub fn new() -> Self {
        let default = Arc::new(Queue::new(QueuePath::fallback()));
        let meta = Meta {
            revision: Revision(0),
            time: TimeMs(0),
            version: ClusterVersion(1),
            next_job: JobId(1),
            next_node: NodeId(1),
            epoch: Epoch(0),
        };
        Self {
            meta,
            queues: OrdMap::unit(default.path.clone(), default),
            accounts: OrdMap::new(),
            nodes: OrdMap::new(),
            submissions: OrdMap::new(),
            jobs: OrdMap::new(),
            waits: OrdSet::new(),
            steps: OrdMap::new(),
            tasks: OrdMap::new(),
            stills: Stills::none(),
            claims: OrdMap::new(),
            tokens: OrdMap::new(),
            revocations: OrdMap::new(),
            archive: OrdMap::new(),
            segments: OrdMap::new(),
            secrets: OrdMap::new(),
            policy: Arc::default(),
            durations: OrdMap::new(),
            mix: Arc::default(),
            indexes: Indexes::none(),
        }
    }

    /// A snapshot of it as it is now.
    pub fn view(&self) -> View {
        View(Arc::new(self.clone()))
    }

    /// Index of the last applied entry.
    pub fn revision(&self) -> Revision {
        self.meta.revision
    }

    /// State time: the greatest time an applied entry was stamped with.
    pub fn time(&self) -> TimeMs {
        self.meta.time
    }

    /// Which history of the cluster this is.
    pub fn epoch(&self) -> Epoch {
        self.meta.epoch
    }

    /// What apply may do.
    pub fn version(&self) -> ClusterVersion {
        self.meta.version
    }

    /// When a `Tick` is due; `None` if nothing waits for time to pass.
    pub fn next_deadline(&self) -> Option<TimeMs> {
        match self.indexes.settling.is_empty() {
            true => self.indexes.first_deadline(forgets_by_itself(self)),
            false => Some(self.meta.time),
        }
    }

    /// The ended jobs that are remembered, by the time of their end.
    pub fn finished(&self) -> impl DoubleEndedIterator<Item = JobId> {
        self.indexes.finished.iter().map(|(_, job)| *job)
    }

    /// How many ended jobs are remembered.
    pub fn finished_count(&self) -> usize {
        self.indexes.finished.len()
    }

    /// A task that was touched; `None` for one that is still, or ended, in the ranges of its step.
    pub fn task(&self, key: TaskKey) -> Option<&Arc<Task>> {
        self.tasks.get(&(key.job, key.step))?.get(&key.task)
    }

    /// The touched tasks of a step, by index, from one on.
    pub fn tasks_from(
        &self,
        job: JobId,
        step: StepIndex,
        from: TaskIndex,
    ) -> impl Iterator<Item = (TaskIndex, &Arc<Task>)> {
        self.tasks.get(&(job, step)).into_iter().flat_map(move |tasks| tasks.range(from..)).map(|(k, v)| (*k, v))
    }

    /// The touched tasks of a job, by step and index.
    pub fn tasks_of(&self, job: JobId) -> impl Iterator<Item = (TaskKey, &Arc<Task>)> {
        let steps = self.tasks.range(step_span(job));
        steps.flat_map(move |((_, step), tasks)| {
            tasks.iter().map(move |(task, record)| (TaskKey { job, step: *step, task: *task }, record))
        })
    }

    /// The touched tasks of a step that are not done.
    pub fn open_tasks(&self, job: JobId, step: StepIndex) -> impl Iterator<Item = (TaskKey, &Arc<Task>)> {
        let key = |task| TaskKey { job, step, task: TaskIndex(task) };
        let open = self.indexes.open.range(key(0)..=key(u32::MAX));
        open.filter_map(|key| Some((*key, self.task(*key)?)))
    }

    /// Where a task stands, touched or not; `None` if there is no such task (yet).
    pub fn task_state(&self, key: TaskKey) -> Option<TaskState> {
        if let Some(task) = self.task(key) {
            return Some(task.state);
        }
        if let Some(still) = self.still_step(key.job, key.step) {
            return (key.task.0 < still.tasks()).then_some(TaskState::Ready);
        }
        self.steps.get(&(key.job, key.step)).and_then(|step| crate::step::untouched_state(step, key.task))
    }

    /// An attempt.
    pub fn attempt(&self, key: TaskKey, number: AttemptNumber) -> Option<&Attempt> {
        let at = number.0.checked_sub(1)? as usize;
        self.task(key)?.attempts.get(at)
    }

    /// Steps that have a task to place: by queue, most urgent first, then by owner, shape, job and step.
    pub fn ready_steps(&self) -> impl Iterator<Item = &ReadyStep> {
        self.indexes.ready.iter()
    }

    /// The first of each group of ready steps that differ only in their job and step; see [`State::ready_group`]. Costs the
    /// number of groups, however many steps are in them.
    pub fn ready_groups(&self) -> impl Iterator<Item = &ReadyStep> {
        let after = |first: &&ReadyStep| {
            self.indexes.ready.range((Bound::Excluded(end_of_group(first)), Bound::Unbounded)).next()
        };
        std::iter::successors(self.indexes.ready.get_min(), after)
    }

    /// The ready steps of a group from this one on, by job and step.
    pub fn ready_group(&self, first: &ReadyStep) -> impl Iterator<Item = &ReadyStep> {
        self.indexes.ready.range(first.clone()..=end_of_group(first))
    }

    /// The ready steps of a group, by job and step.
    pub fn ready_in(&self, group: &ReadyGroup) -> impl Iterator<Item = &ReadyStep> {
        let first = group.first();
        let last = end_of_group(&first);
        self.indexes.ready.range(first..=last)
    }

    /// The ready tasks of a step with the attempt that each would make: first those that were tried before.
    pub fn ready_tasks(&self, job: JobId, step: StepIndex) -> impl Iterator<Item = (TaskIndex, AttemptNumber)> {
        let key = |task| TaskKey { job, step, task };
        let retries = self.indexes.retries.range(key(TaskIndex(0))..=key(TaskIndex(u32::MAX)));
        let tried = retries.map(move |retry| {
            let attempts = self.task(*retry).map_or(0, |task| task.attempts.len() as u32);
            (retry.task, AttemptNumber(attempts + 1))
        });
        let untouched = self.steps.get(&(job, step)).into_iter().flat_map(|step| step.ready.iter());
        let still = 0..self.still_step(job, step).map_or(0, |still| still.tasks());
        tried.chain(untouched.chain(still).map(|index| (TaskIndex(index), AttemptNumber(1))))
    }

    /// A node.
    pub fn node(&self, node: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&node)
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Arc<Node>)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// A node by its name.
    pub fn node_named(&self, name: &Name) -> Option<(NodeId, &Arc<Node>)> {
        let id = *self.indexes.node_names.get(name)?;
        Some((id, self.nodes.get(&id)?))
    }

    /// The members that a node holds and that have not ended: what its agent is told to run, or to stop.
    pub fn live_members(&self, node: NodeId) -> impl Iterator<Item = (MemberKey, &Attempt, &Member)> {
        self.live_keys(node).map(|key| {
            let attempt = self.attempt(key.task, key.attempt).expect("a live member has an attempt");
            (key, attempt, &attempt.members[key.rank.0 as usize])
        })
    }

    pub(crate) fn live_keys(&self, node: NodeId) -> impl Iterator<Item = MemberKey> + '_ {
        self.indexes.live.range((node, MEMBER_MIN)..=(node, MEMBER_MAX)).map(|(_, key)| *key)
    }

    /// What holds for all of the cluster.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// All queues, by path.
    pub fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.queues.values()
    }

    /// A queue.
    pub fn queue(&self, path: &QueuePath) -> Option<&Arc<Queue>> {
        self.queues.get(path)
    }

    /// What a queue and those below it carry now.
    pub fn load(&self, path: &QueuePath) -> &Load {
        self.load_at(path.as_str())
    }

    pub(crate) fn load_at(&self, path: &str) -> &Load {
        static NOTHING: Load = Load::NONE;
        self.indexes.loads.get(path).map_or(&NOTHING, |load| load)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// Not before any step of the same group.
fn end_of_group(step: &ReadyStep) -> ReadyStep {
    ReadyStep { job: JobId(u64::MAX), step: StepIndex(u32::MAX), ..step.clone() }
}

/// All step keys of a job.
pub(crate) fn step_span(job: JobId) -> std::ops::RangeInclusive<StepKey> {
    (job, StepIndex(0))..=(job, StepIndex(u32::MAX))
}

const fn member(task: u64, rest: u32) -> MemberKey {
    let (step, index) = (StepIndex(rest), TaskIndex(rest));
    let task = TaskKey { job: JobId(task), step, task: index };
    MemberKey {
        task,
        attempt: AttemptNumber(rest),
        rank: flowyard_model::Rank(rest),
        epoch: Epoch(rest),
        replacement: rest,
    }
}

const MEMBER_MIN: MemberKey = member(0, 0);
const MEMBER_MAX: MemberKey = member(u64::MAX, u32::MAX);
