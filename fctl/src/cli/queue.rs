//! `fctl queue`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use flowyard_model::QueuePath;

const EXAMPLES: &str = "\
Examples:
  fctl queue put queues.toml            make or change the queues of a file
  fctl queue ls
  fctl queue show research/vision       everything about one
  fctl queue tree                       what each holds, is promised and may hold

A queue file:
  [queue.\"research/vision\"]
  weight = 2
  max_active = 100
  limit = { cpu = 200, memory = \"2TiB\", gpu = { any = 16, h100 = 8 }, tokens = { matlab = 5 } }
  reserve = { cpu = 100, gpu = 8 }
  borrow = { cpu = 50 }
  lend = { cpu = 20 }
  contract = { min_run = \"10m\", notice = \"30s\", kill_within = \"1m\" }
  no_preempt = { cpu = 10 }

A queue is put as a whole: what the file does not say of it has no bound and no promise.";

/// The queues of the tenant tree.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum Queue {
    /// Make the queues of a file, or change them to be as it says
    Put(PutQueues),
    /// List queues
    Ls(QueuesRead),
    /// Show all of one queue, and what bounds it from above
    Show(ShowQueue),
    /// Show the queues as a tree
    Tree(QueuesRead),
    /// Forget a queue in which there is no job, and below which there is no queue
    Drop(OneQueue),
}

/// `fctl queue put`.
#[derive(Debug, Args)]
pub(crate) struct PutQueues {
    /// The queue file
    pub file: PathBuf,
}

/// How queues are read.
#[derive(Debug, Args)]
pub(crate) struct QueuesRead {
    /// Be content with what any coordinator knows, also when none leads; the answer is labelled as such
    #[arg(long)]
    pub stale: bool,
}

/// A queue.
#[derive(Debug, Args)]
pub(crate) struct OneQueue {
    /// Its path, as `fctl queue ls` lists it
    #[arg(value_name = "PATH")]
    pub path: QueuePath,
}

/// `fctl queue show`.
#[derive(Debug, Args)]
pub(crate) struct ShowQueue {
    /// Which
    #[command(flatten)]
    pub queue: OneQueue,
    /// How it is read
    #[command(flatten)]
    pub read: QueuesRead,
}
