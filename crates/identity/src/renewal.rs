//! Replacing our certificate before it expires, with a new key each time.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::TimeMs;
use rustls::pki_types::CertificateDer;

use crate::credential::{Credential, CredentialError, Current, KeyRequest};
use crate::subject::Subject;
use crate::trust::Trust;

/// The clock is looked at this often, because it may jump.
const LOOK: Duration = Duration::from_secs(30);
/// Wait after a first failure; doubled up to [`LONGEST_WAIT_MS`].
const FIRST_WAIT_MS: u64 = 1_000;
const LONGEST_WAIT_MS: u64 = 60_000;

/// What asks a coordinator to sign fails with.
pub type SignError = Box<dyn Error + Send + Sync>;

/// Why a certificate was not replaced this time.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Nobody signed.
    #[error("no coordinator signed the request: {0}")]
    Sign(SignError),
    /// What was signed is of no use.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// It names somebody else.
    #[error("the certificate that came is for {given}, and we are {ours}")]
    OtherSubject {
        /// Whom it names.
        given: Subject,
        /// Who we are.
        ours: Subject,
    },
}

/// Keeps the credential of this process fresh.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Whom we believe.
    pub trust: Arc<Trust>,
    /// What we show, and what is replaced.
    pub own: Current,
    /// Where it is kept.
    pub path: PathBuf,
}

impl Renewal {
    /// Runs until dropped. `sign` has a coordinator issue a certificate for a request and gives its chain.
    pub async fn run<F>(self, sign: impl Fn(Vec<u8>) -> F)
    where
        F: Future<Output = Result<Vec<CertificateDer<'static>>, SignError>>,
    {
        let mut wait_ms = FIRST_WAIT_MS;
        loop {
            let remaining_ms = self.own.get().renew_at().0.saturating_sub(self.trust.clock().now().0);
            if remaining_ms > 0 {
                tokio::time::sleep(Duration::from_millis(remaining_ms).min(LOOK)).await;
                continue;
            }
            match self.renew(&sign).await {
                Ok(until) => {
                    wait_ms = FIRST_WAIT_MS;
                    tracing::info!(%until, "our certificate was renewed");
                }
                Err(error) => {
                    let until = self.own.get().identified().not_after;
                    tracing::warn!(%error, %until, retry_ms = wait_ms, "our certificate could not be renewed");
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    wait_ms = (wait_ms * 2).min(LONGEST_WAIT_MS);
                }
            }
        }
    }

    /// Replaces the certificate once; until when the new one is valid. The file is written first, so that a crash leaves one
    /// that is good.
    ///
    /// # Errors
    /// When nobody signs, or what comes is not for us.
    pub async fn renew<F>(&self, sign: impl Fn(Vec<u8>) -> F) -> Result<TimeMs, RenewError>
    where
        F: Future<Output = Result<Vec<CertificateDer<'static>>, SignError>>,
    {
        let request = KeyRequest::generate()?;
        let chain = sign(request.bytes().to_vec()).await.map_err(RenewError::Sign)?;
        let fresh = Credential::new(&request, chain, &self.trust)?;
        let ours = self.own.get().identified().claim.subject.clone();
        let given = &fresh.identified().claim.subject;
        if *given != ours {
            return Err(RenewError::OtherSubject { given: given.clone(), ours });
        }
        fresh.save(&self.path)?;
        let until = fresh.identified().not_after;
        self.own.replace(fresh);
        Ok(until)
    }
}
