//! Guessing at tokens: whoever shows what is not believed, again and again, is answered more and more slowly, and the log says so.
//!
//! Counted per address, since whoever guesses has nothing else. Nobody who is believed is slowed by others of their address, but for
//! the time in which very many wrong ones are waiting for their answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::{Code, Status};

use crate::around::{Answer, Around, Request};
use crate::audit::{Audit, Entry};
use crate::caller::Arrival;

/// Wrong ones that are answered at once.
const FREE: u32 = 5;
/// How long the next one waits; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After this long without another one an address begins anew.
const FORGET_MS: u64 = 60_000;
/// Answers that wait at a time, of one address.
const WAITING: u32 = 32;
/// Addresses in mind.
const ADDRESSES: usize = 10_000;

/// What was shown wrongly, by address; cheap to clone.
#[derive(Clone)]
pub(crate) struct Guesses {
    known: Arc<Mutex<HashMap<IpAddr, Guessed>>>,
    audit: Audit,
}

#[derive(Debug, Default, Clone, Copy)]
struct Guessed {
    wrong: u32,
    waiting: u32,
    last_ms: u64,
}

impl Guesses {
    /// Nobody has guessed yet.
    pub(crate) fn new(audit: Audit) -> Self {
        Self { known: Arc::default(), audit }
    }

    /// Counts a wrong one; how long its answer waits.
    fn wrong(&self, address: IpAddr, now_ms: u64) -> Duration {
        let mut known = self.lock();
        if known.len() >= ADDRESSES && !known.contains_key(&address) {
            known.retain(|_, it| it.waiting > 0 || now_ms.saturating_sub(it.last_ms) < FORGET_MS);
            if known.len() >= ADDRESSES {
                return LONGEST_WAIT;
            }
        }
        let it = known.entry(address).or_default();
        if now_ms.saturating_sub(it.last_ms) >= FORGET_MS {
            it.wrong = 0;
        }
        (it.wrong, it.last_ms) = (it.wrong.saturating_add(1), now_ms);
        let wrong = it.wrong;
        drop(known);
        if wrong > FREE && wrong.is_power_of_two() {
            tracing::warn!(%address, wrong, "tokens or certificates that are not believed are shown again and again");
        }
        match wrong.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(more) => (FIRST_WAIT * 2u32.saturating_pow(more.min(10))).min(LONGEST_WAIT),
        }
    }

    /// One more answer waits; `None` if the address is not in mind.
    fn enter(&self, address: IpAddr) -> Option<Entered> {
        self.lock().get_mut(&address)?.waiting += 1;
        Some(Entered { address, guesses: self.clone() })
    }

    fn is_crowded(&self, address: IpAddr) -> bool {
        self.lock().get(&address).is_some_and(|it| it.waiting >= WAITING)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Guessed>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that waits, until dropped.
struct Entered {
    address: IpAddr,
    guesses: Guesses,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(it) = self.guesses.lock().get_mut(&self.address) {
            it.waiting = it.waiting.saturating_sub(1);
        }
    }
}

impl Around for Guesses {
    /// Where a call came from whose maker has shown no certificate, and what was called.
    type Call = Option<(IpAddr, String)>;

    fn asked(&self, request: &mut Request) -> Result<Self::Call, Status> {
        let Some(Arrival::Port { identified: None, address, .. }) = request.extensions().get::<Arrival>() else {
            return Ok(None);
        };
        let address = address.ip();
        if self.is_crowded(address) {
            let many = "too many wrong tokens were shown from this address just now; ask again in a few seconds";
            return Err(Status::unavailable(many));
        }
        Ok(Some((address, request.uri().path().to_owned())))
    }

    async fn answered(&self, stranger: Self::Call, answer: Answer) -> Answer {
        let Some((address, path)) = stranger else { return answer };
        let status = Status::from_header_map(answer.headers());
        if let Some(status) = status.filter(|status| status.code() == Code::Unauthenticated) {
            self.audit.write_stranger(Entry::of_stranger(address, &path, &status));
            let wait = self.wrong(address, flowyard_clock::boot_ms());
            let _entered = self.enter(address);
            tokio::time::sleep(wait).await;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_each_wrong_one_and_is_forgotten_with_time() {
        let folder = tempfile::tempdir().unwrap();
        let guesses = Guesses::new(Audit::open(folder.path()).unwrap());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let waits: Vec<u64> = (0..14).map(|_| guesses.wrong(one, 1_000_000).as_millis() as u64).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert_eq!(guesses.wrong(other, 1_000_000), Duration::ZERO, "another address is not slowed");
        assert_eq!(guesses.wrong(one, 1_000_000 + FORGET_MS), Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let guesses = Guesses::new(Audit::open(folder.path()).unwrap());
        for address in 0..20_000u32 {
            guesses.wrong(IpAddr::from(address.to_be_bytes()), 1_000_000);
        }
        assert!(guesses.lock().len() <= ADDRESSES);
        assert_eq!(guesses.wrong(IpAddr::from([99, 0, 0, 1]), 1_000_000), LONGEST_WAIT);
        assert_eq!(guesses.wrong(IpAddr::from([99, 0, 0, 1]), 1_000_000 + FORGET_MS), Duration::ZERO);
    }
}
