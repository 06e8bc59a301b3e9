//! Keeps this coordinator's copy of the stored blobs, where each has its own: what it lacks is brought, what nothing names any more is
//! removed.
//!
//! A blob counts as stored once a majority of those who vote has it, so who votes may only change while the copies keep up. Invariant:
//! nobody begins to vote, and no voter is taken out, before those that vote from then on have copied all that was stored when voters
//! changed last, as far as anybody who answers has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::Status;

use crate::archive::ArchiveError;
use crate::collector::{BLOB_AGE_MS, complete, remove};
use crate::coordinator::Shared;
use crate::raft::Voting;

/// How often a copy that is whole is looked over.
const COPY_MS: u64 = 600_000;
/// How often it is looked whether that is due, or voters have changed.
const LOOK: Duration = Duration::from_millis(500);

/// Since which exchange of voters the copy is whole; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copied {
    since: Arc<Mutex<Option<Voting>>>,
}

impl Copied {
    /// Whether all was copied since these began to vote.
    fn has(&self, voting: &Voting) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(voting)
    }

    fn set(&self, voting: Voting) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(voting);
    }
}

/// The voters since whose beginning this coordinator has copied all that is stored; none while it has not.
pub(crate) fn copied_for(shared: &Shared) -> Vec<u64> {
    let voting = shared.replica.voting();
    let whole = !shared.durable.is_mirrored() || shared.copied.has(&voting);
    if whole { voting.voters() } else { Vec::new() }
}

/// Keeps the copy of this coordinator, whether it leads or not.
pub(crate) async fn keep_copy(shared: Shared) {
    let mut copied_ms = 0;
    loop {
        let voting = shared.replica.voting();
        let due = flowyard_clock::boot_ms().saturating_sub(copied_ms) >= COPY_MS;
        if due || !shared.copied.has(&voting) {
            match copy(&shared).await {
                Ok(()) => {
                    copied_ms = flowyard_clock::boot_ms();
                    shared.copied.set(voting);
                }
                Err(error) => tracing::debug!(%error, "this coordinator's copy of the stored blobs is not whole yet"),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// One look over the copy, by what everybody agrees on now: one who has just joined knows of nothing yet.
async fn copy(shared: &Shared) -> Result<(), Status> {
    shared.fresh_view().await?;
    let incomplete = |error: ArchiveError| {
        tracing::warn!(%error, "this coordinator's copy of the stored blobs could not be completed");
        Status::unavailable(error.to_string())
    };
    let Some(live) = complete(shared).await.map_err(incomplete)? else {
        return Err(Status::unavailable("some of what is named is with no coordinator that answers"));
    };
    remove(shared, &live, BLOB_AGE_MS).await.map(drop).map_err(incomplete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_only_since_those_who_vote_now_began_to() {
        let voting = |replicas: &[u64]| Voting::of(vec![replicas.iter().copied().collect()]);
        let copied = Copied::default();
        assert!(!copied.has(&voting(&[1, 2, 3])));
        copied.set(voting(&[1, 2, 3]));
        assert!(copied.has(&voting(&[1, 2, 3])) && !copied.has(&voting(&[2, 3, 4])));
    }
}
