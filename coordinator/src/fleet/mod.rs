//! A coordinator among others: its keys, its ports, who may come in, and passing calls on to the leader.
//!
//! Reading order: [`FleetConfig`] (what an operator decides), [`form`] and [`join`] (how a folder becomes a member), [`restore`] and
//! [`recover`] (how a cluster goes on as another one), [`Fleet`] (its
//! keys while it runs), `entrance` and `administration` (the services), `members` (what the leader learns of the others),
//! `pass_on` (calls that only a leader can answer).

mod address;
mod administration;
mod entrance;
mod forming;
mod joining;
pub(crate) mod members;
mod mirror;
mod pass_on;
mod recovering;
mod restoring;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flowyard_identity::{
    Authority, AuthorityError, Clock, Connector, Credential, CredentialError, Current, Identified, IssueError,
    NODE_LIFE_MS, Order, Refused, Renewal, SignError, Subject, Trust,
};
use flowyard_model::{ClusterVersion, Epoch, ReplicaId, TimeMs};
use futures::future::BoxFuture;
use tokio::net::TcpListener;

pub use address::{AddressError, MemberAddress};
pub(crate) use administration::AdministrationEndpoint;
pub(crate) use entrance::EntranceEndpoint;
pub use forming::{FormError, form};
pub use joining::{JoinError, Joined, Joining, join};
pub(crate) use members::{MembersEndpoint, Membership, not_usable_anywhere, tell_stored};
pub(crate) use mirror::{Mirror, MirrorError};
pub(crate) use pass_on::{PassOn, PeerChannels};
pub use recovering::{RecoverError, Survivor, recover, survey};
pub use restoring::{RestoreError, Restored, restore};

use crate::feed::Feed;
use crate::raft::{Connect, Identity, Wire};

/// What an operator decides about a coordinator that others reach.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// What people call the cluster.
    pub name: String,
    /// Who this coordinator is.
    pub identity: Identity,
    /// Where it listens for agents and people.
    pub api_listen: SocketAddr,
    /// Where it listens for other replicas.
    pub peer_listen: SocketAddr,
    /// Where others reach it.
    pub address: MemberAddress,
    /// Whether it is to vote once it has caught up.
    pub wants_vote: bool,
    /// The cluster's version is not raised above this while this coordinator is a member.
    pub version_at_most: Option<ClusterVersion>,
}

/// Why the keys of a coordinator cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The authority's.
    #[error("the key of the cluster's authority")]
    Authority(#[from] AuthorityError),
    /// Its own.
    #[error("the certificate of this coordinator in {path}", path = path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CredentialError,
    },
    /// None could be issued.
    #[error("a certificate for this coordinator")]
    Issue(#[from] IssueError),
    /// The authority is none.
    #[error("the cluster's authority: {0}")]
    Trust(#[from] Refused),
    /// Somebody else's files.
    #[error("{path} is for {found}, and this is coordinator {ours}", path = path.display())]
    OtherSubject {
        /// The file.
        path: PathBuf,
        /// Whom it names.
        found: Subject,
        /// Who this is.
        ours: u64,
    },
}

/// The file of the authority's key and certificate.
pub(crate) fn authority_file(folder: &Path) -> PathBuf {
    folder.join("authority.pem")
}

/// The file of the coordinator's own key and certificate.
pub(crate) fn credential_file(folder: &Path) -> PathBuf {
    folder.join("credential.pem")
}

/// The keys of a running coordinator, and who may come in; cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Keys>,
}

struct Keys {
    config: FleetConfig,
    folder: PathBuf,
    authority: Authority,
    trust: Arc<Trust>,
    own: Current,
    feed: Feed,
    membership: Membership,
    channels: PeerChannels,
}

impl Fleet {
    /// Reads the keys in the coordinator's folder. A certificate that is missing or has expired is made: the authority's key is here.
    ///
    /// # Errors
    /// When they cannot be read, others could have read them, or they are another coordinator's.
    pub(crate) fn load(folder: &Path, config: FleetConfig, feed: Feed) -> Result<Self, KeyError> {
        let authority = Authority::load(&authority_file(folder))?;
        let revoked = feed.clone();
        let shut_out = move |found: &Identified| {
            let view = revoked.view();
            found.identities().iter().any(|who| view.revoked(who, found.claim.revision).is_some())
        };
        let epoch = Epoch(config.identity.epoch);
        let trust = Arc::new(Trust::new(authority.certificate().clone(), epoch, Clock::wall(), shut_out)?);
        let path = credential_file(folder);
        let credential = match Credential::load(&path, &trust) {
            Ok(credential) if !credential.identified().lapsed => credential,
            Err(_) if !path.exists() => issue_own(&authority, &trust, &config, &feed, &path)?,
            Ok(_) | Err(CredentialError::Refused(_)) => issue_own(&authority, &trust, &config, &feed, &path)?,
            Err(source) => return Err(KeyError::Credential { path, source }),
        };
        let found = credential.identified().claim.subject.clone();
        if found != (Subject::Coordinator { replica: ReplicaId(config.identity.replica) }) {
            return Err(KeyError::OtherSubject { path, found, ours: config.identity.replica });
        }
        let own = Current::new(credential);
        let membership = Membership::unknown();
        let channels = PeerChannels::new(Connector::new(trust.clone(), Some(own.clone())));
        let folder = folder.to_owned();
        Ok(Self { inner: Arc::new(Keys { config, folder, authority, trust, own, feed, membership, channels }) })
    }

    /// What the operator decided.
    pub fn config(&self) -> &FleetConfig {
        &self.inner.config
    }

    /// Whom it believes.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.inner.trust
    }

    /// What it shows.
    pub fn own(&self) -> &Current {
        &self.inner.own
    }

    /// What is known of the others.
    pub(crate) fn membership(&self) -> &Membership {
        &self.inner.membership
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.inner.authority
    }

    /// Issues a certificate of this moment.
    ///
    /// # Errors
    /// When the request proves nothing.
    pub(crate) fn issue(&self, subject: Subject, request: &[u8]) -> Result<flowyard_identity::Issued, IssueError> {
        self.inner.authority.issue(request, &order(subject, self.inner.config.identity.epoch, &self.inner.feed))
    }

    /// Keeps its own certificate fresh, until dropped.
    pub(crate) async fn renew(self) {
        let renewal = Renewal {
            trust: self.inner.trust.clone(),
            own: self.inner.own.clone(),
            path: credential_file(&self.inner.folder),
        };
        let subject = Subject::Coordinator { replica: ReplicaId(self.inner.config.identity.replica) };
        let sign = |request: Vec<u8>| {
            let issued = self.issue(subject.clone(), &request);
            async move { issued.map(|issued| issued.chain).map_err(SignError::from) }
        };
        renewal.run(sign).await;
    }

    /// Connections to the other coordinators.
    pub(crate) fn channels(&self) -> &PeerChannels {
        &self.inner.channels
    }

    /// How replicas reach each other.
    pub(crate) fn connect(&self) -> Arc<dyn Connect> {
        let connector = Connector::new(self.inner.trust.clone(), Some(self.inner.own.clone()));
        Arc::new(CertifiedConnect { connector })
    }
}

fn order(subject: Subject, epoch: u32, feed: &Feed) -> Order {
    Order {
        subject,
        epoch: Epoch(epoch),
        revision: feed.view().revision(),
        now: TimeMs(flowyard_clock::wall_ms()),
        life_ms: NODE_LIFE_MS,
    }
}

fn issue_own(
    authority: &Authority,
    trust: &Trust,
    config: &FleetConfig,
    feed: &Feed,
    path: &Path,
) -> Result<Credential, KeyError> {
    let unusable = |source| KeyError::Credential { path: path.to_owned(), source };
    let request = flowyard_identity::KeyRequest::generate().map_err(unusable)?;
    let subject = Subject::Coordinator { replica: ReplicaId(config.identity.replica) };
    let issued = authority.issue(request.bytes(), &order(subject, config.identity.epoch, feed))?;
    let credential = Credential::new(&request, issued.chain, trust).map_err(unusable)?;
    credential.save(path).map_err(unusable)?;
    Ok(credential)
}

/// Opens TLS connections to the peers' port of other coordinators.
#[derive(Debug)]
struct CertifiedConnect {
    connector: Connector,
}

impl Connect for CertifiedConnect {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        let (connector, address) = (self.connector.clone(), address.parse::<MemberAddress>());
        Box::pin(async move {
            let address = address.map_err(io::Error::other)?;
            let (stream, _) = connector.connect(&address.peers).await.map_err(io::Error::other)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }
}

/// Binds a port at once, also when its last user just went.
///
/// # Errors
/// When the system refuses.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // A whole fleet may connect anew at once; the system has a bound of its own.
    socket.listen(4096)
}
