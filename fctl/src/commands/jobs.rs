//! `fctl jobs`.

use std::process::ExitCode;

use flowyard_proto::api;
use serde_json::json;

use super::Outcome;
use crate::asking::asking_anybody;
use crate::cli::{Global, JobState, Jobs};
use crate::table::{Table, cell, state};
use crate::{output, record, text};

pub(super) async fn run(global: &Global, jobs: &Jobs) -> Outcome {
    let request = request(jobs);
    let page = asking_anybody(global, jobs.stale, async |client| Ok(client.list_jobs(request).await?)).await?;
    let next = page.jobs.last().filter(|_| page.more).map(|row| row.job);
    if output::is_json() {
        let rows: Vec<_> = page.jobs.iter().map(record::job_row).collect();
        output::json(&json!({ "jobs": rows, "next_before": next }));
        return Ok(ExitCode::SUCCESS);
    }
    if page.jobs.is_empty() {
        output::note("no job matches");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["JOB", "NAME", "STATE", "TASKS", "QUEUE", "OWNER", "SUBMITTED", "ELAPSED", "TAGS"]);
    for row in &page.jobs {
        table.row([
            cell(row.job.to_string()),
            cell(&row.name),
            state(text::job_state(row.state())),
            cell(text::counts(&row.tasks.unwrap_or_default())),
            cell(&row.queue),
            cell(&row.owner),
            cell(text::ago(row.submitted_ms)),
            cell(elapsed(row)),
            cell(row.tags.join(",")),
        ]);
    }
    table.print();
    if let Some(next) = next {
        output::note(format!("there are more; the next page is the same with `--before {next}`"));
    }
    Ok(ExitCode::SUCCESS)
}

/// From the first attempt to the end.
pub(super) fn elapsed(row: &api::JobRow) -> String {
    match row.started_ms {
        None => "-".to_owned(),
        Some(started) => {
            let end = row.ended_ms.unwrap_or_else(flowyard_clock::wall_ms);
            text::duration(end.saturating_sub(started))
        }
    }
}

fn request(jobs: &Jobs) -> api::ListJobsRequest {
    let phase = |state: &JobState| match state {
        JobState::Active => api::JobPhase::Active.into(),
        JobState::Succeeded => api::JobPhase::Succeeded.into(),
        JobState::Failed => api::JobPhase::Failed.into(),
        JobState::Cancelled => api::JobPhase::Cancelled.into(),
    };
    api::ListJobsRequest {
        states: jobs.state.iter().map(phase).collect(),
        owner: jobs.owner.clone(),
        queue: jobs.queue.as_ref().map(ToString::to_string),
        tags: jobs.tag.clone(),
        submitted_after_ms: jobs.since.map(|since| flowyard_clock::wall_ms().saturating_sub(since)),
        submitted_before_ms: None,
        limit: jobs.limit,
        before_job: jobs.before.map(|job| job.0),
        archived: jobs.archived,
    }
}
