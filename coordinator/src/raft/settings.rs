//! How a replica is set up.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, ConfigError, SnapshotPolicy};

use super::connect::{Connect, TcpConnect};
use super::engine::EngineKind;
use super::home::Start;

/// How long after its last sign of life a leader is left alone, whatever others say. A vote before is refused.
pub(super) const LEASE: Duration = Duration::from_millis(400);
/// The shortest silence after the lease that makes a follower stand for election; the longest is as long as the lease. So a leader
/// may be silent for 700 ms at least: a process that waits for a core or for the disk is no fault. One that is gone is replaced
/// sooner, see [`absence`](super::absence).
const PATIENCE_MIN_MS: u64 = 300;

type Prepare = dyn Fn(Bytes) -> Result<Bytes, String> + Send + Sync;

/// What a leader makes of a command that another replica passes on, before it enters the log; cheap to clone.
#[derive(Clone)]
pub struct PassedOn(Arc<Prepare>);

impl PassedOn {
    /// It becomes this, or is refused.
    pub fn new(prepare: impl Fn(Bytes) -> Result<Bytes, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(prepare))
    }

    /// It enters the log as it is.
    pub fn unchanged() -> Self {
        Self::new(Ok)
    }

    pub(super) fn prepare(&self, command: Bytes) -> Result<Bytes, String> {
        (self.0)(command)
    }
}

impl fmt::Debug for PassedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassedOn")
    }
}

/// What [`Replica::open`](super::Replica::open) needs to know.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// Where log, snapshots and identity are kept; made when missing.
    pub folder: PathBuf,
    /// The engine for a folder that has none yet; an existing one keeps its own.
    pub engine: EngineKind,
    /// Entries between two snapshots.
    pub snapshot_every_entries: u64,
    /// Entries kept behind a snapshot, for replicas that lag a little.
    pub keep_entries: u64,
    /// Whether it purges the log by itself after each snapshot; otherwise whoever opened it asks for it.
    pub purges: bool,
    /// Proposals in flight; one more is refused, or waits if it is the leader's own.
    pub proposals_max: u32,
    /// Bytes of the proposals in flight; as above.
    pub proposal_bytes_max: u32,
    /// How other replicas reach this one; not used in a cluster of one.
    pub address: String,
    /// What an empty folder becomes.
    pub start: Start,
    /// How other replicas are reached.
    pub connect: Arc<dyn Connect>,
    /// What becomes of commands that others pass on.
    pub passed_on: PassedOn,
    /// Whether it has threads of its own, so that nothing else in this process makes it silent.
    pub own_threads: bool,
}

impl ReplicaConfig {
    /// The usual settings for a replica in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            engine: EngineKind::default(),
            snapshot_every_entries: 50_000,
            keep_entries: 5_000,
            purges: true,
            proposals_max: 8_192,
            proposal_bytes_max: 32 * 1024 * 1024,
            address: String::new(),
            start: Start::Form,
            connect: Arc::new(TcpConnect),
            passed_on: PassedOn::unchanged(),
            own_threads: false,
        }
    }

    /// The settings for the Raft library.
    ///
    /// The clock is off at first: a cluster of one neither waits for an election nor sends heartbeats, and must not wake up
    /// for them. It is switched on with the second voter.
    pub(super) fn library(&self, cluster: &str) -> Result<Config, ConfigError> {
        Config {
            cluster_name: cluster.to_owned(),
            enable_tick: false,
            heartbeat_interval: 50,
            election_timeout_min: PATIENCE_MIN_MS,
            election_timeout_max: LEASE.as_millis() as u64,
            enable_pre_vote: Some(true),
            // A restart is a new term: whoever holds an order of the old one can tell.
            enable_leader_restore: Some(false),
            install_snapshot_timeout: 120_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every_entries),
            max_in_snapshot_log_to_keep: if self.purges { self.keep_entries } else { u64::MAX },
            purge_batch_size: 256,
            replication_lag_threshold: self.snapshot_every_entries.saturating_mul(2),
            max_payload_entries: 1_024,
            api_channel_size: Some(u64::from(self.proposals_max).saturating_mul(2)),
            ..Config::default()
        }
        .validate()
    }
}
