//! Many seeds at once, each in one thread of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::world::{Failure, Summary, run};

/// Runs these many seeds from the first on, on all cores; the results in the order of the seeds. A panic is a failure of its
/// seed.
pub fn run_all(first: u64, runs: u64) -> Vec<(u64, Result<Summary, Failure>)> {
    let (next, results) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        return;
                    }
                    let panicked = || Failure { seed, at_ms: 0, broken: "panicked; see above".to_owned() };
                    let result = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| Err(panicked()));
                    results.lock().expect("nobody panics with the lock").push((seed, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("nobody panics with the lock");
    results.sort_by_key(|(seed, _)| *seed);
    results
}
