//! HTTP/1.1 to an object store: one connection for each request, with the TLS that all of this program uses and the machine's own
//! authorities.
//!
//! Invariant: nothing goes to another machine unencrypted, unless whoever runs the command says so.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use rustix::net::sockopt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsConnector;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The same to what a cloud's machines ask for their own credentials: elsewhere nobody is there, and nothing says so.
const CONNECT_NEAR: Duration = Duration::from_secs(1);
/// How long the next part of an answer may be in coming.
const PART: Duration = Duration::from_secs(60);
/// How long the beginning of an answer may take, the sending of the request with it.
const ANSWER: Duration = Duration::from_secs(300);
/// Silence after which the kernel looks whether the other end is still there.
const SILENCE: Duration = Duration::from_secs(30);
/// Where systems keep the authorities that they trust.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes clients that are as simple as that.
#[derive(Debug)]
pub(super) struct Plain;

impl HttpConnector for Plain {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let unencrypted = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        Ok(HttpClient::new(Caller { unencrypted }))
    }
}

/// Asks one kind of service.
#[derive(Debug)]
struct Caller {
    /// Whether other machines may be asked without TLS (`AWS_ALLOW_HTTP=true`).
    unencrypted: bool,
}

fn failed(kind: HttpErrorKind) -> impl FnOnce(io::Error) -> HttpError {
    move |error| HttpError::new(kind, error)
}

#[async_trait]
impl HttpService for Caller {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !self.unencrypted && !is_guarded(request.uri()) {
            let why = "the store is another machine and would be asked without encryption: name it with https://, or set \
                       AWS_ALLOW_HTTP=true where the network between is your own";
            return Err(failed(HttpErrorKind::Unknown)(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let near = request.uri().host().is_some_and(|host| host.starts_with("169.254."));
        let opened = tokio::time::timeout(if near { CONNECT_NEAR } else { CONNECT }, open(request.uri())).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = opened.map_err(failed(HttpErrorKind::Connect))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with the answer's last byte, or with whoever does not want to read it.
        tokio::spawn(connection);
        to_origin_form(&mut request)?;
        match tokio::time::timeout(ANSWER, sender.send_request(request)).await {
            Ok(Ok(answer)) => Ok(answer.map(|body| HttpResponseBody::new(Coming::new(body)))),
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(failed(HttpErrorKind::Timeout)(io::ErrorKind::TimedOut.into())),
        }
    }
}

fn broken(error: hyper::Error) -> HttpError {
    let kind = if error.is_timeout() { HttpErrorKind::Timeout } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}

/// Whether what is sent there cannot be read on its way.
fn is_guarded(uri: &hyper::Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    uri.scheme_str() != Some("http")
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The body of an answer, which is given up when it stops coming.
struct Coming {
    body: Incoming,
    until: Pin<Box<Sleep>>,
}

impl Coming {
    fn new(body: Incoming) -> Self {
        Self { body, until: Box::pin(tokio::time::sleep(PART)) }
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.until.as_mut().reset(Instant::now() + PART);
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        let late = self.until.as_mut().poll(context);
        late.map(|()| Some(Err(failed(HttpErrorKind::Timeout)(io::ErrorKind::TimedOut.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Names the server in a header, as HTTP/1.1 does, and what is asked of it in the first line.
fn to_origin_form(request: &mut HttpRequest) -> Result<(), HttpError> {
    let wrong = |_| failed(HttpErrorKind::Unknown)(io::ErrorKind::InvalidInput.into());
    if !request.headers().contains_key(HOST) {
        let host = request.uri().authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    // A bucket may be a host, and be asked about itself: all that is named then is a query.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    *request.uri_mut() = path.parse().map_err(wrong)?;
    Ok(())
}

async fn open(uri: &hyper::Uri) -> io::Result<Box<dyn Stream>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{uri}` is not where a store can be"));
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
    let secure = uri.scheme_str() != Some("http");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, SILENCE)?;
    if !secure {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
    Ok(Box::new(TlsConnector::from(Arc::new(tls()?)).connect(name, stream).await?))
}

/// TLS that believes whom the machine believes; `SSL_CERT_FILE` names others.
fn tls() -> io::Result<ClientConfig> {
    let named = std::env::var("SSL_CERT_FILE").ok();
    let files = named.as_deref().map_or(AUTHORITIES.to_vec(), |file| vec![file]);
    let found = files.iter().find_map(|file| std::fs::read(file).ok());
    let pem =
        found.ok_or_else(|| io::Error::other(format!("there are no trusted authorities in {}", files.join(", "))))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> HttpRequest {
        hyper::Request::get(uri).body(object_store::client::HttpRequestBody::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_store_on_another_machine_is_asked_over_tls_or_not_at_all() {
        for guarded in ["https://store.example", "http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost"] {
            assert!(is_guarded(&guarded.parse().unwrap()), "{guarded}");
        }
        let refused = Caller { unencrypted: false }.call(request("http://store.example/bucket/key")).await.unwrap_err();
        assert!(std::error::Error::source(&refused).unwrap().to_string().contains("AWS_ALLOW_HTTP=true"), "{refused}");
    }

    #[test]
    fn a_bucket_that_is_a_host_is_asked_about_itself() {
        let mut whole = request("https://bucket.store.example?uploads=");
        to_origin_form(&mut whole).unwrap();
        assert_eq!(
            (whole.uri().to_string().as_str(), &whole.headers()[HOST]),
            ("/?uploads=", &HeaderValue::from_static("bucket.store.example"))
        );
    }
}
