//! Whom we believe, and why not.
//!
//! Invariant: nobody is believed who does not show a certificate that the cluster's own authority issued, directly, for this
//! use, that is within its time, names one subject of this cluster, and was not shut out.

use std::fmt;
use std::sync::{Arc, LazyLock};

use flowyard_model::{Epoch, Fingerprint, TimeMs};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, Error};

use crate::authority::LAPSED_MS;
use crate::certificate::{Identified, read, read_authority};
use crate::clock::{Clock, unix};
use crate::refused::Refused;
use crate::secret::fingerprint;
use crate::subject::{ClusterId, Subject};

/// The one provider of cryptography in the process.
pub(crate) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Whether someone was shut out; asked at every handshake and at every request, so it must be quick.
pub type ShutOut = dyn Fn(&Identified) -> bool + Send + Sync;

/// The side of a connection that shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It was called. Only coordinators are.
    Server,
    /// It called.
    Client,
}

/// What one cluster believes.
pub struct Trust {
    cluster: ClusterId,
    epoch: Epoch,
    authority: CertificateDer<'static>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    clock: Clock,
    shut_out: Box<ShutOut>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({}, epoch {}, {})", self.cluster, self.epoch, self.fingerprint())
    }
}

impl Trust {
    /// Trust in the cluster of this authority; `epoch` is the least that its coordinators may have.
    ///
    /// # Errors
    /// When the certificate is not an authority's.
    pub fn new(
        authority: CertificateDer<'static>,
        epoch: Epoch,
        clock: Clock,
        shut_out: impl Fn(&Identified) -> bool + Send + Sync + 'static,
    ) -> Result<Self, Refused> {
        let unusable = |_| Refused::Unreadable("it is not the certificate of an authority");
        let cluster = read_authority(&authority)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(unusable)?;
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), PROVIDER.clone()).build();
        let clients = clients.map_err(|_| Refused::Unreadable("it is not the certificate of an authority"))?;
        Ok(Self { cluster, epoch, authority, roots, clients, clock, shut_out: Box::new(shut_out) })
    }

    /// The cluster.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// The authority's certificate.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// What tokens pin.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.authority)
    }

    /// The clock that certificates are judged by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Judges the certificate of someone who connects. With `lapsed_ms`, one that expired no longer ago than that is let in
    /// as lapsed: it may be renewed, and nothing else.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn judge(&self, leaf: &CertificateDer<'_>, side: Side, lapsed_ms: u64) -> Result<Identified, Refused> {
        let read = read(leaf);
        let now = match &read {
            Ok(found) => self.clock.within(found.not_before, found.not_after),
            Err(_) => self.clock.now(),
        };
        let lapsed = read.as_ref().is_ok_and(|it| it.not_after < now && now <= it.not_after.after(lapsed_ms));
        let judged_at = match &read {
            Ok(found) if lapsed => found.not_after,
            _ => now,
        };
        self.verify(leaf, side, judged_at).map_err(|error| self.reason(&error, &read, now))?;
        let found = Identified { lapsed, ..read? };
        self.check_claim(&found, side)?;
        self.check_standing(&found)?;
        Ok(found)
    }

    /// Judges anew someone who is connected, at each of its requests: it may have expired or been shut out since.
    ///
    /// # Errors
    /// Why it is not believed any more.
    pub fn admit(&self, found: &Identified) -> Result<(), Refused> {
        let now = self.clock.within(found.not_before, found.not_after);
        let longest = if found.lapsed { found.not_after.after(LAPSED_MS) } else { found.not_after };
        if now > longest {
            let who = found.claim.subject.identity();
            return Err(Refused::Expired { who, not_after: found.not_after, now });
        }
        self.check_standing(found)
    }

    /// That the authority issued it for this side, and its time is now. No certificate stands between the two, so what else
    /// was shown is not looked at.
    fn verify(&self, leaf: &CertificateDer<'_>, side: Side, now: TimeMs) -> Result<(), Error> {
        match side {
            Side::Client => self.clients.verify_client_cert(leaf, &[], unix(now)).map(drop),
            Side::Server => {
                let parsed = ParsedCertificate::try_from(leaf)?;
                let algorithms = PROVIDER.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, &[], unix(now), algorithms)
            }
        }
    }

    fn reason(&self, error: &Error, read: &Result<Identified, Refused>, now: TimeMs) -> Refused {
        let claimed = read.as_ref().ok();
        let foreign = || {
            let claimed = claimed.map(|it| format!("{} of cluster {}", it.claim.subject, it.claim.cluster));
            Refused::Foreign { ours: self.cluster.clone(), claimed }
        };
        let Some(found) = claimed else {
            // Of one that we did not issue, it matters less what is wrong inside.
            return match (error, read) {
                (Error::InvalidCertificate(CertificateError::UnknownIssuer), _) => foreign(),
                (_, Err(refused)) => refused.clone(),
                (_, Ok(_)) => foreign(),
            };
        };
        let who = found.claim.subject.identity();
        match error {
            Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                Refused::Expired { who, not_after: found.not_after, now }
            }
            Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                Refused::NotYetValid { who, not_before: found.not_before, now }
            }
            Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => Refused::WrongUsage { who },
            _ => foreign(),
        }
    }

    fn check_claim(&self, found: &Identified, side: Side) -> Result<(), Refused> {
        let claim = &found.claim;
        if claim.cluster != self.cluster {
            return Err(Refused::OtherCluster { theirs: claim.cluster.clone(), ours: self.cluster.clone() });
        }
        let coordinator = matches!(claim.subject, Subject::Coordinator { .. });
        if side == Side::Server && !coordinator {
            return Err(Refused::NoCoordinator { subject: claim.subject.clone() });
        }
        // What was left behind by a restore must not lead anybody; agents and people of an older epoch may come back.
        if coordinator && claim.epoch < self.epoch {
            let who = claim.subject.identity();
            return Err(Refused::OlderEpoch { who, theirs: claim.epoch, ours: self.epoch });
        }
        Ok(())
    }

    fn check_standing(&self, found: &Identified) -> Result<(), Refused> {
        if (self.shut_out)(found) { Err(Refused::Revoked { who: found.claim.subject.identity() }) } else { Ok(()) }
    }
}
