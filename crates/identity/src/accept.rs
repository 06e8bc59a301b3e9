//! Accepting connections: who connects is known before it is handed on.
//!
//! Handshakes have a deadline that begins with the connection, however slowly its bytes drip, and there is room for so many of
//! them at a time. Who comes when the room is full takes the place of the one that has taken longest: an honest handshake takes
//! milliseconds, so that one is not honest.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::Identified;
use crate::credential::Current;
use crate::judged::Judged;
use crate::refused::Refused;
use crate::rooms::{Patience, Place, Rooms, Shown};
use crate::trust::Trust;
use crate::verifier::{self, Certificates};

/// Refusals that are logged per second; the others are counted.
const LOGGED_PER_SECOND: u32 = 10;
/// Wait after the system refused to accept, which it does while it has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Told of a refusal.
pub type Told = dyn Fn(SocketAddr, &Refused) + Send + Sync;

/// What one port asks of those who connect.
#[derive(Clone)]
pub struct Gate {
    /// Whom we believe.
    pub trust: Arc<Trust>,
    /// What we show.
    pub own: Current,
    /// Whether they must show a certificate.
    pub certificates: Certificates,
    /// How many at a time.
    pub bounds: Bounds,
    /// Told of each refusal, beside the log: for metrics and the audit stream.
    pub refusals: Option<Arc<Told>>,
}

/// Bounds of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Handshakes at a time.
    pub handshakes: usize,
    /// What a handshake takes at most.
    pub handshake_ms: u64,
    /// Connections open at a time.
    pub connections: usize,
    /// Of them, of one that showed a certificate.
    pub per_identity: usize,
    /// Of one address, without a certificate.
    pub per_address: usize,
    /// Of one address, that have shown nothing yet; the oldest makes way.
    pub strangers_per_address: usize,
    /// In all, that have shown nothing yet; the oldest makes way.
    pub strangers: usize,
    /// How long such a one may stay.
    pub stranger_ms: u64,
}

impl Bounds {
    /// What a port of a fleet is given.
    pub const STANDARD: Self = Self {
        handshakes: 256,
        handshake_ms: 5_000,
        connections: 16_384,
        per_identity: 64,
        per_address: 1_024,
        strangers_per_address: 256,
        strangers: 2_048,
        stranger_ms: 20_000,
    };
}

/// A connection whose other side is known.
#[derive(Debug)]
pub struct Accepted {
    stream: Judged<TlsStream<TcpStream>>,
    identified: Option<Arc<Identified>>,
    address: SocketAddr,
    shown: Shown,
    /// While it has shown nothing.
    patience: Option<Patience>,
    _places: (OwnedSemaphorePermit, Place),
}

impl Accepted {
    /// To be set once they have shown who they are in another way than by a certificate.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Who it is; `None` if it showed no certificate where it need not.
    pub fn identified(&self) -> Option<&Arc<Identified>> {
        self.identified.as_ref()
    }

    /// Where it comes from. Nothing may trust it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The connections that passed the gate. It ends only with an error of the listener that will not pass.
pub fn accept(listener: TcpListener, gate: Gate) -> impl Stream<Item = io::Result<Accepted>> {
    let places = Arc::new(Semaphore::new(gate.bounds.connections.min(Semaphore::MAX_PERMITS)));
    let rooms = Rooms::default();
    let port =
        Port { listener, gate, places, rooms, handshakes: JoinSet::new(), order: VecDeque::new(), said: Said::new() };
    futures::stream::unfold(port, async |mut port| {
        let next = port.next().await;
        Some((next, port))
    })
}

/// A handshake under way: what came of it.
type Handshake = Result<Accepted, (SocketAddr, Refused)>;

struct Port {
    listener: TcpListener,
    gate: Gate,
    places: Arc<Semaphore>,
    rooms: Rooms,
    handshakes: JoinSet<Handshake>,
    /// Those under way, the oldest first; also some that are over.
    order: VecDeque<(AbortHandle, SocketAddr)>,
    said: Said,
}

impl Port {
    async fn next(&mut self) -> io::Result<Accepted> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => self.begin(stream, address),
                    Err(error) if passes(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(done) = self.handshakes.join_next() => {
                    self.order.retain(|(handle, _)| !handle.is_finished());
                    match done {
                        Ok(Ok(accepted)) => return Ok(accepted),
                        Ok(Err((address, refused))) => self.refuse(address, &refused),
                        // It was told when it was ended; a panic in a handshake ends that connection alone.
                        Err(ended) if ended.is_cancelled() => {}
                        Err(panicked) => tracing::error!(%panicked, "a handshake failed"),
                    }
                }
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return self.refuse(address, &Refused::Full(self.gate.bounds.connections));
        };
        while self.order.len() >= self.gate.bounds.handshakes.max(1) {
            let Some((oldest, address)) = self.order.pop_front() else { break };
            if !oldest.is_finished() {
                oldest.abort();
                self.refuse(address, &Refused::Crowded);
            }
        }
        let Gate { trust, own, certificates, bounds, .. } = &self.gate;
        let (config, verdict) = verifier::server(trust, own, *certificates);
        let (deadline, rooms, bounds, judging) = (bounds.handshake_ms, self.rooms.clone(), *bounds, trust.clone());
        let handshake = async move {
            // Small messages go out at once; where that cannot be set, they are only slower.
            let _ = stream.set_nodelay(true);
            let shaken = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(Duration::from_millis(deadline), shaken).await {
                Ok(Ok(stream)) => {
                    let identified = verdict.identified();
                    let stream = Judged::new(stream, identified.clone(), &judging);
                    let_in(stream, identified, address, place, &rooms, &bounds)
                }
                Ok(Err(error)) => Err((address, verdict.reason(&error))),
                Err(_) => Err((address, Refused::TooSlow(deadline))),
            }
        };
        let handle = self.handshakes.spawn(handshake);
        self.order.push_back((handle, address));
    }

    fn refuse(&mut self, address: SocketAddr, refused: &Refused) {
        if let Some(told) = &self.gate.refusals {
            told(address, refused);
        }
        self.said.refused(address, refused);
    }
}

/// Gives whoever passed the gate a place among their like.
fn let_in(
    stream: Judged<TlsStream<TcpStream>>,
    identified: Option<Arc<Identified>>,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    rooms: &Rooms,
    bounds: &Bounds,
) -> Handshake {
    let room = match &identified {
        Some(found) => {
            let who = found.claim.subject.identity();
            rooms.certified(who, bounds).map(|place| (place, Shown::default(), None))
        }
        None => rooms.stranger(address.ip(), bounds).map(|(place, shown, patience)| (place, shown, Some(patience))),
    };
    match room {
        Ok((room, shown, patience)) => {
            Ok(Accepted { stream, identified, address, shown, patience, _places: (place, room) })
        }
        Err(refused) => Err((address, refused)),
    }
}

/// A caller that was gone again before it was accepted.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// What was logged in this second, so that nobody fills the log by knocking.
struct Said {
    since: Instant,
    lines: u32,
    silent: u64,
}

impl Said {
    fn new() -> Self {
        Self { since: flowyard_clock::monotonic(), lines: 0, silent: 0 }
    }

    fn refused(&mut self, address: SocketAddr, refused: &Refused) {
        if flowyard_clock::elapsed(self.since) >= Duration::from_secs(1) {
            if self.silent > 0 {
                tracing::warn!(count = self.silent, "more connections were refused");
            }
            *self = Self::new();
        }
        if self.lines < LOGGED_PER_SECOND {
            self.lines += 1;
            tracing::warn!(%address, reason = %refused, "a connection was refused");
        } else {
            self.silent += 1;
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.patience.as_mut().map(|patience| patience.poll_over(cx)) {
            Some(Poll::Ready(true)) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Some(Poll::Ready(false)) => self.patience = None,
            Some(Poll::Pending) | None => {}
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
