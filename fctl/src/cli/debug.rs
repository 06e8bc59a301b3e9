//! `fctl debug`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use flowyard_sdk::units;

const EXAMPLES: &str = "\
Examples:
  fctl debug bundle                      flowyard-bundle-TIME.tar.gz, to look into or to send
  fctl debug bundle --since 2h /tmp/b.tar.gz
  fctl debug bundle --local              of the embedded cluster of this machine";

/// `fctl debug`.
#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// Gather what the parts of the cluster say of themselves into one file
    #[command(after_help = EXAMPLES)]
    Bundle(Bundle),
}

/// `fctl debug bundle`.
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The file to write; named after the time if not given
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How far back it goes in who did what
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms, default_value = "1d")]
    pub since: u64,
    /// Replace a file that is there
    #[arg(long)]
    pub overwrite: bool,
}
