//! One coordinator, from open to shutdown: the replica, what follows its role, and the services in front of it.

use std::path::PathBuf;
use std::sync::Arc;

use flowyard_cas::Origin;
use flowyard_model::{Command, Reply, Term};
use kameo::actor::{ActorRef, Spawn};
use tonic::Status;

use crate::applier::Applier;
use crate::config::Config;
use crate::feed::Feed;
use crate::leadership::Leadership;
use crate::liveness::Heard;
use crate::proposer::{ProposeError, Proposer};
use crate::raft::{OpenError, Replica, ReplicaConfig, Role, Unavailable};
use crate::relay::Relays;
use crate::session::Directory;

/// What all services share; cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// The operator's settings.
    pub config: Arc<Config>,
    /// Name of the cluster.
    pub cluster_id: String,
    /// Which history of the cluster this is.
    pub epoch: u32,
    /// The log.
    pub replica: Replica<Applier>,
    /// Puts commands into it.
    pub proposer: Proposer,
    /// What came of them.
    pub feed: Feed,
    /// Durable bytes.
    pub origin: Origin,
    /// Who was heard from.
    pub heard: Heard,
    /// Who is connected.
    pub directory: Directory,
    /// Streams through agents.
    pub relays: Relays,
}

impl Shared {
    /// Proposes a command; what stands against it becomes the status that a client reads.
    ///
    /// # Errors
    /// See `status`.
    pub async fn propose(&self, command: &Command) -> Result<Reply, Status> {
        self.proposer.propose(command).await.map_err(|error| status(&error))
    }

    /// The term in which this coordinator leads.
    ///
    /// # Errors
    /// When it does not lead.
    pub fn leading_term(&self) -> Result<Term, Status> {
        match &*self.replica.role().borrow() {
            Role::Leader { term, ready: true } => Ok(Term(*term)),
            Role::Follower { leader, .. } => {
                Err(Status::unavailable(format!("this coordinator does not lead; {} does", leader.address)))
            }
            Role::Leader { .. } | Role::Seeking => Err(Status::unavailable("the cluster has no leader at the moment")),
            Role::Stopped { .. } => Err(Status::unavailable("this coordinator has stopped")),
        }
    }
}

/// What a client reads when a command had no effect.
pub(crate) fn status(error: &ProposeError) -> Status {
    match error {
        ProposeError::Rejected(rejection) => flowyard_proto::status::rejected(rejection),
        ProposeError::Log(crate::raft::ProposeError::Unavailable(unavailable)) => {
            Status::unavailable(unavailable.to_string())
        }
        ProposeError::Log(error) => Status::invalid_argument(error.to_string()),
        ProposeError::Encoding(error) => Status::invalid_argument(error.to_string()),
    }
}

/// Why a coordinator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its replica.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It did not become ready.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its socket.
    #[error("cannot listen on {path}: {source}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running coordinator.
pub struct Coordinator {
    shared: Shared,
    leadership: ActorRef<Leadership>,
}

impl Coordinator {
    /// Opens the replica in its folder and waits until it may be asked.
    ///
    /// # Errors
    /// When the folder cannot be used, or the replica stops.
    pub async fn start(config: Config, origin: Origin) -> Result<Self, StartError> {
        let (applier, feed) = Applier::new();
        let settings = ReplicaConfig { engine: config.engine, ..ReplicaConfig::new(&config.folder) };
        let replica = Replica::open(settings, applier).await?;
        replica.wait_ready().await?;
        let identity = replica.identity();
        let directory = Directory::empty();
        let shared = Shared {
            config: Arc::new(config),
            cluster_id: identity.cluster.to_string(),
            epoch: identity.epoch,
            proposer: Proposer::new(replica.clone(), feed.clone()),
            replica,
            feed,
            origin,
            heard: Heard::nobody(),
            relays: Relays::none(directory.clone()),
            directory,
        };
        let leadership = Leadership::spawn(Leadership::new(shared.clone()));
        Ok(Self { shared, leadership })
    }

    /// What its services share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Stops everything and closes the log. What was acknowledged is on disk. Space is looked after first, if it is time.
    pub async fn shutdown(self) {
        crate::collector::collect_if_due(&self.shared).await;
        let _ = self.leadership.stop_gracefully().await;
        self.leadership.wait_for_shutdown().await;
        self.shared.replica.shutdown().await;
    }
}
