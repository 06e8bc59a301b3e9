//! `fctl show`: a job with its steps, a step with its tasks, a task with its attempts.

use std::process::ExitCode;

use flowyard_proto::api;
use flowyard_sdk::client::Client;
use serde_json::json;

use super::Outcome;
use crate::asking::{asking_anybody, same_cluster};
use crate::cli::{Global, Show, TaskStateKind};
use crate::failure::Failure;
use crate::table::{Table, cell, paint, state, tone_of};
use crate::target::{self, Target};
use crate::text::{self, harmless, word};
use crate::{attempt_lines, output, policy, record};

/// Failed tasks that the text of a job tells about.
const FAILED_SHOWN: u32 = 5;

/// What was found.
struct Found {
    target: Target,
    tasks: Vec<api::Task>,
    more: bool,
}

pub(super) async fn run(global: &Global, show: &Show) -> Outcome {
    let found = asking_anybody(global, show.stale, async |client| look(client, show).await).await?;
    let Found { target, tasks, more } = &found;
    if output::is_json() {
        let row = target.job.row.clone().unwrap_or_default();
        let listed: Vec<_> = tasks.iter().map(|task| record::task(&target.job, task)).collect();
        let mut answer = serde_json::to_value(record::job(&target.job, &row)).unwrap_or_default();
        answer["tasks_shown"] = json!(listed);
        answer["tasks_more"] = json!(more);
        output::json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = same_cluster(global);
    match (target.step, target.task) {
        (None, _) => print_job(&found, &cluster),
        (Some(step), None) => print_step(&found, step, &cluster),
        (Some(step), Some(task)) => print_task(&found, step, task),
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(client: &mut Client, show: &Show) -> Result<Found, Failure> {
    let reference = &show.reference;
    let mut target = target::find(client, reference).await?;
    let only = target.step.is_some_and(|step| target.job.steps[step as usize].count == Some(1));
    if reference.attempt.is_some() || (only && show.after.is_none()) {
        target.task = Some(target.one_task()?.task);
    }
    // The text of a whole job tells only about what failed.
    let overview = target.step.is_none() && !output::is_json();
    let states = match (overview, show.state.is_empty()) {
        (true, true) => vec![api::TaskState::Failed.into()],
        _ => show.state.iter().map(|state| wire_state(*state).into()).collect(),
    };
    let after = show.after.map(|task| api::TaskRef { step: target.step.unwrap_or(0), task });
    let request = api::ListTasksRequest {
        job: reference.job.0,
        step: target.step,
        task: target.task,
        states,
        limit: if overview { FAILED_SHOWN } else { show.limit },
        after,
    };
    let mut page = client.list_tasks(request).await?;
    if let Some(number) = reference.attempt {
        page.tasks.iter_mut().for_each(|task| task.attempts.retain(|attempt| attempt.number == number.0));
        if page.tasks.iter().all(|task| task.attempts.is_empty()) {
            let said = format!("there is no attempt {reference}");
            return Err(flowyard_sdk::client::ClientError::NotFound(said).into());
        }
    }
    Ok(Found { target, tasks: page.tasks, more: page.more })
}

fn wire_state(state: TaskStateKind) -> api::TaskState {
    match state {
        TaskStateKind::Blocked => api::TaskState::Blocked,
        TaskStateKind::Ready => api::TaskState::Ready,
        TaskStateKind::Waiting => api::TaskState::Waiting,
        TaskStateKind::Active => api::TaskState::Active,
        TaskStateKind::Succeeded => api::TaskState::Succeeded,
        TaskStateKind::Failed => api::TaskState::Failed,
        TaskStateKind::Cancelled => api::TaskState::Cancelled,
        TaskStateKind::Skipped => api::TaskState::Skipped,
    }
}

/// The header of a job, as `show` and `watch` have it.
pub(super) fn print_header(job: &api::Job) {
    let Some(row) = &job.row else { return };
    let word = if job.stopping { "stopping" } else { text::job_state(row.state()) };
    output::line(format!("job {}  {}  {}", row.job, harmless(&row.name), paint(word, tone_of(word))));
    let mut facts = Table::bare().indented(2);
    facts.row([cell("owner"), cell(&row.owner)]);
    facts.row([cell("queue"), cell(&row.queue)]);
    if let Some(at_ms) = job.archived_ms {
        facts.row([cell("archived"), cell(format!("{}; read from the archive", text::ago(at_ms)))]);
    }
    facts.row([cell("submitted"), cell(text::ago(row.submitted_ms))]);
    if row.started_ms.is_some() {
        facts.row([cell("elapsed"), cell(super::jobs::elapsed(row))]);
    }
    if !row.tags.is_empty() {
        facts.row([cell("tags"), cell(row.tags.join(", "))]);
    }
    let spec = job.spec.as_ref();
    let passed = |time: &str| if job.overdue == time { " (passed: the job was stopped)" } else { "" };
    if let Some(ms) = spec.and_then(|spec| spec.deadline_ms) {
        facts.row([cell("deadline"), cell(format!("{} after submit{}", text::duration(ms), passed("deadline")))]);
    }
    if let Some(ms) = spec.and_then(|spec| spec.queue_ttl_ms) {
        facts.row([cell("queue ttl"), cell(format!("{}{}", text::duration(ms), passed("queue_ttl")))]);
    }
    for (at, (name, value)) in spec.into_iter().flat_map(|spec| &spec.params).enumerate() {
        facts.row([cell(if at == 0 { "params" } else { "" }), cell(format!("{name} = {value}"))]);
    }
    let after: Vec<_> = spec.into_iter().flat_map(|spec| &spec.after).map(ToString::to_string).collect();
    if !after.is_empty() {
        facts.row([cell("after"), cell(format!("job {}", after.join(", ")))]);
    }
    facts.print();
}

fn print_job(found: &Found, cluster: &str) {
    let job = &found.target.job;
    print_header(job);
    output::line("");
    let mut steps = Table::new(["STEP", "TASKS", "ELAPSED"]);
    for step in &job.steps {
        steps.row([cell(&step.name), cell(step_counts(step)), cell(step_elapsed(step))]);
    }
    steps.print();
    if found.tasks.is_empty() {
        return;
    }
    output::line("");
    for task in &found.tasks {
        print_failure(job, task);
    }
    if found.more {
        output::line("  and more failed tasks");
    }
    if let Some(at) = job.first_failure {
        let reference = target::task_reference(job, at.step, at.task);
        output::line(format!("why:   fctl why {reference}{cluster}"));
        output::line(format!("logs:  fctl logs {reference}{cluster}"));
    }
}

/// How the last attempt of a failed task ended, on two lines.
fn print_failure(job: &api::Job, task: &api::Task) {
    let reference = target::task_reference(job, task.step, task.task);
    let Some((member, end)) = last_end(task) else {
        output::line(format!("{reference}  {}", text::task_state(task.state())));
        return;
    };
    let (reason, blame) = (word(end.reason().as_str_name(), "REASON_"), word(end.blame().as_str_name(), "BLAME_"));
    let failed = paint("failed", tone_of("failed"));
    output::line(format!(
        "{reference}  {failed} on {} (reason: {reason}, blame: {blame})",
        harmless(&member.node_name)
    ));
    output::line(format!("  {}", harmless(&end.message)));
}

fn last_end(task: &api::Task) -> Option<(&api::Member, &api::End)> {
    task.attempts.last()?.members.iter().find_map(|member| Some((member, member.end.as_ref()?)))
}

fn step_counts(step: &api::Step) -> String {
    match step.count {
        None => "not known yet: the list they come from is not written".to_owned(),
        Some(0) => "none: its list was empty".to_owned(),
        Some(_) => text::counts(&step.tasks.unwrap_or_default()),
    }
}

fn step_elapsed(step: &api::Step) -> String {
    step.started_ms.map_or_else(
        || "-".to_owned(),
        |started| text::duration(step.ended_ms.unwrap_or_else(flowyard_clock::wall_ms).saturating_sub(started)),
    )
}

fn print_step(found: &Found, at: u32, cluster: &str) {
    let Found { target, tasks, more } = found;
    let step = &target.job.steps[at as usize];
    let reference = format!("{}/{}", target.job_id(), step.name);
    output::line(format!("step {reference}  {}  elapsed {}", step_counts(step), step_elapsed(step)));
    let spec = target.job.spec.as_ref().and_then(|spec| spec.steps.get(at as usize));
    for line in spec.and_then(policy::of).iter().flat_map(policy::Policy::lines) {
        output::line(format!("  {line}"));
    }
    if tasks.is_empty() {
        return;
    }
    output::line("");
    let mut table = Table::new(["TASK", "STATE", "TRIES", "NODE", "PHASE", "RAN", "EXIT", "REASON"]);
    for task in tasks {
        table.row(task_row(task));
    }
    table.print();
    if let Some(last) = tasks.last().filter(|_| *more) {
        output::note(format!("there are more; the next page: fctl show {reference} --after {}{cluster}", last.task));
    }
}

fn task_row(task: &api::Task) -> [crate::table::Cell; 8] {
    // Of a gang that has failed, the member that is the reason.
    let decisive = |attempt: &api::Attempt| attempt.decisive_rank.unwrap_or(0) as usize;
    let member = task.attempts.last().and_then(|attempt| attempt.members.get(decisive(attempt)));
    let end = member.and_then(|member| member.end.as_ref());
    let bad = end.filter(|end| end.outcome() != api::AttemptOutcome::Succeeded);
    let times = member.and_then(|member| member.times).unwrap_or_default();
    let ran = times.running_ms.map(|running| {
        let until = times.storing_ms.or(times.ended_ms).unwrap_or_else(flowyard_clock::wall_ms);
        text::duration(until.saturating_sub(running))
    });
    [
        cell(task.task.to_string()),
        state(text::task_state(task.state())),
        cell(task.attempts.len().to_string()),
        cell(member.map_or("-", |member| member.node_name.as_str())),
        cell(member.map_or_else(|| "-".to_owned(), |member| word(member.phase().as_str_name(), "PHASE_"))),
        cell(ran.unwrap_or_else(|| "-".to_owned())),
        cell(end.map_or_else(|| "-".to_owned(), attempt_lines::exit)),
        cell(bad.map_or_else(String::new, |end| word(end.reason().as_str_name(), "REASON_"))),
    ]
}

fn print_task(found: &Found, step: u32, task: u32) {
    let job = &found.target.job;
    let Some(shown) = found.tasks.first() else { return };
    let word = text::task_state(shown.state());
    let reference = target::task_reference(job, step, task);
    output::line(format!("task {reference}  {}", paint(word, tone_of(word))));
    if let Some(until) = shown.waiting_until_ms {
        let left = until.saturating_sub(flowyard_clock::wall_ms());
        output::line(format!("  the next attempt may begin in {}", text::duration(left)));
    }
    if shown.attempts.is_empty() {
        output::line("  not tried yet");
    }
    for attempt in &shown.attempts {
        attempt_lines::print(&reference, attempt);
    }
}
