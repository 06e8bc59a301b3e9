//! Where a cluster is reached, and how a connection to it is made.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Channel;

/// Where a cluster is reached: the unix socket of an embedded cluster, as `unix:///path` or as a plain path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    socket: PathBuf,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing was given.
    #[error("an endpoint must not be empty; write unix:///path/to/api.sock")]
    Empty,
    /// A way to connect that there is not.
    #[error(
        "`{scheme}://` endpoints are not supported: this release serves embedded clusters on unix sockets only; write unix:///path/to/api.sock"
    )]
    Scheme {
        /// What was written before `://`.
        scheme: String,
    },
}

impl Endpoint {
    /// The socket at this path.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        Self { socket: path.into() }
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.socket
    }

    /// A channel that connects when it is first used, and again whenever the connection was lost.
    pub fn channel(&self) -> Channel {
        let socket = self.socket.clone();
        let connect = move |_| {
            let socket = socket.clone();
            async move { connect(&socket).await.map(TokioIo::new) }
        };
        // The address is only a name for HTTP; the connector decides where to go.
        tonic::transport::Endpoint::from_static("http://flowyard")
            .http2_keep_alive_interval(std::time::Duration::from_secs(5))
            .keep_alive_timeout(std::time::Duration::from_secs(3))
            .connect_with_connector_lazy(tower::service_fn(connect))
    }
}

/// Connects to a unix socket whose path may be longer than the 107 bytes that an address holds: its folder is opened, and
/// the socket named relative to that.
async fn connect(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() < 100 {
        return UnixStream::connect(socket).await;
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let folder = std::fs::File::open(parent)?;
    UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)).await
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.split_once("://") {
            _ if text.is_empty() => Err(EndpointError::Empty),
            Some(("unix", "")) => Err(EndpointError::Empty),
            Some(("unix", path)) => Ok(Self::socket(path)),
            Some((scheme, _)) => {
                Err(EndpointError::Scheme { scheme: scheme.chars().take(20).flat_map(char::escape_debug).collect() })
            }
            None => Ok(Self::socket(text)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.socket.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_endpoints_and_other_schemes_are_refused_with_the_way_out() {
        assert_eq!("unix:///run/x.sock".parse(), Ok(Endpoint::socket("/run/x.sock")));
        assert_eq!("x.sock".parse(), Ok(Endpoint::socket("x.sock")));
        let refused = "https://a:1".parse::<Endpoint>().unwrap_err().to_string();
        assert!(
            refused.contains("`https://` endpoints are not supported") && refused.contains("unix:///"),
            "{refused}"
        );
        assert_eq!("".parse::<Endpoint>(), Err(EndpointError::Empty));
        assert_eq!("unix://".parse::<Endpoint>(), Err(EndpointError::Empty));
    }
}
