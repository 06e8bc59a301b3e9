//! Coordinators on loopback, each in a folder and with ports of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flowyard_cas::Origin;
use flowyard_coordinator::fleet::{FleetConfig, Joining, MemberAddress, form, join};
use flowyard_coordinator::raft::Identity;
use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_coordinator::{Config, Coordinator, Timing, serve};
use flowyard_identity::{ApiToken, Authority, Clock, Connector, Current, JoinToken, Trust};
use flowyard_model::Epoch;
use flowyard_proto::api::flowyard_client::FlowyardClient;
use flowyard_proto::blob::blobs_client::BlobsClient;
use flowyard_proto::cluster::administration_client::AdministrationClient;
use flowyard_proto::cluster::{ClusterStatus, CreateTokenRequest, GetStatusRequest};
use flowyard_proto::peer;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// A coordinator, running or not.
pub(crate) struct Host {
    pub(crate) folder: TempDir,
    pub(crate) address: MemberAddress,
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
    timing: Timing,
    up: Option<(Coordinator, oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Shows a token with each request.
#[derive(Clone)]
pub(crate) struct Bearer(Option<String>);

impl Bearer {
    /// Shows this one.
    pub(crate) fn of(token: &str) -> Self {
        Self(Some(token.to_owned()))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let shown = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", shown);
        }
        Ok(request)
    }
}

pub(crate) type Shown = InterceptedService<Channel, Bearer>;

/// A port that nobody uses now.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn address() -> MemberAddress {
    MemberAddress::new(&free(), &free()).unwrap()
}

impl Host {
    /// The first coordinator of a cluster.
    pub(crate) async fn first(origin: Origin) -> Self {
        let mut host = Self::formed(origin).await;
        host.start().await;
        host
    }

    async fn formed(origin: Origin) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), address());
        let identity = form(folder.path(), &address, EngineKind::default()).await.unwrap();
        Self { folder, address, identity, origin, timing: Timing::STANDARD, up: None }
    }

    /// One that a token lets in; not running yet.
    pub(crate) async fn joining(token: &str, origin: Origin) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), address());
        let token: JoinToken = token.parse().unwrap();
        let joined = join(folder.path(), &Joining { token, address: address.clone() }).await.unwrap();
        assert_eq!(joined.name, "lab");
        Self { folder, address, identity: joined.identity, origin, timing: Timing::STANDARD, up: None }
    }

    pub(crate) async fn start(&mut self) {
        let listen = |address: &str| address.parse::<SocketAddr>().unwrap();
        let config = Config {
            folder: self.folder.path().to_owned(),
            socket: self.socket(),
            engine: EngineKind::default(),
            embedded: false,
            usual_network: flowyard_model::NetworkMode::Host,
            home: self.folder.path().to_owned(),
            timing: self.timing,
            stuck: flowyard_model::StuckLimits::STANDARD,
            retention: flowyard_coordinator::Retention::STANDARD,
            log_keeping: flowyard_coordinator::LogKeeping::STANDARD,
            storage_budget_bytes: 0,
            call_rate: flowyard_coordinator::CallRate::STANDARD,
            shared_origin: false,
            fleet: Some(FleetConfig {
                name: "lab".to_owned(),
                identity: self.identity,
                api_listen: listen(&self.address.api),
                peer_listen: listen(&self.address.peers),
                address: self.address.clone(),
                wants_vote: true,
                version_at_most: None,
            }),
        };
        let coordinator = Coordinator::start(config, self.origin.clone()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = serve(coordinator.shared().clone(), async move { drop(stopped.await) }).unwrap();
        let server = tokio::spawn(async move { served.await.unwrap() });
        self.up = Some((coordinator, stop, server));
    }

    /// As if its machine were switched off.
    pub(crate) async fn stop(&mut self) {
        let Some((coordinator, stop, server)) = self.up.take() else { return };
        drop(stop);
        server.abort();
        coordinator.shutdown().await;
    }

    pub(crate) fn coordinator(&self) -> &Coordinator {
        &self.up.as_ref().expect("it runs").0
    }

    pub(crate) fn leads(&self) -> bool {
        self.up.as_ref().is_some_and(|(coordinator, _, _)| coordinator.shared().leading_term().is_ok())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    /// Whom its clients believe.
    pub(crate) fn trust(&self) -> Arc<Trust> {
        let authority = Authority::load(&self.folder.path().join("authority.pem")).unwrap();
        let trust = Trust::new(authority.certificate().clone(), Epoch(0), Clock::wall(), |_| false);
        Arc::new(trust.unwrap())
    }

    /// A connection to its API's port.
    pub(crate) fn channel(&self, own: Option<Current>) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address.api)).unwrap();
        endpoint.connect_with_connector_lazy(Connector::new(self.trust(), own))
    }

    pub(crate) fn api(&self, token: Option<&str>) -> FlowyardClient<Shown> {
        FlowyardClient::with_interceptor(self.channel(None), Bearer(token.map(str::to_owned)))
    }

    pub(crate) fn blobs(&self, token: &str) -> BlobsClient<Shown> {
        BlobsClient::with_interceptor(self.channel(None), Bearer(Some(token.to_owned())))
    }

    pub(crate) fn administration(&self, token: Option<&str>) -> AdministrationClient<Shown> {
        AdministrationClient::with_interceptor(self.channel(None), Bearer(token.map(str::to_owned)))
    }

    /// The API at its socket: whose user is the cluster's owner.
    pub(crate) fn owner(&self) -> AdministrationClient<Channel> {
        let socket = self.socket();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        AdministrationClient::new(Endpoint::from_static("http://socket").connect_with_connector_lazy(connect))
    }

    /// A token, made by the owner.
    pub(crate) async fn token(&self, grant: peer::Grant) -> String {
        self.token_for(grant, 60_000).await
    }

    pub(crate) async fn token_for(&self, grant: peer::Grant, life_ms: u64) -> String {
        let request = CreateTokenRequest { grant: Some(grant), life_ms, uses: None };
        self.owner().create_token(request).await.unwrap().into_inner().text
    }

    /// Makes a queue.
    pub(crate) async fn queue(&self, path: &str) {
        let queue = flowyard_model::Queue::new(path.parse().unwrap());
        self.coordinator().shared().propose(&flowyard_model::Command::PutQueue(queue.into())).await.unwrap();
    }

    pub(crate) async fn status(&self) -> ClusterStatus {
        self.owner().get_status(GetStatusRequest {}).await.unwrap().into_inner()
    }
}

pub(crate) fn to_join(joiner: peer::Joiner) -> peer::Grant {
    peer::Grant { kind: Some(peer::grant::Kind::Join(joiner.into())) }
}

pub(crate) fn to_call(principal: &str, kind: peer::RoleKind, queues: &[&str]) -> peer::Grant {
    let queues = queues.iter().map(ToString::to_string).collect();
    let role = Some(peer::Role { kind: kind.into(), queues });
    peer::Grant { kind: Some(peer::grant::Kind::Api(peer::ApiGrant { principal: principal.to_owned(), role })) }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// Three coordinators that vote.
pub(crate) async fn three() -> Vec<Host> {
    three_with(Timing::STANDARD).await
}

/// Three coordinators that vote, and watch nodes with these times.
pub(crate) async fn three_with(timing: Timing) -> Vec<Host> {
    let mut hosts = vec![Host { timing, ..Host::formed(Origin::in_memory()).await }];
    hosts[0].start().await;
    until("the first to lead", async || hosts[0].leads()).await;
    for _ in 0..2 {
        let token = hosts[0].token(to_join(peer::Joiner::Coordinator)).await;
        let mut host = Host { timing, ..Host::joining(&token, Origin::in_memory()).await };
        host.start().await;
        hosts.push(host);
        let voters = hosts.len();
        // Where the machine is busy there may be no leader for a moment, and no answer.
        until("the new one to vote", async || {
            let status = hosts[0].owner().get_status(GetStatusRequest {}).await;
            status.is_ok_and(|status| status.get_ref().members.iter().filter(|member| member.votes).count() == voters)
        })
        .await;
    }
    hosts
}

/// API tokens are texts with everything in them.
pub(crate) fn addresses(token: &str) -> Vec<String> {
    token.parse::<ApiToken>().unwrap().addresses
}
