//! Who calls. One acceptor puts one [`Peer`] into each request; nothing else reads identity, and nothing trusts an address.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

/// The identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its user id on this machine, as the kernel tells it.
    pub uid: u32,
    /// The name of that user, or the number where it has none.
    pub name: String,
}

impl Peer {
    /// The caller of a request.
    ///
    /// # Errors
    /// A fault of ours: a request that came past the acceptor.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let peer = request.extensions().get::<Self>().cloned();
        peer.ok_or_else(|| Status::internal("a request without a caller"))
    }
}

/// An accepted connection with its caller.
#[derive(Debug)]
pub(crate) struct Accepted {
    stream: UnixStream,
    peer: Peer,
}

impl Connected for Accepted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts callers that are the user this coordinator runs as, or root; others are hung up on.
pub(crate) fn accept(listener: UnixListener) -> impl Stream<Item = io::Result<Accepted>> {
    let own = rustix::process::geteuid().as_raw();
    futures::stream::unfold(listener, move |listener| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => return Some((Err(error), listener)),
            };
            match stream.peer_cred() {
                Ok(cred) if cred.uid() == own || cred.uid() == 0 => {
                    let peer = Peer { uid: cred.uid(), name: user_name(cred.uid()) };
                    return Some((Ok(Accepted { stream, peer }), listener));
                }
                Ok(cred) => tracing::warn!(uid = cred.uid(), "a caller that is another user was hung up on"),
                Err(error) => tracing::warn!(%error, "a caller without credentials was hung up on"),
            }
        }
    })
}

/// The name of a user as `/etc/passwd` has it, else the number.
fn user_name(uid: u32) -> String {
    let number = uid.to_string();
    let file = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    let mut names = file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    names.next().unwrap_or(number)
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
