//! The state as a sequence of records, and back. What the snapshot and its digest are made of.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    Job, JobId, Meta, Mix, Policy, Record, Step, StepIndex, Submission, SubmissionKey, TaskIndex, TaskKey,
};
use imbl::{OrdMap, OrdSet};

use crate::indexes::Indexes;
use crate::state::{State, StepKey};
use crate::still::{Stills, is_fresh};

/// Why records do not make a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The first record is not the scalars.
    #[error("a snapshot starts with its scalars")]
    NoMeta,
    /// The scalars come again.
    #[error("a snapshot has its scalars only once")]
    SecondMeta,
    /// A record refers to one that did not come before it.
    #[error("a record of job {job} comes without the job")]
    Orphan {
        /// The job that is missing.
        job: JobId,
    },
    /// A job comes without its step.
    #[error("job {job} comes without its step")]
    Stepless {
        /// The job.
        job: JobId,
    },
}

impl State {
    /// All records in their order, the same for equal states.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let queues = self.queues.values().cloned().map(Record::Queue);
        let accounts = self.accounts.iter().map(|(key, account)| Record::Account(key.clone(), account.clone()));
        let nodes = self.nodes.iter().map(|(id, node)| Record::Node(*id, node.clone()));
        let keys = self.all_submissions().map(|(key, value)| Record::Submission(key, value));
        let jobs = self.jobs().map(|(id, job)| Record::Job(id, Arc::clone(&job)));
        let waits = self.waits.iter().map(|(waited_for, waiting)| Record::Wait(*waiting, *waited_for));
        let steps = self.outlines().flat_map(move |(id, _)| {
            self.steps(id).map(move |(index, step)| Record::Step(id, index, Arc::clone(&step)))
        });
        let tasks = self.tasks.iter().flat_map(|((job, step), tasks)| {
            let key = |task: &TaskIndex| TaskKey { job: *job, step: *step, task: *task };
            tasks.iter().map(move |(index, task)| Record::Task(key(index), task.clone()))
        });
        let claims = self.claims.iter().map(|(key, claim)| Record::Claim(*key, claim.clone()));
        let tokens = self.tokens.iter().map(|(id, token)| Record::Token(*id, token.clone()));
        let revocations = self.revocations.iter().map(|(who, it)| Record::Revocation(who.clone(), it.clone()));
        let secrets = self.secrets.iter().map(|(name, it)| Record::Secret(name.clone(), it.clone()));
        let meta = std::iter::once(Record::Meta(self.meta));
        let work = jobs.chain(waits).chain(steps).chain(tasks).chain(claims);
        let pages = self.archive.iter().map(|(page, it)| Record::ArchivePage(*page, *it));
        let past = pages.chain(self.segments.values().map(|segment| Record::Segment(*segment)));
        let who = tokens.chain(revocations).chain(secrets);
        let policy = Some(&self.policy).filter(|policy| ***policy != Policy::default());
        let past = past.chain(policy.cloned().map(Record::Policy));
        let durations = self.durations.iter().map(|(key, known)| Record::Durations(key.clone(), known.clone()));
        let mix = Some(&self.mix).filter(|mix| ***mix != Mix::default()).cloned().map(Record::Mix);
        let learned = durations.chain(mix);
        meta.chain(queues).chain(accounts).chain(nodes).chain(keys).chain(work).chain(who).chain(past).chain(learned)
    }

    /// By owner and key, wherever they are kept.
    fn all_submissions(&self) -> impl Iterator<Item = (SubmissionKey, Submission)> {
        let mut kept = self.submissions.iter().map(|(key, value)| (key.clone(), *value)).peekable();
        let mut still = self.stills.submissions().peekable();
        std::iter::from_fn(move || match (kept.peek(), still.peek()) {
            (Some((one, _)), Some((other, _))) if other < one => still.next(),
            (Some(_), _) => kept.next(),
            (None, _) => still.next(),
        })
    }

    /// The state that these records were made from.
    ///
    /// # Errors
    /// [`RecordError`] if they were not made by [`State::records`].
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, RecordError> {
        let mut records = records.into_iter();
        let Some(Record::Meta(meta)) = records.next() else { return Err(RecordError::NoMeta) };
        let mut state = Self::without_records(meta);
        let mut stepless = BTreeSet::new();
        for record in records {
            state.insert(record, &mut stepless)?;
        }
        if let Some(job) = stepless.pop_first() {
            return Err(RecordError::Stepless { job });
        }
        state.indexes = Indexes::rebuild(&state);
        Ok(state)
    }

    fn without_records(meta: Meta) -> Self {
        Self {
            meta,
            queues: OrdMap::new(),
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

    /// Puts a record in its place; `stepless` are the still jobs whose step has not come yet.
    fn insert(&mut self, record: Record, stepless: &mut BTreeSet<JobId>) -> Result<(), RecordError> {
        match record {
            Record::Meta(_) => return Err(RecordError::SecondMeta),
            Record::Queue(queue) => drop(self.queues.insert(queue.path.clone(), queue)),
            Record::Account(key, account) => drop(self.accounts.insert(key, account)),
            Record::Node(id, node) => drop(self.nodes.insert(id, node)),
            Record::Submission(key, value) => drop(self.submissions.insert(key, value)),
            Record::Job(id, job) => self.insert_job(id, job, stepless),
            Record::Wait(waiting, waited_for) => {
                self.require(waiting, None)?;
                self.require(waited_for, None)?;
                self.waits.insert((waited_for, waiting));
            }
            Record::Step(job, index, step) => {
                self.require(job, Some(index))?;
                self.insert_step((job, index), step, stepless);
            }
            Record::Task(key, task) => self.insert_task(key, task)?,
            Record::Claim(key, claim) => {
                self.require(key.job, Some(key.step))?;
                self.claims.insert(key, claim);
            }
            Record::Token(id, token) => drop(self.tokens.insert(id, token)),
            Record::Revocation(identity, revocation) => drop(self.revocations.insert(identity, revocation)),
            Record::ArchivePage(page, it) => drop(self.archive.insert(page, it)),
            Record::Segment(segment) => drop(self.segments.insert(segment.first, segment)),
            Record::Secret(name, secret) => drop(self.secrets.insert(name, secret)),
            Record::Policy(policy) => self.policy = policy,
            Record::Durations(key, known) => drop(self.durations.insert(key, known)),
            Record::Mix(mix) => self.mix = mix,
        }
        Ok(())
    }

    /// A job that may turn out to be still is not even kept whole until its step comes.
    fn insert_job(&mut self, id: JobId, job: Arc<Job>, stepless: &mut BTreeSet<JobId>) {
        let fresh = is_fresh(&job);
        self.jobs.insert(id, job);
        if fresh {
            self.pack(id);
            stepless.extend(self.stills.get(id).map(|_| id));
        }
    }

    fn insert_step(&mut self, (job, index): StepKey, step: Arc<Step>, stepless: &mut BTreeSet<JobId>) {
        stepless.remove(&job);
        if self.still_step(job, index).is_some_and(|still| still.step() == *step) {
            return;
        }
        self.thaw(job);
        self.steps.insert((job, index), step);
    }

    fn insert_task(&mut self, key: TaskKey, task: Arc<flowyard_model::Task>) -> Result<(), RecordError> {
        if self.counts(key.job, key.step).is_none() {
            return Err(RecordError::Orphan { job: key.job });
        }
        self.thaw(key.job);
        self.tasks.entry((key.job, key.step)).or_default().insert(key.task, task);
        Ok(())
    }

    /// The job is there, and its spec has such a step.
    fn require(&self, job: JobId, step: Option<StepIndex>) -> Result<(), RecordError> {
        let known = self.outline(job).ok_or(RecordError::Orphan { job })?;
        let has = step.is_none_or(|step| (step.0 as usize) < known.spec.steps.len());
        if has { Ok(()) } else { Err(RecordError::Orphan { job }) }
    }
}
