//! `cluster-bench PART --program FCTL --folder FOLDER [--quick] [--minutes N]`: a cluster under measurement, beside etcd where both do
//! the same. `cargo xtask bench cluster` builds what it needs and starts it.
//!
//! Reading order: [`asked`] (what is wished), `fleet` and `etcd` (what is measured), `driving` (closed loops of clients), then one file
//! for each part.
//!
//! Must not: ask the product to be other than it is for users. Figures are printed as they are; a goal that was missed is a figure,
//! not a failure.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command for people: it prints")]

mod agents;
mod asked;
mod burn;
mod cancel;
mod driving;
mod etcd;
mod etcd_client;
mod failover;
mod figures;
mod fleet;
mod past;
mod processes;
mod restart;
mod restored;
mod soak;
mod submit;
mod work;

use std::process::ExitCode;

use asked::{Asked, Part};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, what, folder] = &words[..]
        && word == "burn"
    {
        burn::forever(what, folder);
    }
    let asked = match Asked::parse(&words) {
        Ok(asked) => asked,
        Err(reason) => {
            eprintln!("{reason}\n\n{}", asked::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench cluster: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &Asked) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    for part in asked.parts() {
        println!("== {}", part.name());
        let place = asked.place(part)?;
        let measured = runtime.block_on(async {
            match part {
                Part::Submit => submit::run(asked, &place).await,
                Part::Failover => failover::run(asked, &place).await,
                Part::Restart => restart::run(asked, &place).await,
                Part::Cancel => cancel::run(asked, &place).await,
                Part::Agents => agents::run(asked, &place).await,
                Part::Soak => soak::run(asked, &place).await,
            }
        });
        asked.clear(&place);
        measured?;
    }
    Ok(())
}
