//! `fctl completions`.

use std::process::ExitCode;

use clap::CommandFactory;

use super::Outcome;
use crate::cli::{Cli, Completions};
use crate::output;

pub(super) fn run(completions: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "fctl", &mut script);
    output::bytes(&script);
    Ok(ExitCode::SUCCESS)
}
