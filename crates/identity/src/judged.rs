//! An open connection whose other side is judged again while it is open.
//!
//! A connection lasts for days, and so may one request on it: what carries the log to another coordinator, or follows a task's
//! output. So who is on the other side is judged not only when it connects and when it asks, and the connection ends soon after
//! they are not believed any more, whether anything is said on it or not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;

use crate::certificate::Identified;
use crate::trust::Trust;

/// How often the other side is judged.
const LOOK: Duration = Duration::from_secs(2);

/// A connection that we made.
pub type Open = Judged<TlsStream<TcpStream>>;

/// A stream that ends when the other side is not believed any more.
#[derive(Debug)]
pub struct Judged<S> {
    stream: S,
    other: Option<Other>,
}

/// The other side, if it has shown who it is.
#[derive(Debug)]
struct Other {
    who: Arc<Identified>,
    trust: Arc<Trust>,
    look: Pin<Box<Sleep>>,
    over: bool,
}

impl<S> Judged<S> {
    /// A stream whose other side showed this certificate, if any.
    pub(crate) fn new(stream: S, who: Option<Arc<Identified>>, trust: &Arc<Trust>) -> Self {
        let look = || Box::pin(tokio::time::sleep(LOOK));
        let other = who.map(|who| Other { who, trust: trust.clone(), look: look(), over: false });
        Self { stream, other }
    }

    /// A stream on which nobody is judged again: of one who does not know the cluster yet, and asks one thing.
    pub(crate) fn once(stream: S) -> Self {
        Self { stream, other: None }
    }
}

impl Other {
    /// Whether they are still believed; wakes the task when it is time to look again.
    fn poll(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.over && self.look.as_mut().poll(cx).is_ready() {
            if let Err(refused) = self.trust.admit(&self.who) {
                tracing::info!(reason = %refused, "an open connection was ended");
                self.over = true;
            }
            self.look.as_mut().reset(Instant::now() + LOOK);
        }
        self.standing()
    }

    fn standing(&self) -> io::Result<()> {
        let ended = || io::Error::new(io::ErrorKind::ConnectionAborted, "the other side is not believed any more");
        if self.over { Err(ended()) } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Judged<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whoever serves a connection always waits for what comes next on it, so this is polled however quiet it is.
        if let Some(other) = &mut self.other {
            other.poll(cx)?;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Judged<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(other) = &self.other {
            other.standing()?;
        }
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
        if let Some(other) = &self.other {
            other.standing()?;
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
