//! What we show others: a certificate, its key, and how both are replaced while connections are open.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use flowyard_model::TimeMs;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::authority::{LAPSED_MS, certificate_pem};
use crate::certificate::Identified;
use crate::files::{self, FileError};
use crate::refused::Refused;
use crate::trust::{PROVIDER, Side, Trust};

/// A new key and the request for a certificate of it. The key never leaves this process but for its own file.
pub struct KeyRequest {
    key: Zeroizing<String>,
    request: Vec<u8>,
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRequest(..)")
    }
}

impl KeyRequest {
    /// A new key. The request says nothing but that we have it.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn generate() -> Result<Self, CredentialError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let request = CertificateParams::default().serialize_request(&key)?;
        Ok(Self { key: Zeroizing::new(key.serialize_pem()), request: request.der().to_vec() })
    }

    /// The bytes that [`Authority::issue`](crate::Authority::issue) takes.
    pub fn bytes(&self) -> &[u8] {
        &self.request
    }
}

/// Why a certificate and a key cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The key.
    #[error("the key cannot be used")]
    Key(#[from] rcgen::Error),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Key or certificate are not there.
    #[error("there is no key and certificate in it")]
    Missing,
    /// The two do not belong together.
    #[error("the certificate is not one of this key")]
    Mismatch(#[source] rustls::Error),
    /// Nobody would believe it.
    #[error("nobody would believe this certificate: {0}")]
    Refused(Refused),
}

/// A certificate with its key.
pub struct Credential {
    certified: Arc<CertifiedKey>,
    identified: Identified,
    key: Zeroizing<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, until {})", self.identified.claim, self.identified.not_after)
    }
}

impl Credential {
    /// The certificate that was issued for a request; checked as others will check it.
    ///
    /// # Errors
    /// When it is for another key, or nobody would believe it.
    pub fn new(
        request: &KeyRequest,
        chain: Vec<CertificateDer<'static>>,
        trust: &Trust,
    ) -> Result<Self, CredentialError> {
        Self::of(request.key.clone(), chain, trust)
    }

    fn of(key: Zeroizing<String>, chain: Vec<CertificateDer<'static>>, trust: &Trust) -> Result<Self, CredentialError> {
        let leaf = chain.first().ok_or(CredentialError::Missing)?;
        let identified = trust.judge(leaf, Side::Client, LAPSED_MS).map_err(CredentialError::Refused)?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| CredentialError::Missing)?;
        // The authority's certificate goes along, so that one who joins can compare it with its token.
        let chain = vec![leaf.clone(), trust.authority().clone()];
        let certified = CertifiedKey::from_der(chain, private, &PROVIDER).map_err(CredentialError::Mismatch)?;
        Ok(Self { certified: Arc::new(certified), identified, key })
    }

    /// Whom it names.
    pub fn identified(&self) -> &Identified {
        &self.identified
    }

    /// When it should be replaced, by the clock of who issued it: at two thirds of its life.
    pub fn renew_at(&self) -> TimeMs {
        let not_after = self.identified.not_after.0;
        TimeMs(not_after.saturating_sub(self.life_ms() / 3))
    }

    /// How long it lives, from when it was issued.
    pub(crate) fn life_ms(&self) -> u64 {
        let Identified { not_before, not_after, .. } = self.identified;
        not_after.0.saturating_sub(not_before.after(crate::authority::CLOCK_ALLOWANCE_MS).min(not_after).0)
    }

    /// Writes key and certificate to one file that only its owner may read, so that they change together.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CredentialError> {
        let mut text = self.key.clone();
        for certificate in &self.certified.cert {
            text.push_str(&certificate_pem(certificate));
        }
        Ok(files::write_private(path, &text)?)
    }

    /// The authority whose certificate lies in a file that [`Credential::save`] wrote: what a node that starts again trusts.
    ///
    /// # Errors
    /// When it cannot be read, or others could have changed it.
    pub fn kept_authority(path: &Path) -> Result<CertificateDer<'static>, CredentialError> {
        let text = files::read_private(path)?;
        let kept = CertificateDer::pem_slice_iter(text.as_bytes()).flatten().nth(1);
        kept.ok_or(CredentialError::Missing)
    }

    /// Reads what [`Credential::save`] wrote.
    ///
    /// # Errors
    /// When it cannot be read, others could have read it too, or nobody would believe it.
    pub fn load(path: &Path, trust: &Trust) -> Result<Self, CredentialError> {
        let text = files::read_private(path)?;
        let chain = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        Self::of(text, chain.map_err(|_| CredentialError::Missing)?, trust)
    }
}

/// The credential of this process, as it is now; cheap to clone. Handshakes that begin after it was replaced show the new one,
/// open connections go on.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Credential>>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load().fmt(f)
    }
}

impl Current {
    /// Shows this one.
    pub fn new(credential: Credential) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(credential)))
    }

    /// The one shown now.
    pub fn get(&self) -> Arc<Credential> {
        self.0.load_full()
    }

    /// Shows another one from now on.
    pub fn replace(&self, credential: Credential) {
        self.0.store(Arc::new(credential));
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
