//! The time that entries are stamped with: the cluster's own, which all its leaders carry on.
//!
//! State time never goes back. Were an entry stamped with whatever its leader's wall clock shows, one leader whose clock is an hour
//! ahead would make all that wait for a time wait an hour longer, once another with a true clock has taken over. So the cluster's
//! time goes on from where it is by the time that passes, as boot time tells, and is drawn towards the wall clock of who leads: where
//! that is behind it runs at half speed, where that is ahead at double speed, until they agree. No jump of a clock is a jump of it.
//!
//! A leader tells the others its time every second (`members`), so that whoever leads next carries it on. Only the first leader
//! after all coordinators were down begins with its own wall clock, since nobody knows how long that was; or with state time, if
//! that is later.

use std::sync::{Arc, Mutex, PoisonError};

use flowyard_model::TimeMs;

use crate::feed::Feed;

/// The cluster's time, in thousandths of milliseconds so that nothing is lost between stamps, and when in boot time it was that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    time_us: u64,
    boot_ms: u64,
}

/// The cluster's time now: between half and double of what has passed since `last`, as near to the wall clock as that allows. Pure.
fn next(last: Point, boot_ms: u64, wall_ms: u64) -> Point {
    let passed_us = boot_ms.saturating_sub(last.boot_ms).saturating_mul(1_000);
    let (slow, fast) =
        (last.time_us.saturating_add(passed_us / 2), last.time_us.saturating_add(passed_us.saturating_mul(2)));
    Point { time_us: wall_ms.saturating_mul(1_000).clamp(slow, fast), boot_ms }
}

/// What this coordinator knows of the cluster's time; cheap to clone.
#[derive(Debug, Clone)]
pub struct Stamps {
    feed: Feed,
    last: Arc<Mutex<Option<Point>>>,
}

impl Stamps {
    /// Nothing is known yet but what the state says.
    pub(crate) fn new(feed: Feed) -> Self {
        Self { feed, last: Arc::default() }
    }

    /// The cluster's time now, as a leader stamps entries with it.
    pub fn now(&self) -> TimeMs {
        let (boot_ms, wall_ms) = (flowyard_clock::boot_ms(), flowyard_clock::wall_ms());
        self.at(boot_ms, wall_ms)
    }

    fn at(&self, boot_ms: u64, wall_ms: u64) -> TimeMs {
        let state_us = self.feed.view().time().0.saturating_mul(1_000);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let point = match *last {
            Some(last) => next(last, boot_ms, wall_ms),
            None => Point { time_us: wall_ms.saturating_mul(1_000), boot_ms },
        };
        let point = Point { time_us: point.time_us.max(state_us), ..point };
        *last = Some(point);
        TimeMs(point.time_us / 1_000)
    }

    /// Learns what time it is for the leader, which this coordinator follows.
    pub(crate) fn told(&self, time: TimeMs) {
        let point = Point { time_us: time.0.saturating_mul(1_000), boot_ms: flowyard_clock::boot_ms() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(point);
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Command, Entry, Revision};
    use flowyard_state::{State, apply};

    use super::*;

    const HOUR: u64 = 3_600_000;
    const NOON: u64 = 1_800_000_000_000;

    fn point(time_ms: u64, boot_ms: u64) -> Point {
        Point { time_us: time_ms * 1_000, boot_ms }
    }

    #[test]
    fn a_clock_that_is_right_is_followed_and_one_that_jumps_is_not() {
        let last = point(NOON, 0);
        assert_eq!(next(last, 5_000, NOON + 5_000), point(NOON + 5_000, 5_000));
        assert_eq!(next(last, 5_000, NOON + 5_003), point(NOON + 5_003, 5_000), "a little ahead");
        assert_eq!(next(last, 5_000, NOON + HOUR), point(NOON + 10_000, 5_000), "an hour ahead: double speed");
        assert_eq!(next(last, 5_000, NOON - HOUR), point(NOON + 2_500, 5_000), "an hour behind: half speed");
        assert_eq!(next(last, 5_000, 0), point(NOON + 2_500, 5_000));
        assert_eq!(next(last, 0, NOON + HOUR), last, "no time has passed");
        assert_eq!(next(point(u64::MAX / 1_000, 0), u64::MAX, u64::MAX).time_us, u64::MAX, "nothing overflows");
    }

    #[test]
    fn time_that_was_an_hour_ahead_goes_on_and_is_true_again_by_itself() {
        // True time and boot time pass alike; many stamps are made, none of them far from the one before.
        let (mut last, mut boot_ms) = (point(NOON + HOUR, 0), 0);
        while last.time_us > (NOON + boot_ms) * 1_000 {
            let before = last;
            boot_ms += 7;
            last = next(last, boot_ms, NOON + boot_ms);
            assert!(last.time_us >= before.time_us + 3_500, "it never stands still, however often it is asked");
            assert!(boot_ms < 3 * HOUR, "it never comes true");
        }
        assert_eq!(last, point(NOON + boot_ms, boot_ms));
        assert!(boot_ms.abs_diff(2 * HOUR) < 1_000, "at half speed it takes twice the hour");
    }

    #[test]
    fn a_successor_goes_on_from_what_it_was_told_and_from_state_time_whatever_its_clock_shows() {
        let mut state = State::new();
        apply(&mut state, Entry { index: Revision(1), time: TimeMs(NOON), command: Command::Tick });
        let stamps = Stamps::new(Feed::starting_with(state.view()));
        *stamps.last.lock().unwrap() = Some(point(NOON + 1_000, 50_000));
        assert_eq!(stamps.at(52_000, NOON + HOUR), TimeMs(NOON + 5_000));
        // Nobody told one that was just started: it begins with its clock, but never behind the state.
        let fresh = || Stamps::new(Feed::starting_with(state.view()));
        assert_eq!(fresh().at(7, NOON + HOUR), TimeMs(NOON + HOUR));
        let behind = fresh();
        assert_eq!(behind.at(1_000, NOON - HOUR), TimeMs(NOON));
        assert_eq!(behind.at(3_000, NOON - HOUR + 2_000), TimeMs(NOON + 1_000), "and goes on from there");
    }
}
