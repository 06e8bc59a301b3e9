//! HTTP/1.1 to an object store: one connection for each request, with the TLS that all of this program uses and the machine's own
//! authorities.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use rustix::net::sockopt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
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
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self))
    }
}

fn failed(kind: HttpErrorKind) -> impl FnOnce(io::Error) -> HttpError {
    move |error| HttpError::new(kind, error)
}

#[async_trait]
impl HttpService for Plain {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let opened = tokio::time::timeout(CONNECT, open(request.uri())).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = opened.map_err(failed(HttpErrorKind::Connect))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends with the answer's last byte, or with whoever does not want to read it.
        tokio::spawn(connection);
        to_origin_form(&mut request)?;
        match tokio::time::timeout(ANSWER, sender.send_request(request)).await {
            Ok(Ok(answer)) => Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken)))),
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => Err(failed(HttpErrorKind::Timeout)(io::ErrorKind::TimedOut.into())),
        }
    }
}

fn broken(error: hyper::Error) -> HttpError {
    let kind = if error.is_timeout() { HttpErrorKind::Timeout } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}

/// Names the server in a header, as HTTP/1.1 does, and what is asked of it in the first line.
fn to_origin_form(request: &mut HttpRequest) -> Result<(), HttpError> {
    let wrong = |_| failed(HttpErrorKind::Unknown)(io::ErrorKind::InvalidInput.into());
    if !request.headers().contains_key(HOST) {
        let host = request.uri().authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
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
