//! Seals applied entries in the origin before they are purged from the log, so that the past can be replayed.
//!
//! Every coordinator keeps its own log as long as it must; the leader seals. A purge waits for the seal, but never for ever: an
//! origin that is down must not fill the disks of the coordinators.
//!
//! Invariant: a segment that the state names is stored like any blob, and its chain vouches for everything sealed before it.

mod segment;

pub(crate) use segment::{decode, encode};

use std::time::Duration;

use flowyard_cas::{LiveBlobs, StoreError};
use flowyard_model::{ClusterVersion, Command, Fingerprint, LogSegment, SealSegments, TimeMs, limits};
use flowyard_state::View;

use crate::config::LogKeeping;
use crate::coordinator::Shared;
use crate::fleet::MirrorError;
use crate::proposer::{ProposeError, Proposer};
use crate::raft::engine::{EngineError, Record};

/// Entries of one segment, at most.
const SEGMENT_ENTRIES: u64 = 50_000;
/// Bytes of the payloads of one segment, at which it is full.
pub(crate) const SEGMENT_BYTES: usize = 32 * 1024 * 1024;
/// Entries that wait for their seal at most before they are purged without.
const UNSEALED_MAX: u64 = 500_000;
/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Why entries could not be sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] EngineError),
    /// The origin.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The origins of the other coordinators.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The log did not take the seal.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// What was written is read back as something else.
    #[error("a segment of the log is not read back as it was written")]
    NotAsWritten,
    /// What was written cannot be read back.
    #[error(transparent)]
    Segment(#[from] segment::SegmentError),
    /// The compressor failed.
    #[error("entries cannot be compressed")]
    Pack(#[from] std::io::Error),
}

/// A sealed segment, read and written again; nothing when it is refused. For tests that hand over anything.
pub fn sealed_again(bytes: &[u8]) -> Option<Vec<u8>> {
    segment::encode(&segment::decode(bytes).ok()?).ok()
}

/// Seals and purges for as long as the coordinator runs.
pub(crate) async fn keep(shared: Shared) {
    let mut troubled = false;
    let mut seen = None;
    loop {
        let snapshot = shared.replica.snapshot_after(seen).await;
        let Some(snapshot) = snapshot else { return };
        match seal(&shared, snapshot).await {
            Ok(()) => troubled = false,
            Err(error) if !troubled => {
                troubled = true;
                tracing::warn!(%error, "applied entries cannot be sealed in the origin; the log grows until they are");
            }
            Err(_) => {}
        }
        let wanted = purgeable(&shared, snapshot);
        purge(&shared, snapshot, wanted.now).await;
        if wanted.now < wanted.later {
            // A seal is missing: of this leader, or the entry that says it did not come here yet.
            let mut views = shared.feed.views();
            let sealed = sealed_upto(&views.borrow_and_update());
            let moved = views.wait_for(|view| sealed_upto(view) != sealed);
            let _ = tokio::time::timeout(RETRY, moved).await;
        } else {
            seen = Some(snapshot);
        }
    }
}

/// How far the log may be purged now, and once everything is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Purgeable {
    now: u64,
    later: u64,
}

fn purgeable(shared: &Shared, snapshot: u64) -> Purgeable {
    let later = snapshot.saturating_sub(shared.replica.keep_entries());
    let view = shared.feed.view();
    match seals(shared, &view) {
        false => Purgeable { now: later, later },
        true => may_purge(later, sealed_upto(&view)),
    }
}

fn may_purge(later: u64, sealed: u64) -> Purgeable {
    // Beyond this the disk matters more than the past.
    Purgeable { now: sealed.min(later).max(later.saturating_sub(UNSEALED_MAX)), later }
}

async fn purge(shared: &Shared, snapshot: u64, upto: u64) {
    let (view, purged) = (shared.feed.view(), shared.replica.purged_index());
    if upto == 0 || purged.is_some_and(|purged| purged >= upto) {
        return;
    }
    if seals(shared, &view) && sealed_upto(&view) < upto {
        tracing::error!(upto, sealed = sealed_upto(&view), snapshot, "entries are purged that could not be sealed");
    }
    shared.replica.purge_to(upto).await;
}

/// Whether entries are sealed at all.
fn seals(shared: &Shared, view: &View) -> bool {
    shared.config.log_keeping.keep_ms > 0 && view.version() >= ClusterVersion::ACCESS
}

/// The last entry that is sealed; 0 if none is.
fn sealed_upto(view: &View) -> u64 {
    view.last_segment().map_or(0, |segment| segment.last)
}

/// Seals what the snapshot covers and is not sealed yet, if this coordinator leads.
///
/// # Errors
/// [`SealError`].
pub(crate) async fn seal(shared: &Shared, snapshot: u64) -> Result<(), SealError> {
    loop {
        let view = shared.feed.view();
        if shared.leading_term().is_err() || !seals(shared, &view) || sealed_upto(&view) >= snapshot {
            return Ok(());
        }
        // What was purged before sealing began, or because it had to be, is a hole that the segments' indexes show.
        let first = (sealed_upto(&view) + 1).max(shared.replica.purged_index().map_or(0, |purged| purged + 1));
        let end = (snapshot + 1).min(first + SEGMENT_ENTRIES);
        let records = shared.replica.read_log(first..end, SEGMENT_BYTES).await?;
        let Some(segment) = store(shared, &view, &records).await? else { return Ok(()) };
        let seal = SealSegments { sealed: vec![segment], dropped: Vec::new() };
        shared.proposer.propose(&Command::SealSegments(seal)).await?;
        tracing::debug!(first = segment.first, last = segment.last, "entries of the log are sealed");
    }
}

async fn store(shared: &Shared, view: &View, records: &[Record]) -> Result<Option<LogSegment>, SealError> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(None) };
    let copy = records.to_vec();
    let packed = tokio::task::spawn_blocking(move || segment::encode(&copy)).await.map_err(std::io::Error::other)??;
    let blob = shared.durable.here().put_bytes(packed.into()).await?;
    shared.durable.confirm(&[blob], None).await?;
    // Once purged, what was sealed wrongly could not be sealed again.
    let back = shared.durable.get_bytes(&blob).await?;
    let whole = tokio::task::spawn_blocking(move || segment::decode(&back)).await.map_err(std::io::Error::other)??;
    if whole != records {
        return Err(SealError::NotAsWritten);
    }
    let before = view.last_segment().map_or(Fingerprint([0; 32]), |segment| segment.chain);
    let sealed_at = shared.stamps.now();
    let (first, last) = (first.point.index, last.point.index);
    Ok(Some(LogSegment { first, last, blob, before, chain: chain(before, &blob.hash), sealed_at }))
}

/// The chain once a blob is added to it.
pub(crate) fn chain(before: Fingerprint, hash: &[u8; 32]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0);
    hasher.update(hash);
    Fingerprint(*hasher.finalize().as_bytes())
}

/// Drops segments that are older or more than what is to be kept.
///
/// # Errors
/// [`SealError`].
pub(crate) async fn drop_expired(shared: &Shared, proposer: &Proposer) -> Result<(), SealError> {
    let view = shared.feed.view();
    let dropped = expired(&view, shared.config.log_keeping, shared.stamps.now());
    for part in dropped.chunks(limits::SEGMENTS_PER_ENTRY) {
        let seal = SealSegments { sealed: Vec::new(), dropped: part.to_vec() };
        proposer.propose(&Command::SealSegments(seal)).await?;
    }
    Ok(())
}

/// Segments that are kept no longer, by their first entry; never the last.
fn expired(view: &View, keeping: LogKeeping, now: TimeMs) -> Vec<u64> {
    let mut kept_bytes = 0;
    let mut dropped: Vec<u64> = Vec::new();
    for (at, segment) in view.segments().rev().enumerate() {
        kept_bytes += segment.blob.length;
        let old = segment.sealed_at.after(keeping.keep_ms) <= now;
        let large = keeping.keep_bytes > 0 && kept_bytes > keeping.keep_bytes;
        if at > 0 && (old || large) {
            dropped.push(segment.first);
        }
    }
    dropped
}

/// Adds the blobs of all segments.
pub(crate) fn add_live(view: &View, live: &mut LiveBlobs) {
    live.blobs.extend(view.segments().map(|segment| segment.blob));
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Entry, Revision};
    use flowyard_state::{State, apply};

    use super::*;
    use crate::fixture;
    use crate::raft::command_of;

    #[test]
    fn a_purge_waits_for_the_seal_but_not_for_ever() {
        assert_eq!(may_purge(1_000, 400), Purgeable { now: 400, later: 1_000 });
        assert_eq!(may_purge(1_000, 2_000), Purgeable { now: 1_000, later: 1_000 });
        let later = 3 * UNSEALED_MAX;
        assert_eq!(may_purge(later, 0).now, 2 * UNSEALED_MAX, "an origin that is down does not fill the disk");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_read_back_from_segments_replays_to_the_same_state() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let raise = Command::RaiseVersion { version: ClusterVersion::ACCESS };
        shared.proposer.propose(&raise).await.unwrap();
        fixture::node(&coordinator, "n1").await;
        for name in ["a", "b", "c"] {
            shared.proposer.propose(&fixture::submission(name)).await.unwrap();
        }
        let upto = shared.feed.view().revision().0;
        seal(shared, upto).await.unwrap();
        shared.proposer.propose(&fixture::submission("d")).await.unwrap();
        let upto = shared.feed.view().revision().0;
        seal(shared, upto).await.unwrap();

        let view = shared.feed.view();
        let segments: Vec<_> = view.segments().copied().collect();
        assert!(segments.len() >= 2 && segments.last().unwrap().last >= upto, "{segments:?}");
        let (mut replayed, mut before) = (State::new(), Fingerprint([0; 32]));
        for segment in &segments {
            assert_eq!((segment.before, segment.chain), (before, chain(before, &segment.blob.hash)));
            before = segment.chain;
            let bytes = shared.durable.get_bytes(&segment.blob).await.unwrap();
            for record in segment::decode(&bytes).unwrap() {
                let index = Revision(record.point.index);
                let Some(payload) = command_of(&record).unwrap() else { continue };
                let (time, command) = flowyard_proto::decode_entry(&payload).unwrap();
                apply(&mut replayed, Entry { index, time, command });
            }
        }
        let log = shared.replica.read_log(segments.last().unwrap().last + 1..u64::MAX, usize::MAX).await.unwrap();
        for record in log.iter().filter(|record| record.point.index <= view.revision().0) {
            let Some(payload) = command_of(record).unwrap() else { continue };
            let (time, command) = flowyard_proto::decode_entry(&payload).unwrap();
            apply(&mut replayed, Entry { index: Revision(record.point.index), time, command });
        }
        assert!(replayed == *view, "the replayed past leads to another state");
        coordinator.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn old_segments_go_and_the_last_one_stays() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let raise = Command::RaiseVersion { version: ClusterVersion::ACCESS };
        shared.proposer.propose(&raise).await.unwrap();
        for name in ["a", "b"] {
            shared.proposer.propose(&fixture::submission(name)).await.unwrap();
            seal(shared, shared.feed.view().revision().0).await.unwrap();
        }
        let view = shared.feed.view();
        let firsts: Vec<u64> = view.segments().map(|segment| segment.first).collect();
        let keeping = LogKeeping { keep_ms: 1_000, keep_bytes: 0 };
        let now = TimeMs(flowyard_clock::wall_ms());
        assert!(expired(&view, keeping, now).is_empty());
        let old: Vec<u64> = firsts[..firsts.len() - 1].iter().rev().copied().collect();
        assert_eq!(expired(&view, keeping, now.after(5_000)), old);
        let small = LogKeeping { keep_ms: u64::MAX, keep_bytes: 1 };
        assert_eq!(expired(&view, small, now), old);
        coordinator.shutdown().await;
    }
}
