//! What is kept, how large it is, and freeing it before its time.

use flowyard_model::{JobId, LogSegment};
use flowyard_proto::api::{self, PruneRequest, PruneResponse, Storage};
use flowyard_state::View;
use tonic::Status;

use crate::archive;
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
        retention_ms: shared.config.retention.age_ms,
        budget_bytes: shared.config.storage_budget_bytes,
        archived_jobs: view.archive_pages().map(|(_, page)| u64::from(page.jobs)).sum(),
        archive_ms: shared.config.retention.archive_ms,
        segments: view.segments().map(segment).collect(),
        segments_keep_ms: shared.config.log_keeping.keep_ms,
        unsealed_entries: stats.snapshot_index.unwrap_or(0).saturating_sub(view.last_segment().map_or(0, |it| it.last)),
    })
}

fn segment(segment: &LogSegment) -> api::LogSegment {
    api::LogSegment {
        first: segment.first,
        last: segment.last,
        bytes: segment.blob.length,
        blob: segment.blob.to_string(),
        chain: segment.chain.to_string(),
        sealed_ms: segment.sealed_at.0,
    }
}

pub(super) async fn prune(shared: &Shared, request: &PruneRequest) -> Result<PruneResponse, Status> {
    let jobs = prunable(&shared.feed.view(), request);
    let answer = jobs.iter().map(|job| job.0).collect();
    if request.dry_run {
        return Ok(PruneResponse { jobs: answer, freed_bytes: 0, freed_blobs: 0 });
    }
    let retired = archive::retire(shared, &shared.proposer, &jobs).await;
    retired.map_err(|error| Status::unavailable(format!("nothing more is forgotten: {error}")))?;
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
