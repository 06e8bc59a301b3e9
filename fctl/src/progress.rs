//! Live progress of one job on standard error: a line per step with counts, elapsed time and the last line that a running task
//! printed; plain lines when nobody watches a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use flowyard_proto::api;
use flowyard_sdk::client::Client;
use flowyard_sdk::shown::shown;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{output, text};

/// How often the times of running steps are drawn anew.
const REDRAW: Duration = Duration::from_secs(1);

/// Columns kept for a task's last line.
const LAST_LINE: usize = 60;

/// Shows how a job goes.
pub(crate) struct Progress {
    kind: Kind,
}

enum Kind {
    /// Nothing: programs read the end.
    Silent,
    /// A line per change.
    Plain { said: BTreeMap<String, String> },
    /// A line per step, redrawn.
    Terminal(Box<Terminal>),
}

struct Terminal {
    bars: MultiProgress,
    steps: Vec<StepBar>,
    client: Client,
    job: u64,
    /// The job as it was told last: its times go on between changes.
    last: Option<api::Job>,
    lines: (mpsc::Sender<StepLine>, mpsc::Receiver<StepLine>),
}

/// A step's position, and the last line that one of its tasks printed.
type StepLine = (usize, String);

struct StepBar {
    bar: ProgressBar,
    /// The task whose log is followed, and who follows it.
    followed: Option<(u32, u32, JoinHandle<()>)>,
    last_line: String,
}

impl Progress {
    /// Progress as it suits standard error.
    pub(crate) fn new(client: &Client, job: u64) -> Self {
        let kind = match (output::is_json(), output::is_terminal()) {
            (true, _) => Kind::Silent,
            (false, false) => Kind::Plain { said: BTreeMap::new() },
            (false, true) => Kind::Terminal(Box::new(Terminal {
                bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
                steps: Vec::new(),
                client: client.clone(),
                job,
                last: None,
                lines: mpsc::channel(64),
            })),
        };
        Self { kind }
    }

    /// Nothing is shown; the logs take the screen.
    pub(crate) fn silent() -> Self {
        Self { kind: Kind::Silent }
    }

    /// Shows what changed.
    pub(crate) fn update(&mut self, change: &api::WatchJobResponse) {
        let Some(job) = &change.job else { return };
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Plain { said } => plain(said, job),
            Kind::Terminal(terminal) => terminal.update(job, &change.active),
        }
    }

    /// Waits for the next line of a followed task and shows it. Never ends where none is followed.
    pub(crate) async fn tick(&mut self) {
        match &mut self.kind {
            Kind::Terminal(terminal) => {
                tokio::select! {
                    Some((step, line)) = terminal.lines.1.recv() => terminal.last_line(step, line),
                    () = tokio::time::sleep(REDRAW) => terminal.redraw(),
                }
            }
            Kind::Silent | Kind::Plain { .. } => std::future::pending().await,
        }
    }

    /// Leaves the last picture on the screen.
    pub(crate) fn finish(self) {
        if let Kind::Terminal(terminal) = self.kind {
            for step in terminal.steps {
                if let Some((_, _, follower)) = step.followed {
                    follower.abort();
                }
                step.bar.finish();
            }
        }
    }
}

/// A line for each step whose counts changed.
fn plain(said: &mut BTreeMap<String, String>, job: &api::Job) {
    for step in &job.steps {
        let Some(counts) = &step.tasks else { continue };
        let idle = counts.active == 0 && done(counts) == 0;
        let line = match step.count {
            Some(0) => "skipped: nothing to do".to_owned(),
            _ if idle && counts.waiting == 0 => continue,
            _ => format!("{}{}", text::counts(counts), waits(job, step)),
        };
        if said.get(&step.name) != Some(&line) {
            output::note(format!(
                "{}: {line}{}",
                step.name,
                elapsed(step).map_or_else(String::new, |time| format!(" ({time})"))
            ));
            said.insert(step.name.clone(), line);
        }
    }
}

/// How to learn what a task that is to be tried again ended with.
fn waits(job: &api::Job, step: &api::Step) -> String {
    match (step.tasks.is_some_and(|tasks| tasks.waiting > 0), &job.row) {
        (true, Some(row)) => format!("; to be tried again, see `fctl why {}/{}`", row.job, step.name),
        _ => String::new(),
    }
}

fn done(counts: &api::TaskCounts) -> u32 {
    counts.succeeded + counts.failed + counts.cancelled + counts.skipped
}

fn elapsed(step: &api::Step) -> Option<String> {
    let end = step.ended_ms.unwrap_or_else(flowyard_clock::wall_ms);
    Some(text::duration(end.saturating_sub(step.started_ms?)))
}

impl Terminal {
    fn update(&mut self, job: &api::Job, active: &[api::Task]) {
        let width = job.steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
        while self.steps.len() < job.steps.len() {
            let bar = self.bars.add(ProgressBar::new(1));
            bar.set_style(style(width));
            bar.set_prefix(job.steps[self.steps.len()].name.clone());
            self.steps.push(StepBar { bar, followed: None, last_line: String::new() });
        }
        for (at, step) in job.steps.iter().enumerate() {
            self.follow(at, active.iter().find(|task| task.step as usize == at));
            self.draw(at, job, step);
        }
        self.last = Some(job.clone());
    }

    fn redraw(&mut self) {
        let Some(job) = self.last.take() else { return };
        for (at, step) in job.steps.iter().enumerate() {
            self.draw(at, &job, step);
        }
        self.last = Some(job);
    }

    fn draw(&mut self, at: usize, job: &api::Job, step: &api::Step) {
        let Some(counts) = &step.tasks else { return };
        let StepBar { bar, last_line, .. } = &self.steps[at];
        bar.set_length(u64::from(step.count.unwrap_or(0)).max(1));
        bar.set_position(u64::from(done(counts)));
        let state = match step.count {
            None => "waits for its list".to_owned(),
            Some(0) => "skipped: nothing to do".to_owned(),
            Some(_) => format!("{}{}", text::counts(counts), waits(job, step)),
        };
        let time = elapsed(step).map_or_else(String::new, |time| format!("  {time}"));
        let line =
            if counts.active > 0 && !last_line.is_empty() { format!("  │ {last_line}") } else { String::new() };
        bar.set_message(format!("{state}{time}{line}"));
        match (step.ended_ms, counts.active > 0) {
            (Some(_), _) => bar.disable_steady_tick(),
            (None, true) => bar.enable_steady_tick(Duration::from_millis(200)),
            (None, false) => {}
        }
        bar.tick();
    }

    /// Follows the log of one running task of a step, and the next one when that has ended.
    fn follow(&mut self, at: usize, task: Option<&api::Task>) {
        let Some(task) = task else { return };
        let attempt = task.attempts.last().map_or(0, |attempt| attempt.number);
        let step = &mut self.steps[at];
        if step.followed.as_ref().is_some_and(|(index, number, follower)| {
            !follower.is_finished() && *index == task.task && *number == attempt
        }) {
            return;
        }
        if let Some((_, _, old)) = step.followed.take() {
            old.abort();
        }
        let request = api::LogsRequest {
            job: self.job,
            step: task.step,
            task: task.task,
            attempt: Some(attempt),
            stdout: true,
            stderr: true,
            follow: true,
            tail_lines: Some(1),
            ..api::LogsRequest::default()
        };
        let follower = tokio::spawn(follow(self.client.clone(), request, at, self.lines.0.clone()));
        step.followed = Some((task.task, attempt, follower));
    }

    fn last_line(&mut self, at: usize, line: String) {
        if let Some(step) = self.steps.get_mut(at) {
            let message = step.bar.message();
            let state = message.split("  │ ").next().unwrap_or("");
            step.bar.set_message(format!("{state}  │ {line}"));
            step.last_line = line;
        }
    }
}

async fn follow(mut client: Client, request: api::LogsRequest, at: usize, lines: mpsc::Sender<StepLine>) {
    let Ok(mut stream) = client.logs(request).await else { return };
    while let Ok(Some(frame)) = stream.message().await {
        let said = String::from_utf8_lossy(&frame.bytes);
        let Some(last) = said.lines().rfind(|line| !line.trim().is_empty()) else { continue };
        let short: String = last.trim_end().chars().take(LAST_LINE).collect();
        // Shown with what could move the cursor made harmless.
        if lines.send((at, shown(&short))).await.is_err() {
            return;
        }
    }
}

fn style(width: usize) -> ProgressStyle {
    let template = format!("{{prefix:<{width}}} {{bar:16.green/dim}} {{pos:>4}}/{{len:<4}} {{wide_msg}}");
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|error| panic!("the template is ours: {error}"))
        .progress_chars("━━┄")
}
