//! Answers `GET /metrics`, and nothing else.
//!
//! Bounded in connections, sizes and times: whoever reads slowly, or asks for something else, costs next to nothing.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::exposition::Exposition;
use crate::listening::{Admission, Listening, ListeningError};

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 16;
/// How long a handshake, or the head of a request, may be in coming.
const HEAD: Duration = Duration::from_secs(5);
/// How long one connection lasts at most; a reader just makes another one.
const LIFE: Duration = Duration::from_secs(60);
/// Bytes of the head of a request, at most.
const HEAD_BYTES: usize = 16 * 1024;
/// Wait after the system refused to accept, which it does while it has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
const PATH: &str = "/metrics";
/// As the text format is called.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why figures are not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// They may not be, or not so.
    #[error(transparent)]
    Listening(#[from] ListeningError),
    /// The port cannot be had.
    #[error("metrics at {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Figures are served until this is dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    tls: bool,
    serving: AbortHandle,
}

impl Served {
    /// Where they are read.
    pub fn url(&self) -> String {
        format!("{}://{}{PATH}", if self.tls { "https" } else { "http" }, self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A place where figures will be served.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    listening: Listening,
    admission: Admission,
}

/// Takes the place that the operator decided on.
///
/// # Errors
/// When others could read there, a file is wrong, or the port is taken.
pub async fn bind(listening: Listening) -> Result<Bound, ServeError> {
    let admission = listening.admission()?;
    let failed = |source| ServeError::Bind { address: listening.address, source };
    let listener = TcpListener::bind(listening.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address, listening, admission })
}

impl Bound {
    /// Serves these figures there.
    pub fn serve(self, exposition: Exposition) -> Served {
        let Self { listener, address, listening, admission } = self;
        let tls = admission.tls.is_some();
        let serving = tokio::spawn(accept(listener, listening, admission, exposition)).abort_handle();
        Served { address, tls, serving }
    }
}

/// Serves these figures as the operator decided. Connections are taken once this returns.
///
/// # Errors
/// As [`bind`].
pub async fn serve(listening: Listening, exposition: Exposition) -> Result<Served, ServeError> {
    Ok(bind(listening).await?.serve(exposition))
}

async fn accept(listener: TcpListener, listening: Listening, mut admission: Admission, exposition: Exposition) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "no reader of metrics was accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // A certificate is replaced while this runs. Files that are just being written leave what was read before.
        match listening.admission() {
            Ok(now) => admission = now,
            Err(error) => tracing::warn!(%error, "metrics are served with what its files said before"),
        }
        let (admission, exposition) = (admission.clone(), exposition.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LIFE, handshake(stream, admission, exposition)).await;
            drop(place);
        });
    }
}

async fn handshake(stream: TcpStream, admission: Admission, exposition: Exposition) {
    let Some(tls) = admission.tls.clone() else { return answer(stream, admission, exposition).await };
    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, TlsAcceptor::from(tls).accept(stream)).await {
        answer(stream, admission, exposition).await;
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    admission: Admission,
    exposition: Exposition,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (admission, exposition) = (admission.clone(), exposition.clone());
        async move { Ok::<_, Infallible>(page(&request, &admission, exposition).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a reader of metrics went");
    }
}

async fn page(request: &Request<Incoming>, admission: &Admission, exposition: Exposition) -> Response<Full<Bytes>> {
    let shown = request.headers().get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
    if !admission.admits(shown) {
        let mut refused = said(StatusCode::UNAUTHORIZED, "show the token of `token_file`: Authorization: Bearer ...\n");
        refused.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        return refused;
    }
    if request.uri().path() != PATH {
        return said(StatusCode::NOT_FOUND, "there is only /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return said(StatusCode::METHOD_NOT_ALLOWED, "it is only read\n");
    }
    match tokio::task::spawn_blocking(move || exposition.text()).await {
        Ok(text) => said(StatusCode::OK, text),
        Err(_) => said(StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be told\n"),
    }
}

fn said(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(TEXT));
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
