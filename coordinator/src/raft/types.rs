//! The types this program gives the Raft library.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::impls::{BoxedErrorSource, InlineBatch};
use openraft::vote::leader_id_std;
use openraft::{BasicNode, EntryPayload, OptionalSend, RaftTypeConfig, TokioRuntime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::engine::LogPoint;

pub(super) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(super) type CommittedLeader = leader_id_std::CommittedLeaderId<u64>;
pub(super) type LogId = openraft::LogId<CommittedLeader>;
pub(super) type Vote = openraft::Vote<LeaderId>;
pub(super) type Payload = EntryPayload<Proposal, u64, BasicNode>;
pub(super) type Entry = openraft::Entry<CommittedLeader, Payload>;
pub(super) type Membership = openraft::Membership<u64, BasicNode>;
pub(super) type StoredMembership = openraft::StoredMembership<CommittedLeader, u64, BasicNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeader, u64, BasicNode>;

/// What becomes of a proposal.
pub(super) type Written<R> = openraft::raft::ClientWriteResult<Types<R>>;

/// The library's type configuration for machines that answer with `R`.
///
/// One leader per term (`leader_id_std`): it decides the form of stored positions, and makes the term alone a fencing token.
pub(super) struct Types<R>(PhantomData<fn() -> R>);

impl<R: Send + Sync + 'static> RaftTypeConfig for Types<R> {
    type D = Proposal;
    type R = Carried<R>;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = super::rounds::Answering<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// The bytes of a command, opaque here.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proposal(pub(super) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|bytes| Self(bytes.into()))
    }
}

/// What `apply` answered, on its way to the proposer; nothing for entries that are not commands.
#[derive(Debug)]
pub(super) struct Carried<R>(pub(super) Option<R>);

/// The library asks for it because it can ship answers between replicas; here they stay where they were made.
impl<R> Serialize for Carried<R> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a reply stays on the replica that applied it"))
    }
}

impl<'de, R> Deserialize<'de> for Carried<R> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a reply stays on the replica that applied it"))
    }
}

pub(super) fn log_id(point: LogPoint) -> LogId {
    LogId::new_term_index(point.term, point.index)
}

pub(super) fn log_point(id: &LogId) -> LogPoint {
    LogPoint { term: id.committed_leader_id().term, index: id.index() }
}

// The library wants these of its type configuration; deriving them would ask the same of `R`.
impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Types<R> {}

impl<R> Default for Types<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<R> Eq for Types<R> {}

impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}
