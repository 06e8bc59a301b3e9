//! Passing on what only a leader can do, from a replica that follows.
//!
//! Invariant: a proposal is sent again only when it is certain that it was not made.
//! Invariant: what is answered is applied here too, so that whoever has a reply also finds its effect on this replica.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flowyard_proto::peer;
use flowyard_proto::peer::{NotServed, NotServedReason};
use tonic::Status;

use super::intake::COMMAND_BYTES_MAX;
use super::links::{Lane, Links, never_sent};
use super::machine::Machine;
use super::replica::Library;
use super::role::{Peer, ProposeError, Unavailable};

/// Leaders asked one after the other; leadership that moves faster is no leadership.
const LEADERS_ASKED_MAX: usize = 3;
/// How long a leader may take over a proposal.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a leader may take to confirm that it leads.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How long this replica may take to catch up with an answer.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks `leader` to propose; the reply, once its effect is visible here.
pub(super) async fn propose<M: Machine>(
    library: &Library<M>,
    links: &Arc<Links>,
    mut leader: Peer,
    command: Bytes,
) -> Result<M::Reply, ProposeError> {
    use peer::propose_reply::Outcome;
    for _ in 0..LEADERS_ASKED_MAX {
        if leader.replica == links.identity().replica {
            break;
        }
        let mut client = links.client(leader.replica, &leader.address, Lane::Control);
        let request = peer::ProposeRequest { envelope: links.envelope(leader.replica), command: command.clone() };
        let answered = tokio::time::timeout(PROPOSE_TIMEOUT, client.propose(request)).await;
        let reply = answered.map_err(|_| Unavailable::OutcomeUnknown)?.map_err(|status| unknown(&status))?;
        match reply.into_inner().outcome {
            Some(Outcome::Proposed(proposed)) => {
                wait_applied::<M>(library, proposed.index).await.map_err(|_| Unavailable::OutcomeUnknown)?;
                let reply = M::decode_reply(&proposed.reply);
                return reply.map_err(|error| {
                    tracing::error!(error, "the leader's reply cannot be read by this build");
                    Unavailable::OutcomeUnknown.into()
                });
            }
            Some(Outcome::NotServed(why)) => match reason(why) {
                ProposeError::Unavailable(Unavailable::NotLeader { leader: next }) => leader = next,
                refused => return Err(refused),
            },
            None => return Err(Unavailable::OutcomeUnknown.into()),
        }
    }
    Err(Unavailable::NoQuorum.into())
}

/// Asks `leader` how far a read made now must see, and waits until this replica has got there.
pub(super) async fn read_barrier<M: Machine>(
    library: &Library<M>,
    links: &Arc<Links>,
    mut leader: Peer,
) -> Result<(), Unavailable> {
    use peer::read_index_reply::Outcome;
    for _ in 0..LEADERS_ASKED_MAX {
        if leader.replica == links.identity().replica {
            break;
        }
        let mut client = links.client(leader.replica, &leader.address, Lane::Control);
        let request = peer::ReadIndexRequest { envelope: links.envelope(leader.replica) };
        let answered = tokio::time::timeout(READ_TIMEOUT, client.read_index(request)).await;
        // A read changes nothing: whatever broke, it may be tried again.
        let reply = answered.map_err(|_| Unavailable::NoQuorum)?.map_err(|_| Unavailable::NoQuorum)?;
        match reply.into_inner().outcome {
            Some(Outcome::Index(index)) => return wait_applied::<M>(library, index).await,
            Some(Outcome::NotServed(why)) => match reason(why) {
                ProposeError::Unavailable(Unavailable::NotLeader { leader: next }) => leader = next,
                ProposeError::Unavailable(Unavailable::QueueFull) => return Err(Unavailable::QueueFull),
                _ => return Err(Unavailable::NoQuorum),
            },
            None => return Err(Unavailable::NoQuorum),
        }
    }
    Err(Unavailable::NoQuorum)
}

/// Waits until this replica has applied the entry at `index`, and published it.
pub(super) async fn wait_applied<M: Machine>(library: &Library<M>, index: u64) -> Result<(), Unavailable> {
    let waited = library.wait(Some(APPLY_TIMEOUT)).applied_index_at_least(Some(index), "what was answered").await;
    waited.map(drop).map_err(|_| Unavailable::NoQuorum)
}

fn unknown(status: &Status) -> Unavailable {
    if never_sent(status) { Unavailable::NoQuorum } else { Unavailable::OutcomeUnknown }
}

/// Why this replica does not do as asked, for one that passed it on.
pub(super) fn not_served(error: &ProposeError) -> NotServed {
    let (reason, leader) = match error {
        ProposeError::TooLarge { .. } => (NotServedReason::TooLarge, None),
        ProposeError::Unavailable(unavailable) => match unavailable {
            Unavailable::NotLeader { leader } => (NotServedReason::NotLeader, Some(leader.clone())),
            Unavailable::NoQuorum => (NotServedReason::NoQuorum, None),
            Unavailable::QueueFull => (NotServedReason::QueueFull, None),
            Unavailable::OutcomeUnknown => (NotServedReason::OutcomeUnknown, None),
            Unavailable::Stopped | Unavailable::Failed(_) => (NotServedReason::Stopped, None),
        },
    };
    let (leader, leader_address) = leader.map_or((0, String::new()), |leader| (leader.replica, leader.address));
    NotServed { reason: reason.into(), leader, leader_address }
}

fn reason(why: NotServed) -> ProposeError {
    match why.reason() {
        NotServedReason::NotLeader => {
            Unavailable::NotLeader { leader: Peer { replica: why.leader, address: why.leader_address } }.into()
        }
        NotServedReason::NoQuorum => Unavailable::NoQuorum.into(),
        NotServedReason::QueueFull => Unavailable::QueueFull.into(),
        NotServedReason::TooLarge => ProposeError::TooLarge { bytes: COMMAND_BYTES_MAX + 1, limit: COMMAND_BYTES_MAX },
        // The other one stopped while it had the proposal, or says something this build does not know.
        NotServedReason::OutcomeUnknown | NotServedReason::Stopped | NotServedReason::Unspecified => {
            Unavailable::OutcomeUnknown.into()
        }
    }
}
