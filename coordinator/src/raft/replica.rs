//! The handle to this replica: put commands in the log, tell the role.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flowyard_proto::peer::raft_server::RaftServer;
use flowyard_telemetry::Distribution;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, InitializeError, RaftError};
use openraft::{BasicNode, ConfigError, Raft};
use tokio::sync::watch;

use super::absence;
use super::applier::Applier;
use super::engine::{EngineError, EngineKind, EngineStats, LogEngine, LogOpenError, Record, open_log};
use super::forward;
use super::home::{FIRST_REPLICA, Home, HomeError, Identity};
use super::intake::{Intake, check_size, unavailable};
use super::links::Links;
use super::log_storage::LogStore;
use super::machine::Machine;
use super::network::Network;
use super::peer_endpoint::{PeerEndpoint, Speakers};
use super::role::{Fault, ProposeError, Role, Unavailable};
use super::role_watch;
use super::settings::{PassedOn, ReplicaConfig};
use super::snapshot::{SnapshotError, SnapshotFolder};
use super::threads::Threads;
use super::types::Types;

/// How long a replica that stops may take to say why.
const STOPPING: Duration = Duration::from_secs(1);

pub(super) type Library<M> = Raft<Types<<M as Machine>::Reply>, Applier<M>>;
type LibraryTypes<M> = Types<<M as Machine>::Reply>;

/// A replica that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// Its snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its settings contradict each other.
    #[error("the settings of the replica contradict each other")]
    Settings(#[from] ConfigError),
    /// It cannot have threads of its own.
    #[error("threads for the replica: {0}")]
    Threads(std::io::Error),
    /// Log and snapshot could be opened, but not turned into a machine.
    #[error(transparent)]
    Start(#[from] Fault),
}

/// Figures about a replica.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReplicaStats {
    /// The log.
    pub log: EngineStats,
    /// The last entry of the log.
    pub last_index: Option<u64>,
    /// The last entry that is known to be decided.
    pub committed_index: Option<u64>,
    /// The last entry the current snapshot covers.
    pub snapshot_index: Option<u64>,
    /// The size of the current snapshot.
    pub snapshot_bytes: u64,
    /// Proposals in flight.
    pub proposals_in_flight: u64,
}

/// A replica of the coordinator. Clones are handles to the same.
pub struct Replica<M: Machine> {
    inner: Arc<Running<M>>,
}

impl<M: Machine> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Running<M: Machine> {
    library: Library<M>,
    engine: Arc<dyn LogEngine>,
    snapshots: Arc<SnapshotFolder>,
    identity: Identity,
    role: watch::Receiver<Role>,
    intake: Intake<M>,
    links: Arc<Links>,
    passed_on: PassedOn,
    keep_entries: u64,
    shut: AtomicBool,
    threads: Threads,
    /// Keeps the folder locked until the last handle is gone.
    home: Home,
}

impl<M: Machine> Replica<M> {
    /// Opens the replica kept in `config.folder`, restores `machine` from its snapshot and log, and takes part in its cluster.
    /// What an empty folder becomes is said by `config.start`.
    pub async fn open(config: ReplicaConfig, machine: M) -> Result<Self, OpenError> {
        Self::open_with(config, machine, |kind, folder| Ok(Arc::new(open_log(kind, folder)?))).await
    }

    /// As [`Self::open`], with a log of the caller's: for simulation. The folder keeps identity and snapshots.
    pub async fn open_over(config: ReplicaConfig, log: Arc<dyn LogEngine>, machine: M) -> Result<Self, OpenError> {
        let open = |_, folder: &Path| {
            let unusable = |source| HomeError::Io { path: folder.to_owned(), source };
            std::fs::create_dir_all(folder).map_err(unusable)?;
            Ok(log)
        };
        Self::open_with(config, machine, open).await
    }

    async fn open_with(
        config: ReplicaConfig,
        machine: M,
        open: impl FnOnce(EngineKind, &Path) -> Result<Arc<dyn LogEngine>, OpenError> + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (folder, engine, start) = (config.folder.clone(), config.engine, config.start);
        let threads = if config.own_threads { Threads::own().map_err(OpenError::Threads)? } else { Threads::shared() };
        let opened = threads.begin(move || -> Result<_, OpenError> {
            let mut home = Home::open(&folder, engine, start)?;
            let engine = open(home.engine(), &home.log_folder())?;
            let snapshots = Arc::new(SnapshotFolder::open(&home.snapshot_folder())?);
            let first_start = !home.formed();
            if home.identity().replica != FIRST_REPLICA {
                // From the moment it answers others it makes promises, so it must never start from nothing again.
                home.set_formed()?;
            }
            Ok((home, engine, snapshots, first_start))
        });
        let (home, engine, snapshots, first_start) =
            opened.await.map_err(|error| Fault { what: error.to_string() })??;
        let identity = home.identity();
        let (applied_term, applied) = watch::channel(0);
        let applier = Applier::new(machine, snapshots.clone(), applied_term);
        let settings = Arc::new(config.library(&identity.cluster.to_string())?);
        let links = Arc::new(Links::new(identity, config.connect.clone(), threads.clone()));
        let (store, network) = (LogStore::new(engine.clone()), Network::new(links.clone()));
        let watched = links.clone();
        let began = threads.run(async move {
            let library = Raft::new(identity.replica, settings, network, store, applier).await?;
            let role = role_watch::spawn(library.clone(), applied);
            absence::spawn(library.clone(), watched, role.clone());
            Ok((library, role))
        });
        let began = began.await.map_err(|error| Fault { what: error.to_string() })?;
        let (library, role) = began.map_err(fault::<M>)?;
        let intake = Intake::new(library.clone(), threads.clone(), (config.proposals_max, config.proposal_bytes_max));
        let (passed_on, keep_entries, shut) = (config.passed_on, config.keep_entries, AtomicBool::new(false));
        let running = Running {
            library,
            engine,
            snapshots,
            identity,
            role,
            intake,
            links,
            passed_on,
            keep_entries,
            shut,
            threads,
            home,
        };
        running.take_part(config.address, first_start).await
    }

    /// What other replicas call on this one, to be served on a listener that only they can reach.
    pub fn peer_service(&self, speakers: Speakers) -> RaftServer<PeerEndpoint<M>> {
        let Running { library, intake, snapshots, identity, passed_on, .. } = &*self.inner;
        let (intake, passed_on) = (intake.clone(), passed_on.clone());
        PeerEndpoint::server(library.clone(), intake, snapshots.clone(), *identity, speakers, passed_on)
    }

    /// Where it runs: what other replicas call is served there, too.
    pub fn threads(&self) -> &Threads {
        &self.inner.threads
    }

    /// Proposes one command and waits until it is durable on a quorum and applied here. A replica that follows passes it on.
    pub async fn propose(&self, command: Vec<u8>) -> Result<M::Reply, ProposeError> {
        let command = Bytes::from(command);
        match self.inner.intake.propose(command.clone(), None).await {
            Ok((_, reply)) => Ok(reply),
            Err(ProposeError::Unavailable(Unavailable::NotLeader { leader })) => {
                let _room = self.inner.intake.room(1, check_size(command.len())?)?;
                forward::propose::<M>(&self.inner.library, &self.inner.links, leader, command).await
            }
            Err(ProposeError::Unavailable(Unavailable::Stopped)) => Err(self.why_stopped().await.into()),
            Err(refused) => Err(refused),
        }
    }

    /// Why it has stopped, which is known a moment later.
    async fn why_stopped(&self) -> Unavailable {
        let mut role = self.role();
        let stopped = role.wait_for(|role| matches!(role, Role::Stopped { .. }));
        match tokio::time::timeout(STOPPING, stopped).await.ok().and_then(Result::ok).as_deref() {
            Some(Role::Stopped { fault: Some(fault) }) => Unavailable::Failed(fault.clone()),
            _ => Unavailable::Stopped,
        }
    }

    /// Proposes what was decided as the leader of one term. It is taken only while this replica leads in that term, and never
    /// passed on: whoever leads in another one decides anew.
    pub async fn propose_in(&self, term: u64, command: Vec<u8>) -> Result<M::Reply, ProposeError> {
        let (_, reply) = self.inner.intake.propose(Bytes::from(command), Some(term)).await?;
        Ok(reply)
    }

    /// Returns once a majority has confirmed, after this was called, that this replica leads.
    pub async fn confirm_leading(&self) -> Result<(), Unavailable> {
        self.inner.intake.read_index().await.map(drop)
    }

    /// Proposes commands that enter the log together, in order; each is answered alone. Several calls may be under way. It is
    /// for what a leader has to say: it is not passed on.
    pub async fn propose_many(
        &self,
        commands: Vec<Vec<u8>>,
    ) -> Result<Vec<Result<M::Reply, Unavailable>>, ProposeError> {
        self.inner.intake.propose_many(commands).await
    }

    /// Waits until everything committed before this call is applied here. A replica that follows asks its leader how far that is.
    pub async fn read_barrier(&self) -> Result<(), Unavailable> {
        match self.inner.intake.read_index().await {
            Ok(index) => forward::wait_applied::<M>(&self.inner.library, index).await,
            Err(Unavailable::NotLeader { leader }) => {
                forward::read_barrier::<M>(&self.inner.library, &self.inner.links, leader).await
            }
            Err(refused) => Err(refused),
        }
    }

    /// The role of this replica, as it changes.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.inner.role.clone()
    }

    /// Waits until this replica leads and is ready, or follows a leader; says which.
    pub async fn wait_ready(&self) -> Result<Role, Unavailable> {
        let mut role = self.role();
        let settled = role.wait_for(|role| match role {
            Role::Leader { ready, .. } => *ready,
            Role::Follower { .. } | Role::Stopped { .. } => true,
            Role::Seeking => false,
        });
        match settled.await.map_err(|_| Unavailable::Stopped)?.clone() {
            Role::Stopped { fault } => Err(fault.map_or(Unavailable::Stopped, Unavailable::Failed)),
            ready => Ok(ready),
        }
    }

    /// Who this replica is.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// The engine that keeps the log.
    pub fn engine(&self) -> EngineKind {
        self.inner.home.engine()
    }

    /// An id for a replica to be added: the index of an entry committed for this purpose, so no two calls ever agree.
    pub async fn mint_replica_id(&self) -> Result<u64, Unavailable> {
        match self.inner.library.write_blank().await {
            Ok(written) => Ok(written.log_id.index()),
            Err(RaftError::APIError(refused)) => Err(unavailable(refused)),
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped),
        }
    }

    /// Asks for a snapshot now instead of after the usual number of entries.
    pub async fn snapshot_now(&self) -> Result<(), Unavailable> {
        self.inner.library.trigger().snapshot().await.map_err(|_| Unavailable::Stopped)
    }

    /// The last entry that the current snapshot covers, once it is another than `seen`; `None` when the replica has stopped.
    pub async fn snapshot_after(&self, seen: Option<u64>) -> Option<u64> {
        let mut metrics = self.inner.library.data_metrics();
        // They change with every entry: whoever waits here is not woken for each of them.
        let watching = async move {
            loop {
                let now = metrics.borrow_watched().snapshot.as_ref().map(|last| last.index());
                if now.is_some() && now != seen {
                    return now;
                }
                metrics.changed().await.ok()?;
            }
        };
        self.inner.threads.run(watching).await.ok()?
    }

    /// Entries of the log that this replica still has, as they are kept: from the first of the range on, until `byte_limit` is
    /// passed.
    pub async fn read_log(&self, range: Range<u64>, byte_limit: usize) -> Result<Vec<Record>, EngineError> {
        let engine = self.inner.engine.clone();
        let read = tokio::task::spawn_blocking(move || engine.read(range, byte_limit)).await;
        read.unwrap_or(Err(EngineError::Closed))
    }

    /// The last entry that was purged.
    pub fn purged_index(&self) -> Option<u64> {
        self.inner.engine.state().purged.map(|purged| purged.index)
    }

    /// Entries to keep behind a snapshot, for replicas that lag a little.
    pub fn keep_entries(&self) -> u64 {
        self.inner.keep_entries
    }

    /// Purges entries up to this one, as far as a snapshot covers them.
    pub async fn purge_to(&self, index: u64) {
        // The only failure is that the replica has stopped.
        let _ = self.inner.library.trigger().purge_log(index).await;
    }

    /// Figures about log, snapshot and queue.
    pub fn stats(&self) -> ReplicaStats {
        let (current, state) = (self.inner.snapshots.current(), self.inner.engine.state());
        ReplicaStats {
            log: self.inner.engine.stats(),
            last_index: state.last.map(|last| last.index),
            committed_index: state.committed.map(|committed| committed.index),
            snapshot_index: current.as_ref().and_then(|(meta, _)| meta.last_log_id).map(|last| last.index()),
            snapshot_bytes: current.map_or(0, |(_, file)| file.bytes()),
            proposals_in_flight: self.inner.intake.in_flight(),
        }
    }

    /// How long each batch of the log took until it was on the disk.
    pub fn fsyncs(&self) -> Arc<Distribution> {
        self.inner.engine.fsyncs()
    }

    /// How long writing each snapshot took.
    pub fn snapshots_written(&self) -> &Distribution {
        self.inner.snapshots.written()
    }

    /// Stops taking part, makes everything queued durable and closes the files.
    pub async fn shutdown(&self) {
        if self.inner.shut.swap(true, Ordering::SeqCst) {
            return;
        }
        // The only failure is that its task is gone already, which is what was asked for.
        let _ = self.inner.library.shutdown().await;
        let engine = self.inner.engine.clone();
        let _ = tokio::task::spawn_blocking(move || engine.close()).await;
    }

    /// Takes all room for proposals until it is dropped, if nobody has some.
    #[cfg(test)]
    pub(crate) fn fill(&self) -> Option<impl Sized + use<M>> {
        self.inner.intake.room(usize::MAX, 0).ok()
    }

    pub(super) fn library(&self) -> &Library<M> {
        &self.inner.library
    }
}

impl<M: Machine> Running<M> {
    /// Forms the cluster on a first start, and leads at once where nobody else could.
    async fn take_part(mut self, address: String, first_start: bool) -> Result<Replica<M>, OpenError> {
        let me = self.identity.replica;
        let stopped = fault::<M>;
        // A replica that joins has nothing to say about who belongs to the cluster.
        if first_start && me == FIRST_REPLICA {
            let members = [(me, BasicNode { addr: address })].into_iter().collect::<std::collections::BTreeMap<_, _>>();
            match self.library.initialize(members).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(Fault { what: error.to_string() }.into()),
            }
        }
        let alone = self.library.with_raft_state(move |state| state.membership_state.effective().voter_ids().eq([me]));
        if alone.await.map_err(stopped)? {
            self.library.trigger().elect(false).await.map_err(stopped)?;
        }
        if !self.home.formed() {
            // The first entry is durable, and nothing was promised to anybody yet.
            self.home.set_formed()?;
        }
        Ok(Replica { inner: Arc::new(self) })
    }
}

fn fault<M: Machine>(error: Fatal<LibraryTypes<M>>) -> Fault {
    Fault { what: error.to_string() }
}
