//! The library's way to other replicas: its calls as messages, with deadlines.
//!
//! Must not: retry by itself. The library knows what is still worth sending.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flowyard_proto::peer;
use flowyard_proto::peer::raft_client::RaftClient;
use futures::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2, Snapshot};
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use super::links::{Lane, Links};
use super::snapshot::SnapshotFile;
use super::snapshot_parts;
use super::types::{CommittedLeader, Types, Vote};
use super::wire;

/// How long a stream of entries may owe an answer. A dead peer is noticed sooner, by its connection; this is for one that
/// is alive and stuck, and must leave room for a slow disk.
const STREAM_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses before a peer that cannot be reached is tried again; the last one repeats.
const BACKOFF_MS: [u64; 4] = [50, 100, 200, 400];

/// Makes connections for the library.
pub(super) struct Network<R> {
    links: Arc<Links>,
    replies: PhantomData<fn() -> R>,
}

impl<R> Network<R> {
    pub(super) fn new(links: Arc<Links>) -> Self {
        Self { links, replies: PhantomData }
    }
}

impl<R: Send + Sync + 'static> RaftNetworkFactory<Types<R>> for Network<R> {
    type Network = PeerLink<R>;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerLink<R> {
        PeerLink { links: self.links.clone(), peer: target, address: node.addr.clone(), replies: PhantomData }
    }
}

/// The way to one replica.
pub(super) struct PeerLink<R> {
    links: Arc<Links>,
    peer: u64,
    address: String,
    replies: PhantomData<fn() -> R>,
}

type Failed<R> = RPCError<Types<R>>;

impl<R: Send + Sync + 'static> PeerLink<R> {
    fn client(&self, lane: Lane) -> RaftClient<Channel> {
        self.links.client(self.peer, &self.address, lane)
    }

    fn envelope(&self) -> Option<peer::Envelope> {
        self.links.envelope(self.peer)
    }

    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> Timeout<Types<R>> {
        Timeout { action, id: self.links.identity().replica, target: self.peer, timeout }
    }

    /// Waits for one answer within the time the library allows.
    async fn answer<T>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failed<R>> {
        let timeout = option.soft_ttl();
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.timed_out(action, timeout).into()),
        }
    }

    fn failed(&self, status: &Status) -> Failed<R> {
        failed(self.peer, status)
    }
}

fn failed<R: Send + Sync + 'static>(peer: u64, status: &Status) -> Failed<R> {
    if status.code() == Code::FailedPrecondition {
        tracing::warn!(peer, reason = status.message(), "a replica refuses what this one sends");
    }
    Unreachable::from_string(format!("replica {peer}: {} ({:?})", status.message(), status.code())).into()
}

fn garbled<R: Send + Sync + 'static>(error: wire::WireError) -> Failed<R> {
    NetworkError::new(&error).into()
}

impl<R: Send + Sync + 'static> RaftNetworkV2<Types<R>> for PeerLink<R> {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, Failed<R>> {
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        // Without entries it is a sign of life.
        let mut client = self.client(if rpc.entries.is_empty() { Lane::Control } else { Lane::Bulk });
        let request = wire::append_to_wire(self.envelope(), rpc);
        let reply = self.answer(RPCTypes::AppendEntries, &option, client.append_entries(request)).await?;
        Ok(match wire::append_reply_of(reply).map_err(garbled)? {
            Ok(upto) if upto == last => AppendEntriesResponse::Success,
            Ok(upto) => AppendEntriesResponse::PartialSuccess(upto),
            refused => refused.into(),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types<R>>, Failed<R>>>, Failed<R>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types<R>>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // The library pauses after a failure before it gives a request, not before it asks for a stream: whoever connects before there
            // is one does so without a pause for as long as the peer is gone.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(futures::stream::empty()) as BoxStream<'s, _>);
            };
            let input = futures::stream::iter([first]).chain(input);
            let (mut client, envelope) = (self.client(Lane::Bulk), self.envelope());
            let (count, sent) = watch::channel(0);
            let requests = input.map(move |request| {
                count.send_modify(|sent| *sent += 1);
                wire::append_to_wire(envelope.clone(), request)
            });
            let opened = tokio::time::timeout(STREAM_ANSWER_TIMEOUT, client.append_stream(requests)).await;
            let timed_out = self.timed_out(RPCTypes::AppendEntries, STREAM_ANSWER_TIMEOUT);
            let replies = opened.map_err(|_| timed_out.clone())?.map_err(|status| self.failed(&status))?.into_inner();
            let answers = Answers { peer: self.peer, replies, sent, received: 0, timed_out };
            let answers = futures::stream::unfold(Some(answers), |answers| async move { answers?.next().await });
            Ok(Box::pin(answers) as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, Failed<R>> {
        let request = wire::vote_request_to_wire(self.envelope(), &rpc);
        let reply = self.answer(RPCTypes::Vote, &option, self.client(Lane::Control).vote(request)).await?;
        wire::vote_reply_of(reply).map_err(garbled)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, Failed<R>> {
        let request = wire::vote_request_to_wire(self.envelope(), &rpc);
        let reply = self.answer(RPCTypes::Vote, &option, self.client(Lane::Control).pre_vote(request)).await?;
        wire::vote_reply_of(reply).map_err(garbled)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<CommittedLeader, u64, BasicNode, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        let parts = snapshot_parts::parts(self.envelope(), &vote, &snapshot.meta, snapshot.snapshot);
        let mut client = self.client(Lane::Bulk);
        let call = self.answer(RPCTypes::InstallSnapshot, &option, client.install_snapshot(parts));
        let reply = tokio::select! {
            reply = call => reply?,
            closed = cancel => return Err(closed.into()),
        };
        Ok(SnapshotResponse::new(wire::vote_of(reply.vote).map_err(garbled)?))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, Failed<R>> {
        let request = wire::transfer_to_wire(self.envelope(), &req);
        let call = async { self.client(Lane::Control).transfer_leader(request).await };
        let reply = self.answer(RPCTypes::TransferLeader, &option, call).await?;
        wire::transfer_reply_of(&req, reply).map_err(garbled)
    }

    fn backoff(&self) -> Option<Backoff> {
        let last = BACKOFF_MS[BACKOFF_MS.len() - 1];
        let pauses = BACKOFF_MS.into_iter().chain(std::iter::repeat(last));
        Some(Backoff::new(pauses.map(Duration::from_millis)))
    }
}

/// The answers to a stream of entries, in the order they were sent.
struct Answers<R: Send + Sync + 'static> {
    peer: u64,
    replies: Streaming<peer::AppendReply>,
    sent: watch::Receiver<u64>,
    received: u64,
    timed_out: Timeout<Types<R>>,
}

type Answer<R> = Result<StreamAppendResult<Types<R>>, Failed<R>>;

impl<R: Send + Sync + 'static> Answers<R> {
    async fn next(mut self) -> Option<(Answer<R>, Option<Self>)> {
        let reply = match self.reply().await {
            Ok(Ok(Some(reply))) => reply,
            Ok(Ok(None)) if self.received >= *self.sent.borrow() => return None,
            Ok(Ok(None)) => {
                let error = NetworkError::from_string(format!("replica {} hung up", self.peer));
                return Some((Err(error.into()), None));
            }
            Ok(Err(status)) => return Some((Err(failed(self.peer, &status)), None)),
            Err(_) => return Some((Err(self.timed_out.clone().into()), None)),
        };
        self.received += 1;
        match wire::append_reply_of(reply) {
            Ok(result) => Some((Ok(result), Some(self))),
            Err(error) => Some((Err(garbled(error)), None)),
        }
    }

    /// The next reply; waits without end only while none is owed.
    async fn reply(&mut self) -> Result<Result<Option<peer::AppendReply>, Status>, tokio::time::error::Elapsed> {
        while self.received >= *self.sent.borrow_and_update() {
            tokio::select! {
                reply = self.replies.message() => return Ok(reply),
                changed = self.sent.changed() => if changed.is_err() { break },
            }
        }
        tokio::time::timeout(STREAM_ANSWER_TIMEOUT, self.replies.message()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;

    use super::super::connect::{Connect, Wire};
    use super::super::engine::MemoryLog;
    use super::super::storage_suite::Count;
    use super::super::{Replica, ReplicaConfig};
    use super::*;

    /// Refuses, and counts how often it was asked.
    #[derive(Debug, Default)]
    struct Refused(AtomicUsize);

    impl Connect for Refused {
        fn connect(&self, _: &str) -> BoxFuture<'static, std::io::Result<Box<dyn Wire>>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(Err(std::io::ErrorKind::ConnectionRefused.into())))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_peer_that_is_gone_is_tried_again_after_a_pause() {
        let (folder, refused) = (tempfile::tempdir().unwrap(), Arc::new(Refused::default()));
        let config = ReplicaConfig { connect: refused.clone(), ..ReplicaConfig::new(folder.path()) };
        let leader = Replica::open_over(config, Arc::new(MemoryLog::default()), Count::default()).await.unwrap();
        leader.wait_ready().await.unwrap();
        leader.add_learner("nobody:1").await.unwrap();
        for _ in 0..100 {
            leader.propose(Vec::new()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Signs of life go every 50 ms, and entries after pauses that grow to 400 ms.
        let tried = refused.0.load(Ordering::Relaxed);
        assert!((5..200).contains(&tried), "{tried} connections in two seconds");
        leader.shutdown().await;
    }
}
