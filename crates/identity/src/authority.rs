//! The cluster's own certificate authority.
//!
//! It owns the key that everything else rests on. From a request it takes the public key, once its possession is proved, and
//! nothing else: who is named, for how long and for what is the coordinator's to say.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use flowyard_model::{Epoch, Fingerprint, Revision, Serial, TimeMs};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use zeroize::Zeroizing;

use crate::certificate::{AUTHORITY, read_authority};
use crate::files::{self, FileError};
use crate::refused::Refused;
use crate::secret::{fingerprint, random};
use crate::subject::{Claim, ClusterId, Subject};

/// How long a node's certificate lives.
pub const NODE_LIFE_MS: u64 = 24 * 3_600 * 1_000;
/// How long a node's certificate may live at most.
pub const LONGEST_NODE_LIFE_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// How long a person's certificate may live at most.
pub const LONGEST_PERSON_LIFE_MS: u64 = 366 * 24 * 3_600 * 1_000;
/// How far clocks may be apart: certificates are valid this long before they are made. A day costs nothing, since who is shut out is
/// known by revision and not by time, and a clock that is set wrongly is most often wrong by hours.
pub const CLOCK_ALLOWANCE_MS: u64 = 24 * 3_600 * 1_000;
/// How long an expired certificate still lets its node renew it, and do nothing else.
pub const LAPSED_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Most bytes of a request for a certificate.
pub const REQUEST_BYTES: usize = 8 * 1024;

const AUTHORITY_LIFE_MS: u64 = 20 * 366 * 24 * 3_600 * 1_000;

/// The authority of a cluster. Whoever has its key can be anybody: it lies in the folders of coordinators only.
pub struct Authority {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate shall say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Whom it names; checked by whoever orders it.
    pub subject: Subject,
    /// The cluster's epoch.
    pub epoch: Epoch,
    /// The newest revision known.
    pub revision: Revision,
    /// When it is ordered.
    pub now: TimeMs,
    /// How long it lives.
    pub life_ms: u64,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// It, and the authority's own behind it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its serial number.
    pub serial: Serial,
    /// Until when it is valid.
    pub not_after: TimeMs,
    /// Fingerprint of its public key.
    pub key: Fingerprint,
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// More bytes than a request has.
    #[error("a request for a certificate has at most {REQUEST_BYTES} bytes, this one has {bytes}")]
    TooLarge {
        /// As given.
        bytes: usize,
    },
    /// Not a request, or not signed by the key it is for.
    #[error("the request for a certificate is malformed, or not signed by its own key")]
    Request(#[source] rcgen::Error),
    /// Another kind of key.
    #[error("a key of this kind is not taken: it must be ECDSA P-256")]
    Algorithm,
    /// Longer than allowed.
    #[error("a certificate of {subject} lives at most {longest_ms} ms, not {life_ms} ms")]
    Life {
        /// Whom it would name.
        subject: Subject,
        /// As asked for.
        life_ms: u64,
        /// As allowed.
        longest_ms: u64,
    },
    /// It could not be signed.
    #[error("the certificate could not be signed")]
    Sign(#[source] rcgen::Error),
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its key.
    #[error("the authority's key cannot be used")]
    Key(#[from] rcgen::Error),
    /// Its certificate.
    #[error("the authority's certificate cannot be used: {0}")]
    Certificate(Refused),
    /// The text has no certificate.
    #[error("there is no certificate of an authority in it")]
    Missing,
    /// The key is another one's.
    #[error("the authority's key is not that of its certificate")]
    Mismatch,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, {})", self.cluster, self.fingerprint())
    }
}

impl Authority {
    /// A new authority for a new cluster.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn generate(cluster: ClusterId, now: TimeMs) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("Flowyard authority of {cluster}"));
        params.subject_alt_names = vec![SanType::URI(ascii(format!("flowyard://{cluster}{AUTHORITY}"))?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(&serial().0));
        set_life(&mut params, now, AUTHORITY_LIFE_MS);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { cluster, certificate, issuer: Issuer::new(params, key) })
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Its certificate, which everybody may know.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What tokens pin.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.certificate)
    }

    /// Key and certificate as text, for a coordinator that joins.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(self.issuer.key().serialize_pem());
        Zeroizing::new(format!("{}{}", key.as_str(), certificate_pem(&self.certificate)))
    }

    /// Reads what [`Authority::to_pem`] gave.
    ///
    /// # Errors
    /// When it is something else, or damaged.
    pub fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(text)?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| AuthorityError::Missing)?;
        let cluster = read_authority(&certificate).map_err(AuthorityError::Certificate)?;
        let named = crate::certificate::public_key(&certificate).map_err(AuthorityError::Certificate)?;
        if named != fingerprint(key.der_bytes()) {
            return Err(AuthorityError::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { cluster, certificate, issuer })
    }

    /// Writes it to a file that only its owner may read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), AuthorityError> {
        Ok(files::write_private(path, &self.to_pem())?)
    }

    /// Reads what [`Authority::save`] wrote.
    ///
    /// # Errors
    /// When it cannot be read, or others could have read it too.
    pub fn load(path: &Path) -> Result<Self, AuthorityError> {
        Self::from_pem(&files::read_private(path)?)
    }

    /// Issues a certificate for the public key of a request.
    ///
    /// # Errors
    /// When the request does not prove that its sender has the key, or the order is for longer than allowed.
    pub fn issue(&self, request: &[u8], order: &Order) -> Result<Issued, IssueError> {
        let (longest_ms, life_ms) = (longest(&order.subject), order.life_ms);
        if life_ms == 0 || life_ms > longest_ms {
            return Err(IssueError::Life { subject: order.subject.clone(), life_ms, longest_ms });
        }
        let key = requested_key(request)?;
        let serial = serial();
        let params = self.params(order, serial).map_err(IssueError::Sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(IssueError::Sign)?;
        Ok(Issued {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            serial,
            // As the certificate has it: in whole seconds.
            not_after: TimeMs(order.now.after(life_ms).0 / 1_000 * 1_000),
            key: fingerprint(key.der_bytes()),
        })
    }

    fn params(&self, order: &Order, serial: Serial) -> Result<CertificateParams, rcgen::Error> {
        let Order { subject, epoch, revision, .. } = order.clone();
        let claim = Claim { cluster: self.cluster.clone(), subject, epoch, revision };
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&claim.subject.to_string());
        params.subject_alt_names = vec![SanType::URI(ascii(claim.to_string())?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if matches!(claim.subject, Subject::Coordinator { .. }) {
            params.subject_alt_names.push(SanType::DnsName(ascii(self.cluster.server_name())?));
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        set_life(&mut params, order.now, order.life_ms);
        Ok(params)
    }
}

/// How long a certificate of this subject may live.
pub fn longest(subject: &Subject) -> u64 {
    match subject {
        Subject::Coordinator { .. } | Subject::Agent { .. } => LONGEST_NODE_LIFE_MS,
        Subject::Person { .. } => LONGEST_PERSON_LIFE_MS,
    }
}

/// The fingerprint of the key that a request is for, once it is proved that its sender has it.
///
/// # Errors
/// As [`Authority::issue`].
pub fn request_fingerprint(request: &[u8]) -> Result<Fingerprint, IssueError> {
    Ok(fingerprint(requested_key(request)?.der_bytes()))
}

fn requested_key(request: &[u8]) -> Result<rcgen::PublicKey, IssueError> {
    if request.len() > REQUEST_BYTES {
        return Err(IssueError::TooLarge { bytes: request.len() });
    }
    let request = CertificateSigningRequestDer::from(request);
    let request = CertificateSigningRequestParams::from_der(&request).map_err(IssueError::Request)?;
    let key = request.public_key;
    if PublicKeyData::algorithm(&key) == &PKCS_ECDSA_P256_SHA256 { Ok(key) } else { Err(IssueError::Algorithm) }
}

/// A certificate as text.
pub(crate) fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))
}

/// Random, positive, and always of 16 bytes.
fn serial() -> Serial {
    let mut bytes = random::<16>();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Serial(bytes)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn ascii(text: String) -> Result<Ia5String, rcgen::Error> {
    Ia5String::try_from(text)
}

fn set_life(params: &mut CertificateParams, now: TimeMs, life_ms: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time_ms: u64| epoch + Duration::from_secs(time_ms / 1_000);
    params.not_before = at(now.0.saturating_sub(CLOCK_ALLOWANCE_MS));
    params.not_after = at(now.after(life_ms).0);
}
