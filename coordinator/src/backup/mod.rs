//! A backup: everything that a cluster keeps, at one revision, as one file.
//!
//! Owns: the format ([`BackupWriter`], [`BackupReader`]), which blobs belong to it, and making one while the cluster runs. How a
//! cluster is made from it again is in [`crate::fleet`].
//!
//! Invariants:
//! - A backup is of one view. What is applied while it is made is not in it.
//! - A file that was cut off, changed or written by a newer release is refused before anything of it is used.

mod making;
mod named;
mod past;
mod reader;
mod writer;

use std::io;

use flowyard_model::Digest;
use flowyard_proto::{SnapshotError, peer};

pub(crate) use making::make;
pub(crate) use named::{Kept, kept_blobs};
pub use past::{PastRead, read_past};
pub use reader::{BackupReader, StateRecords, verify};
pub use writer::BackupWriter;

/// The format that this build writes and reads.
pub const BACKUP_FORMAT: u32 = 1;
/// The one before the last byte is the format's number.
const MAGIC: [u8; 8] = *b"FYBACK1\n";
const FORMAT_AT: usize = 6;
/// Most bytes of the content of one part.
const PIECE_BYTES: usize = 256 * 1024;
/// Most bytes of one part: a piece, or the keys of a cluster, and what the message adds.
const PART_BYTES: usize = 1024 * 1024;
/// Speed over size: the cluster works meanwhile.
const ZSTD_LEVEL: i32 = 1;

/// The files of keys in a coordinator's folder that belong to the cluster and not to the coordinator.
pub(crate) const KEY_FILES: [&str; 2] = ["authority.pem", "secrets.key"];

/// What a backup holds, as far as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What it is of.
    pub head: peer::BackupHead,
    /// What is in it.
    pub tail: peer::BackupTail,
    /// Its size.
    pub bytes: u64,
}

/// Why a backup could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The medium failed.
    #[error("cannot read or write the backup: {0}")]
    Io(#[from] io::Error),
    /// It does not begin as a backup does.
    #[error("this is no backup of a Flowyard cluster")]
    NotABackup,
    /// A newer release wrote it: nothing is wrong with it, and nothing of it may be used.
    #[error(
        "a newer release of Flowyard wrote this backup (format {format}; this one reads format {BACKUP_FORMAT}): use that release"
    )]
    Newer {
        /// Its format.
        format: u32,
    },
    /// Its bytes are not what was written.
    #[error("the backup is damaged: the part at byte {at} is not what was written")]
    Damaged {
        /// Where the part begins.
        at: u64,
    },
    /// It ends before its tail.
    #[error("the backup was cut off at byte {at}: it lacks its end")]
    Cut {
        /// Where it ends.
        at: u64,
    },
    /// Parts are missing, or in another order.
    #[error("the backup is not in order at byte {at}: {what}")]
    Disorder {
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The state in it.
    #[error("the state in the backup")]
    State(#[from] SnapshotError),
    /// The log in it.
    #[error("the log in the backup cannot be used: {0}")]
    Log(String),
    /// A blob is not what its name says.
    #[error("blob {digest} in the backup is damaged")]
    Blob {
        /// Which.
        digest: Digest,
    },
}

#[cfg(test)]
mod tests;
