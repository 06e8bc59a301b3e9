//! Prints what all tasks of a job write, while it runs.
//!
//! Every attempt is printed once and whole: from its beginning, live or stored. Changes of the job only say when to look; which
//! attempts there are is read from the tasks themselves, so one that ran between two looks is not missed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flowyard_model::JobId;
use flowyard_proto::api;
use flowyard_sdk::client::{Client, ClientError};
use tokio::task::JoinSet;

use crate::log_printer::{LogPrinter, Style};
use crate::{output, target};

/// Logs followed at one time; more tasks than this are printed after each other.
const FOLLOWERS: usize = 32;
/// Tasks asked for at one time.
const PAGE: u32 = 1_000;
/// Least time between two looks at the tasks.
const LOOK: Duration = Duration::from_millis(100);
/// How often a lost cluster is tried again, and the wait in between.
const TRIES: u32 = 40;
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// States in which a task may have an attempt.
const TOUCHED: [api::TaskState; 6] = [
    api::TaskState::Active,
    api::TaskState::Waiting,
    api::TaskState::Ready,
    api::TaskState::Succeeded,
    api::TaskState::Failed,
    api::TaskState::Cancelled,
];

/// Prints the logs of all tasks until the job has ended. Gives up quietly when the cluster is lost for good: whoever waits for
/// the job says that.
pub(crate) async fn follow_job(client: Client, job: JobId) {
    let mut follower = Follower { client, job, steps: BTreeMap::new(), followers: JoinSet::new() };
    let mut tries = 0;
    while tries < TRIES {
        match follower.follow(&mut tries).await {
            Ok(()) => break,
            Err(error) if error.is_unavailable() => {
                tries += 1;
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Err(error) => {
                tracing::debug!(%error, "the logs cannot be followed any more");
                break;
            }
        }
    }
    while follower.followers.join_next().await.is_some() {}
}

struct Follower {
    client: Client,
    job: JobId,
    steps: BTreeMap<u32, Seen>,
    followers: JoinSet<()>,
}

/// What was seen of a step.
#[derive(Debug, Default)]
struct Seen {
    /// All tasks before this one have ended, and their attempts were seen.
    settled: u32,
    /// Attempts of later tasks that were seen.
    attempts: BTreeSet<(u32, u32)>,
    /// Counts when the step was looked at.
    counts: Option<api::TaskCounts>,
}

impl Follower {
    async fn follow(&mut self, tries: &mut u32) -> Result<(), ClientError> {
        let mut changes = self.client.watch_job(self.job, None).await?;
        while let Some(mut change) = changes.message().await.map_err(|status| self.client.sorted(status))? {
            *tries = 0;
            // Only the newest of what has piled up meanwhile matters.
            loop {
                tokio::select! {
                    biased;
                    newer = changes.message() => match newer.map_err(|status| self.client.sorted(status))? {
                        Some(newer) => change = newer,
                        None => break,
                    },
                    () = std::future::ready(()) => break,
                }
            }
            let Some(job) = change.job else { continue };
            self.look(&job).await?;
            if job.row.as_ref().is_some_and(|row| row.ended_ms.is_some()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(ClientError::Unavailable("the watch ended before the job".to_owned()))
    }

    /// Looks at the steps of which something changed.
    async fn look(&mut self, job: &api::Job) -> Result<(), ClientError> {
        for (at, step) in job.steps.iter().enumerate() {
            let at = at as u32;
            let seen = self.steps.entry(at).or_default();
            let Some(counts) = step.tasks else { continue };
            let touched = counts.active + counts.waiting + counts.succeeded + counts.failed + counts.cancelled > 0;
            // A running task may have gone on to its next attempt with all counts as they were.
            if touched && (counts.active > 0 || seen.counts != step.tasks) {
                self.look_at_step(job, at).await?;
                self.steps.entry(at).or_default().counts = step.tasks;
            }
        }
        Ok(())
    }

    async fn look_at_step(&mut self, job: &api::Job, step: u32) -> Result<(), ClientError> {
        let settled = self.steps.entry(step).or_default().settled;
        let mut after = settled.checked_sub(1).map(|task| api::TaskRef { step, task });
        loop {
            let request = api::ListTasksRequest {
                job: self.job.0,
                step: Some(step),
                task: None,
                states: TOUCHED.iter().map(|state| (*state).into()).collect(),
                limit: PAGE,
                after,
            };
            let page = self.client.list_tasks(request).await?;
            for task in &page.tasks {
                self.look_at_task(job, task).await;
            }
            after = page.tasks.last().map(|task| api::TaskRef { step, task: task.task });
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn look_at_task(&mut self, job: &api::Job, task: &api::Task) {
        for attempt in &task.attempts {
            if self.steps.entry(task.step).or_default().attempts.insert((task.task, attempt.number)) {
                self.print(job, task, attempt.number).await;
            }
        }
        self.steps.entry(task.step).or_default().settle(task);
    }

    async fn print(&mut self, job: &api::Job, task: &api::Task, attempt: u32) {
        while self.followers.len() >= FOLLOWERS {
            self.followers.join_next().await;
        }
        let request = api::LogsRequest {
            job: self.job.0,
            step: task.step,
            task: task.task,
            attempt: Some(attempt),
            stdout: true,
            stderr: true,
            follow: true,
            ..api::LogsRequest::default()
        };
        self.followers.spawn(print(self.client.clone(), request, style(job, task, attempt)));
    }
}

impl Seen {
    /// Forgets a task that has ended, if all before it have.
    fn settle(&mut self, task: &api::Task) {
        let ended = matches!(
            task.state(),
            api::TaskState::Succeeded | api::TaskState::Failed | api::TaskState::Cancelled | api::TaskState::Skipped
        );
        if ended && task.task == self.settled {
            self.settled += 1;
            self.attempts = self.attempts.split_off(&(self.settled, 0));
        }
    }
}

fn style(job: &api::Job, task: &api::Task, attempt: u32) -> Style {
    if output::is_json() {
        let task = target::task_reference(job, task.step, task.task);
        return Style::Json { task, attempt: Some(attempt) };
    }
    let single = job.steps.len() == 1 && job.steps[0].count == Some(1);
    if single {
        return Style::Raw;
    }
    let name = target::step_name(job, task.step);
    let alone = job.steps.get(task.step as usize).is_some_and(|step| step.count == Some(1));
    let label = if alone { format!("{name} | ") } else { format!("{name}/{} | ", task.task) };
    Style::Lines { label, timestamps: false }
}

/// Prints the log of one attempt to its end; when the cluster is lost meanwhile, goes on where it stopped.
async fn print(mut client: Client, request: api::LogsRequest, style: Style) {
    let mut printer = LogPrinter::new(style);
    for _ in 0..TRIES {
        let mut skip = printer.taken();
        match print_after(&mut client, &request, &mut printer, &mut skip).await {
            Err(error) if error.is_unavailable() => tokio::time::sleep(TRY_AGAIN).await,
            Err(error) => {
                tracing::debug!(%error, task = request.task, "a log cannot be read");
                break;
            }
            Ok(()) => break,
        }
    }
    printer.finish();
}

async fn print_after(
    client: &mut Client,
    request: &api::LogsRequest,
    printer: &mut LogPrinter,
    skip: &mut [u64; 2],
) -> Result<(), ClientError> {
    let mut frames = client.logs(*request).await?;
    while let Some(frame) = frames.message().await.map_err(|status| client.sorted(status))? {
        printer.print_after(&frame, skip);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(index: u32, state: api::TaskState) -> api::Task {
        api::Task { task: index, state: state.into(), ..api::Task::default() }
    }

    #[test]
    fn only_a_whole_beginning_is_forgotten() {
        let mut seen = Seen { attempts: [(0, 1), (1, 1), (2, 1)].into(), ..Seen::default() };
        seen.settle(&task(1, api::TaskState::Succeeded));
        assert_eq!((seen.settled, seen.attempts.len()), (0, 3));
        seen.settle(&task(0, api::TaskState::Waiting));
        assert_eq!(seen.settled, 0, "a task that is tried again has not ended");
        seen.settle(&task(0, api::TaskState::Failed));
        seen.settle(&task(1, api::TaskState::Succeeded));
        assert_eq!((seen.settled, seen.attempts), (2, [(2, 1)].into()));
    }

    #[test]
    fn lines_are_labelled_where_there_is_more_than_one_task() {
        let step = |name: &str, count| api::Step { name: name.to_owned(), count: Some(count), ..api::Step::default() };
        let one = api::Job { steps: vec![step("main", 1)], ..api::Job::default() };
        assert_eq!(style(&one, &task(0, api::TaskState::Active), 1), Style::Raw);
        let many = api::Job { steps: vec![step("train", 3)], ..api::Job::default() };
        let label = Style::Lines { label: "train/2 | ".to_owned(), timestamps: false };
        assert_eq!(style(&many, &task(2, api::TaskState::Active), 1), label);
    }
}
