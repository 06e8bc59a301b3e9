//! What time it is, as whoever uses this crate tells it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::TimeMs;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// A source of wall-clock time; cheap to clone.
///
/// A wall clock may be wrong for a while: set by hand, or by a time server that is wrong itself. Whoever judged certificates by
/// it alone would cut itself off from everybody at that moment. So a clock also knows what time it would be had nothing jumped
/// since it was made, and what is valid by either is valid.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> TimeMs + Send + Sync>,
    /// What time it would be without any jump.
    steady: Option<Arc<dyn Fn() -> TimeMs + Send + Sync>>,
}

impl Clock {
    /// The wall clock of this process.
    pub fn wall() -> Self {
        Self::steadied(|| TimeMs(flowyard_clock::wall_ms()), flowyard_clock::boot_ms)
    }

    /// A clock that asks `now`, and nothing else.
    pub fn of(now: impl Fn() -> TimeMs + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), steady: None }
    }

    /// A clock that asks `now`, and `boot_ms` for how much time has passed since this moment.
    pub fn steadied(
        now: impl Fn() -> TimeMs + Send + Sync + 'static,
        boot_ms: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let (began, began_ms) = (now(), boot_ms());
        let steady = move || began.after(boot_ms().saturating_sub(began_ms));
        Self { now: Arc::new(now), steady: Some(Arc::new(steady)) }
    }

    /// The time.
    pub fn now(&self) -> TimeMs {
        (self.now)()
    }

    /// The time by which something is judged that is valid between these two: that of the wall clock, unless only the time
    /// that has passed says that it is valid.
    pub(crate) fn within(&self, from: TimeMs, until: TimeMs) -> TimeMs {
        let now = self.now();
        let inside = |time: &TimeMs| (from..=until).contains(time);
        if inside(&now) {
            return now;
        }
        self.steady.as_ref().map(|steady| steady()).filter(inside).unwrap_or(now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.now()))
    }
}

/// A time as TLS counts it.
pub(crate) fn unix(time: TimeMs) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_is_valid_by_the_wall_clock_or_by_the_time_that_has_passed_is_valid() {
        let (wall, boot) = (Arc::new(AtomicU64::new(1_000)), Arc::new(AtomicU64::new(50)));
        let (read_wall, read_boot) = (wall.clone(), boot.clone());
        let now = move || TimeMs(read_wall.load(Ordering::Relaxed));
        let clock = Clock::steadied(now, move || read_boot.load(Ordering::Relaxed));
        let judged = |from, until| clock.within(TimeMs(from), TimeMs(until)).0;
        assert_eq!(judged(900, 1_100), 1_000);
        boot.store(60, Ordering::Relaxed);
        wall.store(9_000, Ordering::Relaxed);
        assert_eq!(judged(900, 1_100), 1_010, "the wall clock jumped ahead");
        assert_eq!(judged(8_000, 9_500), 9_000, "or it was wrong before");
        assert_eq!(judged(2_000, 3_000), 9_000, "by neither");
        wall.store(10, Ordering::Relaxed);
        assert_eq!(judged(900, 1_100), 1_010, "it jumped back");
        boot.store(400, Ordering::Relaxed);
        assert_eq!(judged(900, 1_100), 10, "time has passed");
    }
}
