//! `sim [--seed N] [--runs K] [--threads T] [--first-failure yes]`: runs K seeds from N on and prints what was seen, and every
//! seed that fails, or only the first.
//! `sim --mutations [--seed N] [--runs K]`: makes the product wrong in every way that is known, and prints which seed noticed.
// A command for people: it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use flowyard_sim::{Coverage, Failure, Mutation, Summary, run, run_all, run_wrong};

/// Runs from which on no cell of the coverage may be empty.
const RUNS_THAT_COVER: u64 = 1_000;
/// One of so many seeds is run twice, and has to have the same history.
const COMPARED: u64 = 100;

#[derive(Default)]
struct Totals {
    runs: u64,
    jobs: u64,
    attempts: u64,
    succeeded: u64,
    entries: u64,
    simulated_ms: u64,
    least_faults: Option<u64>,
    coverage: Coverage,
    failures: Vec<Failure>,
}

impl Totals {
    fn add(&mut self, seed: u64, result: Result<Summary, Failure>) {
        self.runs += 1;
        let summary = match result {
            Ok(summary) if seed.is_multiple_of(COMPARED) && run(seed, false).as_ref() != Ok(&summary) => {
                let broken = "two runs of this seed have different histories".to_owned();
                return self.fail(Failure { seed, at_ms: summary.simulated_ms, broken });
            }
            Ok(summary) => summary,
            Err(failure) => return self.fail(failure),
        };
        self.jobs += summary.jobs;
        self.attempts += summary.attempts;
        self.succeeded += summary.succeeded;
        self.entries += summary.entries;
        self.simulated_ms += summary.simulated_ms;
        self.least_faults = Some(self.least_faults.map_or(summary.faults, |least| least.min(summary.faults)));
        self.coverage.merge(&summary.coverage);
    }

    fn fail(&mut self, failure: Failure) {
        println!("FAILED {failure}");
        self.failures.push(failure);
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let mutations = arguments.first().is_some_and(|first| first == "--mutations");
    arguments.drain(..usize::from(mutations));
    let Some(([seed, runs, threads], first_failure)) = parse(&arguments) else {
        eprintln!("usage: sim [--mutations] [--seed N] [--runs K] [--threads T] [--first-failure yes]");
        return ExitCode::from(2);
    };
    if mutations {
        return all_noticed(seed, runs);
    }
    let start = flowyard_clock::monotonic();
    let mut totals = Totals::default();
    run_all(seed, runs, threads, |seed, result| {
        totals.add(seed, result);
        if totals.runs.is_multiple_of(RUNS_THAT_COVER) {
            report(&totals, flowyard_clock::elapsed(start).as_secs_f64());
        }
        !first_failure || totals.failures.is_empty()
    });
    println!("{}", totals.coverage.table());
    println!("ends by reason: {}", totals.coverage.reasons());
    report(&totals, flowyard_clock::elapsed(start).as_secs_f64());
    let empty = totals.coverage.empty_cells();
    let covered = runs < RUNS_THAT_COVER || empty.is_empty();
    if !empty.is_empty() {
        println!(
            "never met: {}",
            empty.iter().map(|(kind, phase)| format!("{} x {phase:?}", kind.name())).collect::<Vec<_>>().join(", ")
        );
    }
    if totals.failures.is_empty() && covered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all_noticed(first: u64, runs: u64) -> ExitCode {
    let mut all = true;
    for mutation in Mutation::ALL {
        let noticed = (first..first + runs).find_map(|seed| {
            let wrong = std::panic::catch_unwind(|| run_wrong(seed, false, Some(mutation)));
            wrong.map_or(Some((seed, "panicked".to_owned())), |(result, _)| Some((seed, result.err()?.broken)))
        });
        match noticed {
            Some((seed, broken)) => {
                let broken = broken.lines().next().unwrap_or_default().to_owned();
                println!("{mutation:?} ({}): seed {seed}: {broken}", mutation.what());
            }
            None => {
                all = false;
                println!("{mutation:?} ({}): NOT NOTICED in {runs} seeds", mutation.what());
            }
        }
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(totals: &Totals, seconds: f64) {
    println!(
        "seeds {}, failed {}, jobs {}, attempts {}, tasks succeeded {}, faults {} (at least {} in each), entries {}, simulated hours {}, \
         seconds {seconds:.0}, seeds/s {:.1}",
        totals.runs,
        totals.failures.len(),
        totals.jobs,
        totals.attempts,
        totals.succeeded,
        totals.coverage.faults(),
        totals.least_faults.unwrap_or(0),
        totals.entries,
        totals.simulated_ms / 3_600_000,
        totals.runs as f64 / seconds.max(0.001),
    );
}

fn parse(arguments: &[String]) -> Option<([u64; 3], bool)> {
    let (mut seed, mut runs, mut threads, mut first_failure) = (1, 1, 2, false);
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        let field = match name.as_str() {
            "--seed" => &mut seed,
            "--runs" => &mut runs,
            "--threads" => &mut threads,
            "--first-failure" => {
                first_failure = value == "yes";
                continue;
            }
            _ => return None,
        };
        *field = value.parse().ok()?;
    }
    Some(([seed, runs, threads], first_failure))
}
