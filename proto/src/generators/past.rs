//! Pages of the archive and segments of the log.

use flowyard_model::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

prop_compose! {
    /// A page.
    pub fn archive_page()(rows in digest(), jobs in 1u32.., first_until in time()) -> ArchivePage {
        ArchivePage { rows, jobs, first_until }
    }
}

prop_compose! {
    fn page_change()(page in any::<u64>(), was in option::of(digest()), now in option::of(archive_page())) -> PageChange {
        PageChange { page, was, now }
    }
}

prop_compose! {
    /// Jobs to archive.
    pub fn archive_jobs()(pages in vec(page_change(), 0..3), jobs in vec(job_id(), 0..3)) -> ArchiveJobs {
        ArchiveJobs { pages, jobs }
    }
}

prop_compose! {
    /// A segment.
    pub fn log_segment()(
        first in any::<u64>(),
        last in any::<u64>(),
        blob in digest(),
        before in any::<[u8; 32]>(),
        chain in any::<[u8; 32]>(),
        sealed_at in time(),
    ) -> LogSegment {
        LogSegment { first, last, blob, before: Fingerprint(before), chain: Fingerprint(chain), sealed_at }
    }
}

prop_compose! {
    /// Segments to note.
    pub fn seal_segments()(sealed in vec(log_segment(), 0..3), dropped in vec(any::<u64>(), 0..3)) -> SealSegments {
        SealSegments { sealed, dropped }
    }
}
