//! What tasks have written: visible once the report of the desired attempt was applied.

use flowyard_model::{TaskOutcome, TaskState};
use flowyard_proto::api::{ListArtifactsRequest, ListArtifactsResponse};
use flowyard_proto::view;
use flowyard_state::View;
use tonic::Status;

use super::find_job;

/// Artifacts of one page, if nothing is asked for.
const PAGE: usize = 1_000;
/// Most artifacts of one page.
const LARGEST_PAGE: usize = 10_000;

pub(super) fn list(view: &View, request: &ListArtifactsRequest) -> Result<ListArtifactsResponse, Status> {
    let (job, _) = find_job(view, request.job)?;
    let limit = if request.limit == 0 { PAGE } else { (request.limit as usize).min(LARGEST_PAGE) };
    let mut artifacts = Vec::new();
    for (key, task) in view.tasks_of(job) {
        let other =
            request.step.is_some_and(|step| step != key.step.0) || request.task.is_some_and(|task| task != key.task.0);
        if other || task.state != TaskState::Done(TaskOutcome::Succeeded) {
            continue;
        }
        let Some(attempt) = task.attempts.last() else { continue };
        if request.attempt.is_some_and(|number| number != attempt.number.0) {
            continue;
        }
        for end in attempt.members.iter().filter_map(|member| member.end.as_ref()) {
            artifacts.extend(end.outputs.iter().map(|(name, output)| view::artifact(key.step, key.task, name, output)));
        }
        if artifacts.len() > limit {
            artifacts.truncate(limit);
            return Ok(ListArtifactsResponse { artifacts, more: true });
        }
    }
    Ok(ListArtifactsResponse { artifacts, more: false })
}
