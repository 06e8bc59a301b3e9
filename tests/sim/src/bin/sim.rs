//! `sim [--seed N] [--runs K]`: runs K seeds from N on, on all cores, and prints what was seen and every seed that fails.
// A command for people: it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use flowyard_sim::{Summary, run_all};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let Some((seed, runs)) = parse(&arguments) else {
        eprintln!("usage: sim [--seed N] [--runs K]");
        return ExitCode::from(2);
    };
    let start = flowyard_clock::monotonic();
    let results = run_all(seed, runs);
    let seconds = flowyard_clock::elapsed(start).as_secs();
    let passed: Vec<_> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let sum = |of: fn(&Summary) -> u64| passed.iter().map(|run| of(run)).sum::<u64>();
    println!(
        "runs {}, jobs {}, attempts {}, tasks succeeded {}, faults {}, entries {}, simulated hours {}, seconds {seconds}",
        results.len(),
        sum(|run| run.jobs),
        sum(|run| run.attempts),
        sum(|run| run.succeeded),
        sum(|run| run.faults),
        sum(|run| run.entries),
        sum(|run| run.simulated_ms) / 3_600_000,
    );
    for failure in results.iter().filter_map(|(_, result)| result.as_ref().err()) {
        println!("FAILED {failure}");
    }
    if passed.len() == results.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Option<(u64, u64)> {
    let (mut seed, mut runs) = (1, 1);
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--seed" => seed = value.parse().ok()?,
            [name, value] if name == "--runs" => runs = value.parse().ok()?,
            _ => return None,
        }
    }
    Some((seed, runs))
}
