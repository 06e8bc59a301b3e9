//! Guards that keep what they name on disk.

use std::path::{Path, PathBuf};

use flowyard_model::Digest;

use super::LocalStore;
use super::index::Key;

/// Keeps one blob or tree from eviction for as long as it lives. Cloning adds a pin.
#[derive(Debug)]
pub struct Pin {
    store: LocalStore,
    key: Key,
}

impl Pin {
    /// A guard for a pin that the index already counts.
    pub(super) fn of_counted(store: &LocalStore, key: Key) -> Self {
        Self { store: store.clone(), key }
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        self.store.index().pin_again(self.key);
        Self::of_counted(&self.store, self.key)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.store.index().unpin(self.key);
    }
}

/// A verified blob that stays on disk as long as this lives.
#[derive(Debug, Clone)]
pub struct PinnedBlob {
    digest: Digest,
    path: PathBuf,
    _pin: Pin,
}

impl PinnedBlob {
    pub(super) fn new(digest: Digest, path: PathBuf, pin: Pin) -> Self {
        Self { digest, path, _pin: pin }
    }

    /// What names it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The read-only file with its bytes.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A checked-out, read-only tree that stays on disk as long as this lives. Other tasks share it.
#[derive(Debug, Clone)]
pub struct PinnedTree {
    manifest: Digest,
    path: PathBuf,
    _pin: Pin,
}

impl PinnedTree {
    pub(super) fn new(manifest: Digest, path: PathBuf, pin: Pin) -> Self {
        Self { manifest, path, _pin: pin }
    }

    /// The digest of the manifest it was made from.
    pub fn manifest(&self) -> Digest {
        self.manifest
    }

    /// The folder, or the file when the artifact is one file. To be bound read-only.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
