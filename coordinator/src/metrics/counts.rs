//! What is counted where it happens. It travels with the [`Proposer`](crate::proposer::Proposer), since all who decide have one.
//!
//! Cheap: additions to atomic numbers, and one lock per ended attempt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use flowyard_model::{AttemptOutcome, Blame, End, Reason};
use flowyard_telemetry::Distribution;
use flowyard_telemetry::distribution::{LONG, SHORT};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Who is to blame for the end of an attempt, and why it came.
pub(crate) type EndKind = (AttemptOutcome, Reason, Blame);

/// What one coordinator has counted since it began.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Commands by what came of them: applied, rejected, unavailable.
    pub(crate) proposals: [Count; 3],
    /// From a command to its reply.
    pub(crate) propose: Distribution,
    /// Applying one batch of entries.
    pub(crate) apply: Distribution,
    /// Entries that were applied.
    pub(crate) applied: Count,
    /// Terms in which it led.
    pub(crate) leaderships: Count,
    /// Making one round of plans.
    pub(crate) rounds: Distribution,
    /// Tasks that were placed.
    pub(crate) placed: Count,
    /// Placements that were stale when they came to be applied.
    pub(crate) stale: Count,
    /// From a job's submission to its first placement.
    pub(crate) first_placed: Distribution,
    /// What agents reported.
    pub(crate) reports: Count,
    /// Nodes that were given up.
    pub(crate) nodes_lost: Count,
    /// Connections refused at the ports, with or without a certificate.
    pub(crate) connections_refused: Count,
    /// Bytes of blobs that came.
    pub(crate) blob_bytes_in: Count,
    /// Bytes of blobs that went.
    pub(crate) blob_bytes_out: Count,
    ended: Mutex<BTreeMap<EndKind, u64>>,
}

/// How [`Counts::proposals`] are called.
pub(crate) const PROPOSAL_RESULTS: [&str; 3] = ["applied", "rejected", "unavailable"];

impl Default for Counts {
    fn default() -> Self {
        Self {
            proposals: Default::default(),
            propose: Distribution::new(SHORT),
            apply: Distribution::new(SHORT),
            applied: Count::default(),
            leaderships: Count::default(),
            rounds: Distribution::new(SHORT),
            placed: Count::default(),
            stale: Count::default(),
            first_placed: Distribution::new(LONG),
            reports: Count::default(),
            nodes_lost: Count::default(),
            connections_refused: Count::default(),
            blob_bytes_in: Count::default(),
            blob_bytes_out: Count::default(),
            ended: Mutex::default(),
        }
    }
}

impl Counts {
    /// An attempt ended so.
    pub(crate) fn end(&self, end: &End) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry((end.outcome, end.reason, end.blame)).or_default() += 1;
    }

    /// Ended attempts, by kind.
    pub(crate) fn ended(&self) -> BTreeMap<EndKind, u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
