//! One still job: what it shares with others, and its own words.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use flowyard_model::{
    Digest, FanOut, Job, JobDesired, JobId, JobSpec, Name, Step, StepSpec, Submission, SubmissionKey, TaskCounts,
    TimeMs,
};

use super::words::{Reader, Writer};
use crate::submit::blocked_step;

/// Words of a job that are packed at most: a block is copied whenever one of its jobs comes or goes.
const MOST_WORDS: usize = 2_048;

/// Everything of a job but its words: most jobs have it in common with many others.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// Without name, tags and parameters, and its step without command and environment.
    pub(super) spec: Arc<JobSpec>,
    pub(super) owner: String,
}

impl Frame {
    /// A number that equal frames share, and different ones hardly ever do.
    pub(super) fn number(&self) -> u64 {
        number_of(self)
    }
}

/// The same for a submission key.
pub(super) fn key_number(owner: &str, key: &str) -> u64 {
    number_of(&(owner, key))
}

fn number_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// How many tasks the only step of a job has from the beginning; `None` if it has several, or has to wait for something.
fn tasks_at_once(spec: &JobSpec) -> Option<u32> {
    let [step] = spec.steps.as_slice() else { return None };
    let timed = spec.deadline_ms.is_some() || spec.queue_ttl_ms.is_some();
    if timed || !spec.after.is_empty() || !step.needs.is_empty() {
        return None;
    }
    tasks_of(step)
}

fn tasks_of(step: &StepSpec) -> Option<u32> {
    match &step.fan_out {
        FanOut::Single => Some(1),
        FanOut::Range { count, .. } => Some(*count).filter(|count| *count > 0),
        FanOut::Items(list) => Some(list.count).filter(|count| *count > 0),
        FanOut::Output { .. } | FanOut::Each { .. } => None,
    }
}

fn bytes_of_words(spec: &JobSpec, key: Option<&str>) -> usize {
    let step = spec.steps.iter().map(|step| {
        let env = step.env.iter().map(|(name, value)| name.len() + value.len() + 4);
        step.command.iter().map(|argument| argument.len() + 2).sum::<usize>() + env.sum::<usize>()
    });
    let params = spec.params.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let tags = spec.tags.iter().map(|tag| tag.len() + 2);
    let words = step.sum::<usize>() + params.sum::<usize>() + tags.sum::<usize>();
    words + spec.name.as_str().len() + key.map_or(0, |key| key.len() + 40)
}

/// Whether a job is as its submission left it, and small enough to be packed.
pub(crate) fn is_fresh(job: &Job) -> bool {
    let untouched = job.desired == JobDesired::Run && job.ended.is_none() && job.overdue.is_none();
    let counted = job.waits_for == 0 && job.open_steps == 1 && job.startable_at.is_none();
    let small = || bytes_of_words(&job.spec, job.key.as_deref()) <= MOST_WORDS;
    untouched && counted && tasks_at_once(&job.spec).is_some() && small()
}

/// The step of such a job as its submission left it: all its tasks can be placed.
pub(super) fn fresh_step(spec: &JobSpec) -> Step {
    let count = tasks_at_once(spec);
    let mut step = blocked_step(spec, 0, count, false);
    step.ready = step.blocked.take();
    let ready = step.counts.blocked;
    step.counts = TaskCounts { ready, ..TaskCounts::NONE };
    step
}

/// Takes a fresh job apart. Its submission is known exactly if it has a key.
pub(super) fn pack(job: Arc<Job>, submitted: Option<Digest>) -> (Frame, Vec<u8>) {
    let Job { spec, owner, key, submitted_at, .. } = Arc::unwrap_or_clone(job);
    let mut words = Writer::with_room(bytes_of_words(&spec, key.as_deref()) + 32);
    let mut spec = Arc::unwrap_or_clone(spec);
    words.number(submitted_at.0);
    match key.as_deref().zip(submitted) {
        None => words.number(0),
        Some((key, digest)) => {
            words.number(key.len() as u64 + 1);
            words.raw(key.as_bytes());
            words.raw(&digest.hash);
            words.number(digest.length);
        }
    }
    words.texts(spec.tags.iter().map(String::as_str));
    words.text(spec.name.as_str());
    words.pairs(spec.params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let step = spec.steps.first_mut().expect("a fresh job has a step");
    words.texts(step.command.iter().map(String::as_str));
    words.pairs(step.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    (step.command, step.env) = (Vec::new(), Default::default());
    (spec.name, spec.tags, spec.params) = (unnamed(), Default::default(), Default::default());
    (Frame { spec: Arc::new(spec), owner }, words.done())
}

/// What stands for the name in a frame.
fn unnamed() -> Name {
    name("0")
}

fn name(text: &str) -> Name {
    text.parse().expect("it was a name")
}

/// A still job, as it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Still<'a> {
    pub(super) frame: &'a Frame,
    pub(super) words: &'a [u8],
}

impl<'a> Still<'a> {
    /// What was asked for, but for the words.
    pub(crate) fn spec(self) -> &'a Arc<JobSpec> {
        &self.frame.spec
    }

    pub(crate) fn owner(self) -> &'a str {
        &self.frame.owner
    }

    pub(crate) fn submitted_at(self) -> TimeMs {
        TimeMs(Reader::of(self.words).number())
    }

    /// How many tasks it has, all of which can be placed.
    pub(crate) fn tasks(self) -> u32 {
        tasks_at_once(self.spec()).unwrap_or(0)
    }

    /// The key under which it was submitted, and the digest of what was.
    pub(crate) fn submitted(self) -> Option<(&'a str, Digest)> {
        self.opened().1
    }

    /// Reads up to the tags.
    fn opened(self) -> (TimeMs, Option<(&'a str, Digest)>, Reader<'a>) {
        let mut reader = Reader::of(self.words);
        let at = TimeMs(reader.number());
        let key = reader.text_after_one().map(|key| {
            let hash = reader.raw();
            (key, Digest { hash, length: reader.number() })
        });
        (at, key, reader)
    }

    pub(crate) fn has_tag(self, tag: &str) -> bool {
        let (.., mut reader) = self.opened();
        reader.texts().any(|own| own == tag)
    }

    /// Its record.
    pub(crate) fn job(self) -> Job {
        let (submitted_at, key, mut reader) = self.opened();
        let mut spec = JobSpec::clone(&self.frame.spec);
        spec.tags = reader.texts().map(str::to_owned).collect();
        spec.name = name(reader.text());
        spec.params = reader.pairs().map(|(key, value)| (name(key), value.to_owned())).collect();
        let step = spec.steps.first_mut().expect("a frame has a step");
        step.command = reader.texts().map(str::to_owned).collect();
        step.env = reader.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Job {
            spec: Arc::new(spec),
            owner: self.frame.owner.clone(),
            key: key.map(|(key, _)| key.to_owned()),
            submitted_at,
            desired: JobDesired::Run,
            waits_for: 0,
            open_steps: 1,
            ended: None,
            overdue: None,
            startable_at: None,
        }
    }

    /// The record of its step.
    pub(crate) fn step(self) -> Step {
        fresh_step(self.spec())
    }

    /// The record of its submission, if it had a key.
    pub(crate) fn submission(self, id: JobId) -> Option<(SubmissionKey, Submission)> {
        let (key, spec_digest) = self.submitted()?;
        let key = SubmissionKey { owner: self.owner().to_owned(), key: key.to_owned() };
        Some((key, Submission { job: id, spec_digest }))
    }
}
