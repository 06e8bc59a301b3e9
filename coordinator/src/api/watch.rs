//! Following one job: its present state, then the newest after each change, until it has ended.
//!
//! Changes are merged when the client is slow: it always gets the newest, and the histories of attempts are in the objects, so
//! nothing is missed.

use flowyard_model::JobId;
use flowyard_proto::api::{WatchJobRequest, WatchJobResponse};
use flowyard_state::View;
use tonic::Status;

use super::{Answers, find_job, jobs, tasks};
use crate::coordinator::Shared;

/// Active tasks told per step.
const ACTIVE_PER_STEP: usize = 8;

pub(super) fn watch(shared: &Shared, request: &WatchJobRequest) -> Result<Answers<WatchJobResponse>, Status> {
    let id = JobId(request.job);
    let changed = shared.feed.job(id);
    find_job(&shared.feed.view(), request.job)?;
    let feed = shared.feed.clone();
    let stream = futures::stream::unfold((changed, false, true), move |(mut changed, over, first)| {
        let feed = feed.clone();
        async move {
            if over || (!first && changed.changed().await.is_err()) {
                return None;
            }
            changed.mark_unchanged();
            let answer = now(&feed.view(), id);
            let over = answer.as_ref().map_or(true, |(_, ended)| *ended);
            Some((answer.map(|(answer, _)| answer), (changed, over, false)))
        }
    });
    Ok(Box::pin(stream))
}

/// The job as it is, and whether it has ended.
fn now(view: &View, id: JobId) -> Result<(WatchJobResponse, bool), Status> {
    let (_, job) = find_job(view, id.0)?;
    let active = tasks::some_active(view, id, ACTIVE_PER_STEP);
    Ok((WatchJobResponse { job: Some(jobs::detail(view, id, job)), active }, job.ended.is_some()))
}
