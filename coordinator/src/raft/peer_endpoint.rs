//! What other replicas call on this one.
//!
//! Owns nothing of the replica's folder: it may outlive the replica's handle, and then answers that it has stopped.
//! Invariant: every message is checked for whom it is meant before anything else.

use std::pin::Pin;
use std::sync::Arc;

use flowyard_proto::peer;
use flowyard_proto::peer::raft_server::{Raft as RaftCalls, RaftServer};
use flowyard_proto::peer::snapshot_part::Part;
use futures::{Stream, StreamExt};
use openraft::Snapshot;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::forward::not_served;
use super::home::Identity;
use super::intake::Intake;
use super::links::MESSAGE_BYTES_MAX;
use super::machine::Machine;
use super::replica::Library;
use super::role::ProposeError;
use super::settings::PassedOn;
use super::snapshot::SnapshotFolder;
use super::types::Types;
use super::wire::{self, WireError};
use super::{snapshot_parts, snapshot_parts::ReceiveError};

/// Answers other replicas; made by [`Replica::peer_service`](super::Replica::peer_service).
pub struct PeerEndpoint<M: Machine> {
    library: Library<M>,
    intake: Intake<M>,
    snapshots: Arc<SnapshotFolder>,
    identity: Identity,
    speakers: Speakers,
    passed_on: PassedOn,
}

/// Who may speak to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speakers {
    /// Whoever reaches it: for networks that are trusted as a whole and for tests.
    Anyone,
    /// The replica whose certificate was shown, for itself: each request has a [`Speaker`].
    Certified,
}

/// In a request: the replica that the other end proved to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker(pub u64);

impl<M: Machine> PeerEndpoint<M> {
    pub(super) fn server(
        library: Library<M>,
        intake: Intake<M>,
        snapshots: Arc<SnapshotFolder>,
        identity: Identity,
        speakers: Speakers,
        passed_on: PassedOn,
    ) -> RaftServer<Self> {
        RaftServer::new(Self { library, intake, snapshots, identity, speakers, passed_on })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn check(&self, ear: Ear, envelope: Option<peer::Envelope>) -> Result<(), Status> {
        ear.check(&self.identity, envelope)
    }

    /// Whom a request may come from.
    fn ear<T>(&self, request: &Request<T>) -> Result<Ear, Status> {
        match self.speakers {
            Speakers::Anyone => Ok(Ear(None)),
            Speakers::Certified => match request.extensions().get::<Speaker>() {
                Some(speaker) => Ok(Ear(Some(*speaker))),
                None => Err(Status::unauthenticated("only replicas speak here")),
            },
        }
    }
}

/// Hears one replica only, where that is known.
#[derive(Debug, Clone, Copy)]
struct Ear(Option<Speaker>);

impl Ear {
    fn check(self, here: &Identity, envelope: Option<peer::Envelope>) -> Result<(), Status> {
        let from = wire::check_envelope(here, envelope).map_err(refused)?;
        match self.0 {
            Some(Speaker(replica)) if replica != from => {
                tracing::warn!(replica, from, "a replica spoke for another one");
                Err(Status::permission_denied(format!("replica {replica} cannot speak for replica {from}")))
            }
            _ => Ok(()),
        }
    }
}

/// The requests of a stream until one is not acceptable, which is told through the channel.
fn requests<M: Machine>(
    here: Identity,
    ear: Ear,
    requests: Streaming<peer::AppendRequest>,
    broken: oneshot::Sender<Status>,
) -> impl Stream<Item = AppendEntriesRequest<Types<M::Reply>>> + Send + 'static {
    futures::stream::unfold((requests, broken), move |(mut requests, broken)| async move {
        let next = match requests.message().await {
            Ok(Some(request)) => accepted::<M>(&here, ear, request),
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        match next {
            Ok(request) => Some((request, (requests, broken))),
            Err(status) => {
                // The other side may have hung up, then nobody wants to know.
                let _ = broken.send(status);
                None
            }
        }
    })
}

fn accepted<M: Machine>(
    here: &Identity,
    ear: Ear,
    mut request: peer::AppendRequest,
) -> Result<AppendEntriesRequest<Types<M::Reply>>, Status> {
    ear.check(here, request.envelope.take())?;
    wire::append_of(request).map_err(refused)
}

fn refused(error: WireError) -> Status {
    tracing::warn!(%error, "a message from another replica is refused");
    match error {
        WireError::Misdirected { .. } => Status::failed_precondition(error.to_string()),
        WireError::Missing(_) | WireError::Record(_) => Status::invalid_argument(error.to_string()),
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the replica has stopped: {error}"))
}

fn not_received(error: ReceiveError) -> Status {
    tracing::warn!(%error, "a snapshot was not received");
    match error {
        ReceiveError::Connection(status) => *status,
        ReceiveError::Short { .. } | ReceiveError::Chunk { .. } => Status::data_loss(error.to_string()),
        ReceiveError::Io(_) | ReceiveError::Snapshot(_) => Status::internal(error.to_string()),
    }
}

type Replies = Pin<Box<dyn Stream<Item = Result<peer::AppendReply, Status>> + Send>>;

#[tonic::async_trait]
impl<M: Machine> RaftCalls for PeerEndpoint<M> {
    type AppendStreamStream = Replies;

    async fn append_entries(
        &self,
        request: Request<peer::AppendRequest>,
    ) -> Result<Response<peer::AppendReply>, Status> {
        let request = accepted::<M>(&self.identity, self.ear(&request)?, request.into_inner())?;
        let (previous, last) = (request.prev_log_id, request.entries.last().map(|entry| entry.log_id));
        let reply = self.library.append_entries(request).await.map_err(stopped)?;
        let result: StreamAppendResult<Types<M::Reply>> = reply.into_stream_result(previous, last.or(previous));
        Ok(Response::new(wire::append_reply_to_wire(&result)))
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<peer::AppendRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let (broken, told) = oneshot::channel();
        let ear = self.ear(&request)?;
        let results = self.library.stream_append(requests::<M>(self.identity, ear, request.into_inner(), broken));
        let replies = results.map(|result| result.map(|result| wire::append_reply_to_wire(&result)).map_err(stopped));
        // Why the requests ended, if it was not by themselves.
        let end = futures::stream::once(told).filter_map(|told| async move { told.ok().map(Err) });
        let replies = replies.chain(end);
        Ok(Response::new(Box::pin(replies)))
    }

    async fn vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteReply>, Status> {
        let ear = self.ear(&request)?;
        let mut request = request.into_inner();
        self.check(ear, request.envelope.take())?;
        let reply = self.library.vote(wire::vote_request_of(request).map_err(refused)?).await.map_err(stopped)?;
        Ok(Response::new(wire::vote_reply_to_wire(&reply)))
    }

    async fn pre_vote(&self, request: Request<peer::VoteRequest>) -> Result<Response<peer::VoteReply>, Status> {
        let ear = self.ear(&request)?;
        let mut request = request.into_inner();
        self.check(ear, request.envelope.take())?;
        let reply = self.library.pre_vote(wire::vote_request_of(request).map_err(refused)?).await.map_err(stopped)?;
        Ok(Response::new(wire::vote_reply_to_wire(&reply)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<peer::SnapshotPart>>,
    ) -> Result<Response<peer::SnapshotReply>, Status> {
        let ear = self.ear(&request)?;
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|part| part.part);
        let Some(Part::Start(start)) = first else { return Err(refused(WireError::Missing("a start"))) };
        self.check(ear, start.envelope)?;
        let vote = wire::vote_of(start.vote).map_err(refused)?;
        let received = snapshot_parts::receive(&self.snapshots, start.bytes, parts).await.map_err(not_received)?;
        let snapshot = Snapshot { meta: received.meta.clone(), snapshot: received.file.clone() };
        let reply = self.library.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(peer::SnapshotReply { vote: Some(wire::vote_to_wire(&reply.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<peer::TransferRequest>,
    ) -> Result<Response<peer::TransferReply>, Status> {
        let ear = self.ear(&request)?;
        let mut request = request.into_inner();
        self.check(ear, request.envelope.take())?;
        let request = wire::transfer_of(request).map_err(refused)?;
        let reply = self.library.handle_transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(wire::transfer_reply_to_wire(&reply)))
    }

    async fn propose(&self, request: Request<peer::ProposeRequest>) -> Result<Response<peer::ProposeReply>, Status> {
        use peer::propose_reply::Outcome;
        let ear = self.ear(&request)?;
        let request = request.into_inner();
        self.check(ear, request.envelope)?;
        let command = self.passed_on.prepare(request.command).map_err(Status::invalid_argument)?;
        let outcome = match self.intake.propose(command, None).await {
            Ok((index, reply)) => Outcome::Proposed(peer::Proposed { index, reply: M::encode_reply(&reply).into() }),
            Err(error) => Outcome::NotServed(not_served(&error)),
        };
        Ok(Response::new(peer::ProposeReply { outcome: Some(outcome) }))
    }

    async fn read_index(
        &self,
        request: Request<peer::ReadIndexRequest>,
    ) -> Result<Response<peer::ReadIndexReply>, Status> {
        use peer::read_index_reply::Outcome;
        self.check(self.ear(&request)?, request.into_inner().envelope)?;
        let outcome = match self.intake.read_index().await {
            Ok(index) => Outcome::Index(index),
            Err(error) => Outcome::NotServed(not_served(&ProposeError::Unavailable(error))),
        };
        Ok(Response::new(peer::ReadIndexReply { outcome: Some(outcome) }))
    }
}
