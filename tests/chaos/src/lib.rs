//! Chaos: three coordinators and five agents, the real program as processes on hosts with networks, processes and disks of their
//! own. Processes are killed and paused, cables pulled, disks filled and damaged, clocks moved, while several clients submit, cancel
//! and read. Afterwards what the clients were told must have one order, every job must have ended as it should, all coordinators must
//! tell the same, and nothing may be left on any host.
//!
//! Reading order: [`run`] (what happens), `plan` (in which order what is broken), `faults` (how), `fleet` and `host` (the cluster
//! under test), `clients` and `jobs` (the work), `history`, `linear` and `calls` (what was told), `ends` (how jobs ended), `account`
//! (what is left).
//!
//! Must not: look into the product, or ask it to be other than it is for users.
#![allow(clippy::print_stdout, reason = "whoever looks for a fault wants to know what was done")]

mod account;
mod calls;
mod clients;
mod damage;
mod dice;
mod ends;
mod faults;
mod fleet;
mod history;
mod host;
mod jobs;
mod linear;
mod network;
mod owner;
mod plan;
mod preload;
mod process;
mod programs;
mod proxy;
mod run;
mod summary;
mod system;

pub use network::Network;
pub use run::{Ended, Wish, run};
