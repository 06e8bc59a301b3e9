//! How often one caller may ask: whoever asks more often is told when to ask again, and others are answered.
//!
//! Each has a bucket that fills with time and that each call takes from, as governor's generic cell rate algorithm does it.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::CallRate;

/// Callers in mind before those are forgotten whose buckets are full again.
const CALLERS: usize = 10_000;

type Buckets<C> = RateLimiter<String, HashMapStateStore<String>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// How often each caller may ask.
#[derive(Debug)]
pub(crate) struct Rates<C: Clock = DefaultClock> {
    /// None if there is no bound.
    buckets: Option<Buckets<C>>,
    clock: C,
}

impl Rates {
    /// By this rate.
    pub(crate) fn new(rate: CallRate) -> Self {
        Self::by_clock(rate, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    fn by_clock(rate: CallRate, clock: C) -> Self {
        let quota = NonZeroU32::new(rate.per_second).map(|per_second| {
            let burst = NonZeroU32::new(rate.burst).unwrap_or(per_second);
            Quota::per_second(per_second).allow_burst(burst)
        });
        let buckets = quota.map(|quota| RateLimiter::new(quota, Default::default(), clock.clone()));
        Self { buckets, clock }
    }

    /// Counts a call of somebody.
    ///
    /// # Errors
    /// It is one too many; after this time it would not be.
    pub(crate) fn count(&self, who: &String) -> Result<(), Duration> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        if buckets.len() > CALLERS {
            buckets.retain_recent();
        }
        buckets.check_key(who).map_err(|too_early| too_early.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rates(clock: &FakeRelativeClock) -> Rates<FakeRelativeClock> {
        Rates::by_clock(CallRate { per_second: 10, burst: 3 }, clock.clone())
    }

    #[test]
    fn whoever_asks_too_often_is_told_when_to_ask_again_and_is_answered_then() {
        let clock = FakeRelativeClock::default();
        let (rates, who) = (rates(&clock), "ada".to_owned());
        assert!((0..3).all(|_| rates.count(&who).is_ok()));
        let wait = rates.count(&who).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        clock.advance(wait);
        assert_eq!(rates.count(&who), Ok(()));
        assert!(rates.count(&who).is_err(), "one call for each tenth of a second");
    }

    #[test]
    fn a_flood_of_one_caller_leaves_others_theirs() {
        let clock = FakeRelativeClock::default();
        let rates = rates(&clock);
        let flood = (0..1_000).filter(|_| rates.count(&"ada".to_owned()).is_ok()).count();
        assert_eq!(flood, 3);
        assert_eq!(rates.count(&"bob".to_owned()), Ok(()));
    }

    #[test]
    fn without_a_rate_nobody_is_refused() {
        let rates = Rates::new(CallRate { per_second: 0, burst: 0 });
        assert!((0..10_000).all(|_| rates.count(&"ada".to_owned()).is_ok()));
    }
}
