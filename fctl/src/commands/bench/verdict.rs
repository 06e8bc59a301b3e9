//! Whether everything happened as it had to: what the cluster keeps of each task, beside what was drawn for it.

use std::collections::BTreeMap;

use flowyard_hollow::{Fate, Fates, Told};
use flowyard_model::{AttemptNumber, JobId, Name, StepIndex, TaskIndex, TaskKey, limits};
use flowyard_proto::api::{self, AttemptOutcome, JobRow, ListJobsRequest, ListTasksRequest, TaskRef, TaskState};
use flowyard_sdk::client::Client;

use super::load::Jobs;
use crate::failure::Failure;
use crate::text;

/// Jobs of which each task is looked at; of more, only what is told of the job and what the agents counted.
const LOOKED_AT: usize = 5_000;
/// Lines and tasks of one answer.
const PAGE: u32 = 1_000;
/// Problems that are told.
const TOLD: usize = 10;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub tasks: u64,
    pub attempts: u64,
    pub failed_attempts: u64,
    pub broken_attempts: u64,
    pub failed_tasks: u64,
    /// From when each task could start to when it was placed first, in milliseconds.
    pub placed_ms: Vec<u64>,
    pub first_ms: u64,
    pub last_ms: u64,
    pub problems: Vec<String>,
    untold: u64,
}

/// What had to become of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Drawn {
    attempts: Vec<AttemptOutcome>,
    failed: u64,
    broken: u64,
}

/// What is known of how attempts were to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Law {
    pub fates: Fates,
    pub retries: u32,
}

impl Law {
    fn drawn(&self, task: TaskKey) -> Drawn {
        let mut drawn = Drawn { attempts: Vec::new(), failed: 0, broken: 0 };
        loop {
            let number = AttemptNumber(drawn.attempts.len() as u32 + 1);
            match self.fates.of(task, number) {
                Fate::Succeeds => {
                    drawn.attempts.push(AttemptOutcome::Succeeded);
                    return drawn;
                }
                Fate::Fails => drawn.failed += 1,
                Fate::Breaks => drawn.broken += 1,
            }
            drawn.attempts.push(AttemptOutcome::Failed);
            let over = drawn.failed > u64::from(self.retries) || drawn.broken >= u64::from(limits::UNBLAMED_ATTEMPTS);
            if over {
                return drawn;
            }
        }
    }
}

impl Verdict {
    /// Looks at everything that was submitted, and at what the agents have counted.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(super) async fn of(
        client: &mut Client,
        run: &Name,
        jobs: &Jobs,
        law: Law,
        told: &Told,
    ) -> Result<Self, Failure> {
        let mut verdict = Self { first_ms: u64::MAX, ..Self::default() };
        let rows = rows(client, run).await?;
        for (job, count) in jobs {
            let Some(row) = rows.get(job) else {
                verdict
                    .problem(format!("job {job} of {} is not there any more", text::count(u64::from(*count), "task")));
                continue;
            };
            verdict.look_at(row, *count);
            if jobs.len() <= LOOKED_AT {
                verdict.look_at_tasks(client, row, *count, law).await?;
            } else {
                verdict.look_at_counts(row, *count, law);
            }
        }
        let others = rows.len().saturating_sub(jobs.len());
        if others > 0 {
            verdict.problem(format!("there are {} that nobody submitted", text::count(others as u64, "job")));
        }
        verdict.look_at_agents(told);
        if verdict.untold > 0 {
            verdict.problems.push(format!("and {} like these", text::count(verdict.untold, "more problem")));
        }
        verdict.placed_ms.sort_unstable();
        Ok(verdict)
    }

    fn problem(&mut self, what: String) {
        match self.problems.len() < TOLD {
            true => self.problems.push(what),
            false => self.untold += 1,
        }
    }

    fn look_at(&mut self, row: &JobRow, count: u32) {
        self.tasks += u64::from(count);
        self.first_ms = self.first_ms.min(row.submitted_ms);
        match row.ended_ms {
            Some(at) => self.last_ms = self.last_ms.max(at),
            None => self.problem(format!("job {} has not ended", row.job)),
        }
    }

    /// Of a job whose tasks are not looked at one by one.
    fn look_at_counts(&mut self, row: &JobRow, count: u32, law: Law) {
        let mut failed = 0;
        for task in 0..count {
            let drawn = law.drawn(key(row.job, 0, task));
            self.count(&drawn);
            failed += u64::from(drawn.attempts.last() != Some(&AttemptOutcome::Succeeded));
        }
        self.failed_tasks += failed;
        let tasks = row.tasks.unwrap_or_default();
        let right = (u64::from(count) - failed, failed);
        if (u64::from(tasks.succeeded), u64::from(tasks.failed)) != right {
            self.problem(format!(
                "of job {}, {} tasks succeeded and {} failed, where {} and {} were drawn",
                row.job, tasks.succeeded, tasks.failed, right.0, right.1
            ));
        }
        let waited = row.started_ms.map(|at| at.saturating_sub(row.submitted_ms));
        self.placed_ms.extend(waited);
    }

    fn count(&mut self, drawn: &Drawn) {
        self.attempts += drawn.attempts.len() as u64;
        self.failed_attempts += drawn.failed;
        self.broken_attempts += drawn.broken;
    }

    async fn look_at_tasks(&mut self, client: &mut Client, row: &JobRow, count: u32, law: Law) -> Result<(), Failure> {
        let (mut seen, mut after) = (0, None);
        loop {
            let asked = ListTasksRequest { job: row.job, limit: PAGE, after, ..ListTasksRequest::default() };
            let answer = client.list_tasks(asked).await?;
            for task in &answer.tasks {
                self.look_at_task(row, task, law);
            }
            seen += answer.tasks.len() as u64;
            after = answer.tasks.last().map(|last| TaskRef { step: last.step, task: last.task });
            if !answer.more || after.is_none() {
                break;
            }
        }
        if seen != u64::from(count) {
            self.problem(format!("job {} has {seen} tasks, and {count} were submitted", row.job));
        }
        Ok(())
    }

    fn look_at_task(&mut self, row: &JobRow, task: &api::Task, law: Law) {
        let drawn = law.drawn(key(row.job, task.step, task.task));
        self.count(&drawn);
        let ended = |attempt: &api::Attempt| {
            attempt.members.first().and_then(|member| member.end.as_ref()).map(api::End::outcome)
        };
        let outcomes: Vec<_> = task.attempts.iter().map(|attempt| ended(attempt).unwrap_or_default()).collect();
        let succeeds = drawn.attempts.last() == Some(&AttemptOutcome::Succeeded);
        let wanted = if succeeds { TaskState::Succeeded } else { TaskState::Failed };
        self.failed_tasks += u64::from(task.state() == TaskState::Failed);
        if outcomes != drawn.attempts || task.state() != wanted {
            self.problem(format!(
                "task {} of job {} is {} after attempts that ended {}; {} after {} was drawn",
                task.task,
                row.job,
                text::word(task.state().as_str_name(), "TASK_STATE_"),
                words(&outcomes),
                text::word(wanted.as_str_name(), "TASK_STATE_"),
                words(&drawn.attempts)
            ));
        }
        let waited = task.attempts.first().map(|attempt| attempt.placed_ms.saturating_sub(row.submitted_ms));
        self.placed_ms.extend(waited);
    }

    fn look_at_agents(&mut self, told: &Told) {
        if told.twice > 0 {
            self.problem(format!("{} begun twice", text::count_of(told.twice, "attempt was", "attempts were")));
        }
        if told.begun != self.attempts {
            self.problem(format!("agents began {} attempts, and {} were drawn", told.begun, self.attempts));
        }
        if told.lost > 0 || told.refused > 0 || told.stopped > 0 {
            self.problem(format!(
                "agents did not have {} attempts that they should have had, refused {} and stopped {}",
                told.lost, told.refused, told.stopped
            ));
        }
    }
}

fn key(job: u64, step: u32, task: u32) -> TaskKey {
    TaskKey { job: JobId(job), step: StepIndex(step), task: TaskIndex(task) }
}

fn words(outcomes: &[AttemptOutcome]) -> String {
    let words: Vec<_> = outcomes.iter().map(|outcome| text::word(outcome.as_str_name(), "ATTEMPT_OUTCOME_")).collect();
    if words.is_empty() { "never".to_owned() } else { words.join(", ") }
}

/// Every job of the run, remembered or archived.
async fn rows(client: &mut Client, run: &Name) -> Result<BTreeMap<u64, JobRow>, Failure> {
    let mut rows = BTreeMap::new();
    for archived in [true, false] {
        let mut before_job = None;
        loop {
            let tags = vec![run.to_string()];
            let asked = ListJobsRequest { tags, limit: PAGE, before_job, archived, ..ListJobsRequest::default() };
            let answer = client.list_jobs(asked).await?;
            before_job = answer.jobs.last().map(|row| row.job);
            rows.extend(answer.jobs.into_iter().map(|row| (row.job, row)));
            if !answer.more || before_job.is_none() {
                break;
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(failures_ppm: u32, faults_ppm: u32, retries: u32) -> Law {
        Law { fates: Fates { seed: 3, failures_ppm, faults_ppm }, retries }
    }

    fn task(outcomes: &[AttemptOutcome], state: TaskState) -> api::Task {
        let attempt = |(at, outcome): (usize, &AttemptOutcome)| api::Attempt {
            number: at as u32 + 1,
            placed_ms: 150,
            members: vec![api::Member {
                end: Some(api::End { outcome: (*outcome).into(), ..api::End::default() }),
                ..api::Member::default()
            }],
            ..api::Attempt::default()
        };
        let attempts = outcomes.iter().enumerate().map(attempt).collect();
        api::Task { state: state.into(), attempts, ..api::Task::default() }
    }

    fn row() -> JobRow {
        JobRow { job: 1, submitted_ms: 100, ended_ms: Some(200), ..JobRow::default() }
    }

    fn judged(law: Law, task: &api::Task) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.look_at_task(&row(), task, law);
        verdict
    }

    #[test]
    fn a_task_that_ended_as_was_drawn_is_right_and_every_other_is_told() {
        use AttemptOutcome::{Failed, Lost, Succeeded};
        let right = judged(law(0, 0, 0), &task(&[Succeeded], TaskState::Succeeded));
        assert_eq!((right.problems.len(), right.attempts, &right.placed_ms[..]), (0, 1, &[50][..]));
        for wrong in [
            task(&[], TaskState::Ready),
            task(&[Succeeded], TaskState::Failed),
            task(&[Failed], TaskState::Failed),
            task(&[Lost, Succeeded], TaskState::Succeeded),
            task(&[Succeeded, Succeeded], TaskState::Succeeded),
        ] {
            assert_eq!(judged(law(0, 0, 0), &wrong).problems.len(), 1, "{wrong:?}");
        }
        let all_fail = judged(law(1_000_000, 0, 2), &task(&[Failed, Failed, Failed], TaskState::Failed));
        assert_eq!((all_fail.problems.len(), all_fail.failed_attempts, all_fail.failed_tasks), (0, 3, 1));
        assert_eq!(judged(law(1_000_000, 0, 2), &task(&[Failed], TaskState::Failed)).problems.len(), 1);
        let broken = judged(law(0, 1_000_000, 2), &task(&[Failed; 20], TaskState::Failed));
        assert_eq!((broken.problems.len(), broken.broken_attempts), (0, 20));
    }

    #[test]
    fn what_agents_counted_has_to_agree_with_what_was_drawn() {
        let mut verdict = judged(law(0, 0, 0), &task(&[AttemptOutcome::Succeeded], TaskState::Succeeded));
        verdict.look_at_agents(&Told { begun: 1, ..Told::default() });
        assert_eq!(verdict.problems, [""; 0]);
        verdict.look_at_agents(&Told { begun: 2, twice: 1, lost: 1, ..Told::default() });
        assert_eq!(verdict.problems.len(), 3, "{:?}", verdict.problems);
    }
}
