//! The one file of the workspace that reads a clock.
//!
//! Everything else takes time as an input, or calls this crate at an IO edge. The wall clock can be shifted with
//! [`set_wall_offset_ms`] so that tests can make a process believe in another time without touching the machine's clock.
//!
//! Invariant: no pure crate (`model`, `state`, `placement`) depends on this one.
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static WALL_OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Shifts what [`wall_ms`] returns in this process by `offset_ms` milliseconds (tests of clock jumps).
pub fn set_wall_offset_ms(offset_ms: i64) {
    WALL_OFFSET_MS.store(offset_ms, Ordering::Relaxed);
}

/// Milliseconds since the Unix epoch, as the machine's wall clock tells. It may jump in both directions.
pub fn wall_ms() -> u64 {
    wall_us() / 1_000
}

/// Microseconds since the Unix epoch; see [`wall_ms`].
pub fn wall_us() -> u64 {
    let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
    (real + WALL_OFFSET_MS.load(Ordering::Relaxed) * 1_000).max(0) as u64
}

/// Milliseconds since boot, suspended time included (`CLOCK_BOOTTIME`). Never goes back; leases are counted in it.
pub fn boot_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill in.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) } != 0;
    assert!(!failed, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// A point on the monotonic clock, for measuring how long something took.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The time passed since `start`.
pub fn elapsed(start: Instant) -> Duration {
    Instant::now().saturating_duration_since(start)
}

/// How long a process that ends may hold what it locked: until the kernel has closed its last file.
pub const LEAVING: Duration = Duration::from_secs(3);
/// The wait between two looks of [`patiently`].
const LOOK: Duration = Duration::from_millis(5);

/// Asks until there is an answer, or `patience` is over. It blocks its thread meanwhile.
pub fn patiently<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = monotonic();
    loop {
        let answer = ask();
        if answer.is_some() || elapsed(start) >= patience {
            return answer;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_follows_its_offset_and_the_boot_clock_does_not() {
        let (wall, boot) = (wall_ms(), boot_ms());
        set_wall_offset_ms(3_600_000);
        assert!(wall_ms() >= wall + 3_600_000);
        assert!(boot_ms() < boot + 3_600_000);
        set_wall_offset_ms(0);
    }

    #[test]
    fn an_answer_is_waited_for_but_not_forever() {
        let mut looks = 0;
        let third = patiently(LEAVING, || {
            looks += 1;
            (looks == 3).then_some("an answer")
        });
        assert_eq!((third, looks), (Some("an answer"), 3));
        assert_eq!(patiently(2 * LOOK, || None::<()>), None);
    }
}
