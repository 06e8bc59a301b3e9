//! Phases of an attempt in which it can make no progress, and how long it may make none.

use serde::{Deserialize, Serialize};

/// Where an attempt made no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StuckPhase {
    /// Its agent did not take it, although the node is heard from.
    Accepting,
    /// What it needs did not come.
    Fetching,
    /// Its process was asked for and did not start.
    Starting,
    /// Its outputs and logs could not be stored.
    Storing,
    /// It was killed and is still there.
    Stopping,
}

impl StuckPhase {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Fetching => "fetching",
            Self::Starting => "starting",
            Self::Storing => "storing",
            Self::Stopping => "stopping",
        }
    }
}

/// How long an attempt may make no progress in each phase, in milliseconds. Where progress is known (bytes that come or go), it
/// begins anew with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StuckLimits {
    /// Until its agent has it.
    pub accepting_ms: u64,
    /// While what it needs is brought.
    pub fetching_ms: u64,
    /// Until its process runs.
    pub starting_ms: u64,
    /// While outputs and logs are stored.
    pub storing_ms: u64,
    /// From the kill until nothing of it is left.
    pub stopping_ms: u64,
}

impl StuckLimits {
    /// The values a cluster starts with.
    pub const STANDARD: Self = Self {
        accepting_ms: 2 * 60_000,
        fetching_ms: 15 * 60_000,
        starting_ms: 5 * 60_000,
        storing_ms: 30 * 60_000,
        stopping_ms: 2 * 60_000,
    };

    /// No limit: nothing is judged while no coordinator is heard from, since what is missing may be theirs to give.
    pub const PAUSED: Self = Self {
        accepting_ms: u64::MAX,
        fetching_ms: u64::MAX,
        starting_ms: u64::MAX,
        storing_ms: u64::MAX,
        stopping_ms: u64::MAX,
    };

    /// The limit of one phase.
    pub fn of(&self, phase: StuckPhase) -> u64 {
        match phase {
            StuckPhase::Accepting => self.accepting_ms,
            StuckPhase::Fetching => self.fetching_ms,
            StuckPhase::Starting => self.starting_ms,
            StuckPhase::Storing => self.storing_ms,
            StuckPhase::Stopping => self.stopping_ms,
        }
    }
}
