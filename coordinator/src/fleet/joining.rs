//! Joining a cluster: a folder with nothing but a token becomes another coordinator of it.

use std::path::Path;

use flowyard_identity::{
    Authority, AuthorityError, Certificate, Clock, ConnectError, Credential, CredentialError, JoinToken, KeyRequest,
    Keyring, KeyringError, Refused, Trust, introduce,
};
use flowyard_model::{ClusterVersion, Epoch};
use flowyard_proto::cluster::entrance_client::EntranceClient;
use flowyard_proto::cluster::{CoordinatorJoins, JoinRequest, JoinResponse, join_request};
use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Endpoint, Uri};
use uuid::Uuid;

use super::{MemberAddress, authority_file, credential_file};
use crate::raft::Identity;
use crate::secrets::keys_file;

/// What joins.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Lets it in.
    pub token: JoinToken,
    /// Where others will reach it.
    pub address: MemberAddress,
}

/// A coordinator that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// What people call the cluster.
    pub name: String,
    /// Who it is from now on.
    pub identity: Identity,
}

/// Why a coordinator did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is one already.
    #[error("{0} has a coordinator already; start it with `fctl coordinator run`, or use another folder")]
    Taken(String),
    /// The folder.
    #[error("{path}: {source}")]
    Folder {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The token names no coordinator.
    #[error("the token names no coordinator to ask")]
    NoAddress,
    /// None of them answered.
    #[error("no coordinator of the cluster answers: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unreachable(Vec<ConnectError>),
    /// One refused.
    #[error("the cluster did not let this machine in: {}", .0.message())]
    Refused(Status),
    /// The answer makes no sense.
    #[error("the answer of the cluster cannot be used: {0}")]
    Unusable(String),
    /// The authority's key.
    #[error("the key of the cluster's authority")]
    Authority(#[from] AuthorityError),
    /// The keys of secrets.
    #[error("the keys of secrets: {0}")]
    SecretKeys(#[from] KeyringError),
    /// Who answered is not believed.
    #[error(transparent)]
    Trust(#[from] Refused),
    /// Its own key.
    #[error("the certificate of this coordinator")]
    Credential(#[from] CredentialError),
}

/// Shows the token to a coordinator of the cluster, and writes what it gives into `folder`.
///
/// # Errors
/// When the folder has a coordinator, nobody answers, or the cluster refuses.
pub async fn join(folder: &Path, joining: &Joining) -> Result<Joined, JoinError> {
    if authority_file(folder).exists() {
        return Err(JoinError::Taken(folder.display().to_string()));
    }
    let io = |source| JoinError::Folder { path: folder.display().to_string(), source };
    flowyard_cas::make_folder(folder).map_err(io)?;
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(io)?;
    let request = KeyRequest::generate()?;
    let answer = ask(joining, &request).await?;
    let cluster: Uuid = answer.cluster.parse().map_err(|_| JoinError::Unusable("it names no cluster".to_owned()))?;
    let authority = Authority::from_pem(&answer.authority_key)?;
    if authority.fingerprint() != joining.token.authority {
        return Err(JoinError::Unusable("it has the key of another authority".to_owned()));
    }
    let trust = Trust::new(authority.certificate().clone(), Epoch(answer.epoch), Clock::wall(), |_| false)?;
    let certificate = Certificate::from(answer.certificate.to_vec());
    Credential::new(&request, vec![certificate], &trust)?.save(&credential_file(folder))?;
    let unreadable = || JoinError::Unusable("it has no keys of secrets that can be read".to_owned());
    let keys = Keyring::from_text(&answer.secret_keys).ok_or_else(unreadable)?;
    keys.save(&keys_file(folder))?;
    authority.save(&authority_file(folder))?;
    let identity = Identity { cluster, epoch: answer.epoch, replica: answer.replica };
    Ok(Joined { name: answer.cluster_name, identity })
}

async fn ask(joining: &Joining, request: &KeyRequest) -> Result<JoinResponse, JoinError> {
    let mut silent = Vec::new();
    for address in &joining.token.addresses {
        let introduction = match introduce(address, joining.token.authority, Clock::wall()).await {
            Ok(introduction) => introduction,
            Err(error) => {
                silent.push(error);
                continue;
            }
        };
        // The connection that was verified is the one the secret is shown on; there is no other.
        let mut verified = Some(introduction.stream);
        let connector = tower::service_fn(move |_: Uri| {
            let stream = verified.take().ok_or(std::io::ErrorKind::ConnectionReset);
            async move { stream.map(TokioIo::new).map_err(std::io::Error::from) }
        });
        let channel = Endpoint::from_static("http://coordinator").connect_with_connector(connector).await;
        let channel = channel.map_err(|error| JoinError::Unusable(error.to_string()))?;
        let join = JoinRequest {
            token: joining.token.id.0,
            secret: joining.token.secret.bytes().to_vec().into(),
            request: request.bytes().to_vec().into(),
            joiner: Some(join_request::Joiner::Coordinator(CoordinatorJoins {
                api_address: joining.address.api.clone(),
                peer_address: joining.address.peers.clone(),
                newest_version: ClusterVersion::NEWEST.0,
            })),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        return match EntranceClient::new(channel).join(join).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(JoinError::Refused(status)),
        };
    }
    if silent.is_empty() { Err(JoinError::NoAddress) } else { Err(JoinError::Unreachable(silent)) }
}
