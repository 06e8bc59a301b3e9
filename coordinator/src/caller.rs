//! Who calls. Each port's acceptor says how somebody arrived, and [`Doorkeeper`] turns that into one [`Standing`] in each request;
//! nothing else reads identity, and nothing trusts an address.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use flowyard_identity::{ApiToken, Identified, Shown};
use flowyard_model::Grant;
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
use crate::raft::Speaker;
use crate::standing::{Certified, Ground, Standing, by_another};

/// Metadata in which a coordinator says for whom it passes a call on.
pub(crate) const PASSED_ON_FOR: &str = "flowyard-caller-bin";
const AUTHORIZATION: &str = "authorization";
pub(crate) const BEARER: &str = "Bearer ";

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
        /// Set once they have shown a token.
        shown: Shown,
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
            let (identified, shown) = (accepted.identified().cloned(), accepted.shown().clone());
            let arrival = Arrival::Port { identified, address: accepted.address(), shown };
            Accepted { stream: Box::new(accepted), arrival }
        })
    })
}

/// Who called, judged again: a request may take long to be sent whole, and its maker have been shut out meanwhile.
///
/// # Errors
/// When they may not call any more, or by a fault of ours: a request that came past the doorkeeper.
pub(crate) fn standing<T>(request: &Request<T>) -> Result<Standing, Status> {
    let standing = request.extensions().get::<Standing>().cloned();
    let standing = standing.ok_or_else(|| Status::internal("a request without a caller"))?;
    standing.check()?;
    Ok(standing)
}

/// Who called.
///
/// # Errors
/// As [`standing`].
pub(crate) fn of<T>(request: &Request<T>) -> Result<Caller, Status> {
    Ok(standing(request)?.caller)
}

/// Says what a call is about, for the audit stream.
pub(crate) fn about<T>(request: &Request<T>, object: &str) {
    if let Some(standing) = request.extensions().get::<Standing>() {
        standing.about(object);
    }
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

/// What a port lets its callers say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The socket and the API's port: a user, a certificate, a token.
    Api,
    /// The port of replicas: a coordinator's certificate, and for whom it passes a call on.
    Peers,
}

/// Puts the caller into each request. What they showed is judged anew each time: it may have expired or been taken back since.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    /// Which port.
    pub door: Door,
    /// Where tokens and revocations are.
    pub feed: Feed,
}

impl Interceptor for Doorkeeper {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let arrival = request.extensions().get::<Arrival>().cloned();
        let arrived = self.arrived(arrival.ok_or_else(|| Status::internal("a request of nowhere"))?);
        if let Err(refused) = arrived.check() {
            let passed_on = self.door == Door::Peers && request.metadata().contains_key(PASSED_ON_FOR);
            return Err(if passed_on { by_another(&refused) } else { refused });
        }
        if let (Door::Peers, Caller::Coordinator { replica }) = (self.door, &arrived.caller) {
            request.extensions_mut().insert(Speaker(replica.0));
        }
        let standing = match self.door {
            Door::Api => self.with_token(request.metadata(), arrived)?,
            Door::Peers => passed_on(request.metadata(), arrived)?,
        };
        standing.check()?;
        tracing::trace!(address = standing.address, caller = ?standing.caller, "a request");
        request.extensions_mut().insert(standing);
        Ok(request)
    }
}

impl Doorkeeper {
    fn arrived(&self, arrival: Arrival) -> Standing {
        let mut standing = Standing {
            caller: Caller::Nobody,
            ground: Ground::Nothing,
            address: "its socket".to_owned(),
            through: None,
            shown: None,
            object: Arc::default(),
            feed: self.feed.clone(),
        };
        match arrival {
            Arrival::Socket(name) => standing.caller = Caller::Owner { name },
            Arrival::Port { identified, address, shown } => {
                (standing.address, standing.shown) = (address.to_string(), Some(shown));
                if let Some(found) = identified {
                    standing.ground = Ground::Certificate(Certified::of(&found));
                    standing.caller = Caller::certified(&found);
                }
            }
        }
        standing
    }

    /// A token says who calls, whatever the connection said: it was shown on purpose.
    fn with_token(&self, metadata: &MetadataMap, arrived: Standing) -> Result<Standing, Status> {
        let Some(shown) = metadata.get(AUTHORIZATION) else { return Ok(arrived) };
        let wrong = |why: String| Status::unauthenticated(why);
        let text = shown.to_str().ok().and_then(|text| text.strip_prefix(BEARER));
        let text = text.ok_or_else(|| wrong("the authorization is not `Bearer fya1-...`".to_owned()))?;
        let token: ApiToken = text.parse().map_err(|error| wrong(format!("the token: {error}")))?;
        let view = self.feed.view();
        // Whether a token never was or has expired long ago is nobody's business.
        let unknown =
            || wrong("this token is not known here: it has expired, or belongs to another cluster".to_owned());
        let known = view.token(token.id).filter(|known| token.secret.matches(&known.hash)).ok_or_else(unknown)?;
        match &known.grant {
            Grant::Api { principal, role } => {
                let caller = Caller::Person { name: principal.clone(), role: role.clone() };
                if let Some(shown) = &arrived.shown {
                    shown.set();
                }
                Ok(Standing { caller, ground: Ground::Token(token.id), ..arrived })
            }
            Grant::Join(_) => Err(wrong("this token is for joining, not for the API".to_owned())),
        }
    }
}

/// On the port of replicas: only coordinators come in, and one may speak for whom it let in itself. What that one has shown comes
/// along and is judged again here, where more may be known.
fn passed_on(metadata: &MetadataMap, arrived: Standing) -> Result<Standing, Status> {
    let (Caller::Coordinator { replica }, Ground::Certificate(through)) = (&arrived.caller, &arrived.ground) else {
        return Err(Status::permission_denied("this port is for the coordinators of the cluster"));
    };
    let Some(said) = metadata.get_bin(PASSED_ON_FOR) else { return Ok(arrived) };
    allow(&arrived.caller, Action::Forward { replica: *replica })?;
    let unreadable = || Status::invalid_argument("it is unreadable for whom a call was passed on");
    let wire = peer::Caller::decode(said.to_bytes().map_err(|_| unreadable())?).map_err(|_| unreadable())?;
    let (address, ground) = (wire.address.clone(), Ground::try_from(wire.ground.clone())?);
    let caller = Caller::try_from(wire)?;
    let groundless = !matches!(caller, Caller::Owner { .. } | Caller::Nobody) && ground == Ground::Nothing;
    if groundless {
        return Err(Status::invalid_argument("a call was passed on without what its maker has shown"));
    }
    let through = Some(through.clone());
    Ok(Standing { caller, ground, address, through, ..arrived })
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
