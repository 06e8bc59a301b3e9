//! The end of a job as its submitter reads it: where the result is, or why it failed and what to type next; and the exit code.

use std::process::ExitCode;

use flowyard_proto::api;

use crate::commands::Outcome;
use crate::connect::Connection;
use crate::failure::codes;
use crate::{output, text};

/// Lines of stderr shown of a failed task.
const STDERR_LINES: u32 = 20;
/// Artifacts named at the end of a successful job.
const ARTIFACTS: u32 = 8;

/// Says how a job ended, and gives its exit code.
///
/// # Errors
/// When the cluster does not answer any more.
pub(crate) async fn tell(connection: &mut Connection, job: &api::Job) -> Outcome {
    let Some(row) = &job.row else { return Ok(ExitCode::SUCCESS) };
    let state = row.state();
    let failed = match job.first_failure {
        Some(at) => task(connection, row.job, at).await?,
        None => None,
    };
    if output::is_json() {
        let exit = exit_code(job, failed.as_ref());
        output::json(&serde_json::json!({ "job": row.job, "outcome": text::job_state(state), "exit_code": exit }));
        return Ok(ExitCode::from(exit));
    }
    let took = row.ended_ms.unwrap_or(0).saturating_sub(row.submitted_ms);
    let headline = format!("job {} {} in {}", row.job, text::job_state(state), text::duration(took));
    // Everything is asked before anything is said: who loses the cluster meanwhile begins anew.
    match (state, failed.as_ref()) {
        (api::JobPhase::Succeeded, _) => tell_results(connection, job, &headline).await?,
        (_, Some(failed)) => tell_failure(connection, job, failed, &headline).await?,
        // No task of its own failed: a job it waited for did, or it was cancelled.
        (_, None) => {
            let local = if connection.is_local() { " --local" } else { "" };
            output::note(headline);
            match job.overdue.as_str() {
                "deadline" => output::note("its deadline had passed, so it was stopped"),
                "queue_ttl" => output::note("no task of it could be placed in the time it may wait, its queue ttl"),
                _ => {}
            }
            output::note(format!("more:  fctl why {}{local}", row.job));
        }
    }
    Ok(ExitCode::from(exit_code(job, failed.as_ref())))
}

async fn task(
    connection: &mut Connection,
    job: u64,
    at: api::TaskRef,
) -> Result<Option<api::Task>, crate::failure::Failure> {
    let request = api::ListTasksRequest { job, step: Some(at.step), task: Some(at.task), ..Default::default() };
    Ok(connection.client.list_tasks(request).await?.tasks.into_iter().next())
}

/// The end of the last attempt.
fn last_end(task: &api::Task) -> Option<(&api::Attempt, &api::Member, &api::End)> {
    let attempt = task.attempts.last()?;
    let member = attempt.members.get(attempt.decisive_rank.unwrap_or(0) as usize)?;
    Some((attempt, member, member.end.as_ref()?))
}

/// 0, the code of the only task, or one of ours.
fn exit_code(job: &api::Job, failed: Option<&api::Task>) -> u8 {
    let state = job.row.as_ref().map_or(api::JobPhase::Unspecified, api::JobRow::state);
    match state {
        api::JobPhase::Succeeded => 0,
        api::JobPhase::Cancelled => codes::JOB_CANCELLED,
        _ => {
            let tasks: u32 = job.steps.iter().map(|step| step.count.unwrap_or(1)).sum();
            let end = failed.and_then(last_end).map(|(_, _, end)| end).filter(|_| tasks == 1);
            let code = end.and_then(|end| end.exit_code.or(end.signal.map(|signal| 128 + signal)));
            code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(codes::JOB_FAILED)
        }
    }
}

/// Where the artifacts of the last steps are, and how to read one.
async fn tell_results(
    connection: &mut Connection,
    job: &api::Job,
    headline: &str,
) -> Result<(), crate::failure::Failure> {
    let Some(row) = &job.row else { return Ok(()) };
    let last = job.steps.len().saturating_sub(1) as u32;
    let request = api::ListArtifactsRequest { job: row.job, step: Some(last), limit: ARTIFACTS, ..Default::default() };
    let artifacts = connection.client.list_artifacts(request).await?.artifacts;
    let local = if connection.is_local() { " --local" } else { "" };
    let reference = |step: u32, index: u32| {
        let step = &job.steps[step as usize];
        let only = step.count == Some(1);
        format!("{}/{}{}", row.job, step.name, if only { String::new() } else { format!("/{index}") })
    };
    output::note(headline);
    for artifact in &artifacts {
        output::note(format!("  {}  {}", reference(artifact.step, artifact.task), artifact.name));
    }
    if let Some(first) = artifacts.first() {
        output::note(format!(
            "read it:   fctl artifact cat {} {}{local}",
            reference(first.step, first.task),
            first.name
        ));
    }
    output::note(format!("its logs:  fctl logs {}{local}", reference(last, 0)));
    Ok(())
}

/// Reason, blame, the last lines of stderr, and what to type next.
async fn tell_failure(
    connection: &mut Connection,
    job: &api::Job,
    failed: &api::Task,
    headline: &str,
) -> Result<(), crate::failure::Failure> {
    let (Some(row), Some((attempt, member, end))) = (&job.row, last_end(failed)) else { return Ok(()) };
    let step = &job.steps[failed.step as usize];
    let reference = format!("{}/{}/{}", row.job, step.name, failed.task);
    let rank = attempt.decisive_rank.unwrap_or(0);
    // Of a gang, the rank has to be named, and the attempt with it.
    let is_gang = attempt.members.len() > 1;
    let member_reference = if is_gang { format!("{reference}#{}.{rank}", attempt.number) } else { reference.clone() };
    let reason = text::word(end.reason().as_str_name(), "REASON_");
    let blame = text::word(end.blame().as_str_name(), "BLAME_");
    let request = api::LogsRequest {
        job: row.job,
        step: failed.step,
        task: failed.task,
        attempt: Some(attempt.number),
        rank,
        stderr: true,
        tail_lines: Some(STDERR_LINES),
        ..Default::default()
    };
    let mut said = Vec::new();
    if end.stderr.is_some() {
        let mut frames = connection.client.logs(request).await?;
        while let Some(frame) = frames.message().await.map_err(|status| connection.client.sorted(status))? {
            said.extend_from_slice(&frame.bytes);
        }
    }
    output::note(headline);
    output::note(format!("{member_reference} failed on {} (reason: {reason}, blame: {blame})", member.node_name));
    output::note(format!("  {}", end.message));
    if failed.attempts.len() > 1 {
        output::note(format!("  after {}", text::count(failed.attempts.len() as u64, "attempt")));
    }
    if end.stderr.is_some() {
        output::note(format!("  its last lines on stderr (at most {STDERR_LINES}):"));
        for line in String::from_utf8_lossy(&said).lines() {
            output::note(format!("  | {}", flowyard_sdk::shown::shown(line)));
        }
    }
    let local = if connection.is_local() { " --local" } else { "" };
    output::note(format!("more:  fctl why {reference}{local}    all it printed:  fctl logs {member_reference}{local}"));
    Ok(())
}
