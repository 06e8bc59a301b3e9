//! What can go wrong when bytes are stored or fetched.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowyard_model::Digest;

use crate::manifest::ManifestError;

/// Why the store could not do what was asked. The message is what a user reads: what failed, where, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Nobody has the blob.
    #[error("blob {digest} is not in {place}; store it again, or run the step again that made it")]
    Missing {
        /// The blob asked for.
        digest: Digest,
        /// Where it was looked for last.
        place: String,
    },
    /// The bytes under a digest are not the bytes that were stored.
    #[error(
        "blob {digest} in {place} is damaged: its bytes do not match its digest; it was not used. store it again, and check that disk"
    )]
    Damaged {
        /// The blob asked for.
        digest: Digest,
        /// The file or object whose bytes are wrong.
        place: String,
    },
    /// Bytes were offered under a digest that is not theirs.
    #[error(
        "the bytes of {place} hash to {found}, not to {expected}; they changed while they were stored, or were damaged on the way"
    )]
    Mismatch {
        /// The digest that was announced.
        expected: Digest,
        /// The digest of what arrived.
        found: Digest,
        /// Where the bytes came from.
        place: String,
    },
    /// The file system has no room (or the user's quota is used up).
    #[error("no room left on the disk of {}: {needed_bytes} bytes were to be written; free space there, or put the home on a larger disk", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// How many bytes the write was to hold.
        needed_bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has this local store open.
    #[error("the store {} is in use by another process; stop that one, or use another home", path.display())]
    InUse {
        /// The root of the store.
        path: PathBuf,
    },
    /// The destination of a checkout holds something already.
    #[error("{} exists already; choose a new or empty destination", path.display())]
    Exists {
        /// The path that is taken.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The origin did not answer as it should.
    #[error("cannot {action} `{key}` in the origin {origin}")]
    Origin {
        /// What was tried, as a verb.
        action: &'static str,
        /// The object concerned.
        key: String,
        /// Which origin.
        origin: String,
        /// What the origin's client said.
        source: Box<object_store::Error>,
    },
    /// A blob that should be a manifest is none.
    #[error("blob {digest} is not a manifest")]
    Manifest {
        /// The blob that was read.
        digest: Digest,
        /// Why it is none.
        source: ManifestError,
    },
    /// The origin sent nothing for too long.
    #[error("blob {digest} stopped coming from {place}: no byte for {waited_ms}ms")]
    Stalled {
        /// The blob asked for.
        digest: Digest,
        /// Where it comes from.
        place: String,
        /// How long nothing came.
        waited_ms: u64,
    },
    /// The task that did the work on another thread was stopped (the process is ending).
    #[error("the work on {what} was cut off")]
    Stopped {
        /// What was being worked on.
        what: String,
    },
    /// The failure of a fetch that several callers waited for.
    #[error(transparent)]
    Shared(#[from] Arc<StoreError>),
}

impl StoreError {
    /// An IO failure on `path`; a full disk becomes [`StoreError::DiskFull`].
    pub(crate) fn io(action: &'static str, path: &Path, needed_bytes: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, needed_bytes, source },
            _ => Self::Io { action, path, source },
        }
    }

    /// The failure itself, when several callers share it.
    pub fn cause(&self) -> &StoreError {
        match self {
            Self::Shared(shared) => shared.cause(),
            other => other,
        }
    }

    /// Whether nobody has the blob, as opposed to it being out of reach just now.
    pub fn is_missing(&self) -> bool {
        matches!(self.cause(), Self::Missing { .. })
    }

    /// Whether the origin sent nothing for too long.
    pub fn is_stalled(&self) -> bool {
        matches!(self.cause(), Self::Stalled { .. })
    }

    /// Whether the origin cannot be reached now, and may be later.
    pub fn is_away(&self) -> bool {
        let Self::Origin { source, .. } = self.cause() else { return false };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&**source);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotConnected) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self.cause(), Self::DiskFull { .. })
    }
}
