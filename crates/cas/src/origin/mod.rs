//! The durable blobs that everybody reads from: a directory by default, or any object store.
//!
//! Layout, version 1: the blob `DIGEST` is the object `v1/blobs/ab/DIGEST`, where `ab` are its first two digits. Keys are
//! content, so writing one twice is harmless and nothing needs a lock or an ETag.
//!
//! Invariants: an object gets its name only when all its bytes arrived and hash to its digest; bytes that leave whole are
//! hashed on the way; nothing is deleted that a live manifest names or that was written or asked about lately
//! (see [`Origin::missing`] and [`Origin::sweep`]).

mod directory;
mod read;
mod sweep;
mod upload;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flowyard_model::Digest;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

pub use sweep::{LiveBlobs, MIN_SWEEP_AGE_MS, Swept};
pub use upload::BlobUpload;

use crate::StoreError;
use crate::folder::make_folder;
use crate::hashing::digest_bytes;

const BLOBS: &str = "v1/blobs";
/// How many questions are asked of the origin at once.
const REQUESTS_AT_ONCE: usize = 32;
/// A blob that was written longer ago than this is made young again when somebody is about to rely on it.
const REFRESH_AFTER_MS: u64 = 60 * 60 * 1_000;

/// The durable store of blobs. Cloning gives another handle to the same one.
#[derive(Clone, Debug)]
pub struct Origin {
    objects: Arc<dyn ObjectStore>,
    directory: Option<PathBuf>,
    fsync: bool,
    /// Folders whose names are known to be durable.
    settled: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.directory {
            Some(path) => write!(f, "{}", path.display()),
            None => write!(f, "{}", self.objects),
        }
    }
}

impl Origin {
    /// An origin in a directory, which is made if it is new. With `fsync`, a blob survives a power cut once its put returned.
    pub fn in_directory(path: &Path, fsync: bool) -> Result<Self, StoreError> {
        let io = |source| StoreError::io("make the folder", path, 0, source);
        let made = if fsync { make_folder(path) } else { std::fs::create_dir_all(path) };
        made.map_err(io)?;
        let path = path.canonicalize().map_err(io)?;
        let files = LocalFileSystem::new_with_prefix(&path);
        let files = files.map_err(|source| StoreError::io("open", &path, 0, io::Error::other(source)))?;
        Ok(Self { objects: Arc::new(files.with_fsync(fsync)), directory: Some(path), fsync, settled: Arc::default() })
    }

    /// An origin in any object store.
    pub fn in_objects(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, directory: None, fsync: false, settled: Arc::default() }
    }

    /// An origin that lasts as long as its handles: for tests and the simulator.
    pub fn in_memory() -> Self {
        Self::in_objects(Arc::new(object_store::memory::InMemory::new()))
    }

    /// The file that holds (or would hold) the blob, when the origin is a directory.
    pub(crate) fn file_of(&self, digest: &Digest) -> Option<PathBuf> {
        let name = digest.to_string();
        Some(self.directory.as_ref()?.join(BLOBS).join(&name[..2]).join(name))
    }

    /// Whether the blob is there.
    pub async fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.head(digest).await?.is_some())
    }

    /// Which of these blobs have to be uploaded by somebody who is about to rely on them.
    ///
    /// Those that are there are made young, so that [`Origin::sweep`] leaves them until a manifest names them. An object
    /// store cannot do that, so there an old blob counts as missing and is uploaded once more.
    pub async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let asked = futures::stream::iter(digests.to_vec());
        let answers = asked.map(|digest| async move { Ok((digest, self.is_safe(&digest).await?)) });
        let absent =
            answers.buffered(REQUESTS_AT_ONCE).try_filter_map(async |(digest, safe)| Ok((!safe).then_some(digest)));
        absent.try_collect().await
    }

    /// Stores `bytes` under their digest.
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        let digest = digest_bytes(&bytes);
        let mut upload = self.upload(digest, "memory");
        upload.write(bytes).await?;
        upload.finish().await?;
        Ok(digest)
    }

    /// Removes the blob. What is not there is no error.
    pub async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let key = key_of(digest);
        match self.objects.delete(&key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.error("delete", &key, 0, source)),
        }
    }

    /// Number and bytes of all blobs. It lists them all: not for every day.
    pub async fn total(&self) -> Result<(u64, u64), StoreError> {
        let add = async |(count, bytes), (digest, _): (Digest, ObjectMeta)| Ok((count + 1, bytes + digest.length));
        self.list().try_fold((0, 0), add).await
    }

    /// Every blob with what the object store knows of it. Objects with other names are passed over.
    fn list(&self) -> futures::stream::BoxStream<'_, Result<(Digest, ObjectMeta), StoreError>> {
        let prefix = Key::from(BLOBS);
        let found = self.objects.list(Some(&prefix)).map_err(move |source| self.error("list", &prefix, 0, source));
        let blobs = found.try_filter_map(async |meta| {
            let digest = meta.location.filename().and_then(|name| name.parse().ok());
            Ok(digest.map(|digest: Digest| (digest, meta)))
        });
        blobs.boxed()
    }

    async fn head(&self, digest: &Digest) -> Result<Option<ObjectMeta>, StoreError> {
        let key = key_of(digest);
        match self.objects.head(&key).await {
            // What is shorter or longer than its name says is not the blob; it will be written anew.
            Ok(meta) => Ok((meta.size == digest.length).then_some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.error("look up", &key, 0, source)),
        }
    }

    /// Whether the blob is there and will stay for a while.
    async fn is_safe(&self, digest: &Digest) -> Result<bool, StoreError> {
        let Some(meta) = self.head(digest).await? else { return Ok(false) };
        self.settle_fan_out(digest).await?;
        if age_ms(&meta, flowyard_clock::wall_ms()) < REFRESH_AFTER_MS {
            return Ok(true);
        }
        match self.file_of(digest) {
            Some(path) => crate::store::blocking("the origin", move || Ok(directory::make_young(&path))).await,
            None => Ok(false),
        }
    }

    /// Sees to it that the folder a blob has or gets its name in stays, when the origin is a directory.
    async fn settle_fan_out(&self, digest: &Digest) -> Result<(), StoreError> {
        let Some(path) = self.file_of(digest) else { return Ok(()) };
        let folder = path.parent().expect("a blob lies in its fan-out folder").to_owned();
        let origin = self.clone();
        let settle = move || {
            origin.make_fan_out(&folder).map_err(|source| StoreError::io("make the folder", &folder, 0, source))
        };
        crate::store::blocking("the origin", settle).await
    }

    fn error(&self, action: &'static str, key: &Key, needed_bytes: u64, source: object_store::Error) -> StoreError {
        if let Some(kind) = full_disk(&source) {
            let path = self.directory.as_deref().unwrap_or(Path::new("origin")).join(key.as_ref());
            return StoreError::DiskFull { path, needed_bytes, source: io::Error::new(kind, source) };
        }
        StoreError::Origin { action, key: key.to_string(), origin: self.to_string(), source: Box::new(source) }
    }

    fn missing_error(&self, digest: &Digest) -> StoreError {
        StoreError::Missing { digest: *digest, place: format!("the origin {self}") }
    }

    /// Reports a blob whose bytes are wrong, and takes it out of the way.
    pub(crate) fn found_damaged(&self, digest: &Digest) -> StoreError {
        self.set_aside(digest);
        StoreError::Damaged { digest: *digest, place: format!("the origin {self} (`{}`)", key_of(digest)) }
    }
}

fn key_of(digest: &Digest) -> Key {
    let name = digest.to_string();
    Key::from(format!("{BLOBS}/{}/{name}", &name[..2]))
}

fn age_ms(meta: &ObjectMeta, now_ms: u64) -> u64 {
    now_ms.saturating_sub(meta.last_modified.timestamp_millis().max(0) as u64)
}

/// Looks through the causes of an error for a disk that is full.
fn full_disk(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
