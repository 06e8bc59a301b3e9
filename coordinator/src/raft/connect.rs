//! How a byte stream to another replica is opened: the one place where encryption, or a simulated network, plugs in.

use std::fmt::Debug;
use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream in both directions.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// Opens byte streams to replicas. Whether the other end is who it should be is its business as far as keys go; that
/// it is the right replica of the right cluster is checked in every message.
pub trait Connect: Debug + Send + Sync + 'static {
    /// Opens a stream to `address`, as the cluster knows it. The caller gives up after a while by itself.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>>;
}

/// Plain TCP, for networks that are trusted as a whole and for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnect;

impl Connect for TcpConnect {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }
}
