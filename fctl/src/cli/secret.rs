//! `fctl secret`.

use clap::{Args, Subcommand};
use flowyard_model::{Name, QueuePath};

const EXAMPLES: &str = "\
Examples:
  fctl secret put API_KEY < key.txt
  fctl secret put API_KEY --queue research < key.txt      only jobs of that queue and below may use it
  fctl secret ls

In a flow:
  env = { API_KEY = { secret = \"API_KEY\" } }
  secret_files = { \"key.pem\" = \"DEPLOY_KEY\" }             a file in $FLOWYARD_SECRETS";

/// What tasks are given and nobody is shown.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Secret {
    /// Keep what comes on standard input under a name, or replace it
    Put(PutSecret),
    /// List the names, without what they stand for
    Ls,
    /// Forget a secret
    Rm(RemoveSecret),
    /// Encrypt all secrets with a new key, and forget the old one
    RotateKey,
}

/// `fctl secret put`.
#[derive(Debug, Args)]
pub(crate) struct PutSecret {
    /// Its name
    pub name: Name,
    /// The queue whose jobs, and those of queues below, may use it; every queue if not given
    #[arg(long, value_name = "PATH")]
    pub queue: Option<QueuePath>,
}

/// `fctl secret rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveSecret {
    /// Its name
    pub name: Name,
}
