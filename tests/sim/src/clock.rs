//! The clocks of one machine: one that only goes forward, at a rate of its own, and one that people set.

/// Where wall clocks stand when a run begins.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// Clocks go faster or slower by this much at most, in millionths.
pub(crate) const DRIFT_PPM: i64 = 10_000;

#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Simulated time at which `boot` was true.
    since: u64,
    boot: u64,
    rate_ppm: i64,
    /// Wall time less boot time.
    wall_ahead: i64,
}

impl Clock {
    /// A machine that has been up for `up_ms`, and whose wall clock is wrong by `wrong_ms`.
    pub(crate) fn new(up_ms: u64, wrong_ms: i64, rate_ppm: i64) -> Self {
        Self { since: 0, boot: up_ms, rate_ppm, wall_ahead: (EPOCH_MS - up_ms) as i64 + wrong_ms }
    }

    /// Milliseconds since it was switched on, as it counts them.
    pub(crate) fn boot(&self, now: u64) -> u64 {
        let passed = (now - self.since) as i64;
        self.boot + (passed + passed * self.rate_ppm / 1_000_000) as u64
    }

    pub(crate) fn wall(&self, now: u64) -> u64 {
        (self.boot(now) as i64 + self.wall_ahead) as u64
    }

    /// How much simulated time passes until it shows a boot time.
    pub(crate) fn until(&self, now: u64, boot_ms: u64) -> u64 {
        let own = boot_ms.saturating_sub(self.boot(now)).min(1 << 40) as i64;
        // One more, since both directions round down.
        if own == 0 { 0 } else { (own * 1_000_000 / (1_000_000 + self.rate_ppm) + 2) as u64 }
    }

    pub(crate) fn set_rate(&mut self, now: u64, rate_ppm: i64) {
        (self.boot, self.since) = (self.boot(now), now);
        self.rate_ppm = rate_ppm;
    }

    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.wall_ahead += by_ms;
    }

    /// The machine is switched off and on: boot time begins anew.
    pub(crate) fn reboot(&mut self, now: u64) {
        self.wall_ahead += self.boot(now) as i64;
        (self.boot, self.since) = (0, now);
    }
}
