//! Where figures may be read, and by whom.
//!
//! The rule: not at all unless asked for; without more, only from this machine; from other machines only over TLS 1.3, by who shows
//! the token. It is decided here, before anything listens.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of a token, at least: shorter ones can be guessed.
const TOKEN_BYTES_MIN: usize = 16;
/// Bytes of a file that is read, at most.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What an operator decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// The file whose content a reader shows as `Authorization: Bearer`.
    pub token_file: Option<PathBuf>,
    /// The files of the certificate, with what it was issued by, and of its key; PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Why nobody can read figures there.
#[derive(Debug, thiserror::Error)]
pub enum ListeningError {
    /// Others could read it.
    #[error(
        "metrics are not served at {address}: other machines reach that, so it takes `token_file`, `certificate` and `key` below \
         [metrics]; or listen on 127.0.0.1"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// A file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {why}", path = path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What is asked of a reader.
#[derive(Clone)]
pub(crate) struct Admission {
    /// The hash of the token.
    token: Option<blake3::Hash>,
    /// What this end shows.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Listening {
    /// Whoever is on this machine may read at this address.
    pub fn here(address: SocketAddr) -> Self {
        Self { address, token_file: None, tls: None }
    }

    /// What is asked of readers, as the files say now.
    ///
    /// # Errors
    /// When others could read, or a file is not what it should be.
    pub(crate) fn admission(&self) -> Result<Admission, ListeningError> {
        let closed = self.token_file.is_some() && self.tls.is_some();
        if !self.address.ip().is_loopback() && !closed {
            return Err(ListeningError::Open { address: self.address });
        }
        let token = self.token_file.as_deref().map(token).transpose()?;
        let tls = self.tls.as_ref().map(|(certificate, key)| tls(certificate, key)).transpose()?;
        Ok(Admission { token, tls })
    }
}

impl Admission {
    /// Whether who shows this may read.
    pub(crate) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = authorization.and_then(|shown| shown.strip_prefix(b"Bearer "));
        // Hashes are compared in a time that says nothing of how much of them agrees.
        shown.is_some_and(|shown| blake3::hash(shown) == *token)
    }
}

fn read(path: &Path, private: bool) -> Result<String, ListeningError> {
    let unreadable = |source| ListeningError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    if private && mode & 0o077 != 0 {
        let why = format!("others may read it (mode {:o}); `chmod 600` it", mode & 0o777);
        return Err(ListeningError::Content { path: path.to_owned(), why });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn token(path: &Path) -> Result<blake3::Hash, ListeningError> {
    let text = read(path, true)?;
    let token = text.trim();
    if token.len() < TOKEN_BYTES_MIN {
        let why = format!("a token has at least {TOKEN_BYTES_MIN} characters; `openssl rand -hex 32` makes one");
        return Err(ListeningError::Content { path: path.to_owned(), why });
    }
    Ok(blake3::hash(token.as_bytes()))
}

fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, ListeningError> {
    let wrong = |path: &Path, why: &dyn std::fmt::Display| ListeningError::Content {
        path: path.to_owned(),
        why: why.to_string(),
    };
    let chain = CertificateDer::pem_slice_iter(read(certificate, false)?.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong(certificate, &error))?;
    let own = PrivateKeyDer::from_pem_slice(read(key, true)?.as_bytes()).map_err(|error| wrong(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| wrong(certificate, &error))?.with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(chain, own).map_err(|error| wrong(certificate, &error))?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn kept(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn refused(listening: &Listening) -> String {
        listening.admission().err().expect("a refusal").to_string()
    }

    #[test]
    fn beyond_this_machine_nobody_reads_without_tls_and_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let token_file = Some(kept(folder.path(), "token", "0123456789abcdef\n", 0o600));
        let made = rcgen::generate_simple_self_signed(["c1".to_owned()]).unwrap();
        let certificate = kept(folder.path(), "cert.pem", &made.cert.pem(), 0o644);
        let key = kept(folder.path(), "key.pem", &made.signing_key.serialize_pem(), 0o600);
        let tls = Some((certificate, key));
        let at = |address: &str| Listening::here(address.parse().unwrap());
        for open in ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464"] {
            assert!(refused(&at(open)).contains("`token_file`, `certificate` and `key`"));
            assert!(refused(&Listening { token_file: token_file.clone(), ..at(open) }).contains("other machines"));
            assert!(refused(&Listening { tls: tls.clone(), ..at(open) }).contains("other machines"));
            let closed = Listening { token_file: token_file.clone(), tls: tls.clone(), ..at(open) };
            assert!(closed.admission().is_ok());
        }
        assert!(at("127.0.0.1:9464").admission().unwrap().admits(None), "this machine may");
    }

    #[test]
    fn who_reads_shows_the_token_and_files_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let here = Listening::here("127.0.0.1:1".parse().unwrap());
        let with = |token_file: PathBuf| Listening { token_file: Some(token_file), ..here.clone() };
        let good = with(kept(folder.path(), "token", "0123456789abcdef\n", 0o600)).admission().unwrap();
        assert!(good.admits(Some(b"Bearer 0123456789abcdef")));
        for wrong in [None, Some(&b"Bearer 0123456789abcdeF"[..]), Some(b"0123456789abcdef"), Some(b"Bearer ")] {
            assert!(!good.admits(wrong));
        }
        let short = with(kept(folder.path(), "short", "secret", 0o600));
        assert!(refused(&short).contains("at least 16 characters"));
        let open = with(kept(folder.path(), "open", "0123456789abcdef", 0o644));
        assert!(refused(&open).contains("chmod 600"));
        assert!(refused(&with(folder.path().join("none"))).contains("none: No such file"));
    }
}
