//! `fctl replay` and `fctl whatif`.

use std::path::PathBuf;

use clap::Args;
use flowyard_history::Policy;
use flowyard_model::Name;

/// `fctl replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fctl cluster backup /tmp/past.fybackup --log --without-blobs     the state and the log of a cluster
  fctl replay --from /tmp/past.fybackup                            apply all of it again
  fctl replay --from /tmp/past.fybackup --until 41200              what the state was after entry 41200
  fctl replay --from /tmp/past.fybackup --until 41200 --dump then.fybackup
  fctl replay --from /tmp/past.fybackup --plans                    make each plan again, and compare
  fctl replay --from /backup                                       a folder: an older backup in it is what the log goes on from")]
pub(crate) struct Replay {
    /// A backup with its log (`fctl cluster backup --log`), or a folder of backups of one cluster
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// Stop after the entry of this index
    #[arg(long, value_name = "INDEX")]
    pub until: Option<u64>,
    /// Make each plan again from what it was made from, and compare
    #[arg(long)]
    pub plans: bool,
    /// Write the state there as a backup without blobs, which `fctl coordinator restore` takes
    #[arg(long, value_name = "FILE")]
    pub dump: Option<PathBuf>,
}

/// `fctl whatif`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fctl whatif --from past.fybackup --add-nodes more.toml     the same weeks with more machines
  fctl whatif --from past.fybackup --queues queues.toml      with other queues
  fctl whatif --from past.fybackup --drain gpu-7             without a machine: and what could run nowhere
  fctl whatif --from past.fybackup --policy fifo             first come, first served
  fctl whatif --from trace.csv --fleet machines.toml --policy easy -o json")]
pub(crate) struct Whatif {
    /// A backup with its log, a folder of backups, or a trace: CSV or JSON lines with at_ms, duration_ms, cpu, memory, gpus, model,
    /// queue, user, count
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// The machines of a trace: a file of them
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// Machines there would be besides, from the beginning on: a file of them
    #[arg(long, value_name = "FILE")]
    pub add_nodes: Option<PathBuf>,
    /// A file of queues, as `fctl queue put` takes it, that would hold from the beginning on
    #[arg(long, value_name = "FILE")]
    pub queues: Option<PathBuf>,
    /// A machine that would take no work from the beginning on, and be emptied; can be given more than once
    #[arg(long, value_name = "NODE")]
    pub drain: Vec<Name>,
    /// Who would be next: ours, drf (shares alone), fifo, or easy (fifo with backfill by declared bounds); or ours with nodes for GPU work
    /// chosen by best-fit or first-fit
    #[arg(long, value_name = "NAME", default_value = "ours")]
    pub policy: Policy,
    /// Orders what is equal otherwise
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}
