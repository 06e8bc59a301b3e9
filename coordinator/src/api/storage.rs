//! What is kept, how large it is, and freeing it before its time.

use flowyard_model::{Command, JobId, limits};
use flowyard_proto::api::{PruneRequest, PruneResponse, Storage};
use flowyard_state::View;
use tonic::Status;

use crate::collector;
use crate::coordinator::Shared;

pub(super) async fn get(shared: &Shared) -> Result<Storage, Status> {
    let (blobs, bytes) = shared.durable.here().total().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let view = shared.feed.view();
    let stats = shared.replica.stats();
    let jobs = view.job_count();
    Ok(Storage {
        origin_bytes: bytes,
        origin_blobs: blobs,
        log_bytes: stats.log.file_bytes,
        snapshot_bytes: stats.snapshot_bytes,
        jobs: jobs as u64,
        jobs_active: (jobs - view.finished().count()) as u64,
        retention_ms: limits::RETENTION_MS,
        budget_bytes: shared.config.storage_budget_bytes,
    })
}

pub(super) async fn prune(shared: &Shared, request: &PruneRequest) -> Result<PruneResponse, Status> {
    let jobs = prunable(&shared.feed.view(), request);
    let answer = jobs.iter().map(|job| job.0).collect();
    if request.dry_run {
        return Ok(PruneResponse { jobs: answer, freed_bytes: 0, freed_blobs: 0 });
    }
    for part in jobs.chunks(limits::WORK_PER_TICK) {
        shared.propose(&Command::ForgetJobs { jobs: part.to_vec() }).await?;
    }
    let swept = collector::sweep(shared, collector::BLOB_AGE_MS).await;
    let swept = swept.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(PruneResponse { jobs: answer, freed_bytes: swept.deleted_bytes, freed_blobs: swept.deleted })
}

/// Ended jobs that are older than asked for, without the newest that are to be kept.
fn prunable(view: &View, request: &PruneRequest) -> Vec<JobId> {
    let ended: Vec<JobId> = view.finished().collect();
    let keep = request.keep.unwrap_or(0) as usize;
    let candidates = ended.len().saturating_sub(keep);
    let old = |job: &JobId| {
        let end = view.job(*job).and_then(|job| job.ended);
        request.ended_before_ms.is_none_or(|before| end.is_some_and(|end| end.at.0 < before))
    };
    ended.into_iter().take(candidates).filter(old).collect()
}
