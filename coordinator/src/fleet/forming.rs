//! Forming a cluster: an empty folder becomes its first coordinator.

use std::path::Path;

use flowyard_identity::{Authority, AuthorityError, ClusterId};
use flowyard_model::{ClusterVersion, Command, TimeMs};

use super::{KeyError, MemberAddress, authority_file};
use crate::applier::Applier;
use crate::proposer::{ProposeError, Proposer};
use crate::raft::engine::EngineKind;
use crate::raft::{Identity, OpenError, Replica, ReplicaConfig, Start, Unavailable};
use crate::stamps::Stamps;

/// Why no cluster was formed.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// There is a coordinator already.
    #[error("{0} has a coordinator already; start it with `fctl coordinator run`, or use another folder")]
    Taken(String),
    /// Its log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its log did not become ready.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Its first entry.
    #[error("the first entry of the log")]
    Propose(#[from] ProposeError),
    /// The authority.
    #[error("the cluster's authority")]
    Authority(#[from] AuthorityError),
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The id that was made up for the cluster.
    #[error("the cluster's id cannot be used")]
    Cluster,
}

/// Makes `folder` the first coordinator of a new cluster, with the cluster's own authority. What was begun and cut short is
/// begun anew.
///
/// # Errors
/// When the folder has a coordinator, or cannot be used.
pub async fn form(folder: &Path, address: &MemberAddress, engine: EngineKind) -> Result<Identity, FormError> {
    if authority_file(folder).exists() {
        return Err(FormError::Taken(folder.display().to_string()));
    }
    let (applier, feed) = Applier::new();
    let settings =
        ReplicaConfig { engine, address: address.to_string(), start: Start::Form, ..ReplicaConfig::new(folder) };
    let replica = Replica::open(settings, applier).await?;
    replica.wait_ready().await?;
    let identity = replica.identity();
    let proposer = Proposer::new(replica.clone(), feed.clone(), Stamps::new(feed.clone()));
    // Nobody older is here, so everything this build knows may be used.
    while feed.view().version() < ClusterVersion::NEWEST {
        let version = ClusterVersion(feed.view().version().0 + 1);
        proposer.propose(&Command::RaiseVersion { version }).await?;
    }
    replica.shutdown().await;
    let cluster: ClusterId = identity.cluster.to_string().parse().map_err(|_| FormError::Cluster)?;
    // Last, since it says that all of it is there.
    Authority::generate(cluster, TimeMs(flowyard_clock::wall_ms()))?.save(&authority_file(folder))?;
    Ok(identity)
}
