//! The connections to other replicas: two to each, made when first used, made again when they break.
//!
//! Invariant: signs of life and votes never wait behind entries or a snapshot, which have a connection of their own.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flowyard_proto::peer;
use flowyard_proto::peer::raft_client::RaftClient;
use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use super::connect::{Connect, Wire};
use super::home::Identity;
use super::wire;

/// The largest message between replicas: what one read of the log gives, and one entry more.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// After this long without an answer to a sign of life the connection is given up; together below the election timeout.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(100);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(300);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Signs of life, votes, and what is passed on to a leader: small, and waited for.
    Control,
    /// Entries and snapshots.
    Bulk,
}

/// No connection could be opened, so nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {address}: {source}")]
pub(super) struct NotConnected {
    address: String,
    source: io::Error,
}

/// A connection, and the address it goes to.
type Link = (String, RaftClient<Channel>);

/// All connections of one replica.
#[derive(Debug)]
pub(super) struct Links {
    identity: Identity,
    connect: Arc<dyn Connect>,
    /// By replica and purpose; an entry is replaced when the replica's address changes.
    open: Mutex<BTreeMap<(u64, Lane), Link>>,
}

impl Links {
    pub(super) fn new(identity: Identity, connect: Arc<dyn Connect>) -> Self {
        Self { identity, connect, open: Mutex::default() }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn envelope(&self, to: u64) -> Option<peer::Envelope> {
        wire::envelope(&self.identity, to)
    }

    /// The connection to a replica. Nothing is sent before the first call.
    pub(super) fn client(&self, replica: u64, address: &str, lane: Lane) -> RaftClient<Channel> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = open.get(&(replica, lane)).filter(|(known, _)| known == address) {
            return client.clone();
        }
        let client = RaftClient::new(self.channel(address.to_owned()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        open.insert((replica, lane), (address.to_owned(), client.clone()));
        client
    }

    fn channel(&self, address: String) -> Channel {
        let connect = self.connect.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (opening, address) = (connect.connect(&address), address.clone());
            async move {
                let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
                let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                opened.map(TokioIo::<Box<dyn Wire>>::new).map_err(|source| NotConnected { address, source })
            }
        });
        // The name is never resolved: the connector knows where to go.
        Endpoint::from_static("http://replica")
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024)
            .connect_with_connector_lazy(connector)
    }
}

/// Whether a call failed before anything of it was sent.
pub(super) fn never_sent(status: &Status) -> bool {
    let mut cause = Error::source(status);
    while let Some(error) = cause {
        if error.is::<NotConnected>() {
            return true;
        }
        cause = error.source();
    }
    false
}
