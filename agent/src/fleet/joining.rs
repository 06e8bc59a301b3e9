//! Joining a cluster: a folder with nothing but a token becomes a node of it.

use std::path::Path;

use flowyard_identity::{
    Certificate, Clock, ConnectError, Credential, CredentialError, JoinToken, KeyRequest, Refused, Trust, introduce,
};
use flowyard_model::{Epoch, Name};
use flowyard_proto::cluster::entrance_client::EntranceClient;
use flowyard_proto::cluster::{AgentJoins, JoinRequest, JoinResponse, join_request};
use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Endpoint, Uri};

use super::membership::{Member, Membership, MembershipError, credential_file};

/// Why an agent did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It belongs to a cluster already.
    #[error(
        "{folder} is node `{name}` of cluster {cluster} already; start it with `fctl agent run`, or use another folder"
    )]
    Taken {
        /// The folder.
        folder: String,
        /// Its node.
        name: Name,
        /// Its cluster.
        cluster: String,
    },
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
    /// The connection broke.
    #[error("the connection to the cluster broke: {0}")]
    Broken(String),
    /// Who answered is not believed.
    #[error(transparent)]
    Trust(#[from] Refused),
    /// Its key.
    #[error("the certificate of this agent")]
    Credential(#[from] CredentialError),
    /// Its files.
    #[error(transparent)]
    Member(#[from] MembershipError),
}

/// Shows the token to a coordinator of the cluster, and writes what it gives into `folder`.
///
/// # Errors
/// When the folder belongs to a cluster, nobody answers, or the cluster refuses.
pub async fn join(token: &JoinToken, name: &Name, folder: &Path) -> Result<Membership, JoinError> {
    if let Some(member) = Member::read(folder)? {
        let folder = folder.display().to_string();
        return Err(JoinError::Taken { folder, name: member.name, cluster: member.cluster });
    }
    let io = |source| JoinError::Folder { path: folder.display().to_string(), source };
    flowyard_cas::make_folder(folder).map_err(io)?;
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(io)?;
    let Admission { authority, request, answer } = admit(token, name).await?;
    let trust = Trust::new(authority, Epoch(answer.epoch), Clock::wall(), |_| false)?;
    let certificate = Certificate::from(answer.certificate.to_vec());
    Credential::new(&request, vec![certificate], &trust)?.save(&credential_file(folder))?;
    let (cluster, epoch) = (answer.cluster, answer.epoch);
    // Last, since it says that all of it is there.
    Member { cluster, epoch, name: name.clone(), coordinators: answer.addresses }.write(folder)?;
    Ok(Membership::load(folder)?)
}

/// What a cluster gives an agent that it lets in.
#[derive(Debug)]
pub struct Admission {
    /// The cluster's authority, as the token proves it.
    pub authority: Certificate<'static>,
    /// The key that was let in.
    pub request: KeyRequest,
    /// The certificate of it, and where the coordinators are.
    pub answer: JoinResponse,
}

/// Shows the token to a coordinator of the cluster with a new key, and keeps nothing.
///
/// # Errors
/// When nobody answers, or the cluster refuses.
pub async fn admit(token: &JoinToken, name: &Name) -> Result<Admission, JoinError> {
    let request = KeyRequest::generate()?;
    let mut silent = Vec::new();
    for address in &token.addresses {
        let introduction = match introduce(address, token.authority, Clock::wall()).await {
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
        let channel = channel.map_err(|error| JoinError::Broken(error.to_string()))?;
        let join = JoinRequest {
            token: token.id.0,
            secret: token.secret.bytes().to_vec().into(),
            request: request.bytes().to_vec().into(),
            joiner: Some(join_request::Joiner::Agent(AgentJoins { name: name.to_string() })),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        return match EntranceClient::new(channel).join(join).await {
            Ok(answer) => Ok(Admission { authority: introduction.authority, request, answer: answer.into_inner() }),
            Err(status) => Err(JoinError::Refused(status)),
        };
    }
    if silent.is_empty() { Err(JoinError::NoAddress) } else { Err(JoinError::Unreachable(silent)) }
}
