//! Making room: what work that borrows or has lower priority is promised, who is asked to leave for whom, and the room that a
//! waiting task is promised meanwhile.

use serde::{Deserialize, Serialize};

use crate::{AttemptNumber, Seat, StopSignal, TaskKey, TimeMs, limits};

/// What an attempt is promised that may be evicted: how long it runs in any case, and how it is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contract {
    /// It is not evicted before it has run for so long, in milliseconds; see [`Contract::fetch_ms`].
    pub min_run_ms: u64,
    /// Time that it may take between the notice that its step asks for and the stop, in milliseconds.
    pub notice_ms: u64,
    /// It is killed so long after it was asked to stop, if it lives still, in milliseconds.
    pub kill_within_ms: u64,
}

impl Contract {
    /// What holds where no queue on the path says otherwise.
    pub const DEFAULT: Self = Self { min_run_ms: 300_000, notice_ms: 30_000, kill_within_ms: 60_000 };

    /// Its times together, in milliseconds.
    pub fn sum_ms(&self) -> u64 {
        self.min_run_ms.saturating_add(self.leave_ms())
    }

    /// How long an attempt may take from its placement until it runs, in milliseconds, so that its minimum run counts from then; of what takes
    /// longer to fetch, it counts from the end of this time.
    pub fn fetch_ms(&self) -> u64 {
        self.min_run_ms.min(limits::FETCH_MS)
    }

    /// How long room that is promised can be held by what may be evicted, in milliseconds, but for the seconds that agents and
    /// rounds of placement take.
    pub fn bound_ms(&self) -> u64 {
        self.fetch_ms().saturating_add(self.sum_ms())
    }

    /// How long an attempt can take to leave once it is evicted, in milliseconds, but for the seconds that agents take.
    pub fn leave_ms(&self) -> u64 {
        self.notice_ms.saturating_add(self.kill_within_ms)
    }
}

/// What an attempt is sent before it is asked to stop, when it is evicted: so that it saves its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Notice {
    /// The signal.
    pub signal: StopSignal,
    /// How long before, in milliseconds; no longer than its contract allows.
    pub ms: u64,
}

/// By what right an attempt is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvictionKind {
    /// For a task of the same queue that has a higher priority.
    Priority,
    /// For a task of another queue that is promised what this one has borrowed.
    Reclaim,
}

impl EvictionKind {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Reclaim => "reclaim",
        }
    }
}

/// That an attempt was evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preempted {
    /// By what right.
    pub kind: EvictionKind,
    /// For which task.
    pub by: TaskKey,
    /// When.
    pub at: TimeMs,
}

/// An attempt that is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Eviction {
    /// Its task.
    pub task: TaskKey,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// By what right.
    pub kind: EvictionKind,
}

/// The wish for room that is not free yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimWish {
    /// The task it is for.
    pub task: TaskKey,
    /// The attempt that it will be.
    pub attempt: AttemptNumber,
    /// Where each rank is to go.
    pub members: Vec<Seat>,
    /// Who leaves for it; at least one, or it waits for somebody.
    pub evictions: Vec<Eviction>,
    /// Whose end it waits for, where nobody is asked to leave: at least one then.
    pub awaits: Vec<Awaited>,
}

/// An attempt whose end is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Awaited {
    /// Its task.
    pub task: TaskKey,
    /// Which attempt.
    pub attempt: AttemptNumber,
}

/// Room that a waiting task is promised: nobody else is placed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The attempt that its task will make.
    pub attempt: AttemptNumber,
    /// Where each rank is to go.
    pub members: Vec<Seat>,
    /// Who was asked to leave for it.
    pub evictions: Vec<Eviction>,
    /// Since when.
    pub made_at: TimeMs,
    /// Until when, at the latest.
    pub until: TimeMs,
    /// Whose end it waits for, where nobody was asked to leave; ascending. Some of them may have ended.
    pub awaits: Vec<Awaited>,
    /// By when all of those will have ended, if that is known of all.
    pub starts_at: Option<TimeMs>,
}

impl Claim {
    /// Whether it is a reservation: nobody leaves for it, it waits until enough has ended.
    pub fn is_reservation(&self) -> bool {
        self.evictions.is_empty()
    }
}
