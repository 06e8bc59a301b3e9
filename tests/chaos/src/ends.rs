//! What must be so of every job once everything has been mended, whatever was broken meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use flowyard_cas::{Manifest, digest_bytes};
use flowyard_model::Digest;
use flowyard_proto::api;

use crate::jobs::{RETRIES, Shape};
use crate::owner::Told;

/// What is wrong with a job. `cancelled` says whether anybody may have cancelled it.
pub(crate) fn violations(told: &Told, tag: &str, cancelled: bool) -> Vec<String> {
    let Some(shape) = Shape::of(tag) else { return vec![format!("a job is tagged {tag}, which nobody submitted")] };
    let Some(row) = &told.job.row else { return vec![format!("the job of {tag} has no row")] };
    let mut wrong = Vec::new();
    let expected = if shape == Shape::Fails { api::JobPhase::Failed } else { api::JobPhase::Succeeded };
    let may_be = |state| state == expected || cancelled && state == api::JobPhase::Cancelled;
    if !may_be(row.state()) {
        wrong.push(format!("it is {}", row.state().as_str_name()));
    }
    for task in &told.tasks {
        let number = task.task;
        wrong.extend(of_task(task, shape, row.state()).into_iter().map(|what| format!("task {number}: {what}")));
    }
    if told.tasks.len() != shape.tasks() as usize {
        wrong.push(format!("it has {} tasks", told.tasks.len()));
    }
    wrong.extend(of_artifacts(told, shape));
    wrong.into_iter().map(|what| format!("job {} ({tag}): {what}", row.job)).collect()
}

/// The ends of a task's attempts; each has one member.
fn ends(task: &api::Task) -> impl Iterator<Item = (u32, Option<&api::End>)> {
    task.attempts.iter().flat_map(|attempt| attempt.members.iter().map(|member| (attempt.number, member.end.as_ref())))
}

/// The attempts of a task that succeeded.
fn successes(task: &api::Task) -> Vec<u32> {
    let well = |end: Option<&api::End>| end.is_some_and(|end| end.outcome() == api::AttemptOutcome::Succeeded);
    ends(task).filter(|(_, end)| well(*end)).map(|(number, _)| number).collect()
}

fn of_task(task: &api::Task, shape: Shape, job: api::JobPhase) -> Vec<String> {
    let mut wrong = Vec::new();
    let successes = successes(task);
    let expected = usize::from(task.state() == api::TaskState::Succeeded);
    if successes.len() != expected {
        wrong.push(format!("{} attempts succeeded: {successes:?}", successes.len()));
    }
    let own_fault = |end: &api::End| end.outcome() == api::AttemptOutcome::Failed && end.blame() == api::Blame::User;
    let failed = ends(task).filter(|(_, end)| end.is_some_and(own_fault)).count() as u32;
    let right = match (shape, job) {
        (Shape::Fails, api::JobPhase::Failed) => failed == RETRIES + 1,
        (Shape::Fails, _) => failed <= RETRIES + 1,
        _ => failed == 0,
    };
    if !right {
        wrong.push(format!("{failed} failures are blamed on the user: {:?}", ends(task).collect::<Vec<_>>()));
    }
    for (number, end) in ends(task) {
        match end {
            None => wrong.push(format!("attempt {number} has not ended")),
            Some(end) if end.reason() == api::Reason::LeaseExpired && shape != Shape::Single => {
                wrong.push(format!("attempt {number} was stopped because nobody was heard"));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// What an attempt writes into its artifact.
pub(crate) fn content(job: u64, task: u32, attempt: u32) -> Vec<u8> {
    format!("{job}.{task}.{attempt}\n").into_bytes()
}

/// The artifact that says who wrote it, and its one file.
fn written_by(job: u64, task: u32, attempt: u32) -> (Digest, Digest) {
    let file = digest_bytes(&content(job, task, attempt));
    (Manifest::file(file, false).digest(), file)
}

fn of_artifacts(told: &Told, shape: Shape) -> Vec<String> {
    let job = told.job.row.as_ref().map_or(0, |row| row.job);
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    for artifact in &told.artifacts {
        *seen.entry(artifact.task).or_default() += 1;
        let writer = told.tasks.iter().find(|task| task.task == artifact.task).map(successes).unwrap_or_default();
        let right = |attempt: &u32| Some(written_by(job, artifact.task, *attempt).0.into()) == artifact.manifest;
        if !writer.iter().any(right) {
            wrong.push(format!("the artifact of task {} is not of its attempt {writer:?}", artifact.task));
        }
    }
    for task in &told.tasks {
        let expected = u32::from(shape.has_artifact() && task.state() == api::TaskState::Succeeded);
        let count = seen.get(&task.task).copied().unwrap_or(0);
        if count != expected {
            wrong.push(format!("task {} published {count} artifacts", task.task));
        }
    }
    wrong
}

/// The files of a job's artifacts with what must be in them.
pub(crate) fn files(told: &Told) -> Vec<(Digest, Vec<u8>)> {
    let job = told.job.row.as_ref().map_or(0, |row| row.job);
    let published = told.tasks.iter().filter(|task| told.artifacts.iter().any(|artifact| artifact.task == task.task));
    let by = published.flat_map(|task| successes(task).into_iter().map(|attempt| (task.task, attempt)));
    by.map(|(task, attempt)| (written_by(job, task, attempt).1, content(job, task, attempt))).collect()
}

/// When an attempt was first and last alive, in nanoseconds.
type Life = (u64, u64);

/// The tasks that must not run twice, by what their attempts wrote outside: a file each, since each is another user.
pub(crate) fn traced(traces: &Path) -> BTreeMap<String, BTreeMap<u32, Life>> {
    let mut found: BTreeMap<String, BTreeMap<u32, Life>> = BTreeMap::new();
    for entry in std::fs::read_dir(traces).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((tag, attempt)) = name.rsplit_once('.') else { continue };
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        if let (Ok(attempt), Some(life)) = (attempt.parse(), life(&text)) {
            found.entry(tag.to_owned()).or_default().insert(attempt, life);
        }
    }
    found
}

fn life(text: &str) -> Option<Life> {
    let times = text.lines().filter_map(|line| line.parse().ok());
    times
        .fold(None, |life: Option<Life>, at| life.map_or(Some((at, at)), |(from, to)| Some((from.min(at), to.max(at)))))
}

/// Whether two attempts of a task were alive at once.
pub(crate) fn overlap(lives: &BTreeMap<u32, Life>) -> Option<String> {
    let lives: Vec<_> = lives.iter().collect();
    let twice = lives.windows(2).find(|pair| pair[1].1.0 < pair[0].1.1)?;
    Some(format!("attempt {} began before attempt {} was gone", twice[1].0, twice[0].0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, outcome: api::AttemptOutcome, blame: api::Blame) -> api::Attempt {
        let end = api::End { outcome: outcome.into(), blame: blame.into(), ..api::End::default() };
        let member = api::Member { end: Some(end), ..api::Member::default() };
        api::Attempt { number, members: vec![member], ..api::Attempt::default() }
    }

    fn lost(number: u32) -> api::Attempt {
        attempt(number, api::AttemptOutcome::Lost, api::Blame::Platform)
    }

    fn well(number: u32) -> api::Attempt {
        attempt(number, api::AttemptOutcome::Succeeded, api::Blame::Unspecified)
    }

    fn failed(number: u32) -> api::Attempt {
        attempt(number, api::AttemptOutcome::Failed, api::Blame::User)
    }

    fn told(phase: api::JobPhase, attempts: Vec<api::Attempt>, writer: Option<u32>) -> Told {
        let succeeded = phase == api::JobPhase::Succeeded;
        let state = if succeeded { api::TaskState::Succeeded } else { api::TaskState::Failed };
        let row = api::JobRow { job: 7, state: phase.into(), ..api::JobRow::default() };
        let artifact =
            |attempt| api::Artifact { manifest: Some(written_by(7, 0, attempt).0.into()), ..api::Artifact::default() };
        Told {
            job: api::Job { row: Some(row), ..api::Job::default() },
            tasks: vec![api::Task { state: state.into(), attempts, ..api::Task::default() }],
            artifacts: writer.map(artifact).into_iter().collect(),
        }
    }

    fn wrong(told: &Told, tag: &str) -> usize {
        violations(told, tag, false).len()
    }

    #[test]
    fn a_task_that_was_lost_and_succeeded_then_is_right() {
        assert_eq!(wrong(&told(api::JobPhase::Succeeded, vec![lost(1), well(2)], Some(2)), "r-1"), 0);
    }

    #[test]
    fn two_successes_are_found() {
        assert_eq!(wrong(&told(api::JobPhase::Succeeded, vec![well(1), well(2)], Some(2)), "r-1"), 1);
    }

    #[test]
    fn an_output_of_a_lost_attempt_is_found() {
        assert_eq!(wrong(&told(api::JobPhase::Succeeded, vec![lost(1), well(2)], Some(1)), "r-1"), 1);
    }

    #[test]
    fn an_artifact_that_is_missing_or_should_not_be_is_found() {
        assert_eq!(wrong(&told(api::JobPhase::Succeeded, vec![well(1)], None), "r-1"), 1);
        assert_eq!(wrong(&told(api::JobPhase::Succeeded, vec![well(1)], Some(1)), "l-1"), 1);
    }

    #[test]
    fn a_retry_spent_by_the_platform_is_found() {
        assert_eq!(wrong(&told(api::JobPhase::Failed, vec![failed(1), lost(2), failed(3)], None), "f-1"), 0);
        assert_eq!(wrong(&told(api::JobPhase::Failed, vec![failed(1), lost(2)], None), "f-1"), 1);
        assert_eq!(wrong(&told(api::JobPhase::Failed, vec![failed(1)], None), "r-1"), 2, "and the job failed");
    }

    #[test]
    fn a_task_that_ran_twice_at_once_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("s-1.1", "10\n20\n");
        write("s-1.2", "30\n40\n");
        write("s-k2.1", "10\n20\n");
        write("s-k2.2", "15\n30\n");
        let traced = traced(folder.path());
        assert_eq!(traced.keys().collect::<Vec<_>>(), ["s-1", "s-k2"]);
        assert_eq!((overlap(&traced["s-1"]), overlap(&traced["s-k2"]).is_some()), (None, true));
    }
}
