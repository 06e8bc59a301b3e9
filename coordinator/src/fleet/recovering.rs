//! Recovering from a lost majority: one coordinator that is left becomes the only one, in a higher epoch.
//!
//! Invariant: the old replica is kept beside until the new one is whole, and a recovery that was cut short is finished by the next.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flowyard_cas::{Origin, StoreError};
use flowyard_model::TimeMs;
use flowyard_state::View;
use tokio::net::TcpStream;

use super::restoring::begin_epoch;
use super::{FleetConfig, MemberAddress, RestoreError, credential_file};
use crate::applier::Applier;
use crate::backup::kept_blobs;
use crate::durable::Durable;
use crate::raft::{Identity, OpenError, Recalled, Seed, plant, recall};

/// How long another coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where the new replica is made.
const NEW: &str = "recovering";
/// In it, says that the new replica is whole.
const WHOLE: &str = "whole";
/// What a replica consists of, its record last: it says that the rest is there.
const PARTS: [&str; 3] = ["log", "snapshots", "replica"];

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// What the coordinator has.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another coordinator is there.
    #[error(
        "coordinator {replica} answers at {address}: what is not lost is not given up; start the other coordinators, or stop \
         this one for good (`fctl cluster remove`)"
    )]
    Answers {
        /// Which.
        replica: u64,
        /// Where.
        address: String,
    },
    /// The folder belongs to somebody else than its settings say.
    #[error("the settings in {path} are not those of its replica {replica}", path = folder.display())]
    Settings {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        replica: u64,
    },
    /// A file or folder.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The first entries of the new epoch.
    #[error(transparent)]
    Begin(#[from] RestoreError),
    /// The stored blobs.
    #[error("the stored blobs")]
    Store(#[from] StoreError),
    /// A panic on the way.
    #[error("recovering failed: {0}")]
    Fault(String),
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RecoverError + use<> {
    let path = path.to_owned();
    move |source| RecoverError::Io { path, source }
}

/// What a coordinator has that is to go on alone. Its folder stays locked as long as this is kept.
pub struct Survivor {
    recalled: Recalled,
    view: View,
    /// The others, who are lost: their ids and addresses.
    pub others: Vec<(u64, String)>,
    /// Blobs that jobs name and that are not here.
    pub lost_blobs: u64,
}

impl Survivor {
    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.recalled.identity
    }

    /// The last entry that it has.
    pub fn revision(&self) -> u64 {
        self.recalled.last
    }

    /// When that was.
    pub fn time(&self) -> TimeMs {
        self.view.time()
    }

    /// How many of its entries it does not know to have been decided.
    pub fn undecided(&self) -> u64 {
        self.recalled.last.saturating_sub(self.recalled.committed)
    }
}

/// Reads what the coordinator in `folder` has, and sees that it is the only one left. A recovery that was cut short is finished first.
///
/// # Errors
/// When it runs, is damaged, or another coordinator answers.
pub async fn survey(folder: &Path, config: &FleetConfig, origin: Origin) -> Result<Survivor, RecoverError> {
    if folder.join(NEW).join(WHOLE).exists() {
        swap(folder)?;
    }
    let from = folder.to_owned();
    let recalled = tokio::task::spawn_blocking(move || {
        let (mut applier, feed) = Applier::new();
        recall(&from, &mut applier).map(|recalled| (recalled, feed.view()))
    });
    let (recalled, view) = recalled.await.map_err(|panic| RecoverError::Fault(panic.to_string()))??;
    let (ours, settings) = (recalled.identity, config.identity);
    if (ours.cluster, ours.replica) != (settings.cluster, settings.replica) {
        return Err(RecoverError::Settings { folder: folder.to_owned(), replica: ours.replica });
    }
    let mut others = Vec::new();
    for (peer, votes) in &recalled.members {
        let Ok(address) = peer.address.parse::<MemberAddress>() else { continue };
        if peer.replica == ours.replica {
            continue;
        }
        // Whoever listens there is enough: it cannot be known that it is lost.
        let answered = tokio::time::timeout(PATIENCE, TcpStream::connect(&address.peers)).await;
        if matches!(answered, Ok(Ok(_))) {
            return Err(RecoverError::Answers { replica: peer.replica, address: address.peers });
        }
        if *votes {
            others.push((peer.replica, address.api));
        }
    }
    let kept = kept_blobs(&Durable::of(origin), &view).await;
    let lost_blobs = kept.map_err(|error| RecoverError::Fault(error.to_string()))?.lost;
    Ok(Survivor { recalled, view, others, lost_blobs })
}

/// Makes the survivor the only coordinator, in the next epoch; who it is from now on. Its replica of before is kept in a folder beside.
///
/// # Errors
/// When something cannot be written; it can be tried again then.
pub async fn recover(folder: &Path, config: &FleetConfig, survivor: Survivor) -> Result<Identity, RecoverError> {
    let Survivor { recalled, view, .. } = survivor;
    let identity = Identity { epoch: recalled.identity.epoch + 1, ..recalled.identity };
    let seed = Seed {
        identity,
        address: config.address.to_string(),
        engine: recalled.engine,
        term: recalled.term,
        index: recalled.last,
    };
    let new = folder.join(NEW);
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(io_at(&new))?;
    }
    let into = new.clone();
    let planted = tokio::task::spawn_blocking(move || plant::<Applier>(&into, &seed, &view));
    planted.await.map_err(|panic| RecoverError::Fault(panic.to_string()))??;
    begin_epoch(&new, &config.address, identity).await?;
    std::fs::write(new.join(WHOLE), []).map_err(io_at(&new))?;
    swap(folder)?;
    drop(recalled);
    Ok(identity)
}

/// Puts the new replica in the place of the old one. Each step may have been made before.
fn swap(folder: &Path) -> Result<(), RecoverError> {
    let (new, aside) = (folder.join(NEW), folder.join("before-recovery"));
    std::fs::create_dir_all(&aside).map_err(io_at(&aside))?;
    for part in PARTS {
        let (fresh, place, kept) = (new.join(part), folder.join(part), aside.join(part));
        if !fresh.exists() {
            continue;
        }
        if place.exists() {
            // What an earlier recovery set aside is older still.
            match std::fs::symlink_metadata(&kept) {
                Ok(found) if found.is_dir() => std::fs::remove_dir_all(&kept).map_err(io_at(&kept))?,
                Ok(_) => std::fs::remove_file(&kept).map_err(io_at(&kept))?,
                Err(_) => {}
            }
            std::fs::rename(&place, &kept).map_err(io_at(&place))?;
        }
        std::fs::rename(&fresh, &place).map_err(io_at(&place))?;
    }
    // It was issued in the epoch before, and leads nobody in this one.
    let credential = credential_file(folder);
    match std::fs::remove_file(&credential) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&credential)(error)),
        _ => {}
    }
    std::fs::remove_dir_all(&new).map_err(io_at(&new))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_at(folder))
}
