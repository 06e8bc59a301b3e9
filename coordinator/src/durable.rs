//! Durable bytes as the rest of the coordinator sees them: the origin, and where coordinators are the origin themselves, their copies.
//!
//! Invariant: what [`Durable::confirm`] returned for survives the loss of any minority of the coordinators.

use std::ops::Range;

use bytes::Bytes;
use flowyard_cas::{BlobUpload, LiveBlobs, Manifest, Origin, StoreError};
use flowyard_model::{Digest, limits};
use futures::stream::BoxStream;

use crate::fleet::{Mirror, MirrorError};

type Pieces = BoxStream<'static, Result<Bytes, StoreError>>;

/// The store; cheap to clone.
#[derive(Clone)]
pub struct Durable {
    origin: Origin,
    mirror: Option<Mirror>,
}

impl Durable {
    /// What `origin` keeps, it keeps for good.
    pub(crate) fn of(origin: Origin) -> Self {
        Self { origin, mirror: None }
    }

    /// What `origin` keeps, others keep too.
    pub(crate) fn mirrored(origin: Origin, mirror: Mirror) -> Self {
        Self { origin, mirror: Some(mirror) }
    }

    /// What is on this coordinator, or in the one store that all share.
    pub(crate) fn here(&self) -> &Origin {
        &self.origin
    }

    /// Whether each coordinator keeps its own copy.
    pub(crate) fn is_mirrored(&self) -> bool {
        self.mirror.is_some()
    }

    /// Begins to store a blob.
    pub(crate) fn upload(&self, digest: Digest, source: &str) -> BlobUpload {
        self.origin.upload(digest, source)
    }

    /// Returns once these blobs, which are here, are safe. Where somebody has just stored them, others are told who.
    ///
    /// # Errors
    /// When too few coordinators have them.
    pub(crate) async fn confirm(&self, digests: &[Digest], stored_by: Option<&str>) -> Result<(), MirrorError> {
        match &self.mirror {
            Some(mirror) => mirror.spread(digests, stored_by).await,
            None => Ok(()),
        }
    }

    /// Which of these blobs have to be uploaded. One that only others have is brought, and one that is not safe yet is made so.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(crate) async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, MirrorError> {
        let mut missing = self.origin.missing(digests).await?;
        if let Some(mirror) = &self.mirror {
            missing = mirror.bring_all(missing).await?;
        }
        let absent: std::collections::HashSet<_> = missing.iter().collect();
        let present: Vec<_> = digests.iter().filter(|digest| !absent.contains(digest)).copied().collect();
        self.confirm(&present, None).await?;
        Ok(missing)
    }

    /// A blob that fits into memory.
    ///
    /// # Errors
    /// When nobody has it.
    pub(crate) async fn get_bytes(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        self.bring(digest).await?;
        self.origin.get_bytes(digest).await
    }

    /// A blob as it comes.
    ///
    /// # Errors
    /// When nobody has it.
    pub(crate) async fn get_stream(&self, digest: &Digest) -> Result<Pieces, StoreError> {
        self.bring(digest).await?;
        self.origin.get_stream(digest).await
    }

    /// Part of a blob as it comes, not checked.
    ///
    /// # Errors
    /// When nobody has it.
    pub(crate) async fn get_range(&self, digest: &Digest, range: Range<u64>) -> Result<Pieces, StoreError> {
        self.bring(digest).await?;
        self.origin.get_range(digest, range).await
    }

    /// The blobs that an artifact names; `None` if nobody has it. What is no artifact names none, whoever said that it is one: it
    /// must not stand in the way of all others.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn named_by_artifact(&self, digest: Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        if digest.length > limits::MANIFEST_BYTES {
            return Ok(Some(Vec::new()));
        }
        let bytes = match self.get_bytes(&digest).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        Manifest::listed(digest, &bytes).map(Some)
    }

    /// Whether the blob is here, after it was brought if need be.
    ///
    /// # Errors
    /// When it cannot be kept here.
    pub(crate) async fn has(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.bring(digest).await {
            Ok(()) => self.origin.contains(digest).await,
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn bring(&self, digest: &Digest) -> Result<(), StoreError> {
        match &self.mirror {
            Some(mirror) => mirror.bring(*digest).await,
            None => Ok(()),
        }
    }

    /// Brings everything of `live` that is not here; how many blobs nobody has that answers.
    ///
    /// # Errors
    /// When they cannot be kept.
    pub(crate) async fn catch_up(&self, live: &LiveBlobs) -> Result<u64, StoreError> {
        let mut lost = 0;
        for digest in &live.blobs {
            lost += self.caught(digest).await?;
        }
        for digest in &live.manifests {
            let Some(named) = self.named_by_artifact(*digest).await? else {
                lost += 1;
                continue;
            };
            for digest in named {
                lost += self.caught(&digest).await?;
            }
        }
        Ok(lost)
    }

    async fn caught(&self, digest: &Digest) -> Result<u64, StoreError> {
        match self.bring(digest).await {
            Ok(()) => Ok(0),
            Err(error) if error.is_missing() => Ok(1),
            Err(error) => Err(error),
        }
    }
}
