//! The one composition: this machine's blobs in front of the origin.
//!
//! Reading looks here, then in the origin; each blob is fetched once however many ask for it. Writing keeps a blob here and
//! puts it into the origin; when a put returns, the origin has it.
//!
//! Disk work runs on the threads for blocking work. At most [`FETCHES_AT_ONCE`] blobs are under way from or to the origin.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flowyard_model::Digest;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Semaphore, mpsc};

use crate::StoreError;
use crate::checkout::{Placing, checkout};
use crate::inflight::InFlight;
use crate::local::{LocalStore, PinnedBlob, PinnedTree};
use crate::manifest::{Manifest, Summary};
use crate::origin::Origin;
use crate::pack::Packed;

/// How many blobs are fetched or uploaded at once.
pub const FETCHES_AT_ONCE: usize = 16;
/// How long an origin that is away is left alone before it is asked again.
const AWAY: Duration = Duration::from_secs(1);
/// How many pieces of a blob wait between the network and the disk.
const PIECES_WAITING: usize = 4;

/// An artifact that the origin has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredArtifact {
    /// The digest of its manifest: its name.
    pub manifest: Digest,
    /// What it amounts to.
    pub summary: Summary,
}

/// Local store and origin. Cloning gives another handle to the same ones.
#[derive(Debug, Clone)]
pub struct Store {
    local: LocalStore,
    origin: Origin,
    fetches: Arc<InFlight<Digest, PinnedBlob>>,
    trees: Arc<InFlight<Digest, PinnedTree>>,
    slots: Arc<Semaphore>,
    /// How long the origin may send nothing, in milliseconds; 0 for ever.
    patience_ms: Arc<AtomicU64>,
    looks: Arc<Looks>,
}

/// How often a blob that was asked for was here, and how often it was not.
#[derive(Debug, Default)]
struct Looks {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Looks {
    fn count(&self, hits: usize, misses: usize) {
        self.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.misses.fetch_add(misses as u64, Ordering::Relaxed);
    }
}

/// Does it, again and again as long as the origin is away.
async fn while_away<T, F>(act: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match act().await {
            Err(error) if error.is_away() => {
                tracing::debug!(%error, "the origin is away; it is asked again");
                tokio::time::sleep(AWAY).await;
            }
            done => return done,
        }
    }
}

impl Store {
    /// Puts `local` in front of `origin`.
    pub fn new(local: LocalStore, origin: Origin) -> Self {
        let slots = Arc::new(Semaphore::new(FETCHES_AT_ONCE));
        let patience_ms = Arc::default();
        Self {
            local,
            origin,
            fetches: Arc::default(),
            trees: Arc::default(),
            slots,
            patience_ms,
            looks: Arc::default(),
        }
    }

    /// The blobs on this machine.
    pub fn local(&self) -> &LocalStore {
        &self.local
    }

    /// Gives up a blob of which the origin sends nothing for this long; 0 for never. Holds for every handle.
    pub fn give_up_after(&self, silence_ms: u64) {
        self.patience_ms.store(silence_ms, Ordering::Relaxed);
    }

    /// How many blobs that were asked for were on this machine, and how many had to be fetched.
    pub fn looks(&self) -> (u64, u64) {
        (self.looks.hits.load(Ordering::Relaxed), self.looks.misses.load(Ordering::Relaxed))
    }

    /// The durable blobs.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The blob on this machine's disk, checked and pinned; fetched from the origin if need be. A damaged local blob is
    /// replaced by the origin's; one that is damaged there too is an error.
    pub async fn get(&self, digest: &Digest) -> Result<PinnedBlob, StoreError> {
        let (local, wanted) = (self.local.clone(), *digest);
        let here = blocking("a blob", move || present(&local, &wanted)).await?;
        self.looks.count(usize::from(here.is_some()), usize::from(here.is_none()));
        match here {
            Some(blob) => Ok(blob),
            None => self.fetch_shared(*digest).await,
        }
    }

    /// Many blobs, each once.
    pub async fn get_all(
        &self,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<HashMap<Digest, PinnedBlob>, StoreError> {
        let local = self.local.clone();
        let mut wanted: Vec<Digest> = digests.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let (mut found, absent) = blocking("blobs", move || {
            let (mut found, mut absent) = (HashMap::new(), Vec::new());
            for digest in wanted {
                match present(&local, &digest)? {
                    Some(blob) => drop(found.insert(digest, blob)),
                    None => absent.push(digest),
                }
            }
            Ok((found, absent))
        })
        .await?;
        self.looks.count(found.len(), absent.len());
        let fetches = futures::stream::iter(absent).map(|digest| async move { self.fetch_shared(digest).await });
        let fetched: Vec<PinnedBlob> = fetches.buffer_unordered(FETCHES_AT_ONCE).try_collect().await?;
        found.extend(fetched.into_iter().map(|blob| (blob.digest(), blob)));
        Ok(found)
    }

    /// All bytes of a blob that fits into memory.
    pub async fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let (local, wanted) = (self.local.clone(), *digest);
        let here = blocking("a blob", move || match local.read(&wanted) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            other => other,
        });
        if let Some(bytes) = here.await? {
            return Ok(bytes);
        }
        let blob = self.fetch_shared(*digest).await?;
        let read = move || std::fs::read(blob.path()).map_err(|source| StoreError::io("read", blob.path(), 0, source));
        blocking("a blob", read).await
    }

    /// Part of a blob that was checked as a whole. What lies beyond its end is left out.
    pub async fn read_range(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, StoreError> {
        let blob = self.get(digest).await?;
        blocking("a blob", move || {
            let (start, end) = (range.start.min(blob.digest().length), range.end.min(blob.digest().length));
            let read = || {
                let mut file = std::fs::File::open(blob.path())?;
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = Vec::with_capacity(end.saturating_sub(start) as usize);
                file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
                Ok(Bytes::from(bytes))
            };
            read().map_err(|source| StoreError::io("read", blob.path(), 0, source))
        })
        .await
    }

    /// The manifest that is the blob `digest`.
    pub async fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let bytes = self.read(digest).await?;
        Manifest::decode(&bytes).map_err(|source| StoreError::Manifest { digest: *digest, source })
    }

    /// The read-only tree of an artifact, shared by all who ask, to be bound into containers. Made at the first call.
    pub async fn tree(&self, manifest: &Digest) -> Result<PinnedTree, StoreError> {
        let (store, digest) = (self.clone(), *manifest);
        self.trees.share(digest, || async move { store.find_or_make_tree(digest).await }).await
    }

    /// Writes an artifact to `destination` as files of its own, to be changed at will (see [`checkout`]).
    pub async fn checkout(&self, manifest: &Digest, destination: &Path) -> Result<Manifest, StoreError> {
        let manifest = self.manifest(manifest).await?;
        let blobs = self.get_all(manifest.blobs()).await?;
        let destination = destination.to_owned();
        let wanted = Arc::new(());
        // Whoever asked may go away in the middle, and remove what was laid out: nothing is to be laid out after that.
        let still = Arc::downgrade(&wanted);
        let laid_out = blocking("a checkout", move || {
            let wanted = || still.strong_count() > 0;
            let find = |digest: &Digest| blobs.get(digest).filter(|_| wanted()).map(|blob| blob.path().to_owned());
            checkout(&manifest, &destination, Placing::Copy, &find)?;
            Ok(manifest)
        });
        let laid_out = laid_out.await;
        drop(wanted);
        laid_out
    }

    /// Stores `bytes` here and in the origin.
    pub async fn put_bytes(&self, bytes: impl Into<Bytes>) -> Result<Digest, StoreError> {
        let (local, bytes) = (self.local.clone(), bytes.into());
        let blob = blocking("a blob", move || local.put_bytes(&bytes)).await?;
        self.upload(&blob).await?;
        Ok(blob.digest())
    }

    /// Stores the file at `path` here and in the origin. With `expected`, a file that holds something else is refused.
    pub async fn put_file(&self, path: &Path, expected: Option<Digest>) -> Result<Digest, StoreError> {
        let blob = self.keep_file(path.to_owned(), expected).await?;
        self.upload(&blob).await?;
        Ok(blob.digest())
    }

    /// Stores a manifest whose blobs the origin has.
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<StoredArtifact, StoreError> {
        let summary = manifest.summary();
        Ok(StoredArtifact { manifest: self.put_bytes(manifest.encode()).await?, summary })
    }

    /// Stores a packed artifact: its blobs, then its manifest, so that a manifest is never there without its blobs.
    pub async fn put_packed(&self, packed: &Packed) -> Result<StoredArtifact, StoreError> {
        let sources: Vec<_> = packed.sources.iter().map(|(digest, path)| (*digest, path.clone())).collect();
        let puts = futures::stream::iter(sources).map(|(digest, path)| async move {
            let blob = self.keep_file(path, Some(digest)).await?;
            self.upload(&blob).await
        });
        puts.buffer_unordered(FETCHES_AT_ONCE).try_collect::<()>().await?;
        self.put_manifest(&packed.manifest).await
    }

    /// Puts a local blob into the origin, unless it is there. While the origin is away this waits: what took hours to compute must not
    /// be lost to an outage. Whoever has less patience stops waiting.
    pub async fn upload(&self, blob: &PinnedBlob) -> Result<(), StoreError> {
        while_away(|| self.try_upload(blob)).await
    }

    async fn try_upload(&self, blob: &PinnedBlob) -> Result<(), StoreError> {
        let _slot = self.slot().await;
        if self.origin.missing(&[blob.digest()]).await?.is_empty() {
            return Ok(());
        }
        let (origin, linked) = (self.origin.clone(), blob.clone());
        if blocking("an upload", move || origin.link_from(&linked)).await? {
            return Ok(());
        }
        self.origin.put_file(blob.digest(), blob.path()).await
    }

    async fn keep_file(&self, path: PathBuf, expected: Option<Digest>) -> Result<PinnedBlob, StoreError> {
        let local = self.local.clone();
        blocking("a file", move || local.put_file(&path, expected)).await
    }

    async fn fetch_shared(&self, digest: Digest) -> Result<PinnedBlob, StoreError> {
        let store = self.clone();
        self.fetches.share(digest, || async move { store.fetch(digest).await }).await
    }

    async fn fetch(&self, digest: Digest) -> Result<PinnedBlob, StoreError> {
        while_away(|| self.try_fetch(digest)).await
    }

    async fn try_fetch(&self, digest: Digest) -> Result<PinnedBlob, StoreError> {
        let _slot = self.slot().await;
        if let Some(path) = self.origin.file_of(&digest) {
            return self.fetch_file(digest, path).await;
        }
        let fetched = self.fetch_stream(digest).await;
        if let Err(error) = &fetched {
            let (local, full) = (self.local.clone(), error.is_disk_full());
            if full && blocking("an eviction", move || Ok(local.make_room(digest.length))).await? {
                return self.fetch_stream(digest).await;
            }
        }
        fetched
    }

    /// From an origin that is a directory: linked where possible, else copied; checked either way.
    async fn fetch_file(&self, digest: Digest, path: PathBuf) -> Result<PinnedBlob, StoreError> {
        if !self.origin.contains(&digest).await? {
            return Err(StoreError::Missing { digest, place: format!("the origin {}", self.origin) });
        }
        let (local, origin) = (self.local.clone(), self.origin.clone());
        blocking("a fetch", move || {
            let fetched = match local.link_in(&digest, &path) {
                Ok(None) => local.put_file(&path, Some(digest)),
                Ok(Some(blob)) => Ok(blob),
                Err(error) => Err(error),
            };
            fetched.map_err(|error| match error {
                StoreError::Mismatch { .. } => origin.found_damaged(&digest),
                other => other,
            })
        })
        .await
    }

    /// From any other origin: the pieces go through a short queue to a thread that writes them.
    async fn fetch_stream(&self, digest: Digest) -> Result<PinnedBlob, StoreError> {
        let mut pieces = self.origin.get_stream(&digest).await?;
        let mut writer = self.local.writer(Some(digest), format!("the origin {}", self.origin))?;
        let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES_WAITING);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(piece) = receiver.blocking_recv() {
                writer.write(&piece)?;
            }
            Ok::<_, StoreError>(writer)
        });
        while let Some(piece) = self.unless_stalled(digest, pieces.try_next()).await? {
            // A closed queue means that writing failed; its error is told below.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
        let writer = writing.await.map_err(|_| StoreError::Stopped { what: format!("fetching blob {digest}") })??;
        blocking("a fetch", move || writer.finish()).await
    }

    /// The next of what the origin sends, unless it sends nothing for too long.
    async fn unless_stalled<T>(
        &self,
        digest: Digest,
        next: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let waited_ms = self.patience_ms.load(Ordering::Relaxed);
        if waited_ms == 0 {
            return next.await;
        }
        let sent = tokio::time::timeout(Duration::from_millis(waited_ms), next).await;
        sent.unwrap_or_else(|_| {
            Err(StoreError::Stalled { digest, place: format!("the origin {}", self.origin), waited_ms })
        })
    }

    async fn find_or_make_tree(&self, digest: Digest) -> Result<PinnedTree, StoreError> {
        // The manifest's blob is pinned until the tree keeps it.
        let own = self.get(&digest).await?;
        let manifest = self.manifest(&digest).await?;
        let local = self.local.clone();
        let (manifest, tree) = blocking("a tree", move || {
            let tree = local.tree(&digest, &manifest)?;
            Ok((manifest, tree))
        })
        .await?;
        if let Some(tree) = tree {
            return Ok(tree);
        }
        let mut blobs = self.get_all(manifest.blobs()).await?;
        blobs.insert(digest, own);
        let local = self.local.clone();
        blocking("a tree", move || local.make_tree(&manifest, &blobs)).await
    }

    async fn slot(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.slots.acquire().await.expect("the semaphore of the store is never closed")
    }
}

/// The local blob; a damaged one counts as absent, and was removed.
fn present(local: &LocalStore, digest: &Digest) -> Result<Option<PinnedBlob>, StoreError> {
    match local.get(digest) {
        Err(StoreError::Damaged { .. }) => Ok(None),
        other => other,
    }
}

/// Runs disk work on a thread for blocking work.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(StoreError::Stopped { what: what.to_owned() }),
        },
    }
}

#[cfg(test)]
mod tests;
