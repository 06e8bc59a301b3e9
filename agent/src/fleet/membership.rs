//! What an agent keeps of the cluster it belongs to: which, under which name, where its coordinators are, and its certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowyard_identity::{Clock, Connector, Credential, CredentialError, Current, Doors, Refused, Trust};
use flowyard_model::{Epoch, Name};
use serde::{Deserialize, Serialize};

const MEMBER: &str = "member.json";
const CREDENTIAL: &str = "credential.pem";

/// The file as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// The id of the cluster.
    pub cluster: String,
    /// The epoch it had when this agent joined.
    pub epoch: u32,
    /// The name of the node.
    pub name: Name,
    /// Where the coordinators answer, as last heard.
    pub coordinators: Vec<String>,
}

/// Why a folder is no member's.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// It never joined.
    #[error("{0} belongs to no cluster; join one with `fctl agent join TOKEN`")]
    Nobody(String),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its certificate.
    #[error("the certificate of this agent in {path}")]
    Credential {
        /// The file.
        path: String,
        /// Why it cannot be used.
        source: CredentialError,
    },
    /// The cluster's authority.
    #[error("the cluster's authority: {0}")]
    Trust(#[from] Refused),
}

/// An agent's place in a cluster; cheap to clone.
#[derive(Debug, Clone)]
pub struct Membership {
    folder: PathBuf,
    member: Member,
    doors: Doors,
    trust: Arc<Trust>,
    own: Current,
}

impl Membership {
    /// Reads what [`join`](super::join) has written.
    ///
    /// # Errors
    /// When the folder never joined, or its files cannot be used.
    pub fn load(folder: &Path) -> Result<Self, MembershipError> {
        let member = Member::read(folder)?.ok_or_else(|| MembershipError::Nobody(folder.display().to_string()))?;
        let path = folder.join(CREDENTIAL);
        let unusable = |source| MembershipError::Credential { path: path.display().to_string(), source };
        let authority = Credential::kept_authority(&path).map_err(unusable)?;
        let trust = Arc::new(Trust::new(authority, Epoch(member.epoch), Clock::wall(), |_| false)?);
        let own = Current::new(Credential::load(&path, &trust).map_err(unusable)?);
        let doors = Doors::new(member.coordinators.clone(), Connector::new(trust.clone(), Some(own.clone())));
        Ok(Self { folder: folder.to_owned(), member, doors, trust, own })
    }

    /// The name of the node.
    pub fn name(&self) -> &Name {
        &self.member.name
    }

    /// The id of the cluster.
    pub fn cluster(&self) -> &str {
        &self.member.cluster
    }

    /// Where its coordinators are.
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    pub(super) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    pub(crate) fn own(&self) -> &Current {
        &self.own
    }

    pub(super) fn credential(&self) -> PathBuf {
        self.folder.join(CREDENTIAL)
    }

    /// Knows these coordinators from now on, also after a restart.
    pub(super) fn learn(&self, addresses: Vec<String>) {
        let mut known = self.doors.addresses();
        known.sort();
        let mut told = addresses.clone();
        told.sort();
        if known == told {
            return;
        }
        self.doors.replace(addresses.clone());
        let member = Member { coordinators: addresses, ..self.member.clone() };
        if let Err(error) = member.write(&self.folder) {
            tracing::warn!(%error, "where the coordinators are could not be kept");
        }
    }
}

impl Member {
    /// The member that a folder is, if it is one.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, MembershipError> {
        let path = folder.join(MEMBER);
        let file = |source| MembershipError::File { path: path.display().to_string(), source };
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|error| file(io::Error::other(error)))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(file(source)),
        }
    }

    /// Writes it down, by rename.
    pub(super) fn write(&self, folder: &Path) -> Result<(), MembershipError> {
        let (path, beside) = (folder.join(MEMBER), folder.join("member.json.new"));
        let file = |source| MembershipError::File { path: path.display().to_string(), source };
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| file(io::Error::other(error)))?;
        let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::File::open(&beside)?.sync_all());
        written.and_then(|()| std::fs::rename(&beside, &path)).map_err(file)
    }
}

pub(super) fn credential_file(folder: &Path) -> PathBuf {
    folder.join(CREDENTIAL)
}
