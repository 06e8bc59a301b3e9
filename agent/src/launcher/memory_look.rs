//! When a running attempt's memory is looked at, where no cgroup bounds it. Used by the launcher and by shims.

use std::time::Duration;

use crate::cgroup::memory_watch::next_look_ms;

/// The looks at one attempt.
#[derive(Debug)]
pub(super) struct MemoryLook {
    limit_bytes: u64,
    at: u64,
    peak_bytes: u64,
}

impl MemoryLook {
    /// Looks from `now` (boot-clock milliseconds) on.
    pub(super) fn new(limit_bytes: u64, now: u64) -> Self {
        Self { limit_bytes, at: now + next_look_ms(0, limit_bytes), peak_bytes: 0 }
    }

    /// When to look.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Takes what was seen, and how long looking took; gives the limit if it is exceeded.
    pub(super) fn seen(&mut self, used_bytes: u64, took: Duration, now: u64) -> Option<u64> {
        self.peak_bytes = self.peak_bytes.max(used_bytes);
        // Looking may not cost more than a twentieth of a core, on a host with however many processes.
        let rest_ms = 20 * took.as_millis() as u64;
        self.at = now + next_look_ms(used_bytes, self.limit_bytes).max(rest_ms);
        (used_bytes > self.limit_bytes).then_some(self.limit_bytes)
    }

    /// The most that was seen.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costly_looks_are_rare_and_an_excess_is_told() {
        let mut look = MemoryLook::new(100 << 20, 1_000);
        assert_eq!(look.at(), 1_100);
        assert_eq!(look.seen(99 << 20, Duration::from_millis(10), 1_100), None);
        assert_eq!(look.at(), 1_300);
        assert_eq!(look.seen(101 << 20, Duration::ZERO, 1_300), Some(100 << 20));
        assert_eq!(look.peak_bytes(), 101 << 20);
    }
}
