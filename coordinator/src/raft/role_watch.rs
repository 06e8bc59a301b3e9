//! Turns what the Raft library reports into a [`Role`], and switches its clock on while there is somebody else.

use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::watch;

use super::machine::Machine;
use super::replica::Library;
use super::role::{Fault, Peer, Role};
use super::types::Types;

/// Watches `library` until it stops.
pub(super) fn spawn<M: Machine>(library: Library<M>, mut applied_term: watch::Receiver<u64>) -> watch::Receiver<Role> {
    let (sender, role) = watch::channel(Role::default());
    tokio::spawn(async move {
        let mut metrics = library.server_metrics();
        loop {
            // A copy, so that no lock is held across the wait below.
            let now = metrics.borrow_watched().clone();
            let applied = *applied_term.borrow_and_update();
            let me = now.id;
            // A learner wants signs of life as well, and is about to be the second voter.
            let mut members = now.membership_config.membership().nodes();
            let alone = members.next().is_some_and(|(id, _)| *id == me) && members.next().is_none();
            library.runtime_config().tick(!alone);
            let next = role_of(&now, applied);
            sender.send_if_modified(|role| {
                let changed = *role != next;
                *role = next;
                changed
            });
            let open = tokio::select! {
                changed = metrics.changed() => changed.is_ok(),
                changed = applied_term.changed() => changed.is_ok(),
            };
            if !open || metrics.borrow_watched().state == ServerState::Shutdown {
                break;
            }
        }
        sender.send_replace(Role::Stopped { fault: fault(&library).map(Arc::new) });
    });
    role
}

fn role_of<R: Send + Sync + 'static>(now: &RaftServerMetrics<Types<R>>, applied_term: u64) -> Role {
    let term = now.vote.leader_id.term;
    match (now.state, now.current_leader) {
        (ServerState::Leader, _) => Role::Leader { term, ready: applied_term == term },
        (ServerState::Follower | ServerState::Learner, Some(leader)) => {
            let node = now.membership_config.get_node(&leader);
            let address = node.map(|node| node.addr.clone()).unwrap_or_default();
            Role::Follower { term, leader: Peer { replica: leader, address } }
        }
        _ => Role::Seeking,
    }
}

/// Why the library stopped, unless it was told to.
fn fault<M: Machine>(library: &Library<M>) -> Option<Fault> {
    match &library.metrics().borrow_watched().running_state {
        Ok(()) | Err(Fatal::Stopped) => None,
        Err(Fatal::Panicked) => Some(Fault { what: "the replication task panicked".to_owned() }),
        Err(Fatal::StorageError(error)) => Some(Fault { what: error.to_string() }),
    }
}
