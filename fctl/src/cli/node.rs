//! Commands for one machine of the cluster.

use clap::{Args, Subcommand};
use flowyard_sdk::units;

const NODE_EXAMPLES: &str = "\
Examples:
  fctl node drain n1 --deadline 30m --wait --reason 'new disk'   wait half an hour, then stop what runs; done when empty
  fctl node uncordon n1                                          use it again
  fctl node cordon n2                                            nothing new there; what runs stays
  fctl node cordon n2 --gpu 3 --reason 'XID 79'                  nothing new on that GPU; the others are used on
  fctl node remove n3                                            forget a machine that is drained or gone
  fctl node show n4                                              what it offers, and what is held against it
  fctl node forgive n4                                           its cable was changed: hold nothing against it";

/// `fctl node`.
#[derive(Debug, Subcommand)]
#[command(after_help = NODE_EXAMPLES)]
pub(crate) enum Node {
    /// Place nothing new there, and let it become empty
    Drain(NodeDrain),
    /// Place nothing new there; what runs there stays
    Cordon(NodeCordon),
    /// Use it as before; ends a drain, too
    Uncordon(NodeUncordon),
    /// Forget a machine that is drained or gone, and on which nothing runs
    Remove(NodeName),
    /// Hold nothing against it any more: it is given work like any other
    Forgive(NodeName),
    /// What one machine offers, what of it is taken, and what is held against it
    Show(NodeName),
}

/// A machine.
#[derive(Debug, Args)]
pub(crate) struct NodeName {
    /// Its name, as `fctl nodes` lists it
    #[arg(value_name = "NODE")]
    pub node: String,
}

/// `fctl node uncordon`.
#[derive(Debug, Args)]
pub(crate) struct NodeUncordon {
    /// Which
    #[command(flatten)]
    pub name: NodeName,
    /// Only this GPU, which was cordoned by itself
    #[arg(long, value_name = "GPU")]
    pub gpu: Option<String>,
}

/// `fctl node cordon`.
#[derive(Debug, Args)]
pub(crate) struct NodeCordon {
    /// Which
    #[command(flatten)]
    pub name: NodeName,
    /// Only this GPU: its number or id, as `fctl node show` lists it
    #[arg(long, value_name = "GPU")]
    pub gpu: Option<String>,
    /// Why, for those who look at `fctl nodes`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `fctl node drain`.
#[derive(Debug, Args)]
pub(crate) struct NodeDrain {
    /// Which
    #[command(flatten)]
    pub name: NodeName,
    /// After this time, such as 30m, what still runs there is stopped with its grace period and runs again elsewhere, which
    /// costs it no retry; without it, the drain waits
    #[arg(long, value_name = "TIME", value_parser = units::duration_ms)]
    pub deadline: Option<u64>,
    /// Why, for those who look at `fctl nodes`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Wait until nothing runs there; the drain goes on if this is interrupted
    #[arg(long)]
    pub wait: bool,
}
