//! The coordinator: one replica of the log, the state it is applied to, and the services in front of it.
//!
//! Reading order: [`raft`] (what a reply means), `applier` and [`feed`] (how state becomes visible), `leadership` and the actors
//! it starts (`placer`, `liveness`, `timekeeper`, `collector`), [`session`] (agents), `api` (clients).

pub mod access;
mod api;
mod applier;
mod archive;
mod around;
mod aside;
mod audit;
pub mod backup;
mod caller;
mod collector;
pub mod config;
mod coordinator;
mod copying;
mod crowd;
mod diagnosing;
mod durable;
mod evidence;
pub mod feed;
#[cfg(test)]
mod fixture;
pub mod fleet;
mod fresh;
mod guesses;
mod holdings;
mod leadership;
pub mod liveness;
mod metrics;
pub mod placer;
mod proposer;
mod queues;
pub mod raft;
mod rates;
mod readable;
mod relay;
mod sealing;
mod secrets;
mod server;
pub mod session;
mod shedding;
pub mod stale;
mod stamps;
mod standing;
mod timekeeper;
mod tracer;
mod uploads;
mod version_mark;

pub use config::{CallRate, Config, LogKeeping, Retention, Timing, TimingError};
pub use coordinator::{Coordinator, LEADER, Shared, StartError};
pub use sealing::sealed_again;
pub use server::serve;
pub use version_mark::NewerCluster;
