//! `fctl bench`: measurements that an operator can make, too.
//!
//! Reading order: [`workload`] (what arrives), `cluster` (what it arrives at), `agents` (hollow ones, in a process of their own),
//! `load` (submitting, and waiting for the end), `verdict` (whether all happened as it had to), `fleet` (all of it in order).

mod agents;
mod backlog;
mod chaos;
mod cluster;
mod figures;
mod fleet;
mod load;
mod process;
mod synced;
mod synthetic;
pub(super) mod trace;
mod traced;
mod verdict;
pub(super) mod workload;

use super::Outcome;
use crate::cli::Global;
use crate::cli::bench::Bench;

pub(super) async fn run(global: &Global, bench: Bench) -> Outcome {
    match bench {
        Bench::Fleet(fleet) => self::fleet::run(global, &fleet).await,
        Bench::Trace(asked) => synthetic::run(&asked),
        Bench::Agents => agents::serve().await,
    }
}
