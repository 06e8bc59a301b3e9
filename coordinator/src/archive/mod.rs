//! Finished jobs after they were forgotten: what was recorded of them, and their logs, in the origin.
//!
//! State names pages; a page's rows are a blob; a row names a manifest; the manifest names the records and the logs. All of them
//! are immutable, so reading needs no lock, and a job is in the state or in the archive, never in neither.
//!
//! | Module | Does |
//! |---|---|
//! | [`keep`] | puts jobs into the archive, and takes those out whose time is over |
//! | [`due`] | which jobs it is time for |

mod due;
mod keep;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use flowyard_cas::{EntryKind, LiveBlobs, Manifest, StoreError};
use flowyard_model::{ArchivePage, Digest, JobId, TimeMs};
use flowyard_proto::ArchiveRow;
use flowyard_state::{State, View};

use crate::durable::Durable;
use crate::fleet::MirrorError;
use crate::proposer::ProposeError;

pub(crate) use keep::{drop_expired, drop_oldest, keep, retire, turn};

/// Where the records of a job are in its manifest.
const RECORDS: &[u8] = b"job";
/// The folder of its logs there.
const LOGS: &str = "logs";
/// Archived jobs that are kept unpacked: whoever asks about one asks again.
const KEPT: usize = 4;
/// The most that the records of one job unpack to.
const RECORDS_BYTES: u64 = 4 << 30;

/// Why the archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The origin.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The origins of the other coordinators.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The log.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// What is there is not what was written.
    #[error("the archive of {what} cannot be read: {why}")]
    Unreadable {
        /// A page or a job.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

fn unreadable(what: impl std::fmt::Display, why: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Unreadable { what: what.to_string(), why: why.to_string() }
}

/// One archived job, as a state of its own.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    /// Nothing but the job, its queue and its nodes.
    pub(crate) view: View,
    /// When it was archived.
    pub(crate) at: TimeMs,
}

/// Reads the archive; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive {
    /// By manifest, the one asked for last at the end.
    unpacked: Arc<Mutex<Vec<(Digest, View)>>>,
}

impl Archive {
    /// A job that was archived, if it is kept.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub(crate) async fn find(
        &self,
        durable: &Durable,
        view: &View,
        job: JobId,
    ) -> Result<Option<Archived>, ArchiveError> {
        let Some(page) = view.archive_page(ArchivePage::of(job)).copied() else { return Ok(None) };
        let Some(row) = rows(durable, &page).await?.remove(&job) else { return Ok(None) };
        let at = row.archived_at;
        if let Some(view) = self.known(row.manifest) {
            return Ok(Some(Archived { view, at }));
        }
        let manifest = manifest(durable, row.manifest).await?;
        let records = match manifest.entry(RECORDS).map(|entry| &entry.kind) {
            Some(EntryKind::File { digest, .. }) => *digest,
            _ => return Err(unreadable(format!("job {job}"), "it has no records")),
        };
        let packed = durable.get_bytes(&records).await?;
        let unpacked = tokio::task::spawn_blocking(move || unpack(&packed)).await;
        let view =
            unpacked.map_err(|panic| unreadable(job, panic))?.map_err(|why| unreadable(format!("job {job}"), why))?;
        let mut known = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.remove(0);
        }
        known.push((row.manifest, view.clone()));
        Ok(Some(Archived { view, at }))
    }

    fn known(&self, manifest: Digest) -> Option<View> {
        let known = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(digest, _)| *digest == manifest).map(|(_, view)| view.clone())
    }
}

/// The rows of a page.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn rows(durable: &Durable, page: &ArchivePage) -> Result<BTreeMap<JobId, ArchiveRow>, ArchiveError> {
    let packed = durable.get_bytes(&page.rows).await?;
    let bytes = zstd::decode_all(&packed[..]).map_err(|error| unreadable("a page", error))?;
    let rows = flowyard_proto::decode_rows(&bytes).map_err(|error| unreadable("a page", error))?;
    Ok(rows.into_iter().map(|row| (row.job(), row)).collect())
}

async fn manifest(durable: &Durable, digest: Digest) -> Result<Manifest, ArchiveError> {
    let bytes = durable.get_bytes(&digest).await?;
    Ok(Manifest::decode(&bytes).map_err(|source| StoreError::Manifest { digest, source })?)
}

/// The state that the records of one job make.
fn unpack(packed: &[u8]) -> Result<View, Box<dyn std::error::Error + Send + Sync>> {
    let input = zstd::Decoder::new(packed)?.take(RECORDS_BYTES);
    let records = flowyard_proto::read_records(input)?.collect::<Result<Vec<_>, _>>()?;
    Ok(State::from_records(records)?.view())
}

/// Adds every blob that the archive keeps.
///
/// # Errors
/// When a page cannot be read: then nothing may be removed.
pub(crate) async fn add_live(durable: &Durable, view: &View, live: &mut LiveBlobs) -> Result<(), ArchiveError> {
    for (_, page) in view.archive_pages() {
        live.blobs.push(page.rows);
        match rows(durable, page).await {
            Ok(rows) => live.manifests.extend(rows.into_values().map(|row| row.manifest)),
            // It is named all the same: where coordinators keep copies, nothing is removed while one that is named is with nobody.
            Err(ArchiveError::Store(error)) if error.is_missing() => {
                tracing::warn!(page = %page.rows, "a page of the archive is lost");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
