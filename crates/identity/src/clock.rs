//! What time it is, as whoever uses this crate tells it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flowyard_model::TimeMs;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// A source of wall-clock time; cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> TimeMs + Send + Sync>);

impl Clock {
    /// The wall clock of this process.
    pub fn wall() -> Self {
        Self::of(|| TimeMs(flowyard_clock::wall_ms()))
    }

    /// A clock that asks `now`.
    pub fn of(now: impl Fn() -> TimeMs + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> TimeMs {
        (self.0)()
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
