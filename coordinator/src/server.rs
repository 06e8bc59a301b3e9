//! The gRPC servers of one coordinator: API, blobs, agents, health and reflection on its socket and, in a fleet, on the API's port;
//! the log and what is passed on at the port of replicas.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flowyard_identity::{Bounds, Certificates, Gate, LAPSED_MS, Told, accept};
use flowyard_model::limits;
use flowyard_proto::agent::agents_server::AgentsServer;
use flowyard_proto::api::flowyard_server::FlowyardServer;
use flowyard_proto::blob::blobs_server::BlobsServer;
use flowyard_proto::cluster::administration_server::AdministrationServer;
use flowyard_proto::cluster::entrance_server::EntranceServer;
use flowyard_proto::cluster::secrets_server::SecretsServer;
use flowyard_proto::peer::members_server::MembersServer;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server;

use crate::api::{ApiEndpoint, BlobEndpoint};
use crate::around::Surround;
use crate::aside::Aside;
use crate::caller::{Accepted, Door, Doorkeeper, accept_certified, accept_users};
use crate::coordinator::{Shared, StartError};
use crate::crowd::Crowd;
use crate::fleet::{self, AdministrationEndpoint, EntranceEndpoint, Fleet, MembersEndpoint, PassOn};
use crate::fresh::Fresh;
use crate::guesses::Guesses;
use crate::raft::Speakers;
use crate::secrets::SecretsEndpoint;
use crate::session::AgentEndpoint;

/// Largest message taken from agents: the beginning of a session names everything.
const AGENT_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// Largest message taken from clients: a job, or a part of a blob.
const CLIENT_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// Largest message taken from those who may have shown nothing, and from administrators.
const SMALL_MESSAGE_BYTES: usize = 64 * 1024;
/// A connection on which nothing comes for so long is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// It is closed without one after this long: longer than a coordinator that thousands come to at once takes to hear it. Silent agents are
/// noticed by their sessions before.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Calls under way on one connection.
const STREAMS: u32 = 512;
/// Calls that were cancelled before they were looked at, of one connection.
const RESET_STREAMS: usize = 64;
/// Bytes of the headers of a call.
const HEADER_BYTES: u32 = 32 * 1024;

/// Serves until `stop` is done. Socket and ports exist once this returns its future.
///
/// # Errors
/// When one of them cannot be made.
pub fn serve(
    shared: Shared,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + Send, StartError> {
    let path = shared.config.socket.clone();
    let place = |place: String| move |source| StartError::Listen { place, source };
    let listener = listen(&path).map_err(place(path.display().to_string()))?;
    let mut ports = None;
    if let Some(fleet) = shared.fleet.clone() {
        let (api, peers) = (fleet.config().api_listen, fleet.config().peer_listen);
        let api_port = fleet::bind(api).map_err(place(api.to_string()))?;
        // A port is heard by the threads that it was opened on.
        let _there = shared.replica.threads().enter();
        let peer_port = fleet::bind(peers).map_err(place(peers.to_string()))?;
        ports = Some((fleet, api_port, peer_port));
    }
    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    Ok(async move {
        let crowd = Crowd::new(shared.config.call_rate);
        let here = || (Door::Api, Aside(None));
        let socket = serve_door(&shared, here(), crowd.clone(), accept_users(listener), stopped.clone());
        let served = match ports {
            None => socket.await,
            Some((fleet, api_port, peer_port)) => {
                let api = accept_certified(accept(
                    api_port,
                    gate(&shared, &fleet, Certificates::Welcome { lapsed_ms: LAPSED_MS }),
                ));
                let peers = accept_certified(accept(peer_port, gate(&shared, &fleet, Certificates::Required)));
                let api = serve_door(&shared, here(), crowd.clone(), api, stopped.clone());
                let peers = serve_peers(shared.clone(), crowd, peers, stopped);
                tokio::try_join!(socket, api, peers).map(drop)
            }
        };
        // A socket that nobody serves would only make clients wait.
        let _ = std::fs::remove_file(path);
        served
    })
}

fn gate(shared: &Shared, fleet: &Fleet, certificates: Certificates) -> Gate {
    let (trust, own) = (fleet.trust().clone(), fleet.own().clone());
    let counts = Arc::clone(shared.proposer.counts());
    let refusals: Arc<Told> = Arc::new(move |_, _| counts.connections_refused.add(1));
    Gate { trust, own, certificates, bounds: Bounds::STANDARD, refusals: Some(refusals) }
}

/// Serves the port of coordinators, where Raft is answered on the replica's own threads and everything else on those of the process.
async fn serve_peers(
    shared: Shared,
    crowd: Crowd,
    incoming: impl Stream<Item = io::Result<Accepted>> + Send + 'static,
    stopped: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let (threads, others) = (shared.replica.threads().clone(), Aside(Some(Handle::current())));
    let serving = async move { serve_door(&shared, (Door::Peers, others), crowd, incoming, stopped).await };
    // It is only ended by whoever does not wait for it any more.
    threads.run(serving).await.unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic()))
}

/// Serves one door until told to stop.
async fn serve_door(
    shared: &Shared,
    (door, aside): (Door, Aside),
    crowd: Crowd,
    incoming: impl Stream<Item = io::Result<Accepted>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let doorkeeper = Doorkeeper { door, feed: shared.feed.clone() };
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS))
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS))
        .http2_max_header_list_size(Some(HEADER_BYTES))
        .layer(aside)
        .layer(Surround(shared.calls.clone()))
        .layer(Surround(Guesses::new(shared.audit.clone())))
        .layer(Fresh(shared.clone()))
        .layer(InterceptorLayer::new(doorkeeper))
        .layer(Surround(crowd))
        .layer(PassOn { shared: shared.clone(), door })
        .layer(Surround(shared.audit.clone()));
    let stop = async move {
        // It ends when it is told to, or with who would tell.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    server.add_routes(routes(shared, door).await).serve_with_incoming_shutdown(incoming, stop).await
}

/// What is answered behind a door.
async fn routes(shared: &Shared, door: Door) -> Routes {
    let api = FlowyardServer::new(ApiEndpoint::new(shared.clone())).max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let blobs = BlobsServer::new(BlobEndpoint::new(shared.clone())).max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let administration = AdministrationServer::new(AdministrationEndpoint::new(shared.clone()));
    let secrets = SecretsServer::new(SecretsEndpoint::new(shared.clone()));
    let entrance = EntranceServer::new(EntranceEndpoint::new(shared.clone()));
    let routes = Routes::new(api)
        .add_service(blobs)
        .add_service(administration.max_decoding_message_size(SMALL_MESSAGE_BYTES))
        .add_service(entrance.max_decoding_message_size(SMALL_MESSAGE_BYTES))
        .add_service(secrets.max_decoding_message_size(limits::SECRET_BYTES + SMALL_MESSAGE_BYTES));
    if door == Door::Peers {
        return routes
            .add_service(MembersServer::new(MembersEndpoint::new(shared.clone())))
            .add_service(shared.replica.peer_service(Speakers::Certified));
    }
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<FlowyardServer<ApiEndpoint>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(flowyard_proto::DESCRIPTORS)
        .build_v1()
        .unwrap_or_else(|error| panic!("the descriptors of this build are whole: {error}"));
    let agents = AgentsServer::new(AgentEndpoint::new(shared.clone())).max_decoding_message_size(AGENT_MESSAGE_BYTES);
    routes.add_service(health_service).add_service(reflection).add_service(agents)
}

/// Binds the socket, replacing one that a dead coordinator left; its folder's lock is held, so no living one uses it. A path
/// longer than an address holds is named relative to its opened folder. Only the owner may connect.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = std::fs::File::open(parent)?;
    let listener = UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}
