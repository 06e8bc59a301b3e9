//! An agent whose coordinators are other machines: how it joins them, finds them again, and reads and writes their blobs.
//!
//! Reading order: [`Membership`] (what lies in the folder), [`join`] (how it came there), [`Reach`] (how coordinators are
//! reached), `origin` (blobs over the network).

mod joining;
mod membership;
mod origin;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use flowyard_cas::Origin;
use flowyard_identity::{Doors, NoDoor, Renewal, SignError};
use flowyard_model::{MemberKey, Name};
use flowyard_proto::agent::SecretsRequest;
use flowyard_proto::agent::agents_client::AgentsClient;
use flowyard_proto::cluster::RenewRequest;
use flowyard_proto::cluster::entrance_client::EntranceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub use joining::{Admission, JoinError, admit, join};
pub use membership::{Membership, MembershipError};

use origin::ClusterBlobs;

/// How often a connection is asked for a sign of life, and how long it may take to give one.
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(5);
/// A coordinator that thousands come to at once may be slow to answer: leaving it would only make it slower.
const KEEPALIVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// How long the name of a coordinator is looked up.
const RESOLVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// How the coordinators are reached.
#[derive(Debug, Clone)]
pub enum Reach {
    /// The embedded cluster's, over this channel.
    Embedded(Channel),
    /// The coordinators of a fleet.
    Fleet(Membership),
}

/// No coordinator was reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached {
    /// None answers.
    #[error(transparent)]
    NoDoor(#[from] NoDoor),
    /// One answered and the connection did not come about.
    #[error("the connection: {}", cause(.0))]
    Transport(#[from] tonic::transport::Error),
}

/// The cause at the bottom: the library's own words say nothing.
fn cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl Reach {
    /// A channel for one session and what belongs to it.
    pub(crate) async fn channel(&self) -> Result<Channel, Unreached> {
        match self {
            Self::Embedded(channel) => Ok(channel.clone()),
            Self::Fleet(membership) => Ok(endpoint().connect_with_connector(membership.doors().clone()).await?),
        }
    }

    /// The address of this host that leads to the coordinator: that which the system chooses for packets to it. None is sent.
    pub(crate) async fn own_address(&self) -> Option<IpAddr> {
        let Self::Fleet(membership) = self else { return Some(Ipv4Addr::LOCALHOST.into()) };
        for door in membership.doors().addresses() {
            let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(&door)).await;
            for there in found.ok().and_then(Result::ok).into_iter().flatten() {
                if let Ok(own) = towards(there) {
                    return Some(own);
                }
            }
        }
        None
    }

    /// The secrets that a task of this node is given.
    ///
    /// # Errors
    /// When they are not told.
    pub(crate) async fn secrets(&self, member: MemberKey) -> Result<BTreeMap<Name, Vec<u8>>, Status> {
        let channel = match self {
            Self::Embedded(channel) => channel.clone(),
            Self::Fleet(membership) => lazy(membership.doors()),
        };
        let request = SecretsRequest { member: Some(member.into()) };
        let told = AgentsClient::new(channel).secrets(request).await?.into_inner().values;
        let named = told.into_iter().map(|(name, value)| Some((name.parse().ok()?, value.to_vec())));
        named.collect::<Option<_>>().ok_or_else(|| Status::internal("a secret without a name"))
    }

    /// Learns who leads; whether that is news.
    pub(crate) fn led_by(&self, address: &str) -> bool {
        match self {
            Self::Embedded(_) => false,
            Self::Fleet(membership) => {
                let news = membership.doors().addresses().first().is_none_or(|first| first != address);
                membership.doors().prefer(address);
                news
            }
        }
    }

    /// Tries another coordinator the next time: the one asked last may be cut off from the rest.
    pub(crate) fn try_another(&self) {
        if let Self::Fleet(membership) = self
            && let Some(first) = membership.doors().addresses().first()
        {
            membership.doors().avoid(first);
        }
    }

    /// Learns where the coordinators are.
    pub(crate) fn learn(&self, addresses: Vec<String>) {
        if let Self::Fleet(membership) = self
            && !addresses.is_empty()
        {
            membership.learn(addresses);
        }
    }

    /// Keeps the agent's certificate fresh, for ever; there is none in an embedded cluster.
    pub(crate) async fn renew(self) {
        let Self::Fleet(membership) = self else { return };
        let channel = lazy(membership.doors());
        let renewal =
            Renewal { trust: membership.trust().clone(), own: membership.own().clone(), path: membership.credential() };
        let sign = |request: Vec<u8>| {
            let mut entrance = EntranceClient::new(channel.clone());
            async move {
                let answer = entrance.renew(RenewRequest { request: request.into() }).await.map_err(SignError::from)?;
                Ok(vec![flowyard_identity::Certificate::from(answer.into_inner().certificate.to_vec())])
            }
        };
        renewal.run(sign).await;
    }
}

/// The blobs of the cluster: read and written through any coordinator.
pub fn origin(membership: &Membership) -> Origin {
    Origin::in_objects(Arc::new(ClusterBlobs::over(lazy(membership.doors()))))
}

/// The address that this host has on its way to another.
fn towards(there: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(there)?;
    Ok(socket.local_addr()?.ip())
}

fn lazy(doors: &Doors) -> Channel {
    endpoint().connect_with_connector_lazy(doors.clone())
}

fn endpoint() -> Endpoint {
    // The address is only a name for HTTP; the connector decides where to go.
    Endpoint::from_static("http://flowyard").http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_TIMEOUT)
}
