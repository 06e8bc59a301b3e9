//! Following one job: its present state, then the newest after changes, until it has ended.
//!
//! Changes are merged: the client always gets the newest, and the histories of attempts are in the objects, so nothing is missed.
//! The end is told at once; other changes at most once in [`MERGED`], since a wide job changes thousands of times per second.

use std::time::{Duration, Instant};

use flowyard_model::JobId;
use flowyard_proto::api::{WatchJobRequest, WatchJobResponse};
use flowyard_state::View;
use tokio::sync::watch;
use tonic::Status;

use super::{Answers, beside, find_job, jobs, tasks};
use crate::coordinator::Shared;
use crate::feed::Feed;

/// Active tasks told per step.
const ACTIVE_PER_STEP: usize = 8;
/// Changes within this time are told together.
const MERGED: Duration = Duration::from_millis(50);

pub(super) fn watch(shared: &Shared, request: &WatchJobRequest) -> Result<Answers<WatchJobResponse>, Status> {
    let id = JobId(request.job);
    let changed = shared.feed.job(id);
    find_job(&shared.feed.view(), request.job)?;
    let follower = Follower { id, feed: shared.feed.clone(), changed, told: None, over: false };
    Ok(Box::pin(futures::stream::unfold(follower, |mut follower| async move {
        let answer = follower.next().await?;
        Some((answer, follower))
    })))
}

/// One client that follows one job.
struct Follower {
    id: JobId,
    feed: Feed,
    changed: watch::Receiver<u64>,
    /// When the client was last told something.
    told: Option<Instant>,
    over: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<WatchJobResponse, Status>> {
        if self.over {
            return None;
        }
        if let Some(told) = self.told {
            self.changed.changed().await.ok()?;
            self.settle(told).await;
        }
        self.changed.mark_unchanged();
        self.told = Some(flowyard_clock::monotonic());
        let (view, id) = (self.feed.view(), self.id);
        let answer = beside(move || now(&view, id)).await;
        self.over = answer.as_ref().map_or(true, |(_, ended)| *ended);
        Some(answer.map(|(answer, _)| answer))
    }

    /// Waits until enough time has passed since the client was told something, or the job has ended.
    async fn settle(&mut self, told: Instant) {
        let until = tokio::time::Instant::from_std(told + MERGED);
        while self.feed.view().job(self.id).is_some_and(|job| job.ended.is_none()) {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = self.changed.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The job as it is, and whether it has ended.
fn now(view: &View, id: JobId) -> Result<(WatchJobResponse, bool), Status> {
    let (_, job) = find_job(view, id.0)?;
    let active = tasks::some_active(view, id, ACTIVE_PER_STEP);
    Ok((WatchJobResponse { job: Some(jobs::detail(view, id, job)), active }, job.ended.is_some()))
}
