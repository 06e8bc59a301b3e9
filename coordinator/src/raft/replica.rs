//! The handle to this replica: put commands in the log, tell the role.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::TryStreamExt;
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, InitializeError, LinearizableReadError, RaftError};
use openraft::{BasicNode, ConfigError, Raft, ReadPolicy};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::applier::Applier;
use super::engine::{ENTRY_BYTES_MAX, EngineKind, EngineStats, LogEngine, LogOpenError, open_log};
use super::entry_record::ENTRY_OVERHEAD_BYTES;
use super::home::{Home, HomeError, Identity};
use super::log_storage::LogStore;
use super::machine::Machine;
use super::network::Alone;
use super::role::{Fault, Peer, ProposeError, Role, Unavailable};
use super::role_watch;
use super::settings::ReplicaConfig;
use super::snapshot::{SnapshotError, SnapshotFolder};
use super::types::{Proposal, Types};

/// The largest command.
pub const COMMAND_BYTES_MAX: usize = ENTRY_BYTES_MAX - ENTRY_OVERHEAD_BYTES;

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
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    limits: (u32, u32),
    shut: AtomicBool,
    /// Keeps the folder locked until the last handle is gone.
    home: Home,
}

/// Room taken by proposals in flight, given back when it is dropped.
struct Room {
    _slots: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl<M: Machine> Replica<M> {
    /// Opens the replica kept in `config.folder`, restores `machine` from its snapshot and log, and joins its cluster. An empty
    /// folder becomes the first and only replica of a new cluster.
    pub async fn open(config: ReplicaConfig, machine: M) -> Result<Self, OpenError> {
        let (folder, engine) = (config.folder.clone(), config.engine);
        let opened = tokio::task::spawn_blocking(move || -> Result<_, OpenError> {
            let home = Home::open(&folder, engine)?;
            let engine: Arc<dyn LogEngine> = Arc::new(open_log(home.engine(), &home.log_folder())?);
            let snapshots = Arc::new(SnapshotFolder::open(&home.snapshot_folder())?);
            Ok((home, engine, snapshots))
        });
        let (home, engine, snapshots) = opened.await.map_err(|error| Fault { what: error.to_string() })??;
        let identity = home.identity();
        let (applied_term, applied) = watch::channel(0);
        let applier = Applier::new(machine, snapshots.clone(), applied_term);
        let settings = Arc::new(config.library(&identity.cluster.to_string())?);
        let store = LogStore::new(engine.clone());
        let library = Raft::new(identity.replica, settings, Alone::new(), store, applier).await;
        let library = library.map_err(fault::<M>)?;
        let role = role_watch::spawn(library.clone(), applied);
        let running = Running {
            library,
            engine,
            snapshots,
            identity,
            role,
            slots: Arc::new(Semaphore::new(config.proposals_max as usize)),
            bytes: Arc::new(Semaphore::new(config.proposal_bytes_max as usize)),
            limits: (config.proposals_max, config.proposal_bytes_max),
            shut: AtomicBool::new(false),
            home,
        };
        running.join(config.address).await
    }

    /// Proposes one command and waits until it is durable and applied.
    pub async fn propose(&self, command: Vec<u8>) -> Result<M::Reply, ProposeError> {
        let _room = self.room(1, check_size(&command)?)?;
        let proposal = Proposal(Bytes::from(command));
        match self.inner.library.client_write(proposal).await {
            Ok(written) => Ok(written.data.0.ok_or(Unavailable::OutcomeUnknown)?),
            Err(RaftError::APIError(refused)) => Err(unavailable(refused).into()),
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped.into()),
        }
    }

    /// Proposes commands that enter the log together, in order; each is answered alone. Several calls may be under way.
    pub async fn propose_many(
        &self,
        commands: Vec<Vec<u8>>,
    ) -> Result<Vec<Result<M::Reply, Unavailable>>, ProposeError> {
        let mut bytes = 0;
        for command in &commands {
            bytes += check_size(command)?;
        }
        let count = commands.len();
        let _room = self.room(count, bytes)?;
        let proposals = commands.into_iter().map(|command| Proposal(command.into()));
        let written = self.inner.library.client_write_many(proposals).await;
        let mut results = written.map_err(|_| Unavailable::Stopped)?;
        let mut replies = Vec::with_capacity(count);
        while let Some(result) = results.try_next().await.transpose() {
            replies.push(match result {
                Ok(Ok(written)) => written.response.0.ok_or(Unavailable::OutcomeUnknown),
                Ok(Err(refused)) => Err(unavailable(refused)),
                Err(_fatal) => Err(Unavailable::Stopped),
            });
            if replies.len() == count {
                break;
            }
        }
        replies.resize_with(count, || Err(Unavailable::Stopped));
        Ok(replies)
    }

    /// Waits until everything committed before this call is applied here, having confirmed that this replica leads.
    pub async fn read_barrier(&self) -> Result<(), Unavailable> {
        match self.inner.library.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Err(not_leader(forward)),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Unavailable::NoQuorum),
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped),
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
            Role::Stopped { .. } => Err(Unavailable::Stopped),
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

    /// Figures about log, snapshot and queue.
    pub fn stats(&self) -> ReplicaStats {
        let current = self.inner.snapshots.current();
        ReplicaStats {
            log: self.inner.engine.stats(),
            last_index: self.inner.engine.state().last.map(|last| last.index),
            snapshot_index: current.as_ref().and_then(|(meta, _)| meta.last_log_id).map(|last| last.index()),
            snapshot_bytes: current.map_or(0, |(_, file)| file.bytes()),
            proposals_in_flight: u64::from(self.inner.limits.0) - self.inner.slots.available_permits() as u64,
        }
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

    /// Takes room for proposals or refuses: nobody waits here, so that an overload is told and not hidden.
    fn room(&self, count: usize, bytes: usize) -> Result<Room, Unavailable> {
        let take = |from: &Arc<Semaphore>, wanted: usize, limit: u32| {
            // More than everything at once takes everything: it goes alone rather than never.
            let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).min(limit);
            from.clone().try_acquire_many_owned(wanted).map_err(|_| Unavailable::QueueFull)
        };
        let (slots, total) = self.inner.limits;
        Ok(Room { _slots: take(&self.inner.slots, count, slots)?, _bytes: take(&self.inner.bytes, bytes, total)? })
    }
}

impl<M: Machine> Running<M> {
    /// Forms the cluster on a first start, and leads at once where nobody else could.
    async fn join(mut self, address: String) -> Result<Replica<M>, OpenError> {
        let me = self.identity.replica;
        let stopped = fault::<M>;
        if !self.library.is_initialized().await.map_err(stopped)? {
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

fn check_size(command: &[u8]) -> Result<usize, ProposeError> {
    let bytes = command.len();
    if bytes > COMMAND_BYTES_MAX { Err(ProposeError::TooLarge { bytes, limit: COMMAND_BYTES_MAX }) } else { Ok(bytes) }
}

fn fault<M: Machine>(error: Fatal<LibraryTypes<M>>) -> Fault {
    Fault { what: error.to_string() }
}

fn unavailable<R: Send + Sync + 'static>(error: ClientWriteError<Types<R>>) -> Unavailable {
    match error {
        ClientWriteError::ForwardToLeader(forward) => not_leader(forward),
        ClientWriteError::LogEntryDiscarded(_) => Unavailable::OutcomeUnknown,
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => Unavailable::NoQuorum,
    }
}

fn not_leader<R: Send + Sync + 'static>(forward: ForwardToLeader<Types<R>>) -> Unavailable {
    match forward.leader_id {
        Some(replica) => {
            let address = forward.leader_node.map(|node| node.addr).unwrap_or_default();
            Unavailable::NotLeader { leader: Peer { replica, address } }
        }
        None => Unavailable::NoQuorum,
    }
}
