//! Three replicas in one process, over loopback: forming, joining, failing over, replacing a member, catching up.

#![allow(clippy::print_stdout)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Journal, Published};
use flowyard_coordinator::raft::engine::{EngineKind, LogEngine, MemoryLog, open_log};
use flowyard_coordinator::raft::{
    HomeError, Identity, MembershipError, OpenError, Replica, ReplicaConfig, Role, Start, Unavailable,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// Which log the replicas of a test keep.
#[derive(Debug, Clone, Copy)]
enum Log {
    Memory,
    Sled,
}

const LOGS: [Log; 2] = [Log::Memory, Log::Sled];

struct Running {
    replica: Replica<Journal>,
    published: Published,
    address: SocketAddr,
    server: JoinHandle<()>,
    _folder: TempDir,
}

impl Running {
    async fn start(log: Log, listener: TcpListener, start: Start, small: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = ReplicaConfig {
            engine: EngineKind::Sled,
            address: address.to_string(),
            start,
            ..ReplicaConfig::new(folder.path().join("replica"))
        };
        if small {
            (config.snapshot_every_entries, config.keep_entries) = (200, 20);
        }
        let engine: Arc<dyn LogEngine> = match log {
            Log::Memory => Arc::new(MemoryLog::default()),
            Log::Sled => Arc::new(open_log(EngineKind::Sled, &folder.path().join("engine")).unwrap()),
        };
        let (journal, published) = Journal::new();
        let replica = Replica::open_over(config, engine, journal).await.expect("the replica opens");
        let service = replica.peer_service(flowyard_coordinator::raft::Speakers::Anyone);
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { replica, published, address, server, _folder: folder }
    }

    fn id(&self) -> u64 {
        self.replica.identity().replica
    }

    fn commands(&self) -> Vec<String> {
        let published = self.published.lock().unwrap();
        published.iter().map(|(_, command)| String::from_utf8(command.clone()).unwrap()).collect()
    }

    /// As a kill would: nothing is said to anybody.
    async fn kill(self) {
        self.server.abort();
        self.replica.shutdown().await;
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

async fn form(log: Log, small: bool) -> Running {
    let first = Running::start(log, listener().await, Start::Form, small).await;
    first.replica.wait_ready().await.unwrap();
    first
}

/// Adds a learner to the cluster that `leader` leads, and starts it.
async fn learner(log: Log, leader: &Running, small: bool) -> Running {
    let listener = listener().await;
    let id = leader.replica.add_learner(&listener.local_addr().unwrap().to_string()).await.unwrap();
    let identity = Identity { replica: id, ..leader.replica.identity() };
    Running::start(log, listener, Start::Join(identity), small).await
}

/// Promotes once it has caught up.
async fn promote(leader: &Running, id: u64) {
    for _ in 0..1_000 {
        match leader.replica.promote(id).await {
            Ok(()) => return,
            Err(MembershipError::Behind { .. } | MembershipError::Silent { .. } | MembershipError::Contended) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it never caught up: {:?}", leader.replica.members());
}

async fn three(log: Log) -> Vec<Running> {
    let mut all = vec![form(log, false).await];
    for _ in 0..2 {
        let joined = learner(log, &all[0], false).await;
        promote(&all[0], joined.id()).await;
        all.push(joined);
    }
    all
}

fn leads(running: &Running) -> bool {
    matches!(*running.replica.role().borrow(), Role::Leader { ready: true, .. })
}

/// Proposes until it is acknowledged; a copy of an outcome that was unknown does no harm here.
async fn insist(running: &Running, command: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = running.replica.propose(command.as_bytes().to_vec()).await {
        assert!(tokio::time::Instant::now() < deadline, "{command}: {error}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn stop(all: Vec<Running>) {
    for running in all {
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_replica_takes_commands_and_answers_reads() {
    for log in LOGS {
        let all = three(log).await;
        for (at, running) in all.iter().enumerate() {
            running.replica.wait_ready().await.unwrap();
            running.replica.propose(format!("from {at}").into_bytes()).await.unwrap();
            assert_eq!(running.commands().last().unwrap(), &format!("from {at}"), "visible where it was answered");
            for other in &all {
                other.replica.read_barrier().await.unwrap();
                assert_eq!(other.commands().len(), at + 1, "{log:?}");
            }
        }
        let members = all[0].replica.members();
        assert!(members.iter().all(|member| member.votes && member.lag <= Some(1)), "{members:?}");
        assert_eq!(members.iter().filter(|member| member.leads).count(), 1);
        stop(all).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_leader_loses_nothing_that_was_acknowledged() {
    for log in LOGS {
        let mut all = three(log).await;
        for number in 0..50 {
            all[1].replica.propose(format!("{number}").into_bytes()).await.unwrap();
        }
        let leader = all.remove(0);
        assert!(leads(&leader));
        let killed = flowyard_clock::monotonic();
        leader.kill().await;
        insist(&all[0], "after").await;
        println!(
            "{log:?}: next acknowledged write {:?} after the leader was killed",
            flowyard_clock::monotonic() - killed
        );
        for running in &all {
            running.replica.read_barrier().await.unwrap();
            let commands = running.commands();
            assert_eq!(commands[..50], (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
            assert_eq!(commands.last().unwrap(), "after");
        }
        stop(all).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_replaced_while_the_cluster_works() {
    let mut all = three(Log::Memory).await;
    let gone = all.pop().unwrap();
    let gone_id = gone.id();
    gone.kill().await;
    insist(&all[0], "one is gone").await;
    let joined = learner(Log::Memory, &all[0], false).await;
    assert!(joined.id() > gone_id, "an id is never used again");
    all[0].replica.remove(gone_id).await.unwrap();
    promote(&all[0], joined.id()).await;
    all.push(joined);
    insist(&all[2], "replaced").await;
    let members: Vec<u64> = all[2].replica.members().iter().map(|member| member.peer.replica).collect();
    assert_eq!(members, all.iter().map(Running::id).collect::<Vec<_>>());
    // Whoever leads now hands over, and the one removed is not needed for it.
    let leader = all.iter().find(|running| leads(running)).unwrap();
    leader.replica.step_down().await.unwrap();
    assert!(!leads(leader));
    insist(leader, "handed over").await;
    stop(all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_far_behind_gets_a_snapshot() {
    for log in LOGS {
        let first = form(log, true).await;
        for start in (0..2_000).step_by(100) {
            let batch = (start..start + 100).map(|number| number.to_string().into_bytes()).collect();
            first.replica.propose_many(batch).await.unwrap();
        }
        while first.replica.stats().snapshot_index < Some(1_500) || first.replica.stats().log.live_entries > 1_000 {
            first.replica.propose(b"more".to_vec()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let joined = learner(log, &first, true).await;
        promote(&first, joined.id()).await;
        joined.replica.read_barrier().await.unwrap();
        assert_eq!(joined.commands(), first.commands());
        assert!(joined.replica.stats().snapshot_index >= Some(1_500), "it came by snapshot");
        stop(vec![first, joined]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_harm_the_cluster_is_refused() {
    let first = form(Log::Memory, false).await;
    let me = first.id();
    assert!(matches!(first.replica.remove(me).await, Err(MembershipError::LastVoter { .. })));
    assert!(matches!(first.replica.remove(77).await, Err(MembershipError::Unknown { replica: 77 })));
    assert!(matches!(first.replica.step_down().await, Err(MembershipError::NoSuccessor)));
    let unborn = first.replica.add_learner("127.0.0.1:1").await.unwrap();
    let twice = first.replica.add_learner("127.0.0.1:1").await;
    assert!(matches!(twice, Err(MembershipError::AddressTaken { .. })));
    let early = first.replica.promote(unborn).await;
    assert!(matches!(early, Err(MembershipError::Silent { .. })), "{early:?}");
    first.replica.remove(unborn).await.unwrap();
    let second = learner(Log::Memory, &first, false).await;
    promote(&first, second.id()).await;
    assert!(matches!(first.replica.promote(second.id()).await, Err(MembershipError::VotesAlready { .. })));
    assert!(matches!(first.replica.remove(me).await, Err(MembershipError::Leads { .. })));
    second.replica.wait_ready().await.unwrap();
    let elsewhere = second.replica.remove(me).await;
    let Err(MembershipError::Unavailable(Unavailable::NotLeader { leader })) = elsewhere else {
        panic!("{elsewhere:?}")
    };
    assert_eq!((leader.replica, leader.address), (me, first.address.to_string()));
    // Two voters, one silent: nothing could be committed without it.
    let second_id = second.id();
    second.kill().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stuck = tokio::time::timeout(Duration::from_secs(3), first.replica.propose(b"alone".to_vec())).await;
    assert!(!matches!(stuck, Ok(Ok(_))), "acknowledged without a quorum");
    assert_ne!(second_id, me);
    first.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_another_cluster_is_not_heard() {
    let (one, other) = (form(Log::Memory, false).await, form(Log::Memory, false).await);
    // The address belongs to a replica of another cluster, which must not take part in this one.
    let id = one.replica.add_learner(&other.address.to_string()).await.unwrap();
    one.replica.propose(b"mine".to_vec()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(matches!(one.replica.promote(id).await, Err(MembershipError::Silent { .. })));
    assert!(other.commands().is_empty());
    other.replica.propose(b"theirs".to_vec()).await.unwrap();
    assert_eq!((one.commands(), other.commands()), (vec!["mine".to_owned()], vec!["theirs".to_owned()]));
    stop(vec![one, other]).await;
}

#[tokio::test]
async fn a_replica_that_joins_waits_and_keeps_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let config = |start| ReplicaConfig { start, ..ReplicaConfig::new(folder.path()) };
    let vacant = Replica::open(config(Start::Reopen), Journal::new().0).await;
    assert!(matches!(vacant, Err(OpenError::Home(HomeError::Vacant { .. }))));
    let first = form(Log::Memory, false).await;
    let identity = Identity { replica: 40, ..first.replica.identity() };
    for start in [Start::Join(identity), Start::Reopen, Start::Form, Start::Join(identity)] {
        let joined = Replica::open(config(start), Journal::new().0).await.unwrap();
        assert_eq!(joined.identity(), identity);
        assert_eq!(*joined.role().borrow(), Role::Seeking);
        assert!(joined.members().is_empty());
        assert!(matches!(joined.propose(vec![1]).await, Err(error) if error.to_string().contains("no leader")));
        joined.shutdown().await;
    }
    let other = Start::Join(Identity { replica: 41, ..identity });
    let taken = Replica::open(config(other), Journal::new().0).await;
    assert!(matches!(taken, Err(OpenError::Home(HomeError::Taken { .. }))));
    eventually("the first replica leads", || leads(&first)).await;
    first.kill().await;
}
