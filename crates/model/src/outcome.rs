//! How things end, why, and whose it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, ItemList, Name};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Exit code 0 and every output stored.
    Succeeded,
    /// It ran and did not succeed.
    Failed,
    /// The agent would not start it: the plan was stale, or a device not clean.
    Rejected,
    /// It was asked to stop.
    Stopped,
    /// It made room for another.
    Preempted,
    /// Its node went down; what became of it is unknown.
    Lost,
}

impl AttemptOutcome {
    /// How much it weighs where the members of a gang ended differently.
    pub fn gravity(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Stopped => 1,
            Self::Preempted => 2,
            Self::Rejected => 3,
            Self::Lost => 4,
            Self::Failed => 5,
        }
    }
}

/// Why an attempt ended; closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The process ended with an exit code.
    Exit,
    /// A signal ended it.
    Signal,
    /// It used more memory than its limit.
    Oom,
    /// It ran longer than its limit.
    Timeout,
    /// The disk was full.
    Disk,
    /// Its image could not be had or unpacked.
    Image,
    /// Its program could not be executed.
    Command,
    /// An output was missing or could not be stored.
    Output,
    /// An input, the code or an environment could not be had.
    Input,
    /// The sandbox could not be made.
    Sandbox,
    /// It made no progress in one phase.
    Stuck,
    /// Its job was cancelled, or failed elsewhere.
    Cancelled,
    /// A more urgent task took its place.
    Preempted,
    /// The node was declared down, or lost the attempt.
    NodeLost,
    /// The lease ended without word from the agent.
    LeaseExpired,
    /// A device failed or was not clean.
    Device,
    /// The agent found the placement impossible (stale inventory, not allowed by its configuration).
    Refused,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The user's: spends a retry.
    User,
    /// Flowyard's or the operator's: never spends a retry.
    Platform,
    /// A machine's: never spends a retry.
    Hardware,
}

/// Everything known at the end of one member of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub outcome: AttemptOutcome,
    /// Why.
    pub reason: Reason,
    /// Whose it is.
    pub blame: Blame,
    /// Exit code of the process, if it ended by itself.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// One sentence for a person; at most `limits::MESSAGE_BYTES` bytes, never log text.
    pub message: String,
    /// Highest memory use in bytes.
    pub peak_memory_bytes: u64,
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// What it wrote, by the names of the spec. Visible only once the report of the desired attempt is applied.
    pub outputs: BTreeMap<Name, Output>,
    /// Its logs.
    pub logs: Logs,
}

/// One stored output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Manifest of the artifact.
    pub manifest: Digest,
    /// The checked list in it, when a `foreach` names this output.
    pub list: Option<ItemList>,
}

/// The stored logs of one member of an attempt, in the framed log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Blob of standard output; `None` if nothing was written.
    pub stdout: Option<Digest>,
    /// Blob of standard error.
    pub stderr: Option<Digest>,
}

impl Logs {
    /// No log.
    pub const NONE: Self = Self { stdout: None, stderr: None };
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// All that had to succeed did.
    Succeeded,
    /// A task failed for good, or a job it waited for did not succeed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskOutcome {
    /// One attempt succeeded.
    Succeeded,
    /// The last attempt allowed failed.
    Failed,
    /// Its job was cancelled, or failed elsewhere, before it ended.
    Cancelled,
    /// It never had to run: what it follows did not succeed.
    Skipped,
}
