//! What is held against a node: work that failed there through no fault of its owner.

use serde::{Deserialize, Serialize};

use crate::{Blame, MemberKey, Reason, TimeMs};

/// How far a node is trusted with new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As any other.
    Trusted,
    /// It is given only what fits nowhere else.
    Avoided,
    /// It is given nothing.
    Shunned,
}

impl Standing {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Avoided => "avoided",
            Self::Shunned => "shunned",
        }
    }
}

/// What is held against a node. It fades by itself: half of it is gone after each half-life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discredit {
    /// Thousandths of a point, as of the time below.
    pub points_milli: u64,
    /// When something was added last.
    pub at: TimeMs,
    /// What follows from it.
    pub standing: Standing,
    /// When less follows from it, if nothing is added.
    pub until: TimeMs,
    /// What was added last, the oldest first; a few.
    pub recent: Vec<Charge>,
}

/// Something that is held against a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// When.
    pub at: TimeMs,
    /// Why the attempt ended, or that the node was lost.
    pub reason: Reason,
    /// Whose it was; never the user's.
    pub blame: Blame,
    /// The member that ended there; `None` if the node as a whole was lost.
    pub member: Option<MemberKey>,
}
