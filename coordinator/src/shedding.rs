//! How many submissions are let in at a time: fewer as soon as they take too long, before everything takes too long.
//!
//! Submissions are what can wait: what agents report, what operators want, cancellations and reads are let in always. The bound is
//! moved by additive increase and multiplicative decrease, as TCP moves its window (Chiu and Jain 1989; Netflix's
//! concurrency-limits does the same for calls): while jobs are in the log within [`TARGET`], one more for each bound's worth of them;
//! a tenth less once one took longer, and not again before those have passed that were under way then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;

/// How long a submission may take to enter the log.
const TARGET: Duration = Duration::from_millis(500);
/// Jobs under way that are always let in.
const LEAST: usize = 64;
/// Jobs under way at most: more than the log takes in [`TARGET`].
const MOST: usize = 65_536;
/// The bound to begin with: several batches.
const FIRST: usize = 16_384;

/// How many jobs may be on their way into the log; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shedder {
    level: Arc<Mutex<Level>>,
}

/// Jobs on their way, until dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    jobs: usize,
    began: Instant,
    shedder: Shedder,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let took = flowyard_clock::elapsed(self.began);
        self.shedder.lock().ended(self.jobs, took);
    }
}

impl Default for Shedder {
    fn default() -> Self {
        Self { level: Arc::new(Mutex::new(Level::new())) }
    }
}

impl Shedder {
    /// Lets so many jobs in.
    ///
    /// # Errors
    /// There are too many on their way already.
    pub(crate) fn begin(&self, jobs: usize) -> Result<UnderWay, Status> {
        let refused = |wait| {
            flowyard_proto::status::ask_again(
                tonic::Code::Unavailable,
                "more is submitted than the log takes in time; nothing of this was taken",
                wait,
            )
        };
        self.lock().begin(jobs).map_err(refused)?;
        Ok(UnderWay { jobs, began: flowyard_clock::monotonic(), shedder: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bound, and what is under way.
#[derive(Debug)]
struct Level {
    bound: usize,
    under_way: usize,
    /// Jobs that ended within the target since the bound was raised.
    in_time: usize,
    /// Jobs that were under way when the bound was lowered, and are not over yet.
    before_lowered: usize,
    /// How long the last one took.
    last: Duration,
}

impl Level {
    fn new() -> Self {
        Self { bound: FIRST, under_way: 0, in_time: 0, before_lowered: 0, last: Duration::ZERO }
    }

    /// Up to the bound whatever comes is let in, so that a batch that is larger than what is left does not starve beside single jobs.
    fn begin(&mut self, jobs: usize) -> Result<(), Duration> {
        if self.under_way >= self.bound {
            return Err(self.last.max(TARGET / 2));
        }
        self.under_way += jobs;
        Ok(())
    }

    fn ended(&mut self, jobs: usize, took: Duration) {
        let was_full = 2 * self.under_way > self.bound;
        self.under_way -= jobs;
        self.last = took;
        self.before_lowered = self.before_lowered.saturating_sub(jobs);
        if took > TARGET {
            if self.before_lowered == 0 {
                self.bound = (self.bound - self.bound / 10).max(LEAST);
                (self.before_lowered, self.in_time) = (self.under_way, 0);
            }
        } else if was_full {
            self.in_time += jobs;
            if self.in_time >= self.bound {
                self.bound = (self.bound + LEAST).min(MOST);
                self.in_time = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_secs(1);
    const FAST: Duration = Duration::from_millis(5);

    /// A log that takes so many jobs a second, filled by callers who submit as fast as they are let in; the longest that a
    /// job took at the end.
    fn flood(level: &mut Level, per_second: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for round in 0..60_000 {
            while level.begin(1).is_ok() {}
            let took = Duration::from_millis((level.under_way * 1_000 / per_second) as u64);
            level.ended(1, took);
            if round > 50_000 {
                longest = longest.max(took);
            }
        }
        longest
    }

    #[test]
    fn a_flood_is_let_in_as_far_as_the_log_takes_it_in_time() {
        let mut level = Level { bound: 2_000, ..Level::new() };
        let longest = flood(&mut level, 2_000);
        assert!(longest <= TARGET + TARGET / 10, "{longest:?}");
        assert!(level.bound >= 800, "it lets in what can be taken: {}", level.bound);
    }

    #[test]
    fn one_slow_moment_lowers_the_bound_once() {
        let mut level = Level::new();
        level.begin(1_000).unwrap();
        (0..900).for_each(|_| level.ended(1, SLOW));
        assert_eq!(level.bound, FIRST - FIRST / 10, "those that were under way at that moment do not count again");
    }

    #[test]
    fn the_bound_grows_again_only_where_it_is_used() {
        let mut level = Level { bound: LEAST, ..Level::new() };
        for _ in 0..10 * LEAST {
            level.begin(1).unwrap();
            level.ended(1, FAST);
        }
        assert_eq!(level.bound, LEAST);
        level.begin(LEAST).unwrap();
        for _ in 0..LEAST {
            level.ended(1, FAST);
            level.begin(1).unwrap();
        }
        assert_eq!(level.bound, 2 * LEAST);
    }

    #[test]
    fn a_batch_larger_than_the_bound_is_let_in_alone() {
        let mut level = Level { bound: LEAST, ..Level::new() };
        level.begin(10_000).unwrap();
        assert_eq!(level.begin(1), Err(TARGET / 2));
        level.ended(10_000, SLOW);
        level.begin(1).unwrap();
    }

    #[test]
    fn who_is_refused_is_told_when_to_ask_again_and_what_is_over_counts_no_more() {
        let shedder = Shedder::default();
        let under_way = shedder.begin(MOST).unwrap();
        let refused = shedder.begin(1).unwrap_err();
        assert_eq!(flowyard_proto::status::wait_asked_for(&refused), Some(TARGET / 2));
        drop(under_way);
        assert!(shedder.begin(1).is_ok());
    }
}
