//! The connections to other replicas: two to each, made when first used, made again when they break.
//!
//! Invariant: signs of life and votes never wait behind entries or a snapshot, which have a connection of their own.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use flowyard_proto::peer;
use flowyard_proto::peer::raft_client::RaftClient;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use super::connect::{Connect, Wire};
use super::home::Identity;
use super::threads::Threads;
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
    /// Where they are kept, whoever asks for one first.
    threads: Threads,
    /// By replica and purpose; an entry is replaced when the replica's address changes.
    open: Mutex<BTreeMap<(u64, Lane), Link>>,
    /// How many connections have ended, by replica and purpose.
    ended: Mutex<BTreeMap<(u64, Lane), watch::Sender<u64>>>,
}

impl Links {
    pub(super) fn new(identity: Identity, connect: Arc<dyn Connect>, threads: Threads) -> Self {
        Self { identity, connect, threads, open: Mutex::default(), ended: Mutex::default() }
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
        let client = RaftClient::new(self.channel(address.to_owned(), self.ending(replica, lane)))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        open.insert((replica, lane), (address.to_owned(), client.clone()));
        client
    }

    /// Changes whenever a connection to this replica, for this purpose, has ended.
    pub(super) fn ended(&self, replica: u64, lane: Lane) -> watch::Receiver<u64> {
        self.ending(replica, lane).subscribe()
    }

    fn ending(&self, replica: u64, lane: Lane) -> watch::Sender<u64> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.entry((replica, lane)).or_default().clone()
    }

    /// Whether a connection can be opened now; it is closed at once.
    pub(super) async fn try_connect(&self, address: &str) -> io::Result<()> {
        open(&*self.connect, address).await.map(drop)
    }

    fn channel(&self, address: String, ended: watch::Sender<u64>) -> Channel {
        let connect = self.connect.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (connect, address, ended) = (connect.clone(), address.clone(), ended.clone());
            async move {
                let opened = open(&*connect, &address).await;
                let noted = opened.map(|wire| TokioIo::new(Noted { wire, ended }));
                noted.map_err(|source| NotConnected { address, source })
            }
        });
        let _there = self.threads.enter();
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

async fn open(connect: &dyn Connect, address: &str) -> io::Result<Box<dyn Wire>> {
    let opened = tokio::time::timeout(CONNECT_TIMEOUT, connect.connect(address)).await;
    opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A connection whose end is told.
struct Noted {
    wire: Box<dyn Wire>,
    ended: watch::Sender<u64>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.ended.send_modify(|count| *count += 1);
    }
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
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
