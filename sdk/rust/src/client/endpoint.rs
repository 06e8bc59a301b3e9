//! Where a cluster is reached, and how a connection to it is made.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::patience::Patience;
use flowyard_identity::{ApiToken, Doors, TokenError};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Where a cluster is reached: the unix socket of an embedded cluster or of a coordinator on this machine, as `unix:///path` or as
/// a plain path; or a fleet, by a token of its API, which names its coordinators and proves who calls.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    place: Place,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Socket(PathBuf),
    Fleet(Box<ApiToken>),
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing was given.
    #[error("an endpoint must not be empty; write unix:///path/to/api.sock, or give a token of the API")]
    Empty,
    /// A way to connect that there is not.
    #[error(
        "`{scheme}://` endpoints are not supported: a cluster of machines is reached by a token of its API \
         (`fctl token create`), which names its coordinators; one of this machine by unix:///path/to/api.sock"
    )]
    Scheme {
        /// What was written before `://`.
        scheme: String,
    },
    /// A token that is none.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Endpoint {
    /// The socket at this path.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::Socket(path.into()) }
    }

    /// The cluster that this token is for.
    pub fn fleet(token: ApiToken) -> Self {
        Self { place: Place::Fleet(Box::new(token)) }
    }

    /// A channel that connects when it is first used, and again whenever the connection was lost.
    pub fn channel(&self) -> Channel {
        // The address is only a name for HTTP; the connector decides where to go.
        let endpoint = tonic::transport::Endpoint::from_static("http://flowyard")
            .http2_keep_alive_interval(std::time::Duration::from_secs(5))
            .keep_alive_timeout(std::time::Duration::from_secs(3));
        match &self.place {
            Place::Socket(socket) => {
                let socket = socket.clone();
                endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
                    let socket = socket.clone();
                    async move { connect(&socket).await.map(TokioIo::new) }
                }))
            }
            Place::Fleet(token) => {
                endpoint.connect_with_connector_lazy(Doors::pinned(token.addresses.clone(), token.authority))
            }
        }
    }

    /// Whether several coordinators stand behind it, so that others go on when one is lost.
    pub fn is_fleet(&self) -> bool {
        matches!(self.place, Place::Fleet(_))
    }

    /// How long it is worth while to ask again.
    pub(super) fn patience(&self) -> Patience {
        if self.is_fleet() { Patience::for_failover() } else { Patience::none() }
    }

    /// What shows who calls.
    pub(super) fn bearer(&self) -> Bearer {
        let shown = match &self.place {
            Place::Socket(_) => None,
            Place::Fleet(token) => {
                let shown = MetadataValue::try_from(format!("Bearer {}", token.to_text().as_str()));
                // A token's text is letters, digits and a dash.
                shown.ok().map(|mut shown| {
                    shown.set_sensitive(true);
                    shown
                })
            }
        };
        Bearer { shown, stale: false }
    }
}

/// Metadata with which a reader is content with what the coordinator that answers knows.
const STALE: &str = "flowyard-stale";

/// Shows the token with each request, if there is one, and says whether an old answer will do.
#[derive(Debug, Clone)]
pub(super) struct Bearer {
    shown: Option<MetadataValue<Ascii>>,
    pub(super) stale: bool,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(shown) = &self.shown {
            request.metadata_mut().insert("authorization", shown.clone());
        }
        if self.stale {
            request.metadata_mut().insert(STALE, MetadataValue::from_static("1"));
        }
        Ok(request)
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
            None if is_token(text) => Ok(Self::fleet(text.parse()?)),
            None => Ok(Self::socket(text)),
        }
    }
}

/// Whether a text was meant as a token: nobody calls a socket like that.
fn is_token(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(5).collect::<String>().to_ascii_lowercase();
    matches!(start.as_str(), "fya1-" | "fyt1-")
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Socket(path) => write!(f, "unix://{}", path.display()),
            Place::Fleet(token) => f.write_str(&token.addresses.join(", ")),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use flowyard_identity::Secret;
    use flowyard_model::{Fingerprint, TokenId};

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

    #[test]
    fn a_token_is_an_endpoint_that_shows_no_secret() {
        let addresses = vec!["c1:7400".to_owned(), "c2:7400".to_owned()];
        let token = ApiToken { id: TokenId(1), secret: Secret::random(), authority: Fingerprint([1; 32]), addresses };
        let text = token.to_text();
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint, Endpoint::fleet(token));
        assert_eq!(format!("{endpoint:?}"), "Endpoint(c1:7400, c2:7400)");
        assert!(!format!("{:?}", endpoint.bearer()).contains(&text[10..]), "a log would have the secret");
        assert!(matches!(text[..50].parse::<Endpoint>(), Err(EndpointError::Token(_))));
    }
}
