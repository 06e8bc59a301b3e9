//! `fctl bench trace`: a trace by the dice, and how near it is to the published one.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;

use flowyard_history::{Arrival, Synthetic, quantiles, synthesize};
use serde_json::json;

use crate::cli::bench::BenchTrace;
use crate::commands::Outcome;
use crate::failure::Failure;
use crate::output;
use crate::table::{Table, cell};

/// Standard output.
const STANDARD: &str = "-";

pub(super) fn run(asked: &BenchTrace) -> Outcome {
    let BenchTrace { profile, jobs, days, people, queues, most_gpus, seed, .. } = *asked;
    let arrivals = synthesize(&Synthetic { profile, jobs, days, people, queues, most_gpus, seed });
    let text = csv(&arrivals);
    if asked.file == STANDARD {
        output::bytes(text.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(asked.overwrite).truncate(asked.overwrite).create_new(!asked.overwrite);
    let mut file = options.open(&asked.file).map_err(Failure::local(&asked.file))?;
    file.write_all(text.as_bytes()).map_err(Failure::local(&asked.file))?;
    let figures = quantiles(profile, &arrivals);
    if output::is_json() {
        let figures = figures.iter().map(|it| json!({ "of": it.of, "here": it.here, "published": it.published }));
        output::json(&json!({ "file": asked.file, "jobs": arrivals.len(), "figures": figures.collect::<Vec<_>>() }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["", "HERE", "PUBLISHED"]);
    for it in &figures {
        let published = it.published.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
        table.row([cell(it.of), cell(it.here.to_string()), cell(published)]);
    }
    table.print();
    output::note(
        "what is published is written down from memory of the papers' summaries; the traces themselves are not used",
    );
    Ok(ExitCode::SUCCESS)
}

fn csv(arrivals: &[Arrival]) -> String {
    let mut text = "at_ms,duration_ms,cpu,memory,gpus,queue,user,count\n".to_owned();
    for it in arrivals {
        let queue = it.queue.as_ref().map_or("", |queue| queue.as_str());
        let (cpus, mib) = (it.cpu_milli / 1_000, it.memory_bytes >> 20);
        let written = writeln!(
            text,
            "{},{},{cpus},{mib}MiB,{},{queue},{},{}",
            it.at_ms, it.duration_ms, it.gpus, it.user, it.count
        );
        written.expect("a string takes everything");
    }
    text
}
