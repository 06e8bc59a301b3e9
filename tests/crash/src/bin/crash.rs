//! `crash [--seed N] [--runs K] [--engine NAME] [--writers N]`: cuts the power under what the product keeps on disk.
//!
//! It also is the writer under the cut: `crash write WORKLOAD SEED FOLDER ACKS`, which it starts by itself.
// A command for people: it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use flowyard_crash::writers::{Order, Workload, write};
use flowyard_crash::{Chain, End, missing};

const USAGE: &str =
    "usage: crash [--seed N] [--runs K] [--writers N] [--engine sled|redb|journal|origin|local|WORKLOAD]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, workload, seed, folder, acks] = &arguments[..]
        && word == "write"
    {
        return be_writer(workload, seed, folder, acks);
    }
    let Some(asked) = Asked::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if let Some(reason) = missing() {
        eprintln!("crash: {reason}");
        return ExitCode::from(2);
    }
    let mut all_kept = true;
    for workload in asked.workloads() {
        all_kept &= run(workload, &asked);
    }
    if all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn be_writer(workload: &str, seed: &str, folder: &str, acks: &str) -> ExitCode {
    let (Some(workload), Ok(seed)) = (Workload::from_name(workload), seed.parse()) else {
        return ExitCode::from(2);
    };
    let acks = std::fs::read_to_string(acks).unwrap_or_default().lines().map(str::to_owned).collect();
    let ended = write(&Order { workload, folder: PathBuf::from(folder), seed, acks });
    println!("{}", ended.line());
    // At once: what is still open may wait for the disk that failed.
    std::process::exit(3);
}

struct Asked {
    seed: u64,
    runs: u64,
    writers: u32,
    of: String,
}

impl Asked {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut asked = Self { seed: 1, runs: 25, writers: 6, of: String::new() };
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if name == "--seed" => asked.seed = value.parse().ok()?,
                [name, value] if name == "--runs" => asked.runs = value.parse().ok()?,
                [name, value] if name == "--writers" => asked.writers = value.parse().ok()?,
                [name, value] if name == "--engine" => asked.of.clone_from(value),
                _ => return None,
            }
        }
        (!asked.workloads().is_empty()).then_some(asked)
    }

    /// An engine names two workloads, the log alone and a whole replica.
    fn workloads(&self) -> Vec<Workload> {
        let all = Workload::ALL.into_iter();
        all.filter(|workload| workload.name().ends_with(&self.of)).collect()
    }
}

fn run(workload: Workload, asked: &Asked) -> bool {
    let started = flowyard_clock::monotonic();
    let (mut whole, mut refused, mut wrong) = (0, Vec::new(), Vec::new());
    let (mut acks, mut cuts, mut faults) = (0, 0, 0);
    for seed in asked.seed..asked.seed + asked.runs {
        let program = std::env::current_exe().expect("this program has a path");
        let chain = Chain { program, workload, seed, writers: asked.writers };
        let report = match chain.run() {
            Ok(report) => report,
            Err(error) => {
                eprintln!("crash: seed {seed}: {error}");
                return false;
            }
        };
        (acks, cuts, faults) = (acks + report.acks, cuts + report.cuts, faults + report.faults);
        match report.end {
            End::Whole => whole += 1,
            End::Refused(text) => refused.push((seed, text)),
            End::Wrong(text) => wrong.push((seed, text)),
        }
    }
    println!(
        "{}: {} chains, {whole} whole, {} refused as damaged, {} wrong; {cuts} power cuts, {faults} kills and failing \
         disks, {acks} promises, {} s",
        workload.name(),
        asked.runs,
        refused.len(),
        wrong.len(),
        flowyard_clock::elapsed(started).as_secs()
    );
    let told: BTreeMap<&str, &Vec<(u64, String)>> = BTreeMap::from([("refused", &refused), ("WRONG", &wrong)]);
    for (word, seeds) in told {
        for (seed, text) in seeds.iter().take(10) {
            println!("  {word} seed {seed}: {text}");
        }
    }
    refused.is_empty() && wrong.is_empty()
}
