//! What travels over the simulated network.

use flowyard_model::{AttemptReport, Desired, Incarnation, JobId, NodeId, Reply, SubmitJob};

/// From an agent to the coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    /// Register, anew or for the first time.
    Register { request: u64, previous: Option<(NodeId, Incarnation)> },
    /// Begin a session and say everything.
    Connect { session: u64, node: NodeId, incarnation: Incarnation, observed: Vec<AttemptReport> },
    /// Numbered reports of a session.
    Reports { session: u64, sequence: u64, reports: Vec<AttemptReport> },
    /// Still here; so many report messages were sent.
    Beat { session: u64, sent: u64 },
}

/// From the coordinator to an agent.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    /// The answer to `Register`.
    Registered { request: u64, reply: Reply },
    /// What to run.
    Desired { session: u64, desired: Desired },
    /// Reports up to this number are in the log.
    Ack { session: u64, sequence: u64 },
    /// Still here; so many desired messages were sent, and reports up to this number are in the log.
    Beat { session: u64, sent: u64, acknowledged: u64 },
    /// The session is over; whether the agent must register anew.
    Closed { session: u64, register: bool },
}

/// Between clients and the coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Take this job; `client` numbers it.
    Submit { client: usize, wish: SubmitJob },
    /// Cancel a job.
    Cancel { job: JobId },
}
