//! What is kept of the past in the origin: jobs that were forgotten, and sealed segments of the log. State holds only where.

use serde::{Deserialize, Serialize};

use crate::{Digest, Fingerprint, JobId, TimeMs};

/// Jobs that share a page of the archive: those whose ids are the same but for the remainder by this.
pub const ARCHIVE_PAGE_JOBS: u64 = 256;

/// One page of the archive: where its rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivePage {
    /// Blob of the rows.
    pub rows: Digest,
    /// How many jobs are in it; at least one.
    pub jobs: u32,
    /// When the first of them is dropped.
    pub first_until: TimeMs,
}

impl ArchivePage {
    /// The page that a job is on.
    pub fn of(job: JobId) -> u64 {
        job.0 / ARCHIVE_PAGE_JOBS
    }
}

/// A page of the archive becomes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageChange {
    /// Which.
    pub page: u64,
    /// Its rows as they were read; whoever changed it meanwhile makes the command void.
    pub was: Option<Digest>,
    /// What it becomes; it goes if `None`.
    pub now: Option<ArchivePage>,
}

/// Jobs to forget that are in the archive with this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveJobs {
    /// Pages that change; each once.
    pub pages: Vec<PageChange>,
    /// Jobs that are forgotten with it. Active jobs, and those whose end others must still learn, are passed over.
    pub jobs: Vec<JobId>,
}

/// Applied entries of the log, sealed in the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSegment {
    /// Index of its first entry.
    pub first: u64,
    /// Index of its last entry.
    pub last: u64,
    /// The blob.
    pub blob: Digest,
    /// The chain up to the segment before; zeros for the first.
    pub before: Fingerprint,
    /// Hash of `before` and the blob's hash: it vouches for everything up to here.
    pub chain: Fingerprint,
    /// When.
    pub sealed_at: TimeMs,
}

/// Segments that were sealed, and those that are kept no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealSegments {
    /// In order; each goes on after the one before.
    pub sealed: Vec<LogSegment>,
    /// By their first entry. The last segment stays, since the chain goes on from it.
    pub dropped: Vec<u64>,
}
