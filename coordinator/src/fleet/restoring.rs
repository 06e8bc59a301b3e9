//! Restoring a backup: an empty folder becomes the first coordinator of a cluster that goes on from there, in a higher epoch.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use flowyard_cas::{Origin, StoreError};
use flowyard_identity::{Authority, AuthorityError, ClusterId};
use flowyard_model::{ClusterVersion, Command, Epoch, TimeMs};
use flowyard_state::{RecordError, State, View};
use tokio::runtime::Handle;

use super::{MemberAddress, authority_file};
use crate::applier::Applier;
use crate::backup::{BackupError, BackupReader, KEY_FILES, Summary, verify};
use crate::proposer::{ProposeError, Proposer};
use crate::raft::engine::EngineKind;
use crate::raft::{Identity, OpenError, Replica, ReplicaConfig, Seed, Start, Unavailable, plant};
use crate::stamps::Stamps;

/// A cluster that was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Who its first coordinator is.
    pub identity: Identity,
    /// What was in the backup.
    pub summary: Summary,
    /// Whether the backup had the authority's key; otherwise there is a new one.
    pub authority_kept: bool,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error("{path}", path = path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// The state in it.
    #[error("the state in the backup makes no sense")]
    State(#[from] RecordError),
    /// The folder is in use.
    #[error("{path} is not empty: a cluster is restored into an empty folder", path = .0.display())]
    NotEmpty(PathBuf),
    /// A file or folder.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A blob could not be stored.
    #[error("a blob could not be stored")]
    Store(#[from] StoreError),
    /// The log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log did not become ready.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The first entries of the new epoch.
    #[error("the first entry of the new epoch")]
    Propose(#[from] ProposeError),
    /// The authority.
    #[error("the cluster's authority")]
    Authority(#[from] AuthorityError),
    /// The cluster's id in the backup.
    #[error("the backup names no cluster")]
    Cluster,
    /// A panic on the way.
    #[error("restoring failed: {0}")]
    Fault(String),
}

impl RestoreError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    fn backup(path: &Path) -> impl Fn(BackupError) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Backup { path: path.clone(), source }
    }
}

/// Makes `folder` the only coordinator of the cluster that `backup` is of, with its blobs in `origin`. The whole file is checked before
/// anything is written.
///
/// # Errors
/// When the folder is not empty, the backup cannot be used, or something cannot be written.
pub async fn restore(
    folder: &Path,
    address: &MemberAddress,
    engine: EngineKind,
    backup: &Path,
    origin: impl FnOnce() -> Result<Origin, StoreError>,
) -> Result<Restored, RestoreError> {
    if std::fs::read_dir(folder).map_err(RestoreError::io(folder))?.next().is_some() {
        return Err(RestoreError::NotEmpty(folder.to_owned()));
    }
    let path = backup.to_owned();
    let checked =
        move || verify(File::open(&path).map_err(RestoreError::io(&path))?).map_err(RestoreError::backup(&path));
    let summary =
        tokio::task::spawn_blocking(checked).await.map_err(|panic| RestoreError::Fault(panic.to_string()))??;
    let cluster = summary.head.cluster.parse().map_err(|_| RestoreError::Cluster)?;
    let epoch = summary.head.epoch + 1;
    // As those of members that join, it is the index of an entry that the history before never had.
    let identity = Identity { cluster, epoch, replica: summary.head.revision + 1 };
    let (path, into, origin) = (backup.to_owned(), folder.to_owned(), origin()?);
    let (term, index) = (summary.head.term, summary.head.revision);
    let seed = Seed { identity, address: address.to_string(), engine, term, index };
    let unpacked = tokio::task::spawn_blocking(move || unpack(&path, &into, &seed, &origin)).await;
    let keys = unpacked.map_err(|panic| RestoreError::Fault(panic.to_string()))??;
    begin_epoch(folder, address, identity).await?;
    let authority_kept = keep_keys(folder, &identity, keys)?;
    Ok(Restored { identity, summary, authority_kept })
}

type Keys = Vec<(String, bytes::Bytes)>;

/// Writes the blobs, then the replica; tells the keys.
fn unpack(path: &Path, folder: &Path, seed: &Seed, origin: &Origin) -> Result<Keys, RestoreError> {
    let unusable = RestoreError::backup(path);
    let file = File::open(path).map_err(RestoreError::io(path))?;
    let mut backup = BackupReader::open(file).map_err(&unusable)?;
    let state = backup.state(|records| {
        let mut failed = None;
        let state = State::from_records(records.map_while(|record| record.map_err(|error| failed = Some(error)).ok()));
        match failed {
            Some(error) => Err(unusable(error.into())),
            None => Ok(state?),
        }
    });
    let view: View = state.map_err(&unusable)??.view();
    let runtime = Handle::current();
    while let Some(digest) = backup.next_blob().map_err(&unusable)? {
        let mut upload = origin.upload(digest, "the backup");
        while let Some(bytes) = backup.bytes().map_err(&unusable)? {
            runtime.block_on(upload.write(bytes))?;
        }
        runtime.block_on(upload.finish())?;
    }
    let mut keys = Vec::new();
    while let Some(key) = backup.next_key().map_err(&unusable)? {
        keys.push((key.file, key.content));
    }
    plant::<Applier>(folder, seed, &view)?;
    Ok(keys)
}

/// Lets the restored history begin: everything from here on is of another epoch than what was lost.
///
/// # Errors
/// When the log cannot be written.
pub(super) async fn begin_epoch(
    folder: &Path,
    address: &MemberAddress,
    identity: Identity,
) -> Result<(), RestoreError> {
    let (applier, feed) = Applier::new();
    let start = Start::Join(identity);
    let settings = ReplicaConfig { address: address.to_string(), start, ..ReplicaConfig::new(folder) };
    let replica = Replica::open(settings, applier).await?;
    replica.wait_ready().await?;
    let proposer = Proposer::new(replica.clone(), feed.clone(), Stamps::new(feed.clone()));
    let begun = async {
        // It is the only coordinator, so what it knows may be used.
        while feed.view().version() < ClusterVersion::NEWEST {
            let version = ClusterVersion(feed.view().version().0 + 1);
            proposer.propose(&Command::RaiseVersion { version }).await?;
        }
        proposer.propose(&Command::BeginEpoch { epoch: Epoch(identity.epoch) }).await
    };
    let begun = begun.await;
    replica.shutdown().await;
    Ok(begun.map(drop)?)
}

/// Writes the keys of the backup, or makes a new authority; whether the old one was kept. Last, since it says that all of it is there.
fn keep_keys(folder: &Path, identity: &Identity, keys: Keys) -> Result<bool, RestoreError> {
    let cluster: ClusterId = identity.cluster.to_string().parse().map_err(|_| RestoreError::Cluster)?;
    let mut authority = None;
    for (file, content) in keys.into_iter().filter(|(file, _)| KEY_FILES.contains(&file.as_str())) {
        let path = folder.join(&file);
        if path == authority_file(folder) {
            let text = std::str::from_utf8(&content).map_err(|_| AuthorityError::Missing)?;
            authority = Some(Authority::from_pem(text)?);
            continue;
        }
        write_private(&path, &content).map_err(RestoreError::io(&path))?;
    }
    let kept = authority.is_some();
    let authority = match authority {
        Some(authority) if *authority.cluster() != cluster => return Err(RestoreError::Cluster),
        Some(authority) => authority,
        None => Authority::generate(cluster, TimeMs(flowyard_clock::wall_ms()))?,
    };
    authority.save(&authority_file(folder))?;
    Ok(kept)
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
