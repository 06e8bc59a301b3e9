//! A whole cluster in one thread, decided by one seed.
//!
//! Real: the state machine, the solver, the bridge between them, what the coordinator tells an agent and concludes from its
//! silence, both sides of the session, the agent's decision what to start and stop, and what holds programs to their lease.
//! Pretended: the log (which keeps what it acknowledged, and some of what it did not), the network (which delays, loses,
//! doubles, reorders and cuts), clocks, disks, and what tasks do. For some simulated minutes everything breaks; then all is
//! repaired, and every job must end, every client be answered, and no machine keep anything.
//!
//! A failing seed is a bug report: seed and commit show it again.

mod agent;
mod checkers;
mod circumstances;
mod clock;
mod coverage;
mod dice;
mod faults;
mod group;
mod host;
mod jobs;
mod leader;
mod link;
mod many;
mod message;
mod mutation;
mod network;
mod outside;
mod replica;
mod schedule;
mod sessions;
mod summary;
mod totals;
mod trace;
mod world;
mod wrong;

pub use circumstances::Circumstances;
pub use coverage::Coverage;
pub use faults::FaultKind;
pub use many::run_all;
pub use mutation::Mutation;
pub use summary::{Failure, Summary};
pub use totals::Totals;
pub use world::{run, run_in, run_right, run_wrong};
