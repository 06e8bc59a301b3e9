//! Many seeds, in two threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::circumstances::Circumstances;
use crate::summary::{Failure, Summary};
use crate::world::{run, run_in};

/// Runs these many seeds from the first on, in so many threads; `each` is told of every one as it ends, and says whether to
/// go on. A panic is a failure of its seed. The circumstances are usual ones, or those in which something would be noticed.
pub fn run_all(
    (first, runs): (u64, u64),
    threads: u64,
    like: Option<Circumstances>,
    each: impl FnMut(u64, Result<Summary, Failure>) -> bool + Send,
) {
    let one = |seed| like.map_or_else(|| run(seed, false), |circumstances| run_in(seed, circumstances));
    let (next, each) = (AtomicU64::new(first), Mutex::new(each));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        return;
                    }
                    let panicked = || Failure { seed, at_ms: 0, broken: "panicked; see above".to_owned() };
                    let result = std::panic::catch_unwind(|| one(seed)).unwrap_or_else(|_| Err(panicked()));
                    if !(each.lock().expect("nobody panics with the lock"))(seed, result) {
                        next.store(first + runs, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}
