//! Deleting what nobody refers to any more.
//!
//! Mark: every blob that a live manifest names, and the manifests themselves. Sweep: every other blob that is old enough.
//! Age is what makes this safe without a lock: a blob that is being uploaded, or that a client was just told is there, is
//! young; whoever takes the live set takes it before the sweep begins.

use std::collections::HashSet;

use flowyard_model::Digest;
use futures::TryStreamExt;

use super::{Origin, REFRESH_AFTER_MS, age_ms};
use crate::StoreError;
use crate::manifest::Manifest;

/// The least age at which anything is deleted: twice the time after which a blob that is asked for is made young again.
pub const MIN_SWEEP_AGE_MS: u64 = 2 * REFRESH_AFTER_MS;

/// What must stay.
#[derive(Debug, Clone, Default)]
pub struct LiveBlobs {
    /// Artifacts: these blobs and all blobs they name stay.
    pub manifests: Vec<Digest>,
    /// Blobs that are no manifests (logs, lists of items, specs).
    pub blobs: Vec<Digest>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs deleted.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Blobs that stayed, because they are live or young.
    pub kept: u64,
    /// Live manifests that are not in the origin; what they named is lost already.
    pub lost_manifests: u64,
}

impl Origin {
    /// Deletes the blobs that `live` does not keep and that are older than `min_age_ms` (at least [`MIN_SWEEP_AGE_MS`]).
    /// Deletes nothing when a live manifest cannot be read. What is no manifest names nothing, whoever said that it is one.
    pub async fn sweep(&self, live: &LiveBlobs, min_age_ms: u64, now_ms: u64) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let marked = self.mark(live, &mut swept).await?;
        let min_age_ms = min_age_ms.max(MIN_SWEEP_AGE_MS);
        let mut blobs = self.list();
        while let Some((digest, meta)) = blobs.try_next().await? {
            if marked.contains(&digest)
                || age_ms(&meta, now_ms) < min_age_ms
                || self.is_young(&digest, min_age_ms, now_ms).await?
            {
                swept.kept += 1;
                continue;
            }
            self.delete(&digest).await?;
            swept.deleted += 1;
            swept.deleted_bytes += digest.length;
        }
        let origin = self.clone();
        crate::store::blocking("the origin", move || {
            if let Err(error) = origin.remove_leftovers(min_age_ms, now_ms) {
                tracing::warn!(%origin, %error, "what cut-off writes left behind could not be removed");
            }
            Ok(())
        })
        .await?;
        Ok(swept)
    }

    async fn mark(&self, live: &LiveBlobs, swept: &mut Swept) -> Result<HashSet<Digest>, StoreError> {
        let mut marked: HashSet<Digest> = live.blobs.iter().copied().collect();
        // A set of its own: a manifest may also be a file in another artifact, and must still be opened.
        let manifests: HashSet<Digest> = live.manifests.iter().copied().collect();
        for digest in &manifests {
            marked.insert(*digest);
            let bytes = match self.get_bytes(digest).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_missing() => {
                    swept.lost_manifests += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            marked.extend(Manifest::listed(*digest, &bytes)?);
        }
        Ok(marked)
    }

    /// Looks once more just before deleting: a listing may be minutes old.
    async fn is_young(&self, digest: &Digest, min_age_ms: u64, now_ms: u64) -> Result<bool, StoreError> {
        Ok(self.head(digest).await?.is_some_and(|meta| age_ms(&meta, now_ms) < min_age_ms))
    }
}
