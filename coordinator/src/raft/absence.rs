//! Notices that a leader's process is gone, sooner than its silence would tell.
//!
//! A follower keeps a connection to its leader. When it ends, and the leader's port then refuses another one, nobody is there who
//! could give a sign of life: an election is asked for as soon as the leader's lease is over, and not after the time that a slow
//! leader may be silent. Followers ask one after the other, by their ids, so that their votes do not meet.
//!
//! Invariant: it is a hint and no more. The election is the usual one, with the vote before the vote, so a leader that others hear
//! stays; and a host that is lost without a word is noticed by its silence, as ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use flowyard_proto::peer;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use super::links::{Lane, Links};
use super::machine::Machine;
use super::replica::Library;
use super::role::{Peer, Role};
use super::settings::LEASE;

/// Between the elections of two followers: a vote with its barrier, on a disk that has other work too.
const STEP: Duration = Duration::from_millis(100);
/// Before a leader that could neither be reached nor was gone is tried again; doubled each time.
const AGAIN: Duration = Duration::from_millis(100);
/// Then its silence tells as soon.
const AGAIN_MAX: Duration = Duration::from_millis(800);
/// Before another election is asked for, if the last one changed nothing: others may still have been within the leader's lease.
const ONCE_MORE: Duration = Duration::from_millis(500);

/// Watches whoever this replica follows, until the replica stops.
pub(super) fn spawn<M: Machine>(library: Library<M>, links: Arc<Links>, mut role: watch::Receiver<Role>) {
    tokio::spawn(async move {
        // It is said once of each leader, however often an election is asked for.
        let mut told = None;
        loop {
            let followed = role.wait_for(|role| matches!(role, Role::Follower { .. })).await.map(|role| role.clone());
            let Ok(followed) = followed else { return };
            let Role::Follower { leader, .. } = &followed else { continue };
            let first = told.replace(followed.clone()).as_ref() != Some(&followed);
            let replaced = role.wait_for(|role| *role != followed);
            tokio::select! {
                () = stand_in::<M>(&library, &links, leader, first) => {}
                _ = replaced => continue,
            }
            // The election was asked for; what becomes of it is told by the role. If nothing does, the leader is looked for again.
            let decided = role.wait_for(|role| *role != followed);
            if let Ok(Err(_)) = tokio::time::timeout(ONCE_MORE, decided).await {
                return;
            }
        }
    });
}

/// Returns once the leader is gone and an election was asked for.
async fn stand_in<M: Machine>(library: &Library<M>, links: &Links, leader: &Peer, first: bool) {
    gone(links, leader).await;
    let place = place::<M>(library, leader.replica);
    if first {
        tracing::info!(leader = leader.replica, place, "the leader's process is gone");
    }
    tokio::time::sleep(LEASE + STEP * place).await;
    // The only failure is that this replica has stopped.
    let _ = library.trigger().elect(true).await;
}

/// How many followers that vote ask before this one.
fn place<M: Machine>(library: &Library<M>, leader: u64) -> u32 {
    let metrics = library.server_metrics();
    let now = metrics.borrow_watched();
    let before = now.membership_config.membership().voter_ids().filter(|voter| *voter != leader && *voter < now.id);
    before.count() as u32
}

/// Returns once the process at the leader's address is certainly gone.
async fn gone(links: &Links, leader: &Peer) {
    let mut again = AGAIN;
    loop {
        let mut ended = links.ended(leader.replica, Lane::Control);
        ended.borrow_and_update();
        // The answer does not matter: whoever asks has a connection.
        let mut client = links.client(leader.replica, &leader.address, Lane::Control);
        let asked = client.read_index(peer::ReadIndexRequest { envelope: links.envelope(leader.replica) });
        let answered = tokio::time::timeout(LEASE, asked).await.is_ok_and(|answer| answer.is_ok());
        if answered && ended.changed().await.is_err() {
            return std::future::pending().await;
        }
        match links.try_connect(&leader.address).await {
            Err(error) if refused(&error) => return,
            _ if answered => again = AGAIN,
            _ => {
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
            }
        }
    }
}

/// Whether a host said that nobody listens there.
fn refused(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;

    use super::super::engine::MemoryLog;
    use super::super::storage_suite::Count;
    use super::super::{Identity, MembershipError, Replica, ReplicaConfig, Speakers, Start};
    use super::*;

    /// Long enough for a slow machine; whoever waits for silence would wait for ever.
    const LONG: Duration = Duration::from_secs(60);

    struct Running {
        replica: Replica<Count>,
        address: String,
        server: JoinHandle<()>,
        folder: Arc<TempDir>,
    }

    /// With its log in memory.
    async fn run(listener: TcpListener, start: Start) -> Running {
        let (folder, address) = (tempfile::tempdir().unwrap(), listener.local_addr().unwrap().to_string());
        let config = ReplicaConfig { address, start, ..ReplicaConfig::new(folder.path()) };
        let replica = Replica::open_over(config, Arc::new(MemoryLog::default()), Count::default()).await.unwrap();
        serve(listener, replica, Arc::new(folder))
    }

    /// With its log on the disk. Whoever had the folder before may hold it for a moment.
    async fn run_from(folder: Arc<TempDir>, listener: TcpListener, start: Start) -> Running {
        let address = listener.local_addr().unwrap().to_string();
        let config = || ReplicaConfig { address: address.clone(), start, ..ReplicaConfig::new(folder.path()) };
        let opened = async {
            loop {
                match Replica::open(config(), Count::default()).await {
                    Ok(replica) => return replica,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let replica = tokio::time::timeout(LONG, opened).await.expect("the folder is free");
        serve(listener, replica, folder)
    }

    fn serve(listener: TcpListener, replica: Replica<Count>, folder: Arc<TempDir>) -> Running {
        let address = listener.local_addr().unwrap().to_string();
        let service = replica.peer_service(Speakers::Anyone);
        let incoming = TcpListenerStream::new(listener);
        let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Running { replica, address, server, folder }
    }

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    /// A learner that the leader waits for.
    async fn invited(leader: &Replica<Count>) -> (TcpListener, Start) {
        let listener = listener().await;
        let id = leader.add_learner(&listener.local_addr().unwrap().to_string()).await.unwrap();
        (listener, Start::Join(Identity { replica: id, ..leader.identity() }))
    }

    async fn joined(leader: &Running) -> Running {
        let (listener, start) = invited(&leader.replica).await;
        promoted(&leader.replica, run(listener, start).await).await
    }

    async fn promoted(leader: &Replica<Count>, joined: Running) -> Running {
        let id = joined.replica.identity().replica;
        let promoted = async {
            while let Err(error) = leader.promote(id).await {
                let settles = matches!(
                    error,
                    MembershipError::Behind { .. } | MembershipError::Silent { .. } | MembershipError::Contended
                );
                assert!(settles, "{error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, promoted).await.expect("it catches up");
        joined
    }

    /// Where what runs is killed with all its connections at once.
    fn host() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// Returns once this one follows the leader, and would never stand for election by itself.
    async fn follows(other: &Running, leader: &str) {
        other.replica.library().runtime_config().elect(false);
        let mut role = other.replica.role();
        let follows = |role: &Role| matches!(role, Role::Follower { leader: it, .. } if it.address == leader);
        tokio::time::timeout(LONG, role.wait_for(follows)).await.expect("it follows").unwrap();
    }

    async fn leads(other: &Running) {
        let mut role = other.replica.role();
        role.wait_for(|role| matches!(role, Role::Leader { ready: true, .. })).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_leader_that_is_gone_is_replaced_by_followers_who_would_wait_for_ever_for_a_silent_one() {
        let host = host();
        let leader = host.spawn(async { run(listener().await, Start::Form).await }).await.unwrap();
        leader.replica.wait_ready().await.unwrap();
        let others = [joined(&leader).await, joined(&leader).await];
        for other in &others {
            follows(other, &leader.address).await;
        }
        host.shutdown_background();
        let elected = async {
            tokio::select! { () = leads(&others[0]) => {}, () = leads(&others[1]) => {} }
        };
        tokio::time::timeout(LONG, elected).await.expect("another one leads");
        for other in others {
            other.server.abort();
            other.replica.shutdown().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_got_too_few_votes_asks_again_while_the_leader_is_gone() {
        let (leaders, voters) = (host(), host());
        let leader = leaders.spawn(async { run(listener().await, Start::Form).await }).await.unwrap();
        leader.replica.wait_ready().await.unwrap();
        let first = joined(&leader).await;
        let (second, start) = {
            let (listener, start) = invited(&leader.replica).await;
            let folder = Arc::new(tempfile::tempdir().unwrap());
            let second = voters.spawn(run_from(folder, listener, start)).await.unwrap();
            (promoted(&leader.replica, second).await, start)
        };
        follows(&first, &leader.address).await;
        let (folder, address) = (Arc::clone(&second.folder), second.address.clone());
        drop(second);
        voters.shutdown_background();
        leaders.shutdown_background();
        // The first election has found nobody who votes by then.
        tokio::time::sleep(3 * LEASE).await;
        let second = run_from(folder, TcpListener::bind(&address).await.unwrap(), start).await;
        second.replica.library().runtime_config().elect(false);
        tokio::time::timeout(LONG, leads(&first)).await.expect("it asked again");
        for other in [first, second] {
            other.server.abort();
            other.replica.shutdown().await;
        }
    }
}
