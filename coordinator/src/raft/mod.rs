//! The replicated log: the only place that names the Raft library.
//!
//! Owns: the log on disk ([`engine`]), snapshots, the identity of this replica, the task that applies entries to a
//! [`Machine`], and [`Replica`], the handle everything else uses.
//! Must not: know what a command means, or hand a type of the library to anybody.
//!
//! ```text
//! propose -> Replica -> library -> LogStore -> LogEngine: queue, batch, barrier
//!                          |                        |
//!                          |<------ durable --------+
//!                          v
//!                       Applier: Machine::apply ..., after_batch, replies
//! ```
//!
//! Invariants:
//! - A reply means: durable on a quorum, applied here, and visible in what [`Machine::after_batch`] published.
//! - A replica id is never used twice, and a folder that lost its log never votes again.
//! - A failed disk, a damaged record or a panicking machine stops the replica; nothing is repaired in flight.

pub mod engine;

mod applier;
mod entry_record;
mod home;
mod log_storage;
mod machine;
mod network;
mod replica;
mod role;
mod role_watch;
mod settings;
mod snapshot;
mod types;

#[cfg(test)]
mod storage_suite;

pub use entry_record::RecordError;
pub use home::{HOME_FORMAT, HomeError, Identity};
pub use machine::Machine;
pub use replica::{COMMAND_BYTES_MAX, OpenError, Replica, ReplicaStats};
pub use role::{Fault, Peer, ProposeError, Role, Unavailable};
pub use settings::ReplicaConfig;
pub use snapshot::SnapshotError;
