//! The result of applying an entry: what it is answered with, and what changed. Never what to do about it.

use std::collections::BTreeSet;

use crate::{JobId, NodeId, Reply};

/// What one entry, or a batch of them, did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effects {
    /// The answer.
    pub reply: Reply,
    /// What changed.
    pub changed: Changed,
}

/// What changed. Whoever cares reads the view and compares; a new leader treats everything as changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Nodes whose record, or the desired state of whose members, changed.
    pub nodes: BTreeSet<NodeId>,
    /// Jobs of which anything changed.
    pub jobs: BTreeSet<JobId>,
    /// Whether there may be something to place that there was not before: work became ready, or room became free.
    pub placement: bool,
    /// Whether the next deadline changed.
    pub deadline: bool,
    /// Whether a token was taken back or has expired, or somebody was shut out, so that who is connected may have to go. Each that joins
    /// would else have every session looked at again.
    pub access: bool,
}

impl Changed {
    /// Nothing.
    pub const fn nothing() -> Self {
        Self { nodes: BTreeSet::new(), jobs: BTreeSet::new(), placement: false, deadline: false, access: false }
    }

    /// Adds what another entry changed.
    pub fn merge(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
        self.jobs.extend(other.jobs);
        self.placement |= other.placement;
        self.deadline |= other.deadline;
        self.access |= other.access;
    }
}
