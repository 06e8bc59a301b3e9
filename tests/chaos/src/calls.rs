//! Whether what the clients were told has one order: of each job, and of each key.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, Operation, Phase, Seen};
use crate::jobs::Shape;
use crate::linear::{Interval, Model, linearizable};

/// A job as its callers know it.
struct Job {
    /// Whether its tasks fail by their own fault.
    fails: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stand {
    Absent,
    Active,
    Stopping,
    Done(Phase),
}

/// A call about one job, with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Submit,
    Cancel,
    /// What was seen, or that it is not there.
    Read(Option<Seen>),
}

impl Job {
    /// Where it may stand by now, if it stood there.
    fn by_itself(&self, stand: Stand) -> Vec<Stand> {
        let end = Stand::Done(if self.fails { Phase::Failed } else { Phase::Succeeded });
        match stand {
            Stand::Active => vec![stand, end],
            // What runs may still end by itself.
            Stand::Stopping => vec![stand, end, Stand::Done(Phase::Cancelled)],
            Stand::Absent | Stand::Done(_) => vec![stand],
        }
    }
}

fn shows(seen: Option<Seen>, stand: Stand) -> bool {
    match (seen, stand) {
        (None, stand) => stand == Stand::Absent,
        (Some(seen), Stand::Active) => seen.phase == Phase::Active && seen.stopping != Some(true),
        (Some(seen), Stand::Stopping) => seen.phase == Phase::Active && seen.stopping != Some(false),
        (Some(seen), Stand::Done(phase)) => seen.phase == phase,
        (Some(_), Stand::Absent) => false,
    }
}

impl Model for Job {
    type State = Stand;
    type Call = About;

    fn start(&self) -> Stand {
        Stand::Absent
    }

    fn next(&self, state: &Stand, call: &About) -> Vec<Stand> {
        let now = self.by_itself(*state);
        match call {
            // The same key once more changes nothing.
            About::Submit if *state == Stand::Absent => vec![Stand::Active],
            About::Submit => now,
            About::Cancel if *state == Stand::Absent => Vec::new(),
            About::Cancel => {
                let stopped = |stand| if stand == Stand::Active { Stand::Stopping } else { stand };
                now.into_iter().map(stopped).collect()
            }
            About::Read(seen) => now.into_iter().filter(|stand| shows(*seen, *stand)).collect(),
        }
    }
}

/// A key: the job it stands for, once there is one.
struct Key;

impl Model for Key {
    type State = Option<u64>;
    type Call = Option<u64>;

    fn start(&self) -> Option<u64> {
        None
    }

    fn next(&self, state: &Option<u64>, answered: &Option<u64>) -> Vec<Option<u64>> {
        match (state, answered) {
            // Nobody knows which number it got: whatever it is, later answers tell.
            (state, None) => vec![*state],
            (None, Some(job)) => vec![Some(*job)],
            (Some(known), Some(job)) => (known == job).then_some(*state).into_iter().collect(),
        }
    }
}

/// What has no order. `jobs` says which job a tag became.
pub(crate) fn violations(operations: &[Operation], jobs: &BTreeMap<String, u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (job, (tag, calls)) in of_jobs(operations, jobs) {
        let fails = Shape::of(tag) == Some(Shape::Fails);
        if !linearizable(&Job { fails }, calls.clone()) {
            wrong.push(format!("the answers about job {job} ({tag}) have no order:\n{}", told(&calls)));
        }
    }
    for (key, calls) in of_keys(operations) {
        if !linearizable(&Key, calls.clone()) {
            wrong.push(format!("the answers to submissions with key {key} have no order:\n{}", told(&calls)));
        }
    }
    wrong
}

/// How many objects have calls.
pub(crate) fn objects(operations: &[Operation], jobs: &BTreeMap<String, u64>) -> usize {
    of_jobs(operations, jobs).len() + of_keys(operations).len()
}

fn told<C: std::fmt::Debug>(calls: &[Interval<C>]) -> String {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_by_key(|call| call.from_us);
    let line = |call: &&Interval<C>| {
        let until = call.until_us.map_or("?".to_owned(), |until| (until / 1_000).to_string());
        format!("    {} to {until} ms: {:?}", call.from_us / 1_000, call.call)
    };
    calls.iter().map(line).collect::<Vec<_>>().join("\n")
}

type OfJobs<'a> = BTreeMap<u64, (&'a str, Vec<Interval<About>>)>;

fn of_jobs<'a>(operations: &[Operation], jobs: &'a BTreeMap<String, u64>) -> OfJobs<'a> {
    let mut found: OfJobs<'a> = jobs.iter().map(|(tag, job)| (*job, (tag.as_str(), Vec::new()))).collect();
    let mut add = |job: u64, operation: &Operation, call: About| {
        let until_us = (operation.answer != Answer::Unknown).then_some(operation.until_us);
        if let Some((_, calls)) = found.get_mut(&job) {
            calls.push(Interval { call, from_us: operation.from_us, until_us });
        }
    };
    for operation in operations {
        match (&operation.call, &operation.answer) {
            (Call::Submit { tag, .. }, _) => {
                if let Some(job) = jobs.get(tag) {
                    add(*job, operation, About::Submit);
                }
            }
            (Call::Cancel(job) | Call::Read(job), Answer::NotThere) => add(*job, operation, About::Read(None)),
            (Call::Cancel(job), _) => add(*job, operation, About::Cancel),
            (Call::Read(job), Answer::Seen(seen)) => add(*job, operation, About::Read(Some(*seen))),
            (Call::List, Answer::Listed(rows)) => {
                // Older ones may not have found room on the page.
                let oldest = rows.last().map_or(0, |(job, _)| *job);
                for job in jobs.values().filter(|job| **job >= oldest) {
                    let seen = rows.iter().find(|(other, _)| other == job).map(|(_, seen)| *seen);
                    add(*job, operation, About::Read(seen));
                }
            }
            // A read that nobody answered says nothing.
            (Call::Read(_) | Call::List, _) => {}
        }
    }
    found
}

fn of_keys(operations: &[Operation]) -> BTreeMap<&str, Vec<Interval<Option<u64>>>> {
    let mut found: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for operation in operations {
        let Call::Submit { tag, keyed: true } = &operation.call else { continue };
        let (call, until_us) = match operation.answer {
            Answer::Job(job) => (Some(job), Some(operation.until_us)),
            _ => (None, None),
        };
        found.entry(tag).or_default().push(Interval { call, from_us: operation.from_us, until_us });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(call: Call, answer: Answer, [from, until]: [u64; 2]) -> Operation {
        Operation { client: 0, call, answer, from_us: from, until_us: until }
    }

    fn submit(answer: Answer, at: [u64; 2]) -> Operation {
        operation(Call::Submit { tag: "p-k1".to_owned(), keyed: true }, answer, at)
    }

    fn read(phase: Phase, stopping: bool, at: [u64; 2]) -> Operation {
        operation(Call::Read(7), Answer::Seen(Seen { phase, stopping: Some(stopping) }), at)
    }

    fn wrong(operations: &[Operation]) -> usize {
        violations(operations, &BTreeMap::from([("p-k1".to_owned(), 7)])).len()
    }

    #[test]
    fn a_job_that_is_submitted_cancelled_and_read_is_right() {
        let history = [
            submit(Answer::Job(7), [1, 2]),
            read(Phase::Active, false, [3, 4]),
            operation(Call::Cancel(7), Answer::Done, [5, 6]),
            read(Phase::Active, true, [7, 8]),
            submit(Answer::Job(7), [8, 9]),
            read(Phase::Cancelled, true, [10, 11]),
        ];
        assert_eq!(wrong(&history), 0);
    }

    #[test]
    fn a_read_that_forgets_an_acknowledged_submission_is_found() {
        let stale = operation(Call::Read(7), Answer::NotThere, [3, 4]);
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 2]), stale.clone()]), 1);
        // While nobody has answered yet, it may.
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 5]), stale.clone()]), 0);
        assert_eq!(wrong(&[submit(Answer::Unknown, [1, 2]), stale]), 0);
        let missing = operation(
            Call::List,
            Answer::Listed(vec![
                (9, Seen { phase: Phase::Active, stopping: None }),
                (3, Seen { phase: Phase::Active, stopping: None }),
            ]),
            [3, 4],
        );
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 2]), missing]), 1);
    }

    #[test]
    fn a_read_that_forgets_a_cancel_or_an_end_is_found() {
        let cancel = operation(Call::Cancel(7), Answer::Done, [3, 4]);
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 2]), cancel, read(Phase::Active, false, [5, 6])]), 1);
        let ended = read(Phase::Succeeded, false, [3, 4]);
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 2]), ended, read(Phase::Active, false, [5, 6])]), 1);
    }

    #[test]
    fn a_job_that_cannot_fail_and_does_is_found() {
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 2]), read(Phase::Failed, false, [3, 4])]), 1);
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 2]), read(Phase::Cancelled, true, [3, 4])]), 1);
    }

    #[test]
    fn a_key_that_becomes_two_jobs_is_found() {
        assert_eq!(wrong(&[submit(Answer::Job(7), [1, 2]), submit(Answer::Job(8), [3, 4])]), 1);
        assert_eq!(wrong(&[submit(Answer::Unknown, [1, 2]), submit(Answer::Job(7), [3, 4])]), 0);
    }
}
