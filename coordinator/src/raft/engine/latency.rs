//! How long the barrier takes, over the last batches.

use std::collections::VecDeque;
use std::time::Duration;

/// Batches remembered.
const WINDOW: usize = 1024;

/// Latency of the recent batches, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BarrierLatency {
    /// Half of the batches took no longer.
    pub p50_us: u64,
    /// 99 of 100 batches took no longer.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

#[derive(Debug, Default)]
pub(super) struct LatencyWindow {
    recent_us: VecDeque<u64>,
}

impl LatencyWindow {
    pub(super) fn record(&mut self, took: Duration) {
        if self.recent_us.len() == WINDOW {
            self.recent_us.pop_front();
        }
        self.recent_us.push_back(took.as_micros() as u64);
    }

    pub(super) fn summary(&self) -> BarrierLatency {
        let mut sorted: Vec<u64> = self.recent_us.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or(0);
        BarrierLatency { p50_us: at(50), p99_us: at(99), max_us: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recent_batches_count() {
        let mut window = LatencyWindow::default();
        assert_eq!(window.summary(), BarrierLatency::default());
        window.record(Duration::from_secs(9));
        for us in 1..=1024 {
            window.record(Duration::from_micros(us));
        }
        assert_eq!(window.summary(), BarrierLatency { p50_us: 513, p99_us: 1014, max_us: 1024 });
    }
}
