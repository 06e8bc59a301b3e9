//! The state as a sequence of records, and back. What the snapshot and its digest are made of.

use std::sync::Arc;

use flowyard_model::{JobId, Meta, Policy, Record, StepIndex, TaskIndex, TaskKey};
use imbl::{OrdMap, OrdSet};

use crate::indexes::Indexes;
use crate::state::State;

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
}

impl State {
    /// All records in their order, the same for equal states.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let queues = self.queues.values().cloned().map(Record::Queue);
        let accounts = self.accounts.iter().map(|(key, account)| Record::Account(key.clone(), account.clone()));
        let nodes = self.nodes.iter().map(|(id, node)| Record::Node(*id, node.clone()));
        let keys = self.submissions.iter().map(|(key, value)| Record::Submission(key.clone(), *value));
        let jobs = self.jobs.iter().map(|(id, job)| Record::Job(*id, job.clone()));
        let waits = self.waits.iter().map(|(waited_for, waiting)| Record::Wait(*waiting, *waited_for));
        let steps = self.steps.iter().map(|((job, index), step)| Record::Step(*job, *index, step.clone()));
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
        meta.chain(queues).chain(accounts).chain(nodes).chain(keys).chain(work).chain(who).chain(past)
    }

    /// The state that these records were made from.
    ///
    /// # Errors
    /// [`RecordError`] if they were not made by [`State::records`].
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Result<Self, RecordError> {
        let mut records = records.into_iter();
        let Some(Record::Meta(meta)) = records.next() else { return Err(RecordError::NoMeta) };
        let mut state = Self::without_records(meta);
        for record in records {
            state.insert(record)?;
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
            claims: OrdMap::new(),
            tokens: OrdMap::new(),
            revocations: OrdMap::new(),
            archive: OrdMap::new(),
            segments: OrdMap::new(),
            secrets: OrdMap::new(),
            policy: Arc::default(),
            indexes: Indexes::none(),
        }
    }

    fn insert(&mut self, record: Record) -> Result<(), RecordError> {
        match record {
            Record::Meta(_) => return Err(RecordError::SecondMeta),
            Record::Queue(queue) => drop(self.queues.insert(queue.path.clone(), queue)),
            Record::Account(key, account) => drop(self.accounts.insert(key, account)),
            Record::Node(id, node) => drop(self.nodes.insert(id, node)),
            Record::Submission(key, value) => drop(self.submissions.insert(key, value)),
            Record::Job(id, job) => drop(self.jobs.insert(id, job)),
            Record::Wait(waiting, waited_for) => {
                self.require(waiting, None)?;
                self.require(waited_for, None)?;
                self.waits.insert((waited_for, waiting));
            }
            Record::Step(job, index, step) => {
                self.require(job, Some(index))?;
                self.steps.insert((job, index), step);
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
        }
        Ok(())
    }

    fn insert_task(&mut self, key: TaskKey, task: Arc<flowyard_model::Task>) -> Result<(), RecordError> {
        if !self.steps.contains_key(&(key.job, key.step)) {
            return Err(RecordError::Orphan { job: key.job });
        }
        self.tasks.entry((key.job, key.step)).or_default().insert(key.task, task);
        Ok(())
    }

    /// The job is there, and its spec has such a step.
    fn require(&self, job: JobId, step: Option<StepIndex>) -> Result<(), RecordError> {
        let known = self.jobs.get(&job).ok_or(RecordError::Orphan { job })?;
        let has = step.is_none_or(|step| (step.0 as usize) < known.spec.steps.len());
        if has { Ok(()) } else { Err(RecordError::Orphan { job }) }
    }
}
