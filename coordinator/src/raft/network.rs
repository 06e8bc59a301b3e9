//! The way to other replicas.
//!
//! A cluster of one has none, so every peer is honestly unreachable. The transport of a larger cluster takes this place;
//! nothing else in this folder speaks to a network.

use std::future::Future;
use std::marker::PhantomData;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2, Snapshot};

use super::snapshot::SnapshotFile;
use super::types::{CommittedLeader, Types, Vote};

/// Makes connections that reach nobody.
pub(super) struct Alone<R>(PhantomData<fn() -> R>);

impl<R> Alone<R> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

/// A peer this replica has no way to.
pub(super) struct NoRoute<R> {
    peer: u64,
    replies: PhantomData<fn() -> R>,
}

impl<R: Send + Sync + 'static> NoRoute<R> {
    fn unreachable(&self) -> Unreachable<Types<R>> {
        Unreachable::from_string(format!("this build has no transport to replica {}", self.peer))
    }
}

impl<R: Send + Sync + 'static> RaftNetworkFactory<Types<R>> for Alone<R> {
    type Network = NoRoute<R>;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> NoRoute<R> {
        NoRoute { peer: target, replies: PhantomData }
    }
}

impl<R: Send + Sync + 'static> RaftNetworkV2<Types<R>> for NoRoute<R> {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types<R>>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Types<R>>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        Err(self.unreachable().into())
    }

    /// Refused like a vote: the library's own answer would count a peer nobody reached as willing.
    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<Types<R>>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot<CommittedLeader, u64, BasicNode, SnapshotFile>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        Err(self.unreachable().into())
    }
}
