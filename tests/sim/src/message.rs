//! What travels between agents and coordinators. Each message belongs to a stream, which keeps their order unless the network is
//! worse than TCP allows.

use std::sync::Arc;

use flowyard_model::{AttemptReport, Desired, Incarnation, Inventory, Name, NodeId};

/// From an agent to a coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    /// The first of a stream: register, and say everything.
    Hello(Box<Hello>),
    /// Numbered reports.
    Observed { sequence: u64, reports: Vec<AttemptReport> },
    /// Still here.
    Beat { sent_at_ms: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) name: Name,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) previous: Option<(NodeId, Incarnation)>,
    pub(crate) reports: Vec<AttemptReport>,
}

/// From a coordinator to an agent.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    /// It does not lead; who does, if it knows. The stream is over.
    Refused { leader: Option<usize> },
    /// The node is registered.
    Welcome { node: NodeId, incarnation: Incarnation },
    /// What to run.
    Desired(Box<Desired>),
    /// Reports up to this number are in the log.
    Acknowledged { sequence: u64 },
    /// The answer to a sign of life.
    Beat { sent_at_ms: u64 },
}
