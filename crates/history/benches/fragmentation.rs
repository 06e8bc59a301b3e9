//! `cargo bench -p flowyard-history --bench fragmentation -- [--quick] [--load N]`: what becomes of free GPUs in a day of a
//! cluster that chooses nodes as this release does, by best fit, and by the first fit.
//!
//! The real scheduler, the real `apply`, virtual time: the same trace gives the same figures on any machine.
#![allow(clippy::print_stdout, reason = "it is a program that prints figures")]
#![allow(clippy::disallowed_methods, reason = "it measures, which the crate itself must not")]
#![allow(missing_docs, reason = "it is no library")]

#[path = "fragmentation/day.rs"]
mod day;
#[path = "../../placement/benches/fragmentation/trace.rs"]
#[allow(dead_code, reason = "the solver's bench uses the rest")]
mod trace;

use day::{RULES, day};
use flowyard_history::Measures;
use trace::{FULL, Size};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let quick = words.iter().any(|word| word == "--quick");
    let after = words.iter().position(|word| word == "--load").and_then(|at| words.get(at + 1)?.parse().ok());
    let loads = after.map_or(vec![80, 90, 100], |load| vec![load]);
    let (nodes, seeds) = if quick { (60, 1) } else { (FULL.nodes, 3) };
    for load in loads {
        let size = Size { load, nodes, ..FULL };
        println!("{nodes} nodes, {} hours, load {load} %, mean of {seeds} traces (GPUs)", size.hours);
        println!(
            "{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "useless", "useless", "of free", "held", "held", "wait", "wait of", "waiting"
        );
        println!(
            "{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "at end", "mean", "mean", "at end", "mean", "s", "several s", "at end"
        );
        for policy in RULES {
            let began = std::time::Instant::now();
            let told: Vec<_> = (1..=seeds).map(|seed| day(seed, size, policy)).collect();
            print(policy.as_str(), size, &told, began.elapsed().as_secs());
        }
    }
}

fn print(name: &str, size: Size, told: &[Measures], seconds: u64) {
    let mean = |of: &dyn Fn(&Measures) -> u64| told.iter().map(of).sum::<u64>() / told.len() as u64;
    let tenths = |milli: u64| format!("{}.{}", milli / 1_000, milli % 1_000 / 100);
    let devices = day::devices(size) * 1_000;
    let of = |it: &Measures| it.fragmented.unwrap_or_default();
    let of_free = |it: &Measures| (of(it).useless_milli * 1_000).checked_div(of(it).free_milli).unwrap_or(0);
    println!(
        "{name:<12} {:>9} {:>9} {:>7} % {:>9} {:>9} {:>9} {:>9} {:>9}   ({seconds} s)",
        tenths(mean(&|it| of(it).useless_at_end_milli)),
        tenths(mean(&|it| of(it).useless_milli)),
        mean(&of_free) / 10,
        tenths(mean(&|it| devices - of(it).free_at_end_milli)),
        tenths(mean(&|it| devices - of(it).free_milli)),
        mean(&|it| it.waits.mean_ms) / 1_000,
        mean(&|it| it.waits_of_several.mean_ms) / 1_000,
        mean(&|it| it.waiting),
    );
}
