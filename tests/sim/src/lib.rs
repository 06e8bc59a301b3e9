//! A whole cluster in one thread, decided by one seed.
//!
//! Real: the state machine, the solver, the bridge between them, what the coordinator tells an agent and concludes from its
//! silence, the agent's side of the session and its decision what to start and stop.
//! Pretended: the log (which keeps what it acknowledged, and some of what it did not), the network (which delays, loses,
//! doubles and cuts), clocks, disks, and what tasks do. For some simulated seconds everything breaks; then all is repaired,
//! and every job must end, every client be answered, and no machine keep anything.
//!
//! A failing seed is a bug report: seed and commit show it again.

mod agent;
mod checkers;
mod coordinator;
mod dice;
mod jobs;
mod many;
mod message;
mod network;
mod outside;
mod schedule;
mod session;
mod trace;
mod world;

pub use many::run_all;
pub use world::{Failure, Summary, run};
