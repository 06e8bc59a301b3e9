//! The blobs on this machine's disk.
//!
//! ```text
//! ROOT/lock                      held while the store is open
//! ROOT/v1/blobs/ab/DIGEST        one read-only file per blob
//! ROOT/v1/trees/DIGEST/root      the checked-out, read-only tree of one manifest, its files linked to the blobs
//! ROOT/v1/tmp/N                  being written, or being removed; emptied when the store is opened
//! ```
//!
//! All calls block; [`crate::Store`] runs them off the async threads.
//!
//! Invariants: what has its final name is complete; nothing is served that was not checked (see [`LocalStore::get`]); what a
//! [`Pin`] holds, and every blob that a tree links, is not evicted; one process at a time has a store open.
//! It is a cache: losing it loses nothing, so it needs no fsync (which [`LocalOptions`] can turn on).

mod evict;
mod index;
mod pin;
mod read;
mod stamp;
mod tree;
mod write;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyard_model::Digest;

pub use evict::Evicted;
pub use pin::{Pin, PinnedBlob, PinnedTree};
pub use write::BlobWriter;

use crate::StoreError;
use crate::copying::remove_any;
use crate::folder::make_folder;
use crate::manifest::Manifest;
use index::{Index, Key};

/// What one file costs at least: the accounting rounds up to whole blocks.
const BLOCK_BYTES: u64 = 4_096;

/// How a local store behaves.
#[derive(Debug, Clone, Copy)]
pub struct LocalOptions {
    /// Unpinned blobs are evicted when the store holds more than this.
    pub budget_bytes: u64,
    /// Whether a blob is on disk (and not only in the system's cache) when a put returns.
    pub fsync: bool,
}

impl LocalOptions {
    /// A cache of at most `budget_bytes`.
    pub fn with_budget(budget_bytes: u64) -> Self {
        Self { budget_bytes, fsync: false }
    }
}

/// The blobs on this machine's disk; see the module. Cloning gives another handle to the same store.
#[derive(Debug, Clone)]
pub struct LocalStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    options: LocalOptions,
    index: Mutex<Index>,
    temp_sequence: AtomicU64,
    /// Keeps the lock of the store; closing the file gives it back.
    _lock: File,
}

impl LocalStore {
    /// Opens the store under `root`, making it if it is new, and sweeps what a crash left half-written.
    pub fn open(root: &Path, options: LocalOptions) -> Result<Self, StoreError> {
        for folder in ["v1/blobs", "v1/trees", "v1/tmp"] {
            let path = root.join(folder);
            let made = if options.fsync { make_folder(&path) } else { fs::create_dir_all(&path) };
            made.map_err(|source| StoreError::io("make the folder", &path, 0, source))?;
        }
        let lock = lock(root)?;
        let temp_sequence = AtomicU64::new(0);
        let index = Mutex::new(Index::default());
        let store =
            Self { shared: Arc::new(Shared { root: root.to_owned(), options, index, temp_sequence, _lock: lock }) };
        store.sweep_temporary()?;
        store.scan_blobs()?;
        store.scan_trees()?;
        Ok(store)
    }

    /// The folder that was given to [`LocalStore::open`].
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// What the store takes on disk, in whole blocks per file.
    pub fn total_bytes(&self) -> u64 {
        self.index().total_bytes()
    }

    /// Unpinned blobs are evicted when the store holds more than this.
    pub fn budget_bytes(&self) -> u64 {
        self.shared.options.budget_bytes
    }

    /// Whether the blob is here. It may be gone (or turn out damaged) by the time it is asked for: pin it with
    /// [`LocalStore::get`] to rely on it.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.index().is_present(Key::Blob(*digest))
    }

    /// Where the blob is kept, if it is kept.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.shared.root.join("v1/blobs").join(&name[..2]).join(name)
    }

    fn tree_path(&self, manifest: &Digest) -> PathBuf {
        self.shared.root.join("v1/trees").join(manifest.to_string())
    }

    fn path_of(&self, key: Key) -> PathBuf {
        match key {
            Key::Blob(digest) => self.blob_path(&digest),
            Key::Tree(digest) => self.tree_path(&digest),
        }
    }

    /// A path in the temporary folder that nothing else uses.
    fn temp_path(&self) -> PathBuf {
        let number = self.shared.temp_sequence.fetch_add(1, Ordering::Relaxed);
        self.shared.root.join("v1/tmp").join(number.to_string())
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // Every change of the index is complete before anything in it can panic, so a poisoned one is still sound.
        self.shared.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep_temporary(&self) -> Result<(), StoreError> {
        for path in list(&self.shared.root.join("v1/tmp"))? {
            remove_any(&path).map_err(|source| StoreError::io("remove", &path, 0, source))?;
        }
        Ok(())
    }

    /// Takes every blob into the index by its name alone; its bytes are checked when it is asked for.
    fn scan_blobs(&self) -> Result<(), StoreError> {
        for folder in list(&self.shared.root.join("v1/blobs"))? {
            for path in list(&folder)? {
                match digest_in_name(&path) {
                    Some(digest) => self.index().insert(Key::Blob(digest), stored_bytes(&digest), Vec::new()),
                    None => tracing::warn!(path = %path.display(), "a file that is no blob lies among the blobs"),
                }
            }
        }
        Ok(())
    }

    /// Takes every tree into the index. They are kept as they are: containers that outlived us may have them mounted.
    fn scan_trees(&self) -> Result<(), StoreError> {
        for path in list(&self.shared.root.join("v1/trees"))? {
            let Some(digest) = digest_in_name(&path) else {
                remove_any(&path).map_err(|source| StoreError::io("remove", &path, 0, source))?;
                continue;
            };
            let manifest = self.read(&digest).ok().flatten().and_then(|bytes| Manifest::decode(&bytes).ok());
            let (own_bytes, holds) =
                manifest.map_or((BLOCK_BYTES, Vec::new()), |manifest| tree::cost(digest, &manifest));
            self.index().insert(Key::Tree(digest), own_bytes, holds);
        }
        Ok(())
    }
}

/// What a blob counts for in [`LocalStore::total_bytes`].
pub fn stored_bytes(digest: &Digest) -> u64 {
    digest.length.max(1).div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let file = File::create(&path).map_err(|source| StoreError::io("open", &path, 0, source))?;
    // A process that is ending may hold it for a moment longer.
    let tried = flowyard_clock::patiently(flowyard_clock::LEAVING, || match file.try_lock() {
        Err(TryLockError::WouldBlock) => None,
        settled => Some(settled),
    });
    match tried {
        Some(Ok(())) => Ok(file),
        Some(Err(TryLockError::Error(source))) => Err(StoreError::io("lock", &path, 0, source)),
        Some(Err(TryLockError::WouldBlock)) | None => Err(StoreError::InUse { path: root.to_owned() }),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    read().map_err(|source| StoreError::io("list", folder, 0, source))
}

fn digest_in_name(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests;
