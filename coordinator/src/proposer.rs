//! Puts commands into the log, stamped with the leader's time.

use flowyard_model::{Command, Rejection, Reply, TimeMs};

use crate::applier::Applier;
use crate::feed::Feed;
use crate::raft::{ProposeError as LogError, Replica};

/// A handle for proposing; cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    replica: Replica<Applier>,
    feed: Feed,
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
    /// A proposer of this replica, whose state is told by this feed.
    pub fn new(replica: Replica<Applier>, feed: Feed) -> Self {
        Self { replica, feed }
    }

    /// Proposes a command and waits until it was applied.
    ///
    /// # Errors
    /// [`ProposeError::Rejected`] when the state refused it, or replicas of an older release would stop at it.
    pub async fn propose(&self, command: &Command) -> Result<Reply, ProposeError> {
        self.feed.view().supports(command)?;
        let time = TimeMs(flowyard_clock::wall_ms());
        let payload = flowyard_proto::encode_entry(time, command)?;
        match self.replica.propose(payload).await? {
            Reply::Rejected(rejection) => Err(rejection.into()),
            reply => Ok(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{ClusterVersion, CreateToken, Fingerprint, Grant, Joiner, Revision};

    use super::*;
    use crate::fixture;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_older_replicas_do_not_know_stays_out_of_the_log_until_the_version_is_raised() {
        let (coordinator, _folder) = fixture::coordinator().await;
        let shared = coordinator.shared();
        let create = Command::CreateToken(CreateToken {
            hash: Fingerprint([1; 32]),
            grant: Grant::Join(Joiner::Agent),
            expires_at: TimeMs(flowyard_clock::wall_ms() + 60_000),
            uses: Some(1),
            created_by: "root".to_owned(),
        });
        let before: Revision = shared.feed.view().revision();
        let refused = shared.proposer.propose(&create).await;
        assert!(matches!(refused, Err(ProposeError::Rejected(Rejection::NeedsVersion { .. }))), "{refused:?}");
        assert_eq!(shared.feed.view().revision(), before, "nothing entered the log");
        let raise = Command::RaiseVersion { version: ClusterVersion::ACCESS };
        shared.proposer.propose(&raise).await.unwrap();
        let created = shared.proposer.propose(&create).await.unwrap();
        assert!(matches!(created, Reply::TokenCreated { .. }));
        coordinator.shutdown().await;
    }
}
