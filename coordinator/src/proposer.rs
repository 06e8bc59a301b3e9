//! Puts commands into the log, stamped with the leader's time.

use std::sync::Arc;

use flowyard_model::{Command, Rejection, Reply, Term};

use crate::applier::Applier;
use crate::feed::Feed;
use crate::metrics::Counts;
use crate::raft::{ProposeError as LogError, Replica};
use crate::session::Joining;
use crate::stamps::Stamps;
use crate::tracer::Tracer;

/// A handle for proposing; cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    replica: Replica<Applier>,
    feed: Feed,
    stamps: Stamps,
    /// The only term in which what it proposes is taken.
    term: Option<Term>,
    counts: Arc<Counts>,
    tracer: Option<Tracer>,
    joining: Joining,
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
    /// A proposer of this replica, whose state is told by this feed, and time by these stamps.
    pub fn new(replica: Replica<Applier>, feed: Feed, stamps: Stamps) -> Self {
        let joining = Joining::default();
        Self { replica, feed, stamps, term: None, counts: Arc::default(), tracer: None, joining }
    }

    /// A proposer of what is decided by the leader of this term: the log takes it in that term and in no other.
    pub fn in_term(&self, term: Term) -> Self {
        Self { term: Some(term), ..self.clone() }
    }

    /// The same, that counts there.
    #[must_use]
    pub(crate) fn counted(self, counts: Arc<Counts>) -> Self {
        Self { counts, ..self }
    }

    /// The same, whose work is told to a collector.
    #[must_use]
    pub(crate) fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Who tells a collector of jobs, if anybody does; whoever decides tells it, too.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// Where reports of many agents go together.
    pub(crate) fn joining(&self) -> &Joining {
        &self.joining
    }

    /// The state that what is proposed is applied to.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// What this coordinator has counted so far; whoever decides counts there, too.
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Proposes a command and waits until it was applied.
    ///
    /// # Errors
    /// [`ProposeError::Rejected`] when the state refused it, or replicas of an older release would stop at it.
    pub async fn propose(&self, command: &Command) -> Result<Reply, ProposeError> {
        let start = flowyard_clock::monotonic();
        let reply = self.put(command).await;
        self.counts.propose.observe_since(start);
        let result = match &reply {
            Ok(_) => 0,
            Err(ProposeError::Rejected(_) | ProposeError::Encoding(_)) => 1,
            Err(ProposeError::Log(_)) => 2,
        };
        self.counts.proposals[result].add(1);
        reply
    }

    async fn put(&self, command: &Command) -> Result<Reply, ProposeError> {
        self.feed.view().supports(command)?;
        // Where this replica follows, the leader puts its own time in.
        let payload = flowyard_proto::encode_entry(self.stamps.now(), command)?;
        let reply = match self.term {
            Some(term) => self.replica.propose_in(term.0, payload).await?,
            None => self.replica.propose(payload).await?,
        };
        match reply {
            Reply::Rejected(rejection) => Err(rejection.into()),
            reply => Ok(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flowyard_model::{ClusterVersion, CreateToken, Fingerprint, Grant, Joiner, TimeMs};
    use flowyard_state::State;

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
        // As it is before the coordinator raises the version, which it does by itself after some seconds.
        let early = Feed::starting_with(State::new().view());
        let early = Proposer::new(shared.replica.clone(), early.clone(), Stamps::new(early));
        let refused = early.propose(&create).await;
        assert!(matches!(refused, Err(ProposeError::Rejected(Rejection::NeedsVersion { .. }))), "{refused:?}");
        assert_eq!(shared.feed.view().tokens().count(), 0, "nothing entered the log");
        let mut views = shared.feed.views();
        let raised = views.wait_for(|view| view.version() >= ClusterVersion::ACCESS);
        tokio::time::timeout(Duration::from_secs(60), raised).await.expect("it is raised").unwrap();
        let created = shared.proposer.propose(&create).await.unwrap();
        assert!(matches!(created, Reply::TokenCreated { .. }));
        coordinator.shutdown().await;
    }
}
