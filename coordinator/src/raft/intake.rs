//! Proposals made here, with their bounds: the only door into the log of this replica.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use openraft::ReadPolicy;
use openraft::errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::ENTRY_BYTES_MAX;
use super::entry_record::ENTRY_OVERHEAD_BYTES;
use super::machine::Machine;
use super::replica::Library;
use super::role::{Peer, ProposeError, Unavailable};
use super::rounds::Rounds;
use super::threads::Threads;
use super::types::{Proposal, Types};

/// The largest command.
pub const COMMAND_BYTES_MAX: usize = ENTRY_BYTES_MAX - ENTRY_OVERHEAD_BYTES;

/// Takes proposals for this replica alone: where it does not lead they are refused with the leader's name.
pub(super) struct Intake<M: Machine> {
    library: Library<M>,
    rounds: Rounds<M>,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    limits: (u32, u32),
}

impl<M: Machine> Clone for Intake<M> {
    fn clone(&self) -> Self {
        let (library, rounds) = (self.library.clone(), self.rounds.clone());
        Self { library, rounds, slots: self.slots.clone(), bytes: self.bytes.clone(), limits: self.limits }
    }
}

/// Room taken by proposals in flight, given back when it is dropped.
pub(super) struct Room {
    _slots: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl<M: Machine> Intake<M> {
    pub(super) fn new(library: Library<M>, threads: Threads, (proposals_max, bytes_max): (u32, u32)) -> Self {
        Self {
            rounds: Rounds::new(library.clone(), threads),
            library,
            slots: Arc::new(Semaphore::new(proposals_max as usize)),
            bytes: Arc::new(Semaphore::new(bytes_max as usize)),
            limits: (proposals_max, bytes_max),
        }
    }

    /// Proposes one command; the index of its entry, and what applying it answered. With a `term` it is taken only while this
    /// replica leads in that one, which is looked at where the entry is made; it waits for room where others are refused: whoever leads
    /// has nobody to send it to, and what it waits for is its own log.
    pub(super) async fn propose(&self, command: Bytes, term: Option<u64>) -> Result<(u64, M::Reply), ProposeError> {
        let bytes = check_size(command.len())?;
        let _room = if term.is_some() { self.wait_room(bytes).await? } else { self.room(1, bytes)? };
        let answer = self.rounds.put(command, term).await;
        match answer.await.map_err(|_| Unavailable::Stopped)? {
            Ok(written) => Ok((written.log_id.index(), written.data.0.ok_or(Unavailable::OutcomeUnknown)?)),
            Err(refused) => Err(unavailable(refused).into()),
        }
    }

    /// Proposes commands that enter the log together.
    pub(super) async fn propose_many(
        &self,
        commands: Vec<Vec<u8>>,
    ) -> Result<Vec<Result<M::Reply, Unavailable>>, ProposeError> {
        let mut bytes = 0;
        for command in &commands {
            bytes += check_size(command.len())?;
        }
        let count = commands.len();
        let _room = self.room(count, bytes)?;
        let proposals = commands.into_iter().map(|command| Proposal(command.into()));
        let written = self.library.client_write_many(proposals).await;
        let mut results = written.map_err(|_| Unavailable::Stopped)?;
        let mut replies = Vec::with_capacity(count);
        while let Some(result) = results.try_next().await.transpose() {
            replies.push(match result {
                Ok(Ok(written)) => written.response.0.ok_or(Unavailable::OutcomeUnknown),
                Ok(Err(refused)) => Err(unavailable(refused)),
                Err(_fatal) => Err(Unavailable::Stopped),
            });
            if replies.len() == count {
                break;
            }
        }
        replies.resize_with(count, || Err(Unavailable::Stopped));
        Ok(replies)
    }

    /// How far a replica must have applied for a read made now, having confirmed that this replica leads.
    pub(super) async fn read_index(&self) -> Result<u64, Unavailable> {
        match self.library.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Err(not_leader(forward)),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Unavailable::NoQuorum),
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped),
        }
    }

    pub(super) fn in_flight(&self) -> u64 {
        u64::from(self.limits.0) - self.slots.available_permits() as u64
    }

    /// Waits until there is room for one proposal, in the order of asking.
    async fn wait_room(&self, bytes: usize) -> Result<Room, Unavailable> {
        let stopped = |_| Unavailable::Stopped;
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.limits.1);
        let slot = self.slots.clone().acquire_owned().await.map_err(stopped)?;
        let bytes = self.bytes.clone().acquire_many_owned(wanted).await.map_err(stopped)?;
        Ok(Room { _slots: slot, _bytes: bytes })
    }

    /// Takes room for proposals or refuses: whoever asks from outside is told of an overload, and does not wait for it.
    pub(super) fn room(&self, count: usize, bytes: usize) -> Result<Room, Unavailable> {
        let take = |from: &Arc<Semaphore>, wanted: usize, limit: u32| {
            // More than everything at once takes everything: it goes alone rather than never.
            let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).min(limit);
            from.clone().try_acquire_many_owned(wanted).map_err(|_| Unavailable::QueueFull)
        };
        let (slots, total) = self.limits;
        Ok(Room { _slots: take(&self.slots, count, slots)?, _bytes: take(&self.bytes, bytes, total)? })
    }
}

pub(super) fn check_size(bytes: usize) -> Result<usize, ProposeError> {
    if bytes > COMMAND_BYTES_MAX { Err(ProposeError::TooLarge { bytes, limit: COMMAND_BYTES_MAX }) } else { Ok(bytes) }
}

pub(super) fn unavailable<R: Send + Sync + 'static>(error: ClientWriteError<Types<R>>) -> Unavailable {
    match error {
        ClientWriteError::ForwardToLeader(forward) => not_leader(forward),
        ClientWriteError::LogEntryDiscarded(_) => Unavailable::OutcomeUnknown,
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => Unavailable::NoQuorum,
    }
}

pub(super) fn not_leader<R: Send + Sync + 'static>(forward: ForwardToLeader<Types<R>>) -> Unavailable {
    match forward.leader_id {
        Some(replica) => {
            let address = forward.leader_node.map(|node| node.addr).unwrap_or_default();
            Unavailable::NotLeader { leader: Peer { replica, address } }
        }
        None => Unavailable::NoQuorum,
    }
}
