//! Sends spans to a collector, in the background. Nothing waits for it: what it cannot send in time is dropped, and counted.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::{Span, otlp};

/// Spans that wait to be sent; further ones are dropped.
const WAITING: usize = 8_192;
/// Spans of one request.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long somebody waits for a collector.
const FLUSH: Duration = Duration::from_secs(1);
/// Where spans are posted, below what an endpoint says.
const PATH: &str = "v1/traces";

/// Where a collector is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    host: String,
    port: u16,
    path: String,
}

/// An endpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is none.
    #[error("`{0}` is no collector; write http://127.0.0.1:4318")]
    Malformed(String),
    /// It is on another machine.
    #[error(
        "`{0}` is on another machine, and spans are not encrypted on the way: run a collector on this one, which passes them on over TLS, \
         and name 127.0.0.1 or [::1]"
    )]
    Elsewhere(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(malformed());
        }
        let host = uri.host().ok_or_else(malformed)?.trim_matches(['[', ']']).to_owned();
        let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if !here {
            return Err(EndpointError::Elsewhere(text.to_owned()));
        }
        // Other programs are given either.
        let below = uri.path().trim_end_matches('/');
        let path = format!("{}/{PATH}", below.strip_suffix(PATH).unwrap_or(below).trim_end_matches('/'));
        Ok(Self { host, port: uri.port_u16().unwrap_or(4318), path })
    }
}

enum Wish {
    Send(Span),
    /// Answered once all before it are sent or given up.
    Flush(oneshot::Sender<()>),
}

/// Takes spans; cheap to clone.
#[derive(Clone)]
pub struct Exporter {
    wishes: mpsc::Sender<Wish>,
    dropped: Arc<AtomicU64>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl Exporter {
    /// Sends to the collector at this address, such as `http://127.0.0.1:4318`, as this part of a cluster. To be called within an
    /// asynchronous runtime.
    ///
    /// # Errors
    /// When it is no address, or another machine's.
    pub fn to(endpoint: &str, service: &str) -> Result<Self, EndpointError> {
        let endpoint: Endpoint = endpoint.parse()?;
        let (wishes, waiting) = mpsc::channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let resource = vec![
            ("service.name", service.to_owned()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("host.name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ];
        tokio::spawn(run(endpoint, resource, waiting, dropped.clone()));
        Ok(Self { wishes, dropped })
    }

    /// Has a span sent. It never waits.
    pub fn send(&self, span: Span) {
        if self.wishes.try_send(Wish::Send(span)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was to be sent is, or was given up; a second at most.
    pub async fn flush(&self) {
        let (done, heard) = oneshot::channel();
        let flushed = async {
            if self.wishes.send(Wish::Flush(done)).await.is_ok() {
                // Who would answer may be gone.
                let _ = heard.await;
            }
        };
        // Whatever is not sent by then is nobody's loss.
        let _ = tokio::time::timeout(FLUSH, flushed).await;
    }
}

async fn run(
    endpoint: Endpoint,
    resource: Vec<(&'static str, String)>,
    mut waiting: mpsc::Receiver<Wish>,
    dropped: Arc<AtomicU64>,
) {
    let mut takes = true;
    while let Some(first) = waiting.recv().await {
        let (batch, flushes) = gather(first, &mut waiting).await;
        if !batch.is_empty() {
            let sent = tokio::time::timeout(PATIENCE, post(&endpoint, otlp::encode(&resource, &batch))).await;
            let sent = sent.unwrap_or_else(|_| Err("it took too long".to_owned()));
            if sent.is_err() {
                dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            // Said when it changes: a collector that is away is away for a while.
            match (takes, &sent) {
                (true, Err(why)) => tracing::warn!(error = why, "a collector takes no spans; they are dropped"),
                (false, Ok(())) => {
                    tracing::info!(dropped = dropped.load(Ordering::Relaxed), "a collector takes spans again");
                }
                _ => {}
            }
            takes = sent.is_ok();
        }
        for done in flushes {
            // Who asked may have gone meanwhile.
            let _ = done.send(());
        }
    }
}

/// What comes within a moment, up to a batch.
async fn gather(first: Wish, waiting: &mut mpsc::Receiver<Wish>) -> (Vec<Span>, Vec<oneshot::Sender<()>>) {
    let (mut batch, mut flushes, mut next) = (Vec::new(), Vec::new(), Some(first));
    let until = tokio::time::sleep(GATHER);
    tokio::pin!(until);
    while let Some(wish) = next {
        match wish {
            Wish::Send(span) => batch.push(span),
            Wish::Flush(done) => {
                flushes.push(done);
                break;
            }
        }
        if batch.len() >= BATCH {
            break;
        }
        next = tokio::select! {
            wish = waiting.recv() => wish,
            () = &mut until => None,
        };
    }
    (batch, flushes)
}

async fn post(endpoint: &Endpoint, body: Vec<u8>) -> Result<(), String> {
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    let addresses: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    // A name of this machine may lead elsewhere.
    let address =
        addresses.into_iter().find(|address| address.ip().is_loopback()).ok_or("it is not on this machine")?;
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driving = tokio::spawn(connection);
    let request = Request::post(endpoint.path.as_str())
        .header(http::header::HOST, address.to_string())
        .header(http::header::CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    driving.abort();
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_on_this_machine() {
        let endpoint = |text: &str| text.parse::<Endpoint>();
        let here = endpoint("http://127.0.0.1:4318").unwrap();
        assert_eq!((here.port, here.path.as_str()), (4318, "/v1/traces"));
        assert_eq!(endpoint("http://[::1]/otlp/").unwrap().path, "/otlp/v1/traces");
        assert_eq!(endpoint("http://localhost").unwrap().port, 4318);
        assert_eq!(endpoint("http://localhost:1/v1/traces").unwrap().path, "/v1/traces");
        for elsewhere in ["http://10.0.0.1:4318", "http://collector:4318", "http://localhost.example:1"] {
            assert!(matches!(endpoint(elsewhere), Err(EndpointError::Elsewhere(_))), "{elsewhere}");
        }
        for malformed in ["", "127.0.0.1:4318", "https://127.0.0.1", "ftp://127.0.0.1", "http://127.0.0.1/?a"] {
            assert!(matches!(endpoint(malformed), Err(EndpointError::Malformed(_))), "{malformed}");
        }
    }
}
