//! Pages of the archive and segments of the log.

use flowyard_model as model;
use flowyard_model::{JobId, TimeMs, limits};

use super::access::{bytes_of, fingerprint};
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::peer;

pub(super) fn from_page(page: u64, it: &model::ArchivePage) -> peer::ArchivePage {
    let model::ArchivePage { rows, jobs, first_until } = *it;
    peer::ArchivePage { page, rows: Some(rows.into()), jobs, first_until_ms: first_until.0 }
}

pub(super) fn to_page(page: peer::ArchivePage) -> Decoded<(u64, model::ArchivePage)> {
    let rows = decode::required("rows", page.rows)?;
    let jobs = decode::positive("jobs", page.jobs)?;
    Ok((page.page, model::ArchivePage { rows, jobs, first_until: TimeMs(page.first_until_ms) }))
}

impl From<&model::ArchiveJobs> for peer::ArchiveJobs {
    fn from(archive: &model::ArchiveJobs) -> Self {
        let pages = archive.pages.iter().map(|change| peer::PageChange {
            page: change.page,
            was: change.was.map(Into::into),
            now: change.now.map(|now| from_page(change.page, &now)),
        });
        Self { pages: pages.collect(), jobs: archive.jobs.iter().map(|job| job.0).collect() }
    }
}

impl TryFrom<peer::ArchiveJobs> for model::ArchiveJobs {
    type Error = DecodeError;

    fn try_from(archive: peer::ArchiveJobs) -> Decoded<Self> {
        decode::at_most("pages", limits::ARCHIVED_PER_ENTRY, archive.pages.len())?;
        decode::at_most("jobs", limits::ARCHIVED_PER_ENTRY, archive.jobs.len())?;
        Ok(Self { pages: decode::list("pages", archive.pages)?, jobs: archive.jobs.into_iter().map(JobId).collect() })
    }
}

impl TryFrom<peer::PageChange> for model::PageChange {
    type Error = DecodeError;

    fn try_from(change: peer::PageChange) -> Decoded<Self> {
        let now = change.now.map(to_page).transpose().under("now")?;
        if now.is_some_and(|(page, _)| page != change.page) {
            return Err(Problem::Contradiction("a page becomes a state of itself")).under("now.page");
        }
        let was = decode::optional("was", change.was)?;
        Ok(Self { page: change.page, was, now: now.map(|(_, now)| now) })
    }
}

impl From<model::LogSegment> for peer::LogSegment {
    fn from(segment: model::LogSegment) -> Self {
        Self {
            first: segment.first,
            last: segment.last,
            blob: Some(segment.blob.into()),
            before: bytes_of(segment.before),
            chain: bytes_of(segment.chain),
            sealed_at_ms: segment.sealed_at.0,
        }
    }
}

impl TryFrom<peer::LogSegment> for model::LogSegment {
    type Error = DecodeError;

    fn try_from(segment: peer::LogSegment) -> Decoded<Self> {
        Ok(Self {
            first: segment.first,
            last: segment.last,
            blob: decode::required("blob", segment.blob)?,
            before: fingerprint("before", &segment.before)?,
            chain: fingerprint("chain", &segment.chain)?,
            sealed_at: TimeMs(segment.sealed_at_ms),
        })
    }
}

impl From<&model::SealSegments> for peer::SealSegments {
    fn from(seal: &model::SealSegments) -> Self {
        Self { sealed: seal.sealed.iter().map(|segment| (*segment).into()).collect(), dropped: seal.dropped.clone() }
    }
}

impl TryFrom<peer::SealSegments> for model::SealSegments {
    type Error = DecodeError;

    fn try_from(seal: peer::SealSegments) -> Decoded<Self> {
        decode::at_most("sealed", limits::SEGMENTS_PER_ENTRY, seal.sealed.len())?;
        decode::at_most("dropped", limits::SEGMENTS_PER_ENTRY, seal.dropped.len())?;
        Ok(Self { sealed: decode::list("sealed", seal.sealed)?, dropped: seal.dropped })
    }
}
