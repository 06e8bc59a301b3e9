//! Puts commands into the log, stamped with the leader's time.

use flowyard_model::{Command, Rejection, Reply, TimeMs};

use crate::applier::Applier;
use crate::raft::{ProposeError as LogError, Replica};

/// A handle for proposing; cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    replica: Replica<Applier>,
}

/// Why a command has no effect.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Retrying it unchanged is pointless.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It cannot be written down.
    #[error(transparent)]
    Encoding(#[from] flowyard_proto::EncodeError),
}

impl Proposer {
    /// A proposer of this replica.
    pub fn new(replica: Replica<Applier>) -> Self {
        Self { replica }
    }

    /// Proposes a command and waits until it was applied.
    ///
    /// # Errors
    /// [`ProposeError::Rejected`] when the state refused it.
    pub async fn propose(&self, command: &Command) -> Result<Reply, ProposeError> {
        let time = TimeMs(flowyard_clock::wall_ms());
        let payload = flowyard_proto::encode_entry(time, command)?;
        match self.replica.propose(payload).await? {
            Reply::Rejected(rejection) => Err(rejection.into()),
            reply => Ok(reply),
        }
    }
}
