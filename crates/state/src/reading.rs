//! How jobs and their steps are read, whether their records are kept as such or made when somebody asks.

use std::ops::Deref;
use std::sync::Arc;

use flowyard_model::{
    Job, JobDesired, JobEnd, JobId, JobSpec, Name, Step, StepIndex, StepSpec, Submission, SubmissionKey, TaskCounts,
    TimeMs,
};

use crate::state::{State, step_span};
use crate::still::Still;

/// A record: as it is kept, or made for whoever asked. Reads like the record.
#[derive(Debug)]
pub enum Ref<'a, T> {
    /// It is in a table.
    Kept(&'a Arc<T>),
    /// It was made just now.
    Made(Arc<T>),
}

impl<T> Deref for Ref<'_, T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        match self {
            Self::Kept(record) => record,
            Self::Made(record) => record,
        }
    }
}

impl<T: PartialEq> PartialEq for Ref<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// A job without its words: what is cheap to look at, also of a million jobs that wait.
#[derive(Debug, Clone, Copy)]
pub struct Outline<'a> {
    /// What was asked for; but the name, tags and parameters of the job, and the command and environment of a step, may be missing. Ask
    /// for the [`job`](Self::job) where they matter.
    pub spec: &'a Arc<JobSpec>,
    /// Who submitted it.
    pub owner: &'a str,
    /// When.
    pub submitted_at: TimeMs,
    /// Whether it should run.
    pub desired: JobDesired,
    /// Set once it has ended.
    pub ended: Option<JobEnd>,
    of: Of<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Of<'a> {
    Kept(&'a Arc<Job>),
    Still(Still<'a>),
}

impl<'a> Outline<'a> {
    pub(crate) fn of(job: &'a Arc<Job>) -> Self {
        let Job { spec, owner, submitted_at, desired, ended, .. } = &**job;
        Self { spec, owner, submitted_at: *submitted_at, desired: *desired, ended: *ended, of: Of::Kept(job) }
    }

    fn of_still(still: Still<'a>) -> Self {
        let (spec, owner, submitted_at) = (still.spec(), still.owner(), still.submitted_at());
        Self { spec, owner, submitted_at, desired: JobDesired::Run, ended: None, of: Of::Still(still) }
    }

    /// Its whole record.
    pub fn job(self) -> Ref<'a, Job> {
        match self.of {
            Of::Kept(job) => Ref::Kept(job),
            Of::Still(still) => Ref::Made(Arc::new(still.job())),
        }
    }

    /// Whether it has this tag.
    pub fn has_tag(self, tag: &str) -> bool {
        match self.of {
            Of::Kept(job) => job.spec.tags.contains(tag),
            Of::Still(still) => still.has_tag(tag),
        }
    }
}

impl State {
    /// A job.
    pub fn job(&self, job: JobId) -> Option<Ref<'_, Job>> {
        Some(self.outline(job)?.job())
    }

    /// What is cheap to look at of a job.
    pub fn outline(&self, job: JobId) -> Option<Outline<'_>> {
        let still = || self.stills.get(job).map(Outline::of_still);
        self.jobs.get(&job).map(Outline::of).or_else(still)
    }

    /// All remembered jobs, by id; both directions.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = (JobId, Ref<'_, Job>)> {
        self.outlines().map(|(id, outline)| (id, outline.job()))
    }

    /// All remembered jobs, by id, in outline; both directions.
    pub fn outlines(&self) -> impl DoubleEndedIterator<Item = (JobId, Outline<'_>)> {
        let kept = self.jobs.iter().map(|(id, job)| (*id, Outline::of(job)));
        let still = self.stills.iter().map(|(id, still)| (id, Outline::of_still(still)));
        Merged { one: Ends::of(kept), other: Ends::of(still) }
    }

    /// Number of remembered jobs.
    pub fn job_count(&self) -> usize {
        self.jobs.len() + self.stills.len()
    }

    /// What a client's submission key stands for.
    pub fn submission(&self, key: &SubmissionKey) -> Option<Submission> {
        self.submissions.get(key).copied().or_else(|| self.stills.submission(key))
    }

    /// A step.
    pub fn step(&self, job: JobId, step: StepIndex) -> Option<Ref<'_, Step>> {
        let still = || self.still_step(job, step).map(|still| Ref::Made(Arc::new(still.step())));
        self.steps.get(&(job, step)).map(Ref::Kept).or_else(still)
    }

    /// The still job that has this step.
    pub(crate) fn still_step(&self, job: JobId, step: StepIndex) -> Option<Still<'_>> {
        self.stills.get(job).filter(|_| step == StepIndex(0))
    }

    /// The steps of a job, in the order of its spec.
    pub fn steps(&self, job: JobId) -> impl Iterator<Item = (StepIndex, Ref<'_, Step>)> {
        let kept = self.steps.range(step_span(job)).map(|((_, index), step)| (*index, Ref::Kept(step)));
        let still = self.stills.get(job).map(|still| (StepIndex(0), Ref::Made(Arc::new(still.step()))));
        kept.chain(still)
    }

    /// How many tasks of a step are in which state.
    pub fn counts(&self, job: JobId, step: StepIndex) -> Option<TaskCounts> {
        let still = || Some(TaskCounts { ready: self.still_step(job, step)?.tasks(), ..TaskCounts::NONE });
        self.steps.get(&(job, step)).map(|step| step.counts).or_else(still)
    }

    /// What was asked for in a step, as far as an [`Outline`] knows it: its command and environment may be missing.
    pub fn step_spec(&self, job: JobId, step: StepIndex) -> Option<&StepSpec> {
        self.outline(job)?.spec.steps.get(step.0 as usize)
    }

    /// The position of a step, by its name.
    pub fn step_named(&self, job: JobId, name: &Name) -> Option<StepIndex> {
        let at = self.outline(job)?.spec.steps.iter().position(|step| step.name == *name)?;
        Some(StepIndex(u32::try_from(at).ok()?))
    }
}

/// Two sequences that ascend by job, as one that does.
struct Merged<A: Iterator, B: Iterator> {
    one: Ends<A>,
    other: Ends<B>,
}

/// A sequence of which the next item can be looked at from both ends.
struct Ends<I: Iterator> {
    rest: I,
    first: Option<I::Item>,
    last: Option<I::Item>,
}

impl<T, I: DoubleEndedIterator<Item = (JobId, T)>> Ends<I> {
    fn of(rest: I) -> Self {
        Self { rest, first: None, last: None }
    }

    fn first(&mut self) -> Option<JobId> {
        if self.first.is_none() {
            self.first = self.rest.next().or_else(|| self.last.take());
        }
        self.first.as_ref().map(|(id, _)| *id)
    }

    fn last(&mut self) -> Option<JobId> {
        if self.last.is_none() {
            self.last = self.rest.next_back().or_else(|| self.first.take());
        }
        self.last.as_ref().map(|(id, _)| *id)
    }
}

impl<T, A, B> Iterator for Merged<A, B>
where
    A: DoubleEndedIterator<Item = (JobId, T)>,
    B: DoubleEndedIterator<Item = (JobId, T)>,
{
    type Item = (JobId, T);

    fn next(&mut self) -> Option<(JobId, T)> {
        match (self.one.first(), self.other.first()) {
            (Some(one), Some(other)) if other < one => self.other.first.take(),
            (Some(_), _) => self.one.first.take(),
            (None, _) => self.other.first.take(),
        }
    }
}

impl<T, A, B> DoubleEndedIterator for Merged<A, B>
where
    A: DoubleEndedIterator<Item = (JobId, T)>,
    B: DoubleEndedIterator<Item = (JobId, T)>,
{
    fn next_back(&mut self) -> Option<(JobId, T)> {
        match (self.one.last(), self.other.last()) {
            (Some(one), Some(other)) if other > one => self.other.last.take(),
            (Some(_), _) => self.one.last.take(),
            (None, _) => self.other.last.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_sequences_are_read_as_one_from_both_ends(
            owners in prop::collection::vec(any::<bool>(), 0..20),
            turns in prop::collection::vec(any::<bool>(), 24),
        ) {
            let all: Vec<(JobId, bool)> = (0..).map(JobId).zip(owners).collect();
            let (one, other): (BTreeMap<_, _>, BTreeMap<_, _>) = all.iter().copied().partition(|(_, first)| *first);
            let mut merged = Merged { one: Ends::of(one.into_iter()), other: Ends::of(other.into_iter()) };
            let mut expected = all.into_iter();
            for front in turns {
                if front {
                    prop_assert_eq!(merged.next(), expected.next());
                } else {
                    prop_assert_eq!(merged.next_back(), expected.next_back());
                }
            }
        }
    }
}
