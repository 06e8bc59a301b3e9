//! Puts finished jobs into the archive before they are forgotten, and takes those out whose time is over.
//!
//! Invariant: everything of a page is stored, on as many coordinators as any blob, before the entry that names it is proposed. What
//! is left behind by a crash in between is named by nothing and swept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flowyard_cas::{Entry, EntryKind, Manifest, StoreError};
use flowyard_model::{ArchiveJobs, ArchivePage, ClusterVersion, Command, Digest, JobId, PageChange, TimeMs, limits};
use flowyard_proto::ArchiveRow;
use flowyard_state::View;

use super::due::due;
use super::{ArchiveError, LOGS, RECORDS, rows, unreadable};
use crate::api::job_row;
use crate::coordinator::Shared;
use crate::durable::Durable;
use crate::proposer::Proposer;

/// Wait after the start, so that a short command is not slowed by it.
const FIRST_TURN: Duration = Duration::from_secs(30);
/// Longest wait between two turns.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Shortest wait, and the one after a failure.
const WAIT: Duration = Duration::from_secs(5);
/// Touched tasks of the jobs that one entry archives, beyond the first job.
const TASKS_AT_ONCE: usize = 100_000;
/// Small records of a few jobs are packed in no time; large ones should not take all.
const ZSTD_LEVEL: i32 = 3;

/// Archives and forgets jobs as they fall due, while this coordinator leads.
pub(crate) async fn keep(shared: Shared) {
    let mut wait = FIRST_TURN;
    loop {
        tokio::time::sleep(wait).await;
        wait = match turn(&shared, &shared.proposer).await {
            Ok(Some(next)) => {
                let left = Duration::from_millis(next.0.saturating_sub(shared.stamps.now().0));
                left.clamp(WAIT, LONGEST_WAIT)
            }
            Ok(None) => LONGEST_WAIT,
            Err(error) => {
                tracing::warn!(%error, "finished jobs could not be archived, so they are kept; this is tried again");
                WAIT
            }
        };
        // More finished jobs than may be remembered do not wait. To be told of every entry for that would cost more than to look.
        let until = flowyard_clock::monotonic() + wait.saturating_sub(WAIT);
        while flowyard_clock::monotonic() < until && shared.feed.view().finished_count() <= shared.config.retention.jobs
        {
            tokio::time::sleep(WAIT).await;
        }
        wait = WAIT;
    }
}

/// Archives and forgets what is due; when the next job will be.
///
/// # Errors
/// When the origin or the log does not take it.
pub(crate) async fn turn(shared: &Shared, proposer: &Proposer) -> Result<Option<TimeMs>, ArchiveError> {
    if shared.leading_term().is_err() {
        return Ok(None);
    }
    if shared.config.embedded && shared.feed.view().version() < ClusterVersion::ACCESS {
        // It has one member, which waits for nobody's upgrade.
        proposer.propose(&Command::RaiseVersion { version: ClusterVersion::ACCESS }).await?;
    }
    let view = shared.feed.view();
    if view.version() < ClusterVersion::ACCESS {
        return Ok(None);
    }
    let (jobs, next) = due(&view, shared.config.retention, shared.stamps.now());
    retire(shared, proposer, &jobs).await?;
    Ok(next)
}

/// Forgets ended jobs; those that are archived stay readable.
///
/// # Errors
/// When the origin or the log does not take it. What was not archived is not forgotten.
pub(crate) async fn retire(shared: &Shared, proposer: &Proposer, jobs: &[JobId]) -> Result<(), ArchiveError> {
    let view = shared.feed.view();
    let archives = view.version() >= ClusterVersion::ACCESS && shared.config.retention.archive_ms > 0;
    if !archives {
        for part in jobs.chunks(limits::WORK_PER_TICK) {
            proposer.propose(&Command::ForgetJobs { jobs: part.to_vec() }).await?;
        }
        return Ok(());
    }
    let mut part: Vec<JobId> = Vec::new();
    let mut tasks = 0;
    for job in jobs {
        let more = view.tasks_of(*job).take(TASKS_AT_ONCE).count();
        if !part.is_empty() && (part.len() >= limits::ARCHIVED_PER_ENTRY || tasks + more > TASKS_AT_ONCE) {
            retire_part(shared, proposer, std::mem::take(&mut part)).await?;
            tasks = 0;
        }
        tasks += more;
        part.push(*job);
    }
    if part.is_empty() { Ok(()) } else { retire_part(shared, proposer, part).await }
}

/// The rows of a page; none if it is lost, which must not stand in the way of what is archived from now on.
async fn rows_left(durable: &Durable, page: &ArchivePage) -> Result<BTreeMap<JobId, ArchiveRow>, ArchiveError> {
    match rows(durable, page).await {
        Err(ArchiveError::Store(error)) if error.is_missing() => {
            tracing::error!(page = %page.rows, "a page of the archive is lost; it begins anew");
            Ok(BTreeMap::new())
        }
        read => read,
    }
}

async fn retire_part(shared: &Shared, proposer: &Proposer, jobs: Vec<JobId>) -> Result<(), ArchiveError> {
    let view = shared.feed.view();
    let mut stored = Stored { shared, blobs: Vec::new() };
    let mut fresh: BTreeMap<u64, Vec<ArchiveRow>> = BTreeMap::new();
    for job in &jobs {
        if view.job(*job).is_some_and(|job| job.ended.is_some()) {
            let row = stored.job(&view, *job).await?;
            fresh.entry(ArchivePage::of(*job)).or_default().push(row);
        }
    }
    let mut pages = Vec::new();
    for (page, fresh) in fresh {
        let known = view.archive_page(page).copied();
        let mut all = match &known {
            Some(known) => rows_left(&shared.durable, known).await?,
            None => BTreeMap::new(),
        };
        all.extend(fresh.into_iter().map(|row| (row.job(), row)));
        let now = stored.page(&all).await?;
        pages.push(PageChange { page, was: known.map(|known| known.rows), now });
    }
    shared.durable.confirm(&stored.blobs, None).await?;
    tracing::info!(jobs = jobs.len(), "archiving finished jobs");
    proposer.propose(&Command::ArchiveJobs(ArchiveJobs { pages, jobs })).await?;
    Ok(())
}

/// Takes jobs out of the archive whose time is over.
///
/// # Errors
/// When the origin or the log does not take it.
pub(crate) async fn drop_expired(shared: &Shared, proposer: &Proposer) -> Result<(), ArchiveError> {
    let (view, now) = (shared.feed.view(), shared.stamps.now());
    let mut stored = Stored { shared, blobs: Vec::new() };
    let mut pages = Vec::new();
    for (page, known) in view.archive_pages().filter(|(_, page)| page.first_until <= now) {
        let mut left = rows_left(&shared.durable, known).await?;
        left.retain(|_, row| row.until > now);
        pages.push(PageChange { page, was: Some(known.rows), now: stored.page(&left).await? });
    }
    shared.durable.confirm(&stored.blobs, None).await?;
    for part in pages.chunks(limits::ARCHIVED_PER_ENTRY) {
        let change = ArchiveJobs { pages: part.to_vec(), jobs: Vec::new() };
        proposer.propose(&Command::ArchiveJobs(change)).await?;
    }
    Ok(())
}

/// Drops the oldest page, to free what only its jobs keep; whether there was one.
///
/// # Errors
/// When the log does not take it.
pub(crate) async fn drop_oldest(shared: &Shared, proposer: &Proposer) -> Result<bool, ArchiveError> {
    let view = shared.feed.view();
    let Some((page, known)) = view.archive_pages().next() else { return Ok(false) };
    let change = PageChange { page, was: Some(known.rows), now: None };
    let drop = ArchiveJobs { pages: vec![change], jobs: Vec::new() };
    proposer.propose(&Command::ArchiveJobs(drop)).await?;
    Ok(true)
}

/// Blobs on their way into the archive.
struct Stored<'s> {
    shared: &'s Shared,
    /// What was put into this coordinator's origin, to be confirmed before it is named.
    blobs: Vec<Digest>,
}

impl Stored<'_> {
    async fn put(&mut self, bytes: impl Into<Bytes>) -> Result<Digest, StoreError> {
        let digest = self.shared.durable.here().put_bytes(bytes.into()).await?;
        self.blobs.push(digest);
        Ok(digest)
    }

    /// The records of a job, and a manifest that names them and its logs.
    async fn job(&mut self, view: &View, id: JobId) -> Result<ArchiveRow, ArchiveError> {
        let copy = view.clone();
        let packed = tokio::task::spawn_blocking(move || pack(&copy, id)).await;
        let packed = packed.map_err(|panic| unreadable(format!("job {id}"), panic))?;
        let records = self.put(packed.map_err(|error| unreadable(format!("job {id}"), error))?).await?;
        let manifest = manifest(view, id, records).map_err(|error| unreadable(format!("job {id}"), error))?;
        let manifest = self.put(manifest.encode()).await?;
        let archived_at = self.shared.stamps.now();
        let until = archived_at.after(self.shared.config.retention.archive_ms);
        let job = view.job(id).ok_or_else(|| unreadable(format!("job {id}"), "it is gone"))?;
        Ok(ArchiveRow { row: job_row(view, id, &job), manifest, archived_at, until })
    }

    /// A page of these rows; none if there are none.
    async fn page(&mut self, rows: &BTreeMap<JobId, ArchiveRow>) -> Result<Option<ArchivePage>, ArchiveError> {
        let Some(first_until) = rows.values().map(|row| row.until).min() else { return Ok(None) };
        let bytes = flowyard_proto::encode_rows(rows.values());
        let packed = zstd::encode_all(&bytes[..], ZSTD_LEVEL).map_err(|error| unreadable("a page", error))?;
        Ok(Some(ArchivePage { rows: self.put(packed).await?, jobs: rows.len() as u32, first_until }))
    }
}

/// Everything recorded of a job, compressed.
fn pack(view: &View, id: JobId) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let mut out = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    flowyard_proto::write_records(view.version(), view.job_records(id), &mut out)?;
    out.flush()?;
    Ok(out.finish()?)
}

fn manifest(view: &View, id: JobId, records: Digest) -> Result<Manifest, flowyard_cas::ManifestError> {
    let members = view.tasks_of(id).flat_map(|(_, task)| task.attempts.iter().flat_map(|attempt| &attempt.members));
    let ends = members.filter_map(|member| member.end.as_ref());
    let logs: BTreeSet<Digest> = ends.flat_map(|end| [end.logs.stdout, end.logs.stderr]).flatten().collect();
    let file = |path: Vec<u8>, digest| Entry { path, kind: EntryKind::File { digest, executable: false } };
    let mut entries = vec![file(RECORDS.to_vec(), records)];
    if !logs.is_empty() {
        entries.push(Entry { path: LOGS.as_bytes().to_vec(), kind: EntryKind::Directory });
    }
    entries.extend(logs.into_iter().map(|log| file(format!("{LOGS}/{log}").into_bytes(), log)));
    Manifest::from_entries(entries)
}
