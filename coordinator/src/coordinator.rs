//! One coordinator, from open to shutdown: the replica, what follows its role, and the services in front of it.

use std::sync::Arc;

use flowyard_cas::Origin;
use flowyard_identity::KeyringError;
use flowyard_model::{ClusterVersion, Command, Reply, Term};
use flowyard_state::View;
use flowyard_telemetry::traces::Exporter;
use kameo::actor::{ActorRef, Spawn};
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::transport::Channel;

use crate::applier::Applier;
use crate::archive::Archive;
use crate::audit::Audit;
use crate::config::Config;
use crate::copying::Copied;
use crate::durable::Durable;
use crate::evidence::Evidence;
use crate::feed::Feed;
use crate::fleet::{Fleet, KeyError, MemberAddress, Mirror};
use crate::leadership::Leadership;
use crate::liveness::Heard;
use crate::metrics::{Calls, Told};
use crate::proposer::{ProposeError, Proposer};
use crate::raft::{OpenError, PassedOn, Replica, ReplicaConfig, Role, Start, Unavailable};
use crate::readable::Readable;
use crate::relay::Relays;
use crate::secrets::Vault;
use crate::session::{Directory, Pace, Turns};
use crate::shedding::Shedder;
use crate::stamps::Stamps;
use crate::tracer::Tracer;
use crate::version_mark::{self, NewerCluster};

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
    pub durable: Durable,
    /// Who was heard from.
    pub heard: Heard,
    /// Whether a majority still follows.
    pub evidence: Evidence,
    /// The cluster's time.
    pub stamps: Stamps,
    /// Who is connected.
    pub directory: Directory,
    /// How often agents give signs of life.
    pub(crate) pace: Pace,
    /// Whose turn it is to register.
    pub(crate) turns: Turns,
    /// Streams through agents.
    pub relays: Relays,
    /// Its keys, if others reach it.
    pub fleet: Option<Fleet>,
    /// Whether its copy of the blobs is whole.
    pub(crate) copied: Copied,
    /// Who may read which blobs.
    pub(crate) readable: Readable,
    /// Held, shared, by each backup that is being made.
    pub(crate) backups: Arc<tokio::sync::RwLock<()>>,
    /// Finished jobs that the state has forgotten.
    pub(crate) archive: Archive,
    /// The keys of secrets.
    pub(crate) vault: Vault,
    /// Who did what.
    pub(crate) audit: Audit,
    /// How many submissions are let in.
    pub(crate) shedder: Shedder,
    /// Calls of its services, counted.
    pub(crate) calls: Calls,
    /// Held while something is explained at length: one at a time.
    pub(crate) explaining: Arc<tokio::sync::Semaphore>,
}

/// Metadata in which a coordinator that does not lead says who does.
pub const LEADER: &str = "flowyard-leader";

impl Shared {
    /// The state as everybody agrees on now: what was acknowledged anywhere before this call is in it.
    ///
    /// # Errors
    /// When no leader confirms how far that is.
    pub async fn fresh_view(&self) -> Result<View, Status> {
        self.replica.read_barrier().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(self.feed.view())
    }

    /// Where agents and people reach the coordinators; nowhere but at its socket in an embedded cluster.
    pub(crate) fn api_addresses(&self) -> Vec<String> {
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let members = self.replica.members();
        let known = members.iter().filter_map(|member| Some(member.peer.address.parse::<MemberAddress>().ok()?.api));
        let mut known: Vec<String> = known.collect();
        if known.is_empty() {
            known.push(fleet.config().address.api.clone());
        }
        known
    }

    /// The connection to another coordinator, by its address as the log knows it.
    pub(crate) fn peer_channel(&self, address: &str) -> Option<Channel> {
        self.fleet.as_ref()?.channels().to(&address.parse().ok()?)
    }

    /// Proposes a command; what stands against it becomes the status that a client reads.
    ///
    /// # Errors
    /// See `status`.
    pub async fn propose(&self, command: &Command) -> Result<Reply, Status> {
        self.proposer.propose(command).await.map_err(|error| status(&error))
    }

    /// Lets the commands of this version into the log of an embedded cluster: it has one member, which waits for nobody's upgrade.
    ///
    /// # Errors
    /// See `status`.
    pub(crate) async fn grow(&self) -> Result<(), Status> {
        let version = ClusterVersion::ACCESS;
        if self.config.embedded && self.feed.view().version() < version {
            self.propose(&Command::RaiseVersion { version }).await?;
        }
        Ok(())
    }

    /// The term in which this coordinator leads.
    ///
    /// # Errors
    /// When it does not lead.
    pub fn leading_term(&self) -> Result<Term, Status> {
        match &*self.replica.role().borrow() {
            Role::Leader { term, ready: true } => Ok(Term(*term)),
            Role::Follower { leader, .. } => Err(led_by(&leader.address)),
            Role::Leader { .. } | Role::Seeking => Err(Status::unavailable("the cluster has no leader at the moment")),
            Role::Stopped { .. } => Err(Status::unavailable("this coordinator has stopped")),
        }
    }
}

/// What a leader makes of commands that others pass on: they carry its own time, and are such as every replica can read.
fn restamped(stamps: Stamps) -> PassedOn {
    PassedOn::new(move |command| match flowyard_proto::restamp(&command, stamps.now()) {
        Ok(stamped) => Ok(stamped.into()),
        Err(error) => Err(error.to_string()),
    })
}

/// The refusal of a coordinator that follows, with where the leader is.
fn led_by(address: &str) -> Status {
    let api = address.parse::<MemberAddress>().map_or_else(|_| address.to_owned(), |address| address.api);
    let mut status = Status::unavailable(format!("this coordinator does not lead; {api} does"));
    if let Ok(leader) = api.parse() {
        status.metadata_mut().insert(LEADER, leader);
    }
    status
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
    /// Its folder is of a newer cluster than this program knows.
    #[error(transparent)]
    NewerCluster(#[from] NewerCluster),
    /// Its replica.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It did not become ready.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Where it writes down who did what.
    #[error("who did what cannot be written down: {0}")]
    Audit(std::io::Error),
    /// The keys of secrets.
    #[error("the keys of secrets: {0}")]
    SecretKeys(#[from] KeyringError),
    /// A socket or port.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// Which.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running coordinator.
pub struct Coordinator {
    shared: Shared,
    leadership: ActorRef<Leadership>,
    /// What runs beside, whoever leads.
    beside: Vec<AbortHandle>,
}

impl Coordinator {
    /// Opens the replica in its folder and waits until it may be asked.
    ///
    /// # Errors
    /// When the folder cannot be used, or the replica stops.
    pub async fn start(config: Config, origin: Origin) -> Result<Self, StartError> {
        Self::start_traced(config, origin, None).await
    }

    /// The same, and tells a collector what it does for each job.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub async fn start_traced(config: Config, origin: Origin, exporter: Option<Exporter>) -> Result<Self, StartError> {
        version_mark::check(&config.folder)?;
        let (applier, feed) = Applier::new();
        let stamps = Stamps::new(feed.clone());
        let mut settings = ReplicaConfig { engine: config.engine, purges: false, ..ReplicaConfig::new(&config.folder) };
        settings.passed_on = restamped(stamps.clone());
        let fleet = match &config.fleet {
            Some(choice) => Some(Fleet::load(&config.folder, choice.clone(), feed.clone())?),
            None => None,
        };
        if let Some(fleet) = &fleet {
            settings.own_threads = true;
            settings.address = fleet.config().address.to_string();
            settings.start = Start::Join(fleet.config().identity);
            settings.connect = fleet.connect();
        }
        let counts = Arc::default();
        let replica = Replica::open(settings, applier.counted(Arc::clone(&counts))).await?;
        // Others may be down; this one serves them, and says what it is waiting for.
        if fleet.is_none() {
            replica.wait_ready().await?;
        }
        let identity = replica.identity();
        let durable = match (&fleet, config.shared_origin) {
            (Some(fleet), false) => {
                let mirror = Mirror::new(replica.clone(), fleet.channels().clone(), origin.clone());
                Durable::mirrored(origin, mirror)
            }
            _ => Durable::of(origin),
        };
        let tracer = exporter.map(|exporter| Tracer::new(exporter, &identity.cluster.to_string()));
        let directory = Directory::empty();
        let vault = Vault::open(&config.folder)?;
        let readable = Readable::open(&config.folder);
        let audit = Audit::open(&config.folder).map_err(StartError::Audit)?;
        let shared = Shared {
            pace: Pace::of(config.timing),
            turns: Turns::default(),
            config: Arc::new(config),
            cluster_id: identity.cluster.to_string(),
            epoch: identity.epoch,
            proposer: Proposer::new(replica.clone(), feed.clone(), stamps.clone())
                .counted(counts)
                .traced(tracer.clone()),
            feed,
            durable,
            heard: Heard::nobody(),
            evidence: Evidence::none(replica.clone()),
            stamps,
            replica,
            relays: Relays::none(directory.clone()),
            directory,
            copied: Copied::default(),
            readable,
            backups: Arc::default(),
            archive: Archive::default(),
            vault,
            audit,
            shedder: Shedder::default(),
            calls: Calls::of_this_build(),
            explaining: Arc::new(tokio::sync::Semaphore::new(1)),
            fleet,
        };
        Ok(Self::with(shared, tracer))
    }

    /// With what goes on beside its services.
    fn with(shared: Shared, tracer: Option<Tracer>) -> Self {
        let leadership = Leadership::spawn(Leadership::new(shared.clone()));
        let mut beside: Vec<AbortHandle> = Vec::new();
        beside.push(tokio::spawn(shared.audit.clone().keep()).abort_handle());
        beside.extend(tracer.map(|tracer| tokio::spawn(tracer.keep(shared.clone())).abort_handle()));
        beside.extend(shared.fleet.clone().map(|fleet| tokio::spawn(fleet.renew()).abort_handle()));
        beside.push(tokio::spawn(crate::archive::keep(shared.clone())).abort_handle());
        beside.push(tokio::spawn(crate::sealing::keep(shared.clone())).abort_handle());
        if shared.durable.is_mirrored() {
            beside.push(tokio::spawn(crate::copying::keep_copy(shared.clone())).abort_handle());
        }
        Self { shared, leadership, beside }
    }

    /// What its services share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What it tells its operator in figures.
    pub fn metrics(&self) -> Arc<dyn flowyard_telemetry::Source> {
        Arc::new(Told { shared: self.shared.clone() })
    }

    /// Stops everything and closes the log. What was acknowledged is on disk. A cluster of one process, which may live for single
    /// commands only, looks after space first if it is time, for a moment.
    pub async fn shutdown(self) {
        self.beside.iter().for_each(AbortHandle::abort);
        version_mark::note(&self.shared.config.folder, self.shared.feed.view().version());
        // In a fleet space is looked after while coordinators run, and others wait for this one to let the leadership go.
        if self.shared.fleet.is_none()
            && let Ok(term) = self.shared.leading_term()
        {
            crate::collector::last_look(&self.shared, &self.shared.proposer.in_term(term)).await;
        }
        let _ = self.leadership.stop_gracefully().await;
        self.leadership.wait_for_shutdown().await;
        self.shared.replica.shutdown().await;
        if let Some(tracer) = self.shared.proposer.tracer() {
            tracer.flush().await;
        }
    }
}
