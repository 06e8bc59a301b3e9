//! Jobs as rows and in detail.

use flowyard_model::{ArchivePage, Job, JobId, QueuePath, TaskCounts, TaskOutcome, TaskState, TimeMs};
use flowyard_proto::api::{self, ListJobsRequest, ListJobsResponse};
use flowyard_proto::view;
use flowyard_state::{Outline, View};
use tonic::Status;

use crate::archive;
use crate::coordinator::Shared;

/// Rows of one page, if nothing is asked for.
const PAGE: usize = 100;
/// Most rows of one page.
const LARGEST_PAGE: usize = 1_000;

/// A page's size.
pub(super) fn page(limit: u32) -> usize {
    if limit == 0 { PAGE } else { (limit as usize).min(LARGEST_PAGE) }
}

/// Archived jobs that satisfy every filter and that the caller may look at, newest first.
pub(super) async fn archived(
    shared: &Shared,
    view: &View,
    request: &ListJobsRequest,
    looks: impl Fn(&QueuePath) -> bool,
) -> Result<ListJobsResponse, Status> {
    let limit = page(request.limit);
    let mut rows: Vec<api::JobRow> = Vec::new();
    let before = request.before_job.unwrap_or(u64::MAX);
    let pages = view.archive_pages().rev().filter(|(page, _)| *page <= ArchivePage::of(JobId(before)));
    for (_, page) in pages {
        let read = archive::rows(&shared.durable, page).await;
        let read = read.map_err(|error| Status::unavailable(error.to_string()))?;
        let looked = read.into_values().rev().map(|row| row.row).filter(|row| {
            let queue: Result<QueuePath, _> = row.queue.parse();
            row.job < before && row_matches(request, row) && queue.is_ok_and(|queue| looks(&queue))
        });
        rows.extend(looked);
        if rows.len() > limit {
            break;
        }
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok(ListJobsResponse { jobs: rows, more })
}

fn row_matches(request: &ListJobsRequest, row: &api::JobRow) -> bool {
    (request.states.is_empty() || request.states.contains(&row.state))
        && request.owner.as_ref().is_none_or(|owner| *owner == row.owner)
        && request.queue.as_ref().is_none_or(|queue| *queue == row.queue)
        && request.tags.iter().all(|tag| row.tags.contains(tag))
        && request.submitted_after_ms.is_none_or(|after| row.submitted_ms > after)
        && request.submitted_before_ms.is_none_or(|before| row.submitted_ms < before)
}

/// Jobs that satisfy every filter and that the caller may look at, newest first.
pub(super) fn list(
    view: &View,
    request: &ListJobsRequest,
    looks: impl Fn(&QueuePath) -> bool,
) -> Result<ListJobsResponse, Status> {
    let outcomes = request.states.iter().map(|state| view::job_outcome(*state)).collect::<Result<Vec<_>, _>>()?;
    let limit = page(request.limit);
    let wanted = |job: &Outline<'_>| {
        let submitted = job.submitted_at.0;
        (outcomes.is_empty() || outcomes.contains(&job.ended.map(|end| end.outcome)))
            && request.owner.as_ref().is_none_or(|owner| *owner == job.owner)
            && request.queue.as_ref().is_none_or(|queue| queue == job.spec.queue.as_str())
            && request.tags.iter().all(|tag| job.has_tag(tag))
            && request.submitted_after_ms.is_none_or(|after| submitted > after)
            && request.submitted_before_ms.is_none_or(|before| submitted < before)
            && looks(&job.spec.queue)
    };
    let newest = view.outlines().rev().filter(|(id, _)| request.before_job.is_none_or(|before| id.0 < before));
    let mut rows: Vec<_> =
        newest.filter(|(_, job)| wanted(job)).take(limit + 1).map(|(id, job)| row(view, id, &job.job())).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok(ListJobsResponse { jobs: rows, more })
}

pub(crate) fn row(view: &View, id: JobId, job: &Job) -> api::JobRow {
    let mut counts = TaskCounts::NONE;
    let mut started: Option<TimeMs> = None;
    for (_, step) in view.steps(id) {
        counts = sum(counts, step.counts);
        started = match (started, step.started_at) {
            (Some(first), Some(other)) => Some(first.min(other)),
            (first, other) => first.or(other),
        };
    }
    view::job_row(id, job, counts, started)
}

fn sum(a: TaskCounts, b: TaskCounts) -> TaskCounts {
    TaskCounts {
        blocked: a.blocked + b.blocked,
        ready: a.ready + b.ready,
        waiting: a.waiting + b.waiting,
        active: a.active + b.active,
        succeeded: a.succeeded + b.succeeded,
        failed: a.failed + b.failed,
        cancelled: a.cancelled + b.cancelled,
        skipped: a.skipped + b.skipped,
    }
}

/// Everything about a job but its tasks.
pub(super) fn detail(view: &View, id: JobId, job: &Job) -> api::Job {
    let steps = view.steps(id).zip(&job.spec.steps).map(|((_, step), spec)| view::step(spec, &step));
    api::Job {
        row: Some(row(view, id, job)),
        spec: Some(job.spec.as_ref().into()),
        stopping: job.ended.is_none() && job.desired != flowyard_model::JobDesired::Run,
        steps: steps.collect(),
        revision: view.revision().0,
        first_failure: first_failure(view, id),
        archived_ms: None,
        overdue: job.overdue.map_or_else(String::new, |overdue| overdue.as_str().to_owned()),
    }
}

/// The task whose last attempt failed first.
fn first_failure(view: &View, id: JobId) -> Option<api::TaskRef> {
    if view.steps(id).all(|(_, step)| step.counts.failed == 0) {
        return None;
    }
    let failed = view.tasks_of(id).filter(|(_, task)| task.state == TaskState::Done(TaskOutcome::Failed));
    let ended = |task: &flowyard_model::Task| {
        task.attempts.last().and_then(|attempt| attempt.members.iter().filter_map(|member| member.times.ended).min())
    };
    let (key, _) = failed.min_by_key(|(key, task)| (ended(task), *key))?;
    Some(api::TaskRef { step: key.step.0, task: key.task.0 })
}
