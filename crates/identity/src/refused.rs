//! Why a connection was refused, in words for the operator who reads them.

use std::error::Error;
use std::io;

use flowyard_model::{Epoch, Identity, ReplicaId, TimeMs};
use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use crate::subject::{ClusterId, Subject};

/// Why the other side of a connection was refused. Closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It showed no certificate where one is needed.
    #[error("it showed no certificate; `fctl agent join` and `fctl coordinator join` get one with a token")]
    NoCertificate,
    /// Its certificate is none of ours.
    #[error("its certificate cannot be used: {0}")]
    Unreadable(&'static str),
    /// Another authority issued its certificate, or it did itself.
    #[error("its certificate was not issued by the authority of cluster {ours}{claims}", claims = claims(.claimed))]
    Foreign {
        /// Our cluster.
        ours: ClusterId,
        /// Whom it says it names, which nothing proves.
        claimed: Option<String>,
    },
    /// Its time is over.
    #[error(
        "the certificate of {who} expired at {not_after} ms, and it is {now} ms; it renews itself while its node runs"
    )]
    Expired {
        /// Whom it names.
        who: Identity,
        /// When it expired.
        not_after: TimeMs,
        /// What our clock says.
        now: TimeMs,
    },
    /// Its time has not come.
    #[error(
        "the certificate of {who} is valid from {not_before} ms on, and it is {now} ms: one of the two clocks is wrong"
    )]
    NotYetValid {
        /// Whom it names.
        who: Identity,
        /// From when on it is valid.
        not_before: TimeMs,
        /// What our clock says.
        now: TimeMs,
    },
    /// It was issued for the other side of a connection.
    #[error("the certificate of {who} was issued for another use")]
    WrongUsage {
        /// Whom it names.
        who: Identity,
    },
    /// It belongs to another cluster with the same authority.
    #[error("it belongs to cluster {theirs}, and this is {ours}")]
    OtherCluster {
        /// Its cluster.
        theirs: ClusterId,
        /// Our cluster.
        ours: ClusterId,
    },
    /// A coordinator from before the cluster was restored or recovered by force.
    #[error(
        "{who} is of epoch {theirs}, and the cluster is in epoch {ours}: it was left behind by a restore or recovery"
    )]
    OlderEpoch {
        /// Whom it names.
        who: Identity,
        /// Its epoch.
        theirs: Epoch,
        /// Our epoch.
        ours: Epoch,
    },
    /// Only coordinators are served from.
    #[error("{subject} is no coordinator")]
    NoCoordinator {
        /// What it is.
        subject: Subject,
    },
    /// Another coordinator answers there.
    #[error("{found} answers there, and replica {expected} was expected: the address belongs to another one now")]
    OtherReplica {
        /// Who answers.
        found: Subject,
        /// Who should.
        expected: ReplicaId,
    },
    /// The authority is not the one that the token names.
    #[error(
        "it is not the cluster that the token was made for (or somebody stands in between): its authority has another fingerprint"
    )]
    OtherAuthority,
    /// It was shut out.
    #[error("{who} was revoked")]
    Revoked {
        /// Whom it names.
        who: Identity,
    },
    /// It took too long to say who it is.
    #[error("it did not finish the handshake in {0} ms")]
    TooSlow(u64),
    /// Others came, and it was the one that had taken longest.
    #[error("it was still in its handshake when too many others came")]
    Crowded,
    /// As many as allowed are connected.
    #[error("{0} connections are open, as many as may be")]
    Full(usize),
    /// It has as many connections as it may.
    #[error("{who} has {most} connections open, as many as it may")]
    Many {
        /// Who.
        who: String,
        /// How many that are.
        most: usize,
    },
    /// It does not speak what we speak.
    #[error("it does not speak TLS 1.3")]
    OtherProtocol,
    /// It said why it refused us.
    #[error("{0}")]
    RefusedUs(&'static str),
    /// The handshake broke off.
    #[error("the handshake failed: {0}")]
    Broken(String),
}

fn claims(claimed: &Option<String>) -> String {
    claimed.as_ref().map_or(String::new(), |claim| format!(" (it says that it is {claim})"))
}

impl Refused {
    /// How it is told to the other side, as far as it is.
    pub(crate) fn to_tls(&self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Self::Foreign { .. } | Self::OtherAuthority => CertificateError::UnknownIssuer,
            Self::Expired { .. } => CertificateError::Expired,
            Self::NotYetValid { .. } => CertificateError::NotValidYet,
            Self::WrongUsage { .. } | Self::NoCoordinator { .. } => CertificateError::InvalidPurpose,
            Self::Revoked { .. } => CertificateError::Revoked,
            Self::Unreadable(_) => CertificateError::BadEncoding,
            _ => CertificateError::ApplicationVerificationFailure,
        })
    }

    /// What a failed handshake was about, where no verifier said it.
    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ))
            | Some(rustls::Error::InvalidMessage(_)) => Self::OtherProtocol,
            Some(rustls::Error::AlertReceived(alert)) => match explain_alert(*alert) {
                Some(said) => Self::RefusedUs(said),
                None => Self::Broken(format!("it says {alert:?}")),
            },
            Some(other) => Self::Broken(other.to_string()),
            None => Self::Broken(error.to_string()),
        }
    }
}

/// What the other side meant when it broke a connection off, if that is in the chain of causes. A client learns that its
/// certificate was refused only with its first answer.
pub fn explain(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = inner.or_else(|| error.downcast_ref()) {
            return explain_alert(*alert);
        }
        cause = error.source();
    }
    None
}

fn explain_alert(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateRequired => {
            Some("the other side asks for a certificate, and we have none: join first")
        }
        AlertDescription::UnknownCA => {
            Some("the other side belongs to another cluster: it does not know our authority")
        }
        AlertDescription::CertificateExpired => Some("the other side says that our certificate has expired"),
        AlertDescription::CertificateRevoked => Some("the other side says that we were revoked"),
        AlertDescription::UnsupportedCertificate => Some("the other side says that our certificate is for another use"),
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            Some("the other side cannot use our certificate")
        }
        AlertDescription::AccessDenied => Some("the other side belongs to another cluster, or another epoch of it"),
        AlertDescription::ProtocolVersion => Some("the other side does not speak TLS 1.3"),
        _ => None,
    }
}
