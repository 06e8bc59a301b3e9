//! The coordinator: one replica of the log, the state it is applied to, and the services in front of it.
//!
//! Reading order: [`raft`] (what a reply means), `applier` and [`feed`] (how state becomes visible), `leadership` and the actors
//! it starts (`placer`, `liveness`, `timekeeper`, `collector`), [`session`] (agents), `api` (clients).

pub mod access;
mod api;
mod applier;
mod audit;
pub mod backup;
mod caller;
mod collector;
pub mod config;
mod coordinator;
mod crowd;
mod durable;
mod evidence;
pub mod feed;
#[cfg(test)]
mod fixture;
pub mod fleet;
mod guesses;
mod holdings;
mod leadership;
pub mod liveness;
pub mod placer;
mod proposer;
pub mod raft;
mod readable;
mod relay;
mod secrets;
mod server;
pub mod session;
mod stamps;
mod standing;
mod timekeeper;

pub use config::{Config, Timing, TimingError};
pub use coordinator::{Coordinator, LEADER, Shared, StartError};
pub use server::serve;
