//! The gRPC server of one coordinator: API, blobs, agents, health and reflection on one socket.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use flowyard_proto::agent::agents_server::AgentsServer;
use flowyard_proto::api::flowyard_server::FlowyardServer;
use flowyard_proto::blob::blobs_server::BlobsServer;
use tokio::net::UnixListener;
use tonic::transport::Server;

use crate::api::{ApiEndpoint, BlobEndpoint};
use crate::coordinator::{Shared, StartError};
use crate::peer;
use crate::session::AgentEndpoint;

/// Largest message taken from agents: the beginning of a session names everything.
const AGENT_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// Largest message taken from clients.
const CLIENT_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// Serves until `stop` is done. The socket exists once this returns its future.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(
    shared: Shared,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Future<Output = Result<(), tonic::transport::Error>> + Send, StartError> {
    let path = shared.config.socket.clone();
    let listener = listen(&path).map_err(|source| StartError::Listen { path: path.clone(), source })?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(flowyard_proto::DESCRIPTORS)
        .build_v1()
        .unwrap_or_else(|error| panic!("the descriptors of this build are whole: {error}"));
    let api = FlowyardServer::new(ApiEndpoint::new(shared.clone())).max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let blobs = BlobsServer::new(BlobEndpoint::new(shared.clone())).max_decoding_message_size(CLIENT_MESSAGE_BYTES);
    let agents = AgentsServer::new(AgentEndpoint::new(shared)).max_decoding_message_size(AGENT_MESSAGE_BYTES);
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(3)))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(api)
        .add_service(blobs)
        .add_service(agents);
    Ok(async move {
        health.set_serving::<FlowyardServer<ApiEndpoint>>().await;
        let served = server.serve_with_incoming_shutdown(peer::accept(listener), stop).await;
        // A socket that nobody serves would only make clients wait.
        let _ = std::fs::remove_file(path);
        served
    })
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
