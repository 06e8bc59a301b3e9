//! What can go wrong with the log, split by what the caller has to do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A refused or failed operation on an open log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The entries do not continue the log; accepting them would leave a hole.
    #[error("entry {found} does not continue the log, which expects {expected}")]
    Gap {
        /// The index the log expects next.
        expected: u64,
        /// The index that was offered.
        found: u64,
    },
    /// A term went backwards inside the log.
    #[error("entry {index} has term {found}, lower than the term {previous} before it")]
    TermReversed {
        /// The offending entry.
        index: u64,
        /// The term before it.
        previous: u64,
        /// Its own term.
        found: u64,
    },
    /// The payload is above the limit of one entry.
    #[error("entry of {bytes} bytes is above the limit of {limit}")]
    EntryTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Entries that were purged cannot be truncated.
    #[error("cannot truncate after {index}: purged up to {purged}")]
    TruncatesPurged {
        /// Where the truncation would start.
        index: u64,
        /// The last purged entry.
        purged: u64,
    },
    /// The log was closed in good order.
    #[error("the log is closed")]
    Closed,
    /// A write or a read failed; the log takes nothing more, and the process must stop and keep the disk.
    #[error("the log failed")]
    Failed(#[source] Arc<DiskError>),
}

impl From<DiskError> for EngineError {
    fn from(source: DiskError) -> Self {
        Self::Failed(Arc::new(source))
    }
}

/// What an engine's files answered.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// sled refused.
    #[error("sled: {0}")]
    Sled(#[source] sled::Error),
    /// redb refused.
    #[error("redb: {0}")]
    Redb(#[source] Box<redb::Error>),
    /// The library panicked over its own files.
    #[error("the engine panicked: {0}")]
    Panicked(String),
    /// What was read is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// A record was written by a newer version of this program.
    #[error("record format {found} is newer than {supported}, the newest this version reads")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
}

impl DiskError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// Whether the bytes themselves are bad, so that the folder must be kept aside rather than tried again.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Panicked(_) | Self::Sled(sled::Error::Corruption { .. }) => true,
            Self::Sled(sled::Error::ReportableBug(_)) => true,
            // A file that ends before what it should hold: no disk says that of itself.
            Self::Sled(sled::Error::Io(error)) => error.kind() == io::ErrorKind::UnexpectedEof,
            Self::Redb(error) => match &**error {
                redb::Error::Corrupted(_) => true,
                redb::Error::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
                _ => false,
            },
            Self::Sled(_) | Self::Io { .. } | Self::Newer { .. } => false,
        }
    }
}

impl From<sled::Error> for DiskError {
    fn from(source: sled::Error) -> Self {
        Self::Sled(source)
    }
}

macro_rules! from_redb {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for DiskError {
            fn from(source: redb::$error) -> Self {
                Self::Redb(Box::new(source.into()))
            }
        }
    )*};
}

from_redb!(DatabaseError TransactionError TableError StorageError CommitError SetDurabilityError);

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// Another process has it open.
    #[error("the log in {path} is in use by another process", path = folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// It may open another time: a full disk, a missing right, a newer format. The folder was left as it is.
    #[error("cannot open the log in {path}", path = folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: DiskError,
    },
    /// It is damaged. It was moved aside untouched; this replica must not come back under its old id.
    #[error(
        "the log in {path} is damaged and was moved to {aside}; this replica may have promised what it no longer \
         remembers: restore the folder from a backup, or let the machine join again as a new replica",
        path = folder.display(), aside = aside.display()
    )]
    Quarantined {
        /// The folder.
        folder: PathBuf,
        /// Where it was moved to.
        aside: PathBuf,
        /// What was wrong.
        source: DiskError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_ends_too_early_is_damage_and_a_full_disk_is_not() {
        let errors = |kind: io::ErrorKind| {
            let redb = DiskError::Redb(Box::new(redb::Error::Io(kind.into())));
            [DiskError::Sled(sled::Error::Io(kind.into())), redb]
        };
        assert!(errors(io::ErrorKind::UnexpectedEof).iter().all(DiskError::is_damage));
        assert!(!errors(io::ErrorKind::StorageFull).iter().any(DiskError::is_damage));
    }
}
