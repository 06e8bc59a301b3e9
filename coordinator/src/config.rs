//! What an operator decides about a coordinator, with the values an embedded cluster uses.

use std::path::PathBuf;

use flowyard_model::{NetworkMode, StuckLimits, limits};

use crate::fleet::FleetConfig;
use crate::raft::engine::EngineKind;

/// Settings of one coordinator.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the log and the snapshots.
    pub folder: PathBuf,
    /// Socket of the API.
    pub socket: PathBuf,
    /// Which log engine a new folder gets; an existing one keeps its own.
    pub engine: EngineKind,
    /// Whether this is the embedded cluster of one machine.
    pub embedded: bool,
    /// Folder that a user knows the embedded cluster by.
    pub home: PathBuf,
    /// How nodes are watched.
    pub timing: Timing,
    /// How long attempts may make no progress.
    pub stuck: StuckLimits,
    /// The network of steps that ask for none in particular.
    pub usual_network: NetworkMode,
    /// How long finished jobs are remembered and archived.
    pub retention: Retention,
    /// How long sealed segments of the log are kept.
    pub log_keeping: LogKeeping,
    /// Bytes of stored blobs above which ended jobs are forgotten, oldest first; 0 for no bound.
    pub storage_budget_bytes: u64,
    /// How often one person may call; whoever owns the socket is not counted.
    pub call_rate: CallRate,
    /// Whether all coordinators have one origin; otherwise each keeps its own copy of every blob.
    pub shared_origin: bool,
    /// Its place among other coordinators; an embedded cluster has none.
    pub fleet: Option<FleetConfig>,
}

/// How often one person may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRate {
    /// Calls a second, over time; 0 for no bound.
    pub per_second: u32,
    /// Calls at once after a pause; as many as in a second if 0.
    pub burst: u32,
}

impl CallRate {
    /// The values a cluster starts with.
    pub const STANDARD: Self = Self { per_second: 200, burst: 2_000 };
}

/// How long finished jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Finished jobs remembered at most; the oldest go first.
    pub jobs: usize,
    /// How long one is remembered whose flow does not say, in milliseconds.
    pub age_ms: u64,
    /// How long one is kept in the archive afterwards, in milliseconds; 0 for no archive.
    pub archive_ms: u64,
}

impl Retention {
    /// The values a cluster starts with.
    pub const STANDARD: Self =
        Self { jobs: limits::FINISHED_JOBS, age_ms: limits::RETENTION_MS, archive_ms: 365 * 24 * 3_600 * 1_000 };
}

/// How long sealed segments of the log are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogKeeping {
    /// Age at which one is dropped, in milliseconds; 0 if nothing is sealed.
    pub keep_ms: u64,
    /// Bytes of all above which the oldest are dropped; 0 for no bound.
    pub keep_bytes: u64,
}

impl LogKeeping {
    /// The values a cluster starts with.
    pub const STANDARD: Self = Self { keep_ms: 90 * 24 * 3_600 * 1_000, keep_bytes: 10 << 30 };
}

/// How nodes are watched. All in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two signs of life.
    pub heartbeat_ms: u64,
    /// Silence after which nothing new is placed on a node.
    pub suspect_ms: u64,
    /// Silence after which a node's attempts are given up.
    pub down_ms: u64,
    /// How long an attempt with `on_disconnect = "stop"` runs without word from its coordinator.
    pub lease_ms: u64,
}

impl Timing {
    /// The values a cluster starts with.
    pub const STANDARD: Self = Self { heartbeat_ms: 2_000, suspect_ms: 8_000, down_ms: 120_000, lease_ms: 45_000 };

    /// Allowance for clocks and for the kill itself, between the end of a lease and a node being given up.
    pub const MARGIN_MS: u64 = 15_000;

    /// How old the word of a majority may be on which a lease is renewed; see `evidence`.
    pub const EVIDENCE_MS: u64 = 1_000;

    /// Signs of life of all agents together in a second, that a coordinator is asked to hear.
    const BEATS_PER_SECOND: u64 = 2_500;
    /// No agent gives them more rarely, if it is not asked to: below the 5 s after which a silent connection is asked for one of its own.
    const LONGEST_BEAT_MS: u64 = 4_500;

    /// Between two signs of life of each of so many agents. A lease outlives the loss of three.
    pub fn heartbeat_of(&self, agents: usize) -> u64 {
        let grown = (agents as u64).saturating_mul(1_000) / Self::BEATS_PER_SECOND;
        grown.min(Self::LONGEST_BEAT_MS).min(self.lease_ms / 4).max(self.heartbeat_ms)
    }

    /// The times of agents that give signs of life as rarely as that: they are missed later, and given up and stopped as ever.
    #[must_use]
    pub fn beating(self, heartbeat_ms: u64) -> Self {
        if heartbeat_ms <= self.heartbeat_ms {
            return self;
        }
        let suspect_ms = self.suspect_ms.max(heartbeat_ms.saturating_mul(3)).min(self.down_ms);
        Self { heartbeat_ms, suspect_ms, ..self }
    }

    /// Whether the times fit each other.
    ///
    /// # Errors
    /// The first that does not, and what would.
    pub fn check(&self) -> Result<(), TimingError> {
        let refuse = |field, least_ms| Err(TimingError { field, least_ms });
        let two_beats = self.heartbeat_ms.saturating_mul(2);
        match () {
            // One sign of life may be lost.
            () if self.suspect_ms < two_beats => refuse("suspect", two_beats),
            () if self.lease_ms < two_beats => refuse("lease", two_beats),
            // What must not run twice has stopped with its lease before its node is given up.
            () if self.down_ms < self.certainly_stopped_ms() => refuse("down", self.certainly_stopped_ms()),
            () if self.down_ms < self.suspect_ms => refuse("down", self.suspect_ms),
            () => Ok(()),
        }
    }

    /// Longest kill grace of a step that must be certainly gone when its node is given up.
    pub fn longest_grace_ms(&self) -> u64 {
        self.down_ms.saturating_sub(self.certainly_stopped_ms())
    }

    /// How long after a leader began to listen an attempt without kill grace that held a lease of the one before is gone for sure.
    fn certainly_stopped_ms(&self) -> u64 {
        self.lease_ms.saturating_add(Self::EVIDENCE_MS + Self::MARGIN_MS)
    }
}

/// A time that does not fit the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be at least {least_ms}ms to fit the other times")]
pub struct TimingError {
    /// Which.
    pub field: &'static str,
    /// The least it may be, in milliseconds.
    pub least_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_not_given_up_before_the_last_lease_of_a_leader_that_was_cut_off_is_over() {
        let fits = Timing { lease_ms: 30_000, down_ms: 46_000, ..Timing::STANDARD };
        assert_eq!((fits.check(), fits.longest_grace_ms()), (Ok(()), 0));
        let early = Timing { down_ms: 45_999, ..fits };
        assert_eq!(early.check(), Err(TimingError { field: "down", least_ms: 46_000 }));
        assert_eq!(Timing { down_ms: 50_000, ..fits }.longest_grace_ms(), 4_000);
    }

    #[test]
    fn whatever_fits_for_a_small_fleet_fits_for_a_large_one() {
        assert_eq!(
            [0, 5_000, 10_000, 16_000].map(|agents| Timing::STANDARD.heartbeat_of(agents)),
            [2_000, 2_000, 4_000, 4_500]
        );
        let lease = |lease_ms| Timing { heartbeat_ms: 100, suspect_ms: 200, down_ms: lease_ms + 16_000, lease_ms };
        for timing in [200, 1_000, 10_000, 60_000].map(lease).into_iter().chain([Timing::STANDARD]) {
            timing.check().unwrap();
            for agents in [1, 100, 10_000, usize::MAX] {
                let grown = timing.beating(timing.heartbeat_of(agents));
                grown.check().unwrap();
                assert_eq!((grown.down_ms, grown.lease_ms), (timing.down_ms, timing.lease_ms), "promises stay");
                assert!(grown.suspect_ms >= timing.suspect_ms);
            }
        }
    }

    #[test]
    fn absurd_times_are_refused_and_overflow_nothing() {
        let absurd = Timing { heartbeat_ms: u64::MAX, ..Timing::STANDARD };
        assert!(absurd.check().is_err());
        assert!(Timing { lease_ms: u64::MAX, ..Timing::STANDARD }.check().is_err());
    }
}
