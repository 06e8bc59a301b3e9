//! Calls that only a leader can answer, passed on as they are: the follower says who made them, and the leader decides.
//!
//! Invariant: a call is passed on at most once. Whoever gets one that was passed on answers it or says that it does not lead.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use flowyard_identity::Connector;
use flowyard_proto::peer;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::BinaryMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tower::{Layer, Service};

use super::MemberAddress;
use crate::access::{Action, Caller, allow};
use crate::caller::{Door, PASSED_ON_FOR};
use crate::coordinator::Shared;
use crate::raft::Role;
use crate::stale;
use crate::standing::Standing;

/// Services whose calls a leader answers.
const LEADERS: [&str; 4] = [
    "/flowyard.api.v1.Flowyard/",
    "/flowyard.cluster.v1.Administration/",
    "/flowyard.cluster.v1.Entrance/",
    "/flowyard.cluster.v1.Secrets/",
];
const ENTRANCE: &str = "/flowyard.cluster.v1.Entrance/";
/// Calls of those that any coordinator answers, from its own copy of the state.
const ANYBODYS: [&str; 12] = [
    "GetCluster",
    "Submit",
    "GetJob",
    "ListJobs",
    "ListTasks",
    "WatchJob",
    "ListArtifacts",
    "ListQueues",
    "GetQueue",
    "GetUsage",
    "GetPolicy",
    "Diagnose",
];
/// Connections of passed-on calls that nobody answers are given up after this long.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// How long a call waits for a leader to be elected.
const NO_LEADER: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);

/// Connections to the peers' ports of other coordinators, each made when first used.
#[derive(Debug, Clone)]
pub(crate) struct PeerChannels {
    connector: Connector,
    open: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl PeerChannels {
    /// None yet.
    pub(crate) fn new(connector: Connector) -> Self {
        Self { connector, open: Arc::default() }
    }

    /// The one to this member.
    pub(crate) fn to(&self, address: &MemberAddress) -> Option<Channel> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(&address.peers) {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", address.peers)).ok()?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .connect_with_connector_lazy(self.connector.clone());
        open.insert(address.peers.clone(), channel.clone());
        Some(channel)
    }
}

/// Stands before the services of a port.
#[derive(Clone)]
pub(crate) struct PassOn {
    /// This coordinator.
    pub shared: Shared,
    /// Which port.
    pub door: Door,
}

impl<S> Layer<S> for PassOn {
    type Service = Passing<S>;

    fn layer(&self, here: S) -> Passing<S> {
        Passing { way: self.clone(), here }
    }
}

/// The services of this coordinator, or the leader's.
#[derive(Clone)]
pub(crate) struct Passing<S> {
    way: PassOn,
    here: S,
}

/// Where a call is answered.
enum Answered {
    Here,
    By(Channel),
    Nowhere(Status),
}

impl PassOn {
    fn answered(&self, path: &str) -> Answered {
        if !is_leaders(path) {
            return Answered::Here;
        }
        match &*self.shared.replica.role().borrow() {
            Role::Leader { ready: true, .. } => Answered::Here,
            Role::Follower { leader, .. } if self.door == Door::Api => {
                match self.shared.peer_channel(&leader.address) {
                    Some(channel) => Answered::By(channel),
                    None => Answered::Nowhere(Status::unavailable("the leader's address cannot be used")),
                }
            }
            Role::Follower { .. } => Answered::Nowhere(Status::unavailable("leadership has just moved; ask again")),
            Role::Leader { .. } | Role::Seeking => {
                Answered::Nowhere(Status::unavailable("the cluster has no leader at the moment"))
            }
            Role::Stopped { .. } => Answered::Nowhere(Status::unavailable("this coordinator has stopped")),
        }
    }
}

impl PassOn {
    /// Where a call is answered, after waiting a little for a leader where there is none.
    async fn settled(&self, path: &str) -> Answered {
        let mut role = self.shared.replica.role();
        let waited = async {
            loop {
                role.mark_unchanged();
                match self.answered(path) {
                    Answered::Nowhere(_) if role.changed().await.is_ok() => {}
                    settled => return settled,
                }
            }
        };
        match tokio::time::timeout(NO_LEADER, waited).await {
            Ok(settled) => settled,
            Err(_) => self.answered(path),
        }
    }
}

fn is_anybodys(path: &str) -> bool {
    ANYBODYS.iter().any(|call| path.strip_suffix(call).is_some_and(|service| LEADERS.contains(&service)))
}

fn is_leaders(path: &str) -> bool {
    let call = LEADERS.iter().find_map(|service| path.strip_prefix(service));
    call.is_some_and(|call| !ANYBODYS.contains(&call))
}

/// Whoever has shown nothing may join, and nothing else: not even ask what could be called.
fn known(request: &http::Request<Body>) -> Result<(), Status> {
    let nobody = request.extensions().get::<Standing>().is_none_or(|standing| standing.caller == Caller::Nobody);
    if nobody && !request.uri().path().starts_with(ENTRANCE) {
        allow(&Caller::Nobody, Action::Ping)?;
    }
    Ok(())
}

/// Who made a call and what they have shown, as it is said to another coordinator.
pub(crate) fn named(standing: &Standing) -> BinaryMetadataValue {
    BinaryMetadataValue::from_bytes(&peer::Caller::from(standing).encode_to_vec())
}

/// Says in the call who made it. Whatever its maker said there is removed: only coordinators are asked.
fn name_caller(request: &mut http::Request<Body>) -> Result<(), Status> {
    let standing = request.extensions().get::<Standing>();
    let named = named(standing.ok_or_else(|| Status::internal("a request without a caller"))?);
    let named = http::HeaderValue::from_bytes(named.as_encoded_bytes());
    let named = named.map_err(|_| Status::internal("a caller that cannot be named"))?;
    let headers = request.headers_mut();
    headers.remove(http::header::AUTHORIZATION);
    headers.insert(PASSED_ON_FOR, named);
    Ok(())
}

impl<S> Service<http::Request<Body>> for Passing<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.here.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Err(status) = known(&request) {
            return Box::pin(async move { Ok(status.into_http()) });
        }
        let way = self.way.clone();
        // The one that is ready is used; the clone takes its place.
        let waiting = self.here.clone();
        let mut here = std::mem::replace(&mut self.here, waiting);
        Box::pin(async move {
            if stale::is_asked(request.headers()) && is_anybodys(request.uri().path()) {
                let view = way.shared.feed.view();
                let mut answer = here.call(request).await?;
                stale::label(answer.headers_mut(), &view);
                return Ok(answer);
            }
            let channel = match way.settled(request.uri().path()).await {
                Answered::Here => return here.call(request).await,
                Answered::By(channel) => channel,
                Answered::Nowhere(status) => return Ok(status.into_http()),
            };
            if let Err(status) = name_caller(&mut request) {
                return Ok(status.into_http());
            }
            let mut channel = channel;
            let ready = futures::future::poll_fn(|context| channel.poll_ready(context)).await;
            let answered = match ready {
                Ok(()) => channel.call(request).await,
                Err(error) => Err(error),
            };
            Ok(answered.unwrap_or_else(|error| {
                Status::unavailable(format!("the leader could not be asked: {error}")).into_http()
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_about_sessions_and_wishes_are_the_leaders_and_reads_are_anybodys() {
        assert!(is_leaders("/flowyard.api.v1.Flowyard/Logs"));
        assert!(is_leaders("/flowyard.cluster.v1.Entrance/Join"));
        assert!(is_leaders("/flowyard.api.v1.Flowyard/PutQueues"));
        assert!(!is_leaders("/flowyard.api.v1.Flowyard/GetJob"));
        assert!(!is_leaders("/flowyard.api.v1.Flowyard/ListQueues"));
        assert!(!is_leaders("/flowyard.blob.v1.Blobs/Get"));
        assert!(!is_leaders("/flowyard.agent.v1.Agents/Session"));
        assert!(is_anybodys("/flowyard.api.v1.Flowyard/GetJob") && !is_anybodys("/flowyard.api.v1.Flowyard/Logs"));
    }
}
