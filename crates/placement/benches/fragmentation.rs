//! What becomes of free GPUs in a day, by each rule: `cargo bench -p flowyard-placement --bench fragmentation -- [--quick] [--load N]`.
//!
//! It measures no time: the same trace gives the same figures on any machine.
#![allow(clippy::print_stdout, reason = "it is a program that prints figures")]
#![allow(missing_docs, reason = "it is no library")]

#[path = "fragmentation/day.rs"]
mod day;
#[path = "fragmentation/trace.rs"]
mod trace;

use day::{Mix, Told, day};
use flowyard_placement::Fit;
use trace::{FULL, Size, Trace};

const RULES: [(&str, Fit, Mix); 4] = [
    ("fragmentation, by tasks", Fit::Fragmentation, Mix::Tasks),
    ("fragmentation, by devices", Fit::Fragmentation, Mix::Devices),
    ("best fit", Fit::Best, Mix::Untold),
    ("first fit", Fit::First, Mix::Untold),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let quick = words.iter().any(|word| word == "--quick");
    let after = words.iter().position(|word| word == "--load").and_then(|at| words.get(at + 1)?.parse().ok());
    let loads = after.map_or(vec![80, 90, 100], |load| vec![load]);
    for load in loads {
        let size = Size { load, ..FULL };
        let traces: Vec<_> = (1..=if quick { 1 } else { 5 }).map(|seed| Trace::new(seed, size)).collect();
        println!("{} nodes, {} hours, load {load} %, mean of {} traces (GPUs)", size.nodes, size.hours, traces.len());
        println!(
            "{:<32} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "useless", "useless", "of free", "in use", "in use", "wait", "wait of", "waiting"
        );
        println!(
            "{:<32} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "at end", "mean", "mean", "at end", "mean", "s", "several s", "at end"
        );
        for (name, fit, mix) in RULES {
            let told: Vec<_> = traces.iter().map(|trace| day(trace, size, fit, mix)).collect();
            print(name, &told);
        }
    }
}

fn print(name: &str, told: &[Told]) {
    let mean = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>() / told.len() as u64;
    let tenths = |milli: u64| format!("{}.{}", milli / 1_000, milli % 1_000 / 100);
    println!(
        "{name:<32} {:>9} {:>9} {:>7} % {:>9} {:>9} {:>9} {:>9} {:>9}",
        tenths(mean(|told| told.useless_at_end)),
        tenths(mean(|told| told.useless_mean)),
        mean(|told| told.useless_of_free) / 10,
        tenths(mean(|told| told.in_use_at_end)),
        tenths(mean(|told| told.in_use_mean)),
        mean(|told| told.wait_s),
        mean(|told| told.wait_of_several_s),
        mean(|told| told.waiting_at_end),
    );
}
