//! Gangs that go on when they lose members: what was lost, what is open, and who took whose place.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{AttemptNumber, Held, Member, Rank, Seat, TaskKey, TimeMs};

/// That a gang goes on when it loses members for no fault of the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replace {
    /// How long it waits for places for the lost members, in milliseconds, before it is lost as a whole.
    pub within_ms: u64,
}

impl Replace {
    /// How long it waits where nobody says: ten minutes.
    pub const WITHIN_MS: u64 = 600_000;
}

/// What became of the members of a gang after it was placed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surgery {
    /// How often its members were others than before; 0 at first.
    pub generation: u32,
    /// What is open, while something is.
    pub repair: Option<Repair>,
    /// Members whose place others took, oldest first.
    pub replaced: Vec<Replaced>,
    /// Ranks that nobody has any more: it goes on without them.
    pub vacant: BTreeSet<Rank>,
}

/// Ranks of a running gang that nobody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// When the gang is given up unless each of them has somebody again.
    pub until: TimeMs,
    /// Which, with what the lost member held: that counts as held as long as its rank is open.
    pub open: BTreeMap<Rank, Held>,
}

/// A member whose place another took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Which it was.
    pub rank: Rank,
    /// All that is known of it.
    pub member: Member,
}

/// Why a member leaves while its gang goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// Its node is to become empty.
    Drained,
    /// A device that it held is gone.
    DeviceGone,
}

/// Seats for open ranks of a running gang.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairWish {
    /// Whose.
    pub task: TaskKey,
    /// Which attempt of it.
    pub attempt: AttemptNumber,
    /// Who sits where.
    pub seats: Vec<(Rank, Seat)>,
}
