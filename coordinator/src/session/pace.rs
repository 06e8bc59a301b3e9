//! How often agents give signs of life: the more there are, the more rarely, so that a large fleet's are not a coordinator's whole work.
//!
//! Invariant: it never becomes faster again while this process lives. An agent learns of it by the answer to its next sign of life, and
//! must not be missed before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Timing;

/// The pace of all agents; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    timing: Timing,
    slowest_ms: Arc<AtomicU64>,
}

impl Pace {
    /// That of a small fleet.
    pub(crate) fn of(timing: Timing) -> Self {
        Self { timing, slowest_ms: Arc::new(AtomicU64::new(timing.heartbeat_ms)) }
    }

    /// What is told to an agent while so many are connected.
    pub(crate) fn heartbeat_ms(&self, connected: usize) -> u64 {
        let wanted = self.timing.heartbeat_of(connected);
        self.slowest_ms.fetch_max(wanted, Ordering::Relaxed).max(wanted)
    }

    /// The times that fit what agents were told.
    pub(crate) fn timing(&self) -> Timing {
        self.timing.beating(self.slowest_ms.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_shrinks_is_not_missed_before_it_has_heard_of_it() {
        let pace = Pace::of(Timing::STANDARD);
        assert_eq!((pace.heartbeat_ms(100), pace.timing()), (2_000, Timing::STANDARD));
        assert_eq!(pace.heartbeat_ms(10_000), 4_000);
        assert_eq!(pace.timing().suspect_ms, 12_000);
        assert_eq!(pace.heartbeat_ms(3), 4_000, "others still beat as slowly");
        assert_eq!(pace.timing().suspect_ms, 12_000);
    }
}
