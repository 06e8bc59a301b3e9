//! `sim [--seed N] [--runs K] [--threads T] [--first-failure yes] [--keep FILE]`: runs K seeds from N on and prints what was
//! seen, and every seed that fails, or only the first; with a file, what was seen is kept there too; with the
//! name of a mutation or of circumstances, in those in which it would be noticed.
//! `sim --merge FILE...`: prints what was seen in all the runs whose files these are.
//! `sim --mutations [--seed N] [--runs K] [--only NAME]`: makes the product wrong in every way that is known, or in this one, and
//! prints which seed noticed.
// A command for people: it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use flowyard_sim::{Circumstances, Failure, Mutation, Summary, Totals, run, run_all, run_wrong};

const USAGE: &str = "usage: sim [--mutations [--only NAME]] [--seed N] [--runs K] [--threads T] [--first-failure yes] [--keep FILE] [--like NAME]\n       \
                     sim --merge FILE...";
/// Runs from which on no cell of the coverage may be empty.
const RUNS_THAT_COVER: u64 = 1_000;
/// One of so many seeds is run twice, and has to have the same history.
const COMPARED: u64 = 100;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let first = arguments.first().cloned().unwrap_or_default();
    arguments.drain(..usize::from(["--mutations", "--merge"].contains(&&first[..])));
    if first == "--merge" {
        return merged(&arguments);
    }
    let Some(asked) = Asked::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if first == "--mutations" { all_noticed(&asked) } else { many(&asked) }
}

fn many(asked: &Asked) -> ExitCode {
    let start = flowyard_clock::monotonic();
    let mut totals = Totals::default();
    run_all((asked.seed, asked.runs), asked.threads, asked.like, |seed, result| {
        match compared(asked, seed, result) {
            Ok(summary) => totals.add(&summary),
            Err(failure) => {
                println!("FAILED {failure}");
                totals.fail();
            }
        }
        totals.took_ms = flowyard_clock::elapsed(start).as_millis() as u64;
        if totals.runs.is_multiple_of(RUNS_THAT_COVER) {
            println!("{}", line(&totals));
        }
        !asked.first_failure || totals.failed == 0
    });
    if let Some(file) = &asked.keep
        && let Err(error) = std::fs::write(file, totals.to_text())
    {
        eprintln!("sim: {file}: {error}");
        return ExitCode::FAILURE;
    }
    report(&totals)
}

/// Some seeds are run again: they have one history.
fn compared(asked: &Asked, seed: u64, result: Result<Summary, Failure>) -> Result<Summary, Failure> {
    let summary = result?;
    if asked.like.is_none() && seed.is_multiple_of(COMPARED) && run(seed, false).as_ref() != Ok(&summary) {
        let broken = "two runs of this seed have different histories".to_owned();
        return Err(Failure { seed, at_ms: summary.simulated_ms, broken });
    }
    Ok(summary)
}

fn merged(files: &[String]) -> ExitCode {
    let mut totals = Totals::default();
    for file in files {
        let read = std::fs::read_to_string(file).map_err(|error| error.to_string());
        match read.and_then(|text| Totals::from_text(&text).ok_or("it was not kept by `sim --keep`".to_owned())) {
            Ok(kept) => totals.merge(&kept),
            Err(error) => {
                eprintln!("sim: {file}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    report(&totals)
}

fn report(totals: &Totals) -> ExitCode {
    println!("{}", totals.coverage.table());
    println!("ends by reason: {}", totals.coverage.reasons());
    println!("{}", line(totals));
    let empty = totals.coverage.empty_cells();
    let covered = totals.runs < RUNS_THAT_COVER || empty.is_empty();
    if !empty.is_empty() {
        println!(
            "never met: {}",
            empty.iter().map(|(kind, phase)| format!("{} x {phase:?}", kind.name())).collect::<Vec<_>>().join(", ")
        );
    }
    if totals.failed == 0 && covered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all_noticed(asked: &Asked) -> ExitCode {
    let (mut all, first, runs) = (true, asked.seed, asked.runs);
    for mutation in Mutation::ALL.into_iter().filter(|mutation| asked.only.is_none_or(|only| only == *mutation)) {
        let noticed = (first..first + runs).find_map(|seed| {
            let wrong = std::panic::catch_unwind(|| run_wrong(seed, mutation));
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

fn line(totals: &Totals) -> String {
    let seconds = totals.took_ms as f64 / 1_000.0;
    format!(
        "seeds {}, failed {}, jobs {}, attempts {}, tasks succeeded {}, evictions {}, replaced {}, faults {} (at least {} in each), entries {}, simulated hours {}, \
         seconds {seconds:.0}, seeds/s {:.1}",
        totals.runs,
        totals.failed,
        totals.jobs,
        totals.attempts,
        totals.succeeded,
        totals.evictions,
        totals.replaced,
        totals.coverage.faults(),
        totals.least_faults,
        totals.entries,
        totals.simulated_ms / 3_600_000,
        totals.runs as f64 / seconds.max(0.001),
    )
}

/// What the command line says.
struct Asked {
    seed: u64,
    runs: u64,
    threads: u64,
    first_failure: bool,
    keep: Option<String>,
    like: Option<Circumstances>,
    only: Option<Mutation>,
}

impl Asked {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut asked = Self { seed: 1, runs: 1, threads: 2, first_failure: false, keep: None, like: None, only: None };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return None };
            match name.as_str() {
                "--seed" => asked.seed = value.parse().ok()?,
                "--runs" => asked.runs = value.parse().ok()?,
                "--threads" => asked.threads = value.parse().ok()?,
                "--first-failure" => asked.first_failure = value == "yes",
                "--like" => asked.like = Some(Circumstances::named(value)?),
                "--only" => asked.only = Some(Mutation::named(value)?),
                "--keep" => asked.keep = Some(value.clone()),
                _ => return None,
            }
        }
        Some(asked)
    }
}
