//! What this replica is in its cluster, as the rest of the coordinator sees it.

use std::sync::Arc;

/// The part this replica plays now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Role {
    /// It has no leader to follow yet, or stands for election.
    #[default]
    Seeking,
    /// It follows another replica.
    Follower {
        /// The leader's term.
        term: u64,
        /// The leader.
        leader: Peer,
    },
    /// It leads.
    Leader {
        /// Its term: the fencing token of everything it orders.
        term: u64,
        /// Whether it has applied everything committed before its term, so that its view may be acted upon.
        ready: bool,
    },
    /// It takes part no more. The process must end; the disk is kept.
    Stopped {
        /// Why, unless it was asked to.
        fault: Option<Arc<Fault>>,
    },
}

/// Another replica and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub replica: u64,
    /// Its address, as the cluster knows it.
    pub address: String,
}

/// Why a replica stopped by itself: a failed disk, a damaged record, a broken assertion.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica stopped: {what}")]
pub struct Fault {
    /// The cause in words, with its own causes.
    pub what: String,
}

/// A proposal that was not answered. Where nothing else is said it was not made, and may be tried again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unavailable {
    /// Another replica leads.
    #[error("this replica does not lead; {} does", leader.address)]
    NotLeader {
        /// Whom to ask.
        leader: Peer,
    },
    /// Nobody is known to lead, or the leader lost its quorum.
    #[error("the cluster has no leader at the moment")]
    NoQuorum,
    /// Too much is in flight.
    #[error("too many proposals are in flight")]
    QueueFull,
    /// Leadership moved while the proposal was under way: it may have been made or not.
    #[error("leadership moved while the proposal was under way; it may or may not take effect")]
    OutcomeUnknown,
    /// The replica stopped; a proposal under way may have been made or not.
    #[error("the replica has stopped")]
    Stopped,
    /// The same, by itself, and why.
    #[error("{0}")]
    Failed(Arc<Fault>),
}

/// A proposal that has no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// It may work later or elsewhere.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It can never work: larger data travels as blobs.
    #[error("a command of {bytes} bytes is above the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}
