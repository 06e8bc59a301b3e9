//! What is read of a certificate.

use flowyard_model::{Fingerprint, Identity, Serial, TimeMs};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::refused::Refused;
use crate::secret::fingerprint;
use crate::subject::{Claim, ClusterId};

/// What the authority's own certificate says after the name of its cluster.
pub(crate) const AUTHORITY: &str = "/authority";

/// Whom a verified certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// What it says.
    pub claim: Claim,
    /// Its serial number.
    pub serial: Serial,
    /// From when on it is valid.
    pub not_before: TimeMs,
    /// Until when.
    pub not_after: TimeMs,
    /// Fingerprint of its public key.
    pub key: Fingerprint,
    /// Whether it had expired and was let in only to be renewed.
    pub lapsed: bool,
}

impl Identified {
    /// What can be shut out so that this certificate is void.
    pub fn identities(&self) -> [Identity; 2] {
        [self.claim.subject.identity(), Identity::Certificate(self.serial)]
    }
}

/// Reads a certificate; nothing of it is verified yet.
pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Identified, Refused> {
    let (certificate, uri) = parts(der)?;
    let claim = uri.parse().map_err(|_| Refused::Unreadable("it names no subject of a Flowyard cluster"))?;
    let serial = <[u8; 16]>::try_from(certificate.raw_serial());
    let validity = certificate.validity();
    let time = |seconds: i64| TimeMs(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000));
    Ok(Identified {
        claim,
        serial: Serial(serial.map_err(|_| Refused::Unreadable("its serial number is not of 16 bytes"))?),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
        key: fingerprint(&certificate.public_key().subject_public_key.data),
        lapsed: false,
    })
}

/// The cluster that an authority's certificate is for.
pub(crate) fn read_authority(der: &CertificateDer<'_>) -> Result<ClusterId, Refused> {
    let (certificate, uri) = parts(der)?;
    let cluster = uri.strip_prefix("flowyard://").and_then(|rest| rest.strip_suffix(AUTHORITY));
    let cluster = cluster.and_then(|cluster| cluster.parse().ok());
    match cluster {
        Some(cluster) if certificate.is_ca() => Ok(cluster),
        _ => Err(Refused::Unreadable("it is not the authority of a Flowyard cluster")),
    }
}

/// The certificate and its one URI.
fn parts<'a>(der: &'a CertificateDer<'_>) -> Result<(X509Certificate<'a>, String), Refused> {
    let malformed = Refused::Unreadable("it is not a certificate");
    let Ok((rest, certificate)) = X509Certificate::from_der(der) else { return Err(malformed) };
    if !rest.is_empty() {
        return Err(malformed);
    }
    let names = certificate.subject_alternative_name().map_err(|_| malformed.clone())?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok((certificate, uri)),
        (None, _) => Err(Refused::Unreadable("it names nobody")),
        (Some(_), Some(_)) => Err(Refused::Unreadable("it names more than one")),
    }
}

/// The fingerprint of a certificate's public key.
pub(crate) fn public_key(der: &CertificateDer<'_>) -> Result<Fingerprint, Refused> {
    let parsed = X509Certificate::from_der(der).map_err(|_| Refused::Unreadable("it is not a certificate"))?;
    Ok(fingerprint(&parsed.1.public_key().subject_public_key.data))
}
