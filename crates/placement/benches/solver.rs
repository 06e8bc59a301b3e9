//! What a placement costs: `cargo bench -p flowyard-placement -- [plain|gpu|gang] [--quick] [--told] [--generate] [--batch N]`.
//!
//! Time is that of this thread on a CPU. With `--told` nodes are chosen by
//! what becomes useless, for a mix of kinds that is told. `--generate` stops before the first round, so that what an instruction counter says
//! of it can be taken off what it says of the whole.
#![allow(clippy::print_stdout, reason = "it is a program that prints figures")]
#![allow(clippy::disallowed_methods, reason = "it measures, which the crate itself must not")]
#![allow(missing_docs, reason = "it is no library")]

#[path = "solver/day.rs"]
mod day;

use day::{Day, FULL, Kind, SMALL, Size};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let mut size = if has("--small") || has("--quick") { SMALL } else { FULL };
    let after = words.iter().position(|word| word == "--batch").and_then(|at| words.get(at + 1)?.parse().ok());
    size.batch = after.unwrap_or(size.batch);
    for (word, kind) in [("plain", Kind::Plain), ("gpu", Kind::Gpu), ("gang", Kind::Gang)] {
        if has(word) || !["plain", "gpu", "gang"].into_iter().any(has) {
            measure(word, kind, size, has("--told"), has("--generate"));
        }
    }
}

fn measure(word: &str, kind: Kind, size: Size, told: bool, only_generate: bool) {
    let (mut day, generated) = timed(|| Day::new(kind, size, told));
    let Size { nodes, shapes, queues, .. } = size;
    println!("{word}: {nodes} nodes and {shapes} shapes of {queues} queues put in {} ms", generated / 1_000_000);
    if only_generate {
        return;
    }
    let (placed, spent) = timed(|| day.round());
    report("first round", &day, placed, day.steps, spent);
    let before = day.steps;
    let ((), ended) = timed(|| day.tasks_end());
    println!("  {} tasks ended in {} us", size.ends, ended / 1_000);
    let (placed, spent) = timed(|| day.round());
    report("second round", &day, placed, day.steps - before, spent);
    println!("  digest {:016x}", day.digest());
}

fn report(round: &str, day: &Day, placed: u32, steps: u64, spent: u64) {
    let rate = u128::from(placed) * 1_000_000_000 / u128::from(spent.max(1));
    let waiting = day.waiting();
    println!("  {round}: {placed} placed, {waiting} wait, {rate} placements/s, {steps} steps, {} us", spent / 1_000);
}

/// What it gives and how many nanoseconds of CPU it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = cpu_ns();
    let result = work();
    (result, cpu_ns() - before)
}

/// Nanoseconds that this thread was on a CPU; where the system does not say, by the clock.
fn cpu_ns() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let first = told.and_then(|line| line.split(' ').next()?.parse().ok());
    first.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    })
}
