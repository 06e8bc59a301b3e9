//! Jobs that nothing has touched since they were submitted, kept small: a million of them wait in a few hundred bytes each, whatever
//! the size of a record.
//!
//! Such a job is kept as its words (name, command, environment, parameters, tags) and a [`Frame`], which is everything else and the
//! same for most jobs. Its records are made when somebody asks for them; whoever changes one of them thaws the job first: then
//! its records are in the tables as those of any other. Nothing outside this crate can tell: records, snapshots and digests do not.
//!
//! Invariant: a job is here exactly if its records are as its submission left them and it is one of those that can be packed. So
//! equal states are kept equally, whichever way they came about.

mod block;
mod pack;
mod words;

use std::sync::Arc;

use flowyard_model::{Digest, Job, JobId, Submission, SubmissionKey};
use imbl::{OrdMap, OrdSet, ordmap};

use crate::state::State;
use block::{Block, job_at, place};
use pack::{Frame, key_number, pack};

pub(crate) use pack::{Still, is_fresh};

/// Bytes in front of a job's words: the number of its frame.
const NUMBER: usize = size_of::<u64>();

/// The still jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stills {
    blocks: OrdMap<u64, Arc<Block>>,
    count: usize,
    frames: OrdMap<u64, Framed>,
    /// Which of them were submitted under a key that has this number.
    keys: OrdSet<(u64, JobId)>,
}

/// A frame, and how many jobs have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Framed {
    frame: Arc<Frame>,
    jobs: u64,
}

impl Stills {
    /// None.
    pub(crate) fn none() -> Self {
        Self { blocks: OrdMap::new(), count: 0, frames: OrdMap::new(), keys: OrdSet::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, id: JobId) -> Option<Still<'_>> {
        if self.count == 0 {
            return None;
        }
        let (block, slot) = place(id);
        Some(self.unpacked(self.blocks.get(&block)?.get(slot)?))
    }

    fn unpacked<'a>(&'a self, packed: &'a [u8]) -> Still<'a> {
        self.unpacked_after(&mut None, packed)
    }

    /// The same, where the frame of the last one is often that of the next, too.
    fn unpacked_after<'a>(&'a self, last: &mut Option<(u64, &'a Frame)>, packed: &'a [u8]) -> Still<'a> {
        let (number, words) = packed.split_first_chunk().expect("it begins with a number");
        let number = u64::from_le_bytes(*number);
        let frame = match *last {
            Some((known, frame)) if known == number => frame,
            _ => &self.frames.get(&number).expect("a still job has a frame").frame,
        };
        *last = Some((number, frame));
        Still { frame, words }
    }

    /// All of them, by id; both directions.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (JobId, Still<'_>)> {
        let blocks = self.blocks.iter().map(|(number, block)| (*number, &**block));
        blocks.flat_map(move |(number, block)| {
            let mut last = None;
            block.iter().map(move |(slot, packed)| (job_at(number, slot), self.unpacked_after(&mut last, packed)))
        })
    }

    /// Keeps a fresh job here, with the digest of what was submitted under its key, if it has one. Gives it back in the case, as good
    /// as impossible, that another frame has the number of its own.
    fn put(&mut self, id: JobId, job: Arc<Job>, submitted: Option<Digest>) -> Result<(), Arc<Job>> {
        let key = job.key.as_deref().map(|key| key_number(&job.owner, key));
        let (frame, words) = pack(job, submitted);
        let number = frame.number();
        match self.frames.get_mut(&number) {
            Some(framed) if *framed.frame == frame => framed.jobs += 1,
            Some(_) => return Err(Arc::new(Still { frame: &frame, words: &words }.job())),
            None => drop(self.frames.insert(number, Framed { frame: Arc::new(frame), jobs: 1 })),
        }
        let mut packed = Vec::with_capacity(NUMBER + words.len());
        packed.extend_from_slice(&number.to_le_bytes());
        packed.extend_from_slice(&words);
        let (block, slot) = place(id);
        let known = self.blocks.get(&block);
        let made = known.map_or_else(|| Block::empty().with(slot, &packed), |known| known.with(slot, &packed));
        self.blocks.insert(block, Arc::new(made));
        self.keys.extend(key.map(|key| (key, id)));
        self.count += 1;
        Ok(())
    }

    /// A job is here no more.
    fn remove(&mut self, id: JobId) {
        let (block, slot) = place(id);
        let packed = self.blocks.get(&block).and_then(|block| block.get(slot)).expect("it is here");
        let number = u64::from_le_bytes(*packed.first_chunk().expect("it begins with a number"));
        let still = self.unpacked(packed);
        let key = still.submitted().map(|(key, _)| (key_number(still.owner(), key), id));
        let left = self.blocks[&block].without(slot);
        match left.is_empty() {
            true => drop(self.blocks.remove(&block)),
            false => drop(self.blocks.insert(block, Arc::new(left))),
        }
        key.map(|key| self.keys.remove(&key));
        let framed = self.frames.get_mut(&number).expect("a still job has a frame");
        framed.jobs -= 1;
        if framed.jobs == 0 {
            self.frames.remove(&number);
        }
        self.count -= 1;
    }

    /// What was submitted under a key, if that job is here.
    pub(crate) fn submission(&self, wanted: &SubmissionKey) -> Option<Submission> {
        let number = key_number(&wanted.owner, &wanted.key);
        let alike = self.keys.range((number, JobId(0))..=(number, JobId(u64::MAX)));
        alike.filter_map(|(_, id)| self.get(*id)?.submission(*id)).find_map(|(key, it)| (key == *wanted).then_some(it))
    }

    /// The submissions of all of them, by owner and key.
    pub(crate) fn submissions(&self) -> impl Iterator<Item = (SubmissionKey, Submission)> {
        let keyed = self.keys.iter().filter_map(|(_, id)| {
            let still = self.get(*id)?;
            Some((still.owner(), still.submitted()?.0, *id))
        });
        let mut keyed: Vec<_> = keyed.collect();
        keyed.sort_unstable();
        keyed.into_iter().filter_map(move |(.., id)| self.get(id)?.submission(id))
    }

    /// Jobs that are here in one of the two only, or are not the same in both.
    pub(crate) fn differ(&self, before: &Self) -> Vec<JobId> {
        let mut found = Vec::new();
        for item in before.blocks.diff(&self.blocks) {
            let (number, old, new) = match item {
                ordmap::DiffItem::Add(number, new) => (*number, None, Some(new)),
                ordmap::DiffItem::Remove(number, old) => (*number, Some(old), None),
                ordmap::DiffItem::Update { old: (number, old), new: (_, new) } => (*number, Some(old), Some(new)),
            };
            let slots = [old, new].into_iter().flatten().flat_map(|block| block.iter().map(|(slot, _)| slot));
            let of = |block: Option<&Arc<Block>>, slot| block.and_then(|block| block.get(slot)).map(<[u8]>::to_vec);
            let differ = slots.filter(|slot| of(old, *slot) != of(new, *slot));
            found.extend(differ.map(|slot| job_at(number, slot)));
        }
        found
    }

    /// Whether what is counted is what is there.
    pub(crate) fn is_consistent(&self) -> bool {
        let mut counted = Self::none();
        let all = self.iter().all(|(id, still)| {
            let submitted = still.submitted().map(|(_, digest)| digest);
            let job = Arc::new(still.job());
            is_fresh(&job) && counted.put(id, job, submitted).is_ok()
        });
        all && counted == *self
    }
}

impl State {
    /// Keeps a job as a still one, if it is as its submission left it.
    pub(crate) fn freeze(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id).filter(|job| is_fresh(job)) else { return };
        let first = (id, flowyard_model::StepIndex(0));
        let fresh = pack::fresh_step(&job.spec);
        if self.steps.get(&first).is_none_or(|step| **step != fresh) || self.tasks.contains_key(&first) {
            return;
        }
        self.pack(id);
        if self.stills.get(id).is_some() {
            self.steps.remove(&first);
        }
    }

    /// Moves the record of a fresh job, and that of its submission, to the still jobs.
    pub(crate) fn pack(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let key = job.key.clone().map(|key| SubmissionKey { owner: job.owner.clone(), key });
        let submission = key.as_ref().and_then(|key| self.submissions.get(key));
        let submitted = submission.filter(|submission| submission.job == id).map(|submission| submission.spec_digest);
        if key.is_some() != submitted.is_some() {
            return;
        }
        let Some(job) = self.jobs.remove(&id) else { return };
        match self.stills.put(id, job, submitted) {
            Ok(()) => drop(key.map(|key| self.submissions.remove(&key))),
            Err(job) => drop(self.jobs.insert(id, job)),
        }
    }

    /// Puts the records of a still job into the tables: it is about to be touched. Nothing happens to any other.
    pub(crate) fn thaw(&mut self, id: JobId) {
        let Some(still) = self.stills.get(id) else { return };
        let (job, step, submission) = (still.job(), still.step(), still.submission(id));
        self.stills.remove(id);
        self.jobs.insert(id, Arc::new(job));
        self.steps.insert((id, flowyard_model::StepIndex(0)), Arc::new(step));
        self.submissions.extend(submission);
    }

    /// The record of a job, to be changed.
    pub(crate) fn job_mut(&mut self, id: JobId) -> &mut Job {
        self.thaw(id);
        Arc::make_mut(self.jobs.get_mut(&id).expect("the job exists"))
    }
}

#[cfg(test)]
mod tests;
