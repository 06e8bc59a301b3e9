//! How long something takes, as counts of a few ranges.
//!
//! Written from hot paths: one observation is two atomic additions and a search among some fifteen bounds; no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds in microseconds for what takes from a tenth of a millisecond to ten seconds: the disk, the log, a call.
pub const SHORT: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// Upper bounds in microseconds for what takes from ten milliseconds to hours: bringing inputs, waiting for a node.
pub const LONG: &[u64] = &[
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
];

/// Counts of observations by range.
#[derive(Debug)]
pub struct Distribution {
    bounds_us: &'static [u64],
    /// One more than bounds: the last is for what lies above all of them.
    counts: Box<[AtomicU64]>,
    sum_us: AtomicU64,
}

impl Distribution {
    /// Nothing was observed yet; `bounds_us` ascend.
    pub fn new(bounds_us: &'static [u64]) -> Self {
        let counts = (0..=bounds_us.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds_us, counts, sum_us: AtomicU64::new(0) }
    }

    /// Counts something that took this long.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = self.bounds_us.partition_point(|bound| *bound < us);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Counts something that began then and ends now.
    pub fn observe_since(&self, start: Instant) {
        self.observe(flowyard_clock::elapsed(start));
    }

    /// The sum in seconds, and the count of each range by its upper bound in seconds.
    pub(crate) fn told(&self) -> (f64, Vec<(f64, u64)>) {
        let bounds = self.bounds_us.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        (self.sum_us.load(Ordering::Relaxed) as f64 / 1e6, bounds.zip(counts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_observed_is_counted_in_its_range_with_its_upper_bound() {
        let taken = Distribution::new(&[1_000, 5_000]);
        for us in [1, 1_000, 1_001, 9_999_999] {
            taken.observe(Duration::from_micros(us));
        }
        let (sum, ranges) = taken.told();
        assert_eq!(ranges, [(0.001, 2), (0.005, 1), (f64::INFINITY, 1)]);
        assert!((sum - 10.002).abs() < 0.001, "{sum}");
    }

    #[test]
    fn bounds_ascend() {
        assert!(SHORT.is_sorted() && LONG.is_sorted());
    }
}
