//! `fuzz [TARGET] [--seconds N] [--seed N]`: hands hostile bytes to one decoder, or to each in turn.
// A command for people: it prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use flowyard_fuzz::{Target, fuzz, targets};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((wanted, seconds, seed)) = parse(&arguments) else {
        let names: Vec<&str> = targets::all().iter().map(|target| target.name).collect();
        eprintln!("usage: fuzz [TARGET] [--seconds N] [--seed N]\ntargets: {}", names.join(" "));
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    let mut findings = 0;
    for target in wanted {
        findings += u32::from(!run(&target, seconds, seed));
    }
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Option<(Vec<Target>, u64, u64)> {
    let (mut wanted, mut seconds, mut seed) = (targets::all(), 10, 1);
    let mut rest = arguments;
    if let Some((name, left)) = rest.split_first().filter(|(name, _)| !name.starts_with('-')) {
        wanted.retain(|target| target.name == name);
        rest = left;
    }
    for pair in rest.chunks(2) {
        match pair {
            [name, value] if name == "--seconds" => seconds = value.parse().ok()?,
            [name, value] if name == "--seed" => seed = value.parse().ok()?,
            _ => return None,
        }
    }
    (!wanted.is_empty()).then_some((wanted, seconds, seed))
}

fn run(target: &Target, seconds: u64, seed: u64) -> bool {
    let started = flowyard_clock::monotonic();
    match fuzz(target, seed, |_| flowyard_clock::elapsed(started).as_secs() >= seconds) {
        Ok(seen) => {
            let (inputs, accepted, peak) = (seen.inputs, seen.accepted, seen.peak_bytes >> 10);
            println!("{}: {inputs} inputs, {accepted} accepted, at most {peak} KiB held", target.name);
            true
        }
        Err(finding) => {
            let name = format!("{}-{}", target.name, flowyard_clock::wall_ms());
            let kept = std::fs::write(&name, &finding.input);
            println!("{}: {}; the input is in {name} ({kept:?})", target.name, finding.what);
            false
        }
    }
}
