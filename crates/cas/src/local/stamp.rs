//! Telling whether a file is still the one whose bytes were checked, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// How long a file must have been left alone before its stamp can be trusted: a write within one tick of the file system's
/// clock leaves the modification time as it is.
const SETTLE_MS: u64 = 1_000;
/// How far the modification time of a file of ours is set back, so that its stamp is trusted at once.
pub(super) const BACKDATE_MS: u64 = 2 * SETTLE_MS;

/// What one or many files looked like: inode, size and modification time of each, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp([u8; 32]);

/// Gathers the looks of files into one stamp.
#[derive(Debug, Default)]
pub(super) struct StampBuilder(blake3::Hasher);

impl StampBuilder {
    pub(super) fn add(&mut self, found: &Metadata) {
        for number in [found.ino(), found.size(), found.mtime() as u64, found.mtime_nsec() as u64] {
            self.0.update(&number.to_le_bytes());
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp(*self.0.finalize().as_bytes())
    }
}

pub(super) fn stamp_of(found: &Metadata) -> Stamp {
    let mut builder = StampBuilder::default();
    builder.add(found);
    builder.stamp()
}

/// Whether the file was left alone long enough before `now_ms`.
pub(super) fn is_settled(found: &Metadata, now_ms: u64) -> bool {
    let modified_ms = found.mtime().max(0) as u64 * 1_000 + found.mtime_nsec() as u64 / 1_000_000;
    modified_ms + SETTLE_MS <= now_ms
}
