//! How long an agent waits before it tries again: longer each time, and each agent a little otherwise, so that those that were turned
//! away together do not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// First wait; doubled each time.
const FIRST: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST: Duration = Duration::from_secs(5);

/// The waits between tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        self.drawn(RandomState::new().hash_one(0_u8))
    }

    /// The next wait, by a number that was drawn: from half of its time to one and a half of it.
    fn drawn(&mut self, number: u64) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        let whole_us = whole.as_micros() as u64;
        Duration::from_micros(whole_us / 2 + number % whole_us.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_spread_around_their_time() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.drawn(0).as_millis()).collect();
        assert_eq!(waits, [25, 50, 100, 200, 400, 800, 1_600, 2_500, 2_500, 2_500]);
        assert_eq!(Backoff::default().drawn(49_999), Duration::from_micros(74_999));
        let agents: std::collections::BTreeSet<_> = (0..64).map(|_| Backoff::default().wait()).collect();
        assert!(agents.len() > 32, "they come back together: {agents:?}");
    }
}
