//! `fctl policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
Examples:
  fctl policy put policy.toml           say what the file says, and nothing else
  fctl policy show

A policy file:
  topology = [\"block\", \"rack\"]
  throttle = { per_job = 500, per_node = 8 }
  tokens = { matlab = 5 }

`topology` are labels of the machines (`--label rack=r7` of an agent), from the top: the members of a gang are placed near to
each other by them. `throttle` is how many members may be placed and not run yet at one time; no bound where it says nothing. `tokens` are countable things
that all machines share, such as licences: tasks that ask for them (`tokens` of a step, `--token`) hold no more together.";

/// What holds for all of the cluster.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Policy {
    /// Let the policy be what a file says
    Put(PutPolicy),
    /// Show the policy, how the machines are spread over the topology, and how many tokens are held
    Show(ShowPolicy),
}

/// `fctl policy put`.
#[derive(Debug, Args)]
pub(crate) struct PutPolicy {
    /// The policy file
    pub file: PathBuf,
}

/// `fctl policy show`.
#[derive(Debug, Args)]
pub(crate) struct ShowPolicy {
    /// Be content with what any coordinator knows, also when none leads; the answer is labelled as such
    #[arg(long)]
    pub stale: bool,
}
