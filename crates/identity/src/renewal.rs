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

/// Longest sleep: the wall clock is looked at this often.
const LOOK: Duration = Duration::from_secs(30);
/// Wait after a first failure; doubled up to [`LONGEST_WAIT_MS`].
const FIRST_WAIT_MS: u64 = 1_000;
const LONGEST_WAIT_MS: u64 = 60_000;
/// However early the wall clock finds it due, a certificate is not replaced sooner than this after the last time: that clock may be
/// wrong for hours, and must not make us ask for one after the other.
const EARLIEST_MS: u64 = 10 * 60_000;

/// When the next certificate is due. All in boot time, which does not jump, but for what the wall clock adds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// When the last one was issued to this process.
    renewed_ms: Option<u64>,
    /// Not asked again before that, after a failure.
    not_before_ms: u64,
    wait_ms: u64,
}

impl Pace {
    fn begin() -> Self {
        Self { renewed_ms: None, not_before_ms: 0, wait_ms: FIRST_WAIT_MS }
    }

    /// How long to wait yet. The certificate lives for `life_ms`, and by the wall clock should be replaced in `wall_left_ms`.
    fn left_ms(&self, now_ms: u64, life_ms: u64, wall_left_ms: u64) -> u64 {
        let due_ms = match self.renewed_ms {
            // How old one is that was found in a file only the wall clock could tell, so it is replaced at once.
            None => 0,
            Some(at_ms) => {
                let by_age = at_ms.saturating_add(life_ms / 3 * 2);
                let by_wall = now_ms.saturating_add(wall_left_ms).max(at_ms.saturating_add(EARLIEST_MS));
                by_age.min(by_wall)
            }
        };
        due_ms.max(self.not_before_ms).saturating_sub(now_ms)
    }

    fn renewed(&mut self, now_ms: u64) {
        *self = Self { renewed_ms: Some(now_ms), ..Self::begin() };
    }

    fn failed(&mut self, now_ms: u64) {
        self.not_before_ms = now_ms.saturating_add(self.wait_ms);
        self.wait_ms = (self.wait_ms * 2).min(LONGEST_WAIT_MS);
    }
}

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
    /// It was over when it came: the clock of who signed it, or ours, is wrong.
    #[error(
        "the certificate that came expired at {until} already: the clock of a coordinator, or of this machine, is wrong"
    )]
    Expired {
        /// Until when it was valid.
        until: TimeMs,
    },
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
        let mut pace = Pace::begin();
        loop {
            let own = self.own.get();
            let wall_left_ms = own.renew_at().0.saturating_sub(self.trust.clock().now().0);
            let left_ms = pace.left_ms(flowyard_clock::boot_ms(), own.life_ms(), wall_left_ms);
            if left_ms > 0 {
                tokio::time::sleep(Duration::from_millis(left_ms).min(LOOK)).await;
                continue;
            }
            match self.renew(&sign).await {
                Ok(until) => {
                    pace.renewed(flowyard_clock::boot_ms());
                    tracing::info!(%until, "our certificate was renewed");
                }
                Err(error) => {
                    let until = own.identified().not_after;
                    tracing::warn!(%error, %until, retry_ms = pace.wait_ms, "our certificate could not be renewed");
                    pace.failed(flowyard_clock::boot_ms());
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
        if fresh.identified().lapsed {
            return Err(RenewError::Expired { until: fresh.identified().not_after });
        }
        fresh.save(&self.path)?;
        let until = fresh.identified().not_after;
        self.own.replace(fresh);
        Ok(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const LIFE: u64 = 24 * HOUR;

    #[test]
    fn a_certificate_is_replaced_at_two_thirds_of_its_life_however_the_wall_clock_jumps() {
        let mut pace = Pace::begin();
        assert_eq!(pace.left_ms(5, LIFE, 16 * HOUR), 0, "of one that was found nobody knows how old it is");
        pace.renewed(HOUR);
        assert_eq!(pace.left_ms(HOUR, LIFE, 16 * HOUR), 16 * HOUR);
        assert_eq!(pace.left_ms(17 * HOUR, LIFE, 40 * HOUR), 0, "the wall clock was set back by a day");
        assert_eq!(pace.left_ms(2 * HOUR, LIFE, 0), 0, "by the wall clock it is over");
        assert_eq!(pace.left_ms(HOUR + 1, LIFE, 0), EARLIEST_MS - 1, "but that clock may be wrong");
    }

    #[test]
    fn after_a_failure_it_is_asked_again_soon_and_then_less_often() {
        let mut pace = Pace::begin();
        let mut now_ms = 0;
        let mut waits = Vec::new();
        for _ in 0..9 {
            pace.failed(now_ms);
            waits.push(pace.left_ms(now_ms, LIFE, 0));
            now_ms += waits.last().unwrap();
        }
        assert_eq!(waits[..3], [1_000, 2_000, 4_000]);
        assert_eq!(waits[8], LONGEST_WAIT_MS);
        pace.renewed(now_ms);
        pace.failed(now_ms + LIFE);
        assert_eq!(pace.left_ms(now_ms + LIFE, LIFE, 0), FIRST_WAIT_MS);
    }
}
