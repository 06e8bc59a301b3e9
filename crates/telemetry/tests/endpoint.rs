//! The page as a reader gets it.

use std::path::{Path, PathBuf};

use flowyard_telemetry::{Exposition, Listening, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn asked(url: &str, request: &str) -> String {
    let address = url.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches("/metrics");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n")
}

fn kept(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path
}

#[tokio::test]
async fn the_page_is_read_on_this_machine_and_nothing_else_is_answered() {
    let here = Listening::here("127.0.0.1:0".parse().unwrap());
    let served = serve(here, Exposition::of(vec![])).await.unwrap();
    let page = asked(&served.url(), &get("/metrics", "")).await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("text/plain; version=0.0.4"), "{page}");
    assert!(page.contains("\nflowyard_build_info{version=\""), "{page}");
    assert!(asked(&served.url(), &get("/", "")).await.starts_with("HTTP/1.1 404"));
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(asked(&served.url(), post).await.starts_with("HTTP/1.1 405"));
    let url = served.url();
    drop(served);
    tokio::task::yield_now().await;
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    let mut gone = false;
    for _ in 0..100 {
        gone = TcpStream::connect(&address).await.is_err();
        if gone {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(gone, "it is still served");
}

#[tokio::test]
async fn where_a_token_is_asked_for_nothing_is_told_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = Some(kept(folder.path(), "token", "0123456789abcdef"));
    let listening = Listening { token_file, ..Listening::here("127.0.0.1:0".parse().unwrap()) };
    let served = serve(listening, Exposition::of(vec![])).await.unwrap();
    for wrong in ["", "Authorization: Bearer nonsense\r\n"] {
        for path in ["/metrics", "/"] {
            let page = asked(&served.url(), &get(path, wrong)).await;
            assert!(page.starts_with("HTTP/1.1 401") && !page.contains("flowyard_"), "{page}");
        }
    }
    let page = asked(&served.url(), &get("/metrics", "Authorization: Bearer 0123456789abcdef\r\n")).await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[tokio::test]
async fn beyond_this_machine_it_is_tls_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let listening = Listening {
        address: "127.0.0.1:0".parse().unwrap(),
        token_file: Some(kept(folder.path(), "token", "0123456789abcdef")),
        tls: Some((
            kept(folder.path(), "cert.pem", &made.cert.pem()),
            kept(folder.path(), "key.pem", &made.signing_key.serialize_pem()),
        )),
    };
    let open = Listening { tls: None, address: "0.0.0.0:0".parse().unwrap(), ..listening.clone() };
    assert!(serve(open, Exposition::of(vec![])).await.unwrap_err().to_string().contains("other machines reach that"));
    let served = serve(listening, Exposition::of(vec![])).await.unwrap();
    assert!(served.url().starts_with("https://"));
    let page = asked(&served.url(), &get("/metrics", "Authorization: Bearer 0123456789abcdef\r\n")).await;
    assert!(!page.contains("flowyard_"), "it was told without TLS: {page}");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client =
        rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    let address = served.url().trim_start_matches("https://").trim_end_matches("/metrics").to_owned();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let request = get("/metrics", "Authorization: Bearer 0123456789abcdef\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200"));
}
