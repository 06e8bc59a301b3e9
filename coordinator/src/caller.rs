//! Who calls. Each port's acceptor says how somebody arrived, and [`Doorkeeper`] turns that into one [`Caller`] in each request;
//! nothing else reads identity, and nothing trusts an address.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use flowyard_identity::{ApiToken, Identified, Trust};
use flowyard_model::{Grant, TimeMs};
use flowyard_proto::peer;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use crate::access::{Action, Caller, allow};
use crate::feed::Feed;
use crate::fleet::Fleet;
use crate::raft::Speaker;

/// Metadata in which a coordinator says for whom it passes a call on.
pub(crate) const PASSED_ON_FOR: &str = "flowyard-caller-bin";
const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "Bearer ";

/// How somebody arrived.
#[derive(Debug, Clone)]
pub(crate) enum Arrival {
    /// At the socket, as the user of this name.
    Socket(String),
    /// At a port.
    Port {
        /// With this certificate, if any.
        identified: Option<Arc<Identified>>,
        /// From there.
        address: SocketAddr,
    },
}

/// An accepted connection with how it arrived.
pub(crate) struct Accepted {
    stream: Box<dyn Wire>,
    arrival: Arrival,
}

/// A byte stream in both directions.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

impl Connected for Accepted {
    type ConnectInfo = Arrival;

    fn connect_info(&self) -> Arrival {
        self.arrival.clone()
    }
}

/// Accepts callers that are the user this coordinator runs as, or root; others are hung up on.
pub(crate) fn accept_users(listener: UnixListener) -> impl Stream<Item = io::Result<Accepted>> {
    let own = rustix::process::geteuid().as_raw();
    futures::stream::unfold(listener, move |listener| async move {
        loop {
            let stream: UnixStream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => return Some((Err(error), listener)),
            };
            match stream.peer_cred() {
                Ok(cred) if cred.uid() == own || cred.uid() == 0 => {
                    let arrival = Arrival::Socket(user_name(cred.uid()));
                    return Some((Ok(Accepted { stream: Box::new(stream), arrival }), listener));
                }
                Ok(cred) => tracing::warn!(uid = cred.uid(), "a caller that is another user was hung up on"),
                Err(error) => tracing::warn!(%error, "a caller without credentials was hung up on"),
            }
        }
    })
}

/// Those who passed the gate of a port.
pub(crate) fn accept_certified(
    passed: impl Stream<Item = io::Result<flowyard_identity::Accepted>>,
) -> impl Stream<Item = io::Result<Accepted>> {
    passed.map(|accepted| {
        accepted.map(|accepted| {
            let arrival = Arrival::Port { identified: accepted.identified().cloned(), address: accepted.address() };
            Accepted { stream: Box::new(accepted), arrival }
        })
    })
}

/// Who called.
///
/// # Errors
/// A fault of ours: a request that came past the doorkeeper.
pub(crate) fn of<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("a request without a caller"))
}

/// Who called, if they may do this.
///
/// # Errors
/// When they may not.
pub(crate) fn allowed<T>(request: &Request<T>, action: Action<'_>) -> Result<Caller, Status> {
    let caller = of(request)?;
    allow(&caller, action)?;
    Ok(caller)
}

/// Who calls for a long time, and may lose the right to meanwhile.
pub(crate) struct Standing {
    /// Who.
    pub caller: Caller,
    certified: Option<(Arc<Identified>, Arc<Trust>)>,
}

impl Standing {
    /// Whether the caller still is who they were.
    ///
    /// # Errors
    /// When their certificate has expired or was shut out.
    pub(crate) fn check(&self) -> Result<(), Status> {
        let Some((identified, trust)) = &self.certified else { return Ok(()) };
        trust.admit(identified).map_err(|refused| Status::unauthenticated(refused.to_string()))
    }
}

/// Who called, to be asked again later.
///
/// # Errors
/// As [`of`].
pub(crate) fn standing<T>(request: &Request<T>, fleet: Option<&Fleet>) -> Result<Standing, Status> {
    let certified = match (request.extensions().get::<Arrival>(), fleet) {
        (Some(Arrival::Port { identified: Some(identified), .. }), Some(fleet)) => {
            Some((identified.clone(), fleet.trust().clone()))
        }
        _ => None,
    };
    Ok(Standing { caller: of(request)?, certified })
}

/// What a port lets its callers say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The socket and the API's port: a user, a certificate, a token.
    Api,
    /// The port of replicas: a coordinator's certificate, and for whom it passes a call on.
    Peers,
}

/// Puts the caller into each request. A certificate is judged anew each time: it may have expired or been shut out since.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    /// Which port.
    pub door: Door,
    /// Whom we believe; nobody comes with a certificate where there is none.
    pub trust: Option<Arc<Trust>>,
    /// Where tokens are.
    pub feed: Feed,
}

impl Interceptor for Doorkeeper {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let arrival = request.extensions().get::<Arrival>().cloned();
        let caller = match arrival.ok_or_else(|| Status::internal("a request of nowhere"))? {
            Arrival::Socket(name) => Caller::Owner { name },
            Arrival::Port { identified, address } => {
                let caller = self.certified(identified.as_deref());
                tracing::trace!(%address, ?caller, "a request");
                caller?
            }
        };
        if let (Door::Peers, Caller::Coordinator { replica }) = (self.door, &caller) {
            request.extensions_mut().insert(Speaker(replica.0));
        }
        let caller = match self.door {
            Door::Api => self.with_token(request.metadata(), caller)?,
            Door::Peers => passed_on(request.metadata(), caller)?,
        };
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

impl Doorkeeper {
    fn certified(&self, identified: Option<&Identified>) -> Result<Caller, Status> {
        let (Some(found), Some(trust)) = (identified, &self.trust) else { return Ok(Caller::Nobody) };
        trust.admit(found).map_err(|refused| Status::unauthenticated(refused.to_string()))?;
        Ok(Caller::certified(found))
    }

    /// A token says who calls, whatever the connection said: it was shown on purpose.
    fn with_token(&self, metadata: &MetadataMap, caller: Caller) -> Result<Caller, Status> {
        let Some(shown) = metadata.get(AUTHORIZATION) else { return Ok(caller) };
        let wrong = |why: String| Status::unauthenticated(why);
        let text = shown.to_str().ok().and_then(|text| text.strip_prefix(BEARER));
        let text = text.ok_or_else(|| wrong("the authorization is not `Bearer fya1-...`".to_owned()))?;
        let token: ApiToken = text.parse().map_err(|error| wrong(format!("the token: {error}")))?;
        let view = self.feed.view();
        // Whether a token never was or has expired long ago is nobody's business.
        let unknown =
            || wrong("this token is not known here: it has expired, or belongs to another cluster".to_owned());
        let known = view.token(token.id).filter(|known| token.secret.matches(&known.hash)).ok_or_else(unknown)?;
        if let Some(fault) = known.fault(TimeMs(flowyard_clock::wall_ms())) {
            return Err(wrong(format!("the token {fault}; ask an administrator for another one")));
        }
        match &known.grant {
            Grant::Api { principal, role } => Ok(Caller::Person { name: principal.clone(), role: role.clone() }),
            Grant::Join(_) => Err(wrong("this token is for joining, not for the API".to_owned())),
        }
    }
}

/// On the port of replicas: only coordinators come in, and one may speak for whom it let in itself.
fn passed_on(metadata: &MetadataMap, caller: Caller) -> Result<Caller, Status> {
    let Caller::Coordinator { replica } = caller else {
        return Err(Status::permission_denied("this port is for the coordinators of the cluster"));
    };
    let Some(said) = metadata.get_bin(PASSED_ON_FOR) else { return Ok(caller) };
    allow(&caller, Action::Forward { replica })?;
    let unreadable = |_| Status::invalid_argument("it is unreadable for whom a call was passed on");
    let bytes =
        said.to_bytes().map_err(|_| Status::invalid_argument("it is unreadable for whom a call was passed on"))?;
    let wire = peer::Caller::decode(bytes).map_err(unreadable)?;
    Caller::try_from(wire)
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
