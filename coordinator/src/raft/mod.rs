//! The replicated log: the only place that names the Raft library.
//!
//! Owns: the log on disk ([`engine`]), snapshots, the identity of this replica, the task that applies entries to a
//! [`Machine`], the calls between replicas, and [`Replica`], the handle everything else uses.
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

pub mod decoders;
pub mod engine;

mod absence;
mod applier;
mod connect;
mod entry_record;
mod forward;
mod home;
mod intake;
mod links;
mod log_storage;
mod machine;
mod membership;
mod network;
mod peer_endpoint;
mod replica;
mod role;
mod role_watch;
mod rounds;
mod seed;
mod settings;
mod snapshot;
mod snapshot_parts;
mod threads;
mod types;
mod wire;

#[cfg(test)]
mod storage_suite;

pub use connect::{Connect, TcpConnect, Wire};
pub use entry_record::{RecordError, command_of};
pub use home::{HOME_FORMAT, HomeError, Identity, Start};
pub use intake::COMMAND_BYTES_MAX;
pub use machine::Machine;
pub use membership::{Member, MembershipError, PROMOTE_LAG_MAX, Voting};
pub use peer_endpoint::{PeerEndpoint, Speaker, Speakers};
pub use replica::{OpenError, Replica, ReplicaStats};
pub use role::{Fault, Peer, ProposeError, Role, Unavailable};
pub use seed::{Recalled, Seed, plant, recall};
pub use settings::{PassedOn, ReplicaConfig};
pub use snapshot::SnapshotError;
pub use threads::Threads;
