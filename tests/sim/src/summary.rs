//! What came of a run.

use crate::coverage::Coverage;

/// A run in which every rule held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Jobs that ended.
    pub jobs: u64,
    /// Faults that happened.
    pub faults: u64,
    /// Entries chosen.
    pub entries: u64,
    /// Attempts made, of jobs that are remembered.
    pub attempts: u64,
    /// Tasks that succeeded.
    pub succeeded: u64,
    /// Attempts that were evicted, of jobs that are remembered.
    pub evictions: u64,
    /// Members of gangs whose place others took, of jobs that are remembered.
    pub replaced: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Equal for equal histories.
    pub trace: u64,
    /// What was hit by what.
    pub coverage: Coverage,
}

/// A rule that did not hold in a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed} at {at_ms} ms: {broken}")]
pub struct Failure {
    /// The seed that shows it again.
    pub seed: u64,
    /// When, in simulated milliseconds.
    pub at_ms: u64,
    /// The rule.
    pub broken: String,
}
