//! `fctl audit`.

use clap::Args;
use flowyard_sdk::units;

/// Who did what.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fctl audit --since 1d
  fctl audit --follow
  fctl -o json audit --since 30d > audit.jsonl")]
pub(crate) struct Audit {
    /// Only what was done within this time before now
    #[arg(long, value_name = "TIME", value_parser = units::duration_ms)]
    pub since: Option<u64>,
    /// Go on with what is done from now on, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// One JSON object per line, as `-o json` prints
    #[arg(long)]
    pub json: bool,
}
