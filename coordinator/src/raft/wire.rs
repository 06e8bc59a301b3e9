//! The library's words as messages between replicas, and back.
//!
//! Explicit fields, so that a new version of the library cannot change what replicas of two versions say to each other.

use flowyard_proto::peer;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use uuid::Uuid;

use super::engine::{LogPoint, Record};
use super::entry_record::{RecordError, decode_entry, encode_entry};
use super::home::Identity;
use super::types::{LeaderId, LogId, Types, Vote, log_id, log_point};

/// A message that cannot be acted upon.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// It lacks what it must have.
    #[error("message without {0}")]
    Missing(&'static str),
    /// An entry in it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It is of, or meant for, another replica.
    #[error("message from replica {from} for replica {to} of cluster {cluster} epoch {epoch}, but this is {here:?}")]
    Misdirected {
        /// The cluster named.
        cluster: Uuid,
        /// The epoch named.
        epoch: u32,
        /// The sender.
        from: u64,
        /// Whom it is meant for.
        to: u64,
        /// Who received it.
        here: Identity,
    },
}

pub(super) fn envelope(from: &Identity, to: u64) -> Option<peer::Envelope> {
    let cluster = from.cluster.as_bytes().to_vec().into();
    Some(peer::Envelope { cluster, epoch: from.epoch, from: from.replica, to })
}

/// Refuses what is not meant for `here`, or claims to come from it.
pub(super) fn check_envelope(here: &Identity, envelope: Option<peer::Envelope>) -> Result<u64, WireError> {
    let peer::Envelope { cluster, epoch, from, to } = envelope.ok_or(WireError::Missing("an envelope"))?;
    let cluster = Uuid::from_slice(&cluster).map_err(|_| WireError::Missing("a cluster"))?;
    let meant = cluster == here.cluster && epoch == here.epoch && to == here.replica && from != here.replica;
    if meant { Ok(from) } else { Err(WireError::Misdirected { cluster, epoch, from, to, here: *here }) }
}

pub(super) fn point_to_wire(id: &LogId) -> peer::LogPoint {
    let LogPoint { term, index } = log_point(id);
    peer::LogPoint { term, index }
}

fn point_of(point: peer::LogPoint) -> LogId {
    log_id(LogPoint { term: point.term, index: point.index })
}

pub(super) fn vote_to_wire(vote: &Vote) -> peer::Ballot {
    peer::Ballot { term: vote.leader_id.term, candidate: vote.leader_id.voted_for, granted: vote.committed }
}

pub(super) fn vote_of(ballot: Option<peer::Ballot>) -> Result<Vote, WireError> {
    let ballot = ballot.ok_or(WireError::Missing("a vote"))?;
    let leader_id = LeaderId { term: ballot.term, voted_for: ballot.candidate };
    Ok(Vote { leader_id, committed: ballot.granted })
}

pub(super) fn append_to_wire<R: Send + Sync + 'static>(
    envelope: Option<peer::Envelope>,
    request: AppendEntriesRequest<Types<R>>,
) -> peer::AppendRequest {
    let entries = request.entries.into_iter().map(|entry| {
        let Record { point, payload } = encode_entry(entry);
        peer::RaftEntry { at: Some(peer::LogPoint { term: point.term, index: point.index }), record: payload }
    });
    peer::AppendRequest {
        envelope,
        vote: Some(vote_to_wire(&request.vote)),
        previous: request.prev_log_id.as_ref().map(point_to_wire),
        entries: entries.collect(),
        committed: request.leader_commit.as_ref().map(point_to_wire),
    }
}

pub(super) fn append_of<R: Send + Sync + 'static>(
    request: peer::AppendRequest,
) -> Result<AppendEntriesRequest<Types<R>>, WireError> {
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let at = entry.at.ok_or(WireError::Missing("the position of an entry"))?;
        let point = LogPoint { term: at.term, index: at.index };
        entries.push(decode_entry(Record { point, payload: entry.record })?);
    }
    Ok(AppendEntriesRequest {
        vote: vote_of(request.vote)?,
        prev_log_id: request.previous.map(point_of),
        entries,
        leader_commit: request.committed.map(point_of),
    })
}

pub(super) fn append_reply_to_wire<R: Send + Sync + 'static>(
    result: &StreamAppendResult<Types<R>>,
) -> peer::AppendReply {
    use peer::append_reply::Outcome;
    let outcome = match result {
        Ok(upto) => Outcome::Matched(peer::Matched { upto: upto.as_ref().map(point_to_wire) }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(point_to_wire(at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote_to_wire(vote)),
    };
    peer::AppendReply { outcome: Some(outcome) }
}

pub(super) fn append_reply_of<R: Send + Sync + 'static>(
    reply: peer::AppendReply,
) -> Result<StreamAppendResult<Types<R>>, WireError> {
    use peer::append_reply::Outcome;
    Ok(match reply.outcome.ok_or(WireError::Missing("an outcome"))? {
        Outcome::Matched(matched) => Ok(matched.upto.map(point_of)),
        Outcome::Conflict(at) => Err(StreamAppendError::Conflict(point_of(at))),
        Outcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_of(Some(vote))?)),
    })
}

pub(super) fn vote_request_to_wire<R: Send + Sync + 'static>(
    envelope: Option<peer::Envelope>,
    request: &VoteRequest<Types<R>>,
) -> peer::VoteRequest {
    peer::VoteRequest {
        envelope,
        vote: Some(vote_to_wire(&request.vote)),
        last: request.last_log_id.as_ref().map(point_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_request_of<R: Send + Sync + 'static>(
    request: peer::VoteRequest,
) -> Result<VoteRequest<Types<R>>, WireError> {
    Ok(VoteRequest {
        vote: vote_of(request.vote)?,
        last_log_id: request.last.map(point_of),
        leadership_transfer: request.leadership_transfer,
    })
}

pub(super) fn vote_reply_to_wire<R: Send + Sync + 'static>(reply: &VoteResponse<Types<R>>) -> peer::VoteReply {
    peer::VoteReply {
        vote: Some(vote_to_wire(&reply.vote)),
        granted: reply.vote_granted,
        last: reply.last_log_id.as_ref().map(point_to_wire),
    }
}

pub(super) fn vote_reply_of<R: Send + Sync + 'static>(
    reply: peer::VoteReply,
) -> Result<VoteResponse<Types<R>>, WireError> {
    Ok(VoteResponse { vote: vote_of(reply.vote)?, vote_granted: reply.granted, last_log_id: reply.last.map(point_of) })
}

pub(super) fn transfer_to_wire<R: Send + Sync + 'static>(
    envelope: Option<peer::Envelope>,
    request: &TransferLeaderRequest<Types<R>>,
) -> peer::TransferRequest {
    peer::TransferRequest {
        envelope,
        leader: Some(vote_to_wire(request.from_leader())),
        last: request.last_log_id().map(point_to_wire),
        successor: *request.to_node_id(),
    }
}

pub(super) fn transfer_of<R: Send + Sync + 'static>(
    request: peer::TransferRequest,
) -> Result<TransferLeaderRequest<Types<R>>, WireError> {
    Ok(TransferLeaderRequest::new(vote_of(request.leader)?, request.successor, request.last.map(point_of)))
}

pub(super) fn transfer_reply_to_wire<R: Send + Sync + 'static>(
    reply: &TransferLeaderResponse<Types<R>>,
) -> peer::TransferReply {
    use peer::transfer_reply::Outcome;
    let outcome = match reply {
        Ok(()) => Outcome::Accepted(peer::TransferAccepted {}),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => Outcome::OtherVote(vote_to_wire(actual)),
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Outcome::Behind(peer::LogBehind { last: actual.as_ref().map(point_to_wire) })
        }
    };
    peer::TransferReply { outcome: Some(outcome) }
}

pub(super) fn transfer_reply_of<R: Send + Sync + 'static>(
    request: &TransferLeaderRequest<Types<R>>,
    reply: peer::TransferReply,
) -> Result<TransferLeaderResponse<Types<R>>, WireError> {
    use peer::transfer_reply::Outcome;
    Ok(match reply.outcome.ok_or(WireError::Missing("an outcome"))? {
        Outcome::Accepted(_) => Ok(()),
        Outcome::OtherVote(actual) => {
            Err(TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual: vote_of(Some(actual))? })
        }
        Outcome::Behind(behind) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: behind.last.map(point_of),
        }),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;

    use super::super::types::{Entry, Proposal};
    use super::*;

    fn identity(replica: u64) -> Identity {
        Identity { cluster: Uuid::from_u128(9), epoch: 2, replica }
    }

    fn at(index: u64) -> LogId {
        log_id(LogPoint { term: 3, index })
    }

    #[test]
    fn only_a_message_for_this_replica_of_this_cluster_and_epoch_passes() {
        let here = identity(4);
        assert_eq!(check_envelope(&here, envelope(&identity(1), 4)).unwrap(), 1);
        let other_cluster = Identity { cluster: Uuid::from_u128(8), ..identity(1) };
        let other_epoch = Identity { epoch: 1, ..identity(1) };
        for (from, to) in [(identity(1), 5), (identity(4), 4), (other_cluster, 4), (other_epoch, 4)] {
            assert!(matches!(check_envelope(&here, envelope(&from, to)), Err(WireError::Misdirected { .. })));
        }
        assert!(matches!(check_envelope(&here, None), Err(WireError::Missing(_))));
    }

    #[test]
    fn an_append_keeps_vote_positions_and_entries() {
        let vote = Vote { leader_id: LeaderId { term: 3, voted_for: 1 }, committed: true };
        let command = EntryPayload::Normal(Proposal(Bytes::from_static(b"command")));
        let entries = vec![Entry::new(at(8), command), Entry::new(at(9), EntryPayload::Blank)];
        let request = AppendEntriesRequest::<Types<()>> {
            vote,
            prev_log_id: Some(at(7)),
            entries: entries.clone(),
            leader_commit: Some(at(6)),
        };
        let back = append_of::<()>(append_to_wire(None, request)).unwrap();
        assert_eq!((back.vote, back.prev_log_id, back.leader_commit), (vote, Some(at(7)), Some(at(6))));
        assert_eq!(back.entries, entries);
    }

    #[test]
    fn every_outcome_of_an_append_comes_back() {
        let vote = Vote { leader_id: LeaderId { term: 4, voted_for: 2 }, committed: false };
        let outcomes: [StreamAppendResult<Types<()>>; 4] = [
            Ok(None),
            Ok(Some(at(3))),
            Err(StreamAppendError::Conflict(at(2))),
            Err(StreamAppendError::HigherVote(vote)),
        ];
        for outcome in outcomes {
            assert_eq!(append_reply_of::<()>(append_reply_to_wire(&outcome)).unwrap(), outcome);
        }
    }
}
