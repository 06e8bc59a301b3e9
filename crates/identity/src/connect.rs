//! Making connections: to a coordinator of our cluster, or as one who has only a token yet.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use flowyard_model::{Epoch, Fingerprint, ReplicaId};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Identified;
use crate::clock::Clock;
use crate::credential::Current;
use crate::judged::{Judged, Open};
use crate::refused::Refused;
use crate::secret::fingerprint;
use crate::subject::Subject;
use crate::trust::{Side, Trust};
use crate::verifier::{self, Judge};

/// What making a connection takes at most, handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// The name that one asks for who does not know the cluster yet.
const ANY_CLUSTER: &str = "coordinator.flowyard";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers whom we do not believe, or who does not believe us.
    #[error("{address} was refused: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        reason: Refused,
    },
    /// An address without a host and a port.
    #[error("`{0}` is not an address of the form host:port")]
    Address(String),
}

/// Makes connections to coordinators of one cluster, as us; cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector {
    trust: Arc<Trust>,
    own: Option<Current>,
    expected: Option<ReplicaId>,
}

impl Connector {
    /// Connects with our certificate, or with none where a token is shown later.
    pub fn new(trust: Arc<Trust>, own: Option<Current>) -> Self {
        Self { trust, own, expected: None }
    }

    /// The same, but only to this replica: for links of the log, where an address that went to another coordinator must
    /// not be taken for the one it had.
    #[must_use]
    pub fn expecting(self, replica: ReplicaId) -> Self {
        Self { expected: Some(replica), ..self }
    }

    /// A connection to a coordinator of this cluster, and which one it is.
    ///
    /// # Errors
    /// When nobody answers, or one that is no coordinator of this cluster.
    pub async fn connect(&self, address: &str) -> Result<(Open, Arc<Identified>), ConnectError> {
        let (judging, expected) = (self.trust.clone(), self.expected);
        let judge = move |leaf: &CertificateDer<'_>, _: &[CertificateDer<'_>]| {
            let found = judging.judge(leaf, Side::Server, 0)?;
            match expected {
                Some(expected) if found.claim.subject != (Subject::Coordinator { replica: expected }) => {
                    Err(Refused::OtherReplica { found: found.claim.subject, expected })
                }
                _ => Ok(found),
            }
        };
        let name = self.trust.cluster().server_name();
        let clock = self.trust.clock().clone();
        let (stream, who) = shake(address, name, Box::new(judge), clock, self.own.as_ref()).await?;
        Ok((Judged::new(stream, Some(who.clone()), &self.trust), who))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Open>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let address = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
            let (stream, _) = connector.connect(address).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// What one who has a token learns of the cluster it joins, proved by the fingerprint in its token.
#[derive(Debug)]
pub struct Introduction {
    /// The connection to show the token on.
    pub stream: TlsStream<TcpStream>,
    /// The authority, which is to be kept.
    pub authority: CertificateDer<'static>,
    /// The coordinator that answered.
    pub coordinator: Arc<Identified>,
}

/// Connects to a cluster of which only the authority's fingerprint is known.
///
/// # Errors
/// When nobody answers, or one that has no certificate of that authority.
pub async fn introduce(address: &str, pinned: Fingerprint, clock: Clock) -> Result<Introduction, ConnectError> {
    let judging = clock.clone();
    let found = Arc::new(std::sync::OnceLock::new());
    let kept = found.clone();
    let judge = move |leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]| {
        let authority = others.iter().find(|it| fingerprint(it) == pinned).ok_or(Refused::OtherAuthority)?;
        let trust = Trust::new(authority.clone().into_owned(), Epoch(0), judging.clone(), |_| false)?;
        let coordinator = trust.judge(leaf, Side::Server, 0)?;
        // One handshake judges once.
        let _ = kept.set(trust.authority().clone());
        Ok(coordinator)
    };
    let (stream, coordinator) = shake(address, ANY_CLUSTER.to_owned(), Box::new(judge), clock, None).await?;
    let authority = found
        .get()
        .cloned()
        .ok_or_else(|| ConnectError::Refused { address: address.to_owned(), reason: Refused::OtherAuthority })?;
    Ok(Introduction { stream, authority, coordinator })
}

async fn shake(
    address: &str,
    name: String,
    judge: Box<Judge>,
    clock: Clock,
    own: Option<&Current>,
) -> Result<(TlsStream<TcpStream>, Arc<Identified>), ConnectError> {
    if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
        return Err(ConnectError::Address(address.to_owned()));
    }
    let (config, verdict) = verifier::client(judge, clock, own);
    let shaken = async {
        let stream = TcpStream::connect(address).await.map_err(|source| unreachable(address, source))?;
        // Small messages go out at once; where that cannot be set, they are only slower.
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(name).map_err(|_| ConnectError::Address(address.to_owned()))?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        shaken.map_err(|error| refused(address, verdict.reason(&error)))
    };
    let late = || refused(address, Refused::TooSlow(CONNECT.as_millis() as u64));
    let stream = tokio::time::timeout(CONNECT, shaken).await.map_err(|_| late())??;
    let who = verdict.identified().ok_or_else(|| refused(address, Refused::NoCertificate))?;
    Ok((stream, who))
}

fn refused(address: &str, reason: Refused) -> ConnectError {
    ConnectError::Refused { address: address.to_owned(), reason }
}

fn unreachable(address: &str, source: io::Error) -> ConnectError {
    ConnectError::Unreachable { address: address.to_owned(), source }
}
