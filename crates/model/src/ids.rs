//! Identifiers and counters. Each is its own type, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A job; counts up from 1 within a cluster epoch.
    JobId(u64)
}
number! {
    /// Position of a step in its job's list of steps.
    StepIndex(u32)
}
number! {
    /// Position of a task in its step; flat, also when fan-outs are nested.
    TaskIndex(u32)
}
number! {
    /// Which try of a task; counts up from 1.
    AttemptNumber(u32)
}
number! {
    /// Position of a member in its gang; 0 for a task of size 1.
    Rank(u32)
}
number! {
    /// A node; counts up from 1 and is never reused.
    NodeId(u64)
}
number! {
    /// A coordinator's replica of the log; never reused.
    ReplicaId(u64)
}
number! {
    /// A token: the index of the entry that made it.
    TokenId(u64)
}
number! {
    /// Counter given to a node at each registration; reports of an older one are void.
    Incarnation(u64)
}
number! {
    /// Index of the last applied log entry: the one version number of state, view, watch and plan.
    Revision(u64)
}
number! {
    /// Raft term of a leader; fences what agents are told.
    Term(u64)
}
number! {
    /// Time in milliseconds since the Unix epoch, as a leader stamped it. State time never goes back.
    TimeMs(u64)
}
number! {
    /// Raised by restore and by forced recovery, so that an id of an older history is never mistaken for a new one.
    #[derive(Default)]
    Epoch(u32)
}
number! {
    /// What apply may do; raised by `RaiseVersion` once all members support it.
    ClusterVersion(u32)
}

impl ClusterVersion {
    /// The newest behaviour this build knows.
    pub const NEWEST: Self = Self(2);
    /// From here on there are tokens and revocations, and changes of nodes say who made them.
    pub const ACCESS: Self = Self(2);
}

impl TimeMs {
    /// This time plus a duration; stays at the end of time rather than overflow.
    pub fn after(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }
}

/// One task of a job, as tables order them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The job.
    pub job: JobId,
    /// The step in it.
    pub step: StepIndex,
    /// The task in that.
    pub task: TaskIndex,
}

/// One member of one attempt: what an agent is asked to run and reports on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberKey {
    /// The task.
    pub task: TaskKey,
    /// Which try.
    pub attempt: AttemptNumber,
    /// Which member of the gang.
    pub rank: Rank,
    /// The epoch in which it was placed: after a restore the same numbers may be given again, to other work.
    #[serde(default)]
    pub epoch: Epoch,
    /// How many members had this rank before it: one that was replaced is not taken for the one that has its place.
    #[serde(default)]
    pub replacement: u32,
}
