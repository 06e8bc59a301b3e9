//! A replica through its handle, on both engines.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Journal, Published};
use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_coordinator::raft::{
    COMMAND_BYTES_MAX, HomeError, OpenError, ProposeError, Replica, ReplicaConfig, Role, Unavailable,
};

const ENGINES: [EngineKind; 3] = EngineKind::ALL;

fn config(folder: &Path, engine: EngineKind) -> ReplicaConfig {
    ReplicaConfig { engine, ..ReplicaConfig::new(folder) }
}

async fn open(config: ReplicaConfig) -> (Replica<Journal>, Published) {
    let (journal, published) = Journal::new();
    let replica = Replica::open(config, journal).await.expect("the replica opens");
    replica.wait_ready().await.expect("a lone replica leads");
    (replica, published)
}

fn commands(published: &Published) -> Vec<Vec<u8>> {
    published.lock().unwrap().iter().map(|(_, command)| command.clone()).collect()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|number| format!("command {number}").into_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_replica_leads_at_once_and_anew_after_each_start() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let mut terms = Vec::new();
        for _ in 0..3 {
            let (replica, _) = open(config(folder.path(), engine)).await;
            let Role::Leader { term, ready: true } = *replica.role().borrow() else { panic!("it does not lead") };
            terms.push(term);
            replica.shutdown().await;
        }
        assert!(terms.is_sorted_by(|before, after| before < after), "{terms:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_means_that_the_effect_is_published() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let (replica, published) = open(config(folder.path(), engine)).await;
        for number in 0..50_usize {
            let (index, before) = replica.propose(format!("{number}").into_bytes()).await.unwrap();
            assert_eq!(before, number);
            assert_eq!(published.lock().unwrap().last(), Some(&(index, format!("{number}").into_bytes())));
        }
        replica.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_replied_to_is_there_after_a_restart() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for round in 0..3 {
            let (replica, published) = open(config(folder.path(), engine)).await;
            assert_eq!(commands(&published), expected, "round {round} on {engine:?}");
            let batch = numbered(round * 100..round * 100 + 100);
            for reply in replica.propose_many(batch.clone()).await.unwrap() {
                reply.unwrap();
            }
            expected.extend(batch);
            assert_eq!(commands(&published), expected);
            replica.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_from_snapshot_and_the_log_after_it() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let small = || ReplicaConfig { snapshot_every_entries: 200, keep_entries: 50, ..config(folder.path(), engine) };
        let (replica, _) = open(small()).await;
        for start in (0..2000).step_by(100) {
            replica.propose_many(numbered(start..start + 100)).await.unwrap();
        }
        while replica.stats().snapshot_index < Some(1500) || replica.stats().log.live_entries > 1000 {
            replica.propose(b"more".to_vec()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stats = replica.stats();
        assert!(stats.snapshot_bytes > 0 && stats.last_index >= Some(2000), "{stats:?}");
        replica.shutdown().await;
        drop(replica);
        let (again, published) = open(small()).await;
        assert_eq!(commands(&published)[..2000], numbered(0..2000));
        assert!(again.propose(b"on".to_vec()).await.unwrap().1 >= 2000);
        again.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposals_are_in_flight_at_once_and_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, published) = open(config(folder.path(), EngineKind::Sled)).await;
    let calls = (0..64).map(|call| {
        let replica = replica.clone();
        tokio::spawn(async move {
            for number in 0..20 {
                replica.propose(format!("{call} {number}").into_bytes()).await.unwrap();
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let log = replica.stats().log;
    assert!(log.batches < 1280, "no grouping: {log:?}");
    assert!(log.barriers >= log.batches);
    for call in 0..64 {
        let own = commands(&published).into_iter().filter(|text| text.starts_with(format!("{call} ").as_bytes()));
        assert_eq!(own.collect::<Vec<_>>(), (0..20).map(|n| format!("{call} {n}").into_bytes()).collect::<Vec<_>>());
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overload_and_a_giant_are_refused_and_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let narrow = ReplicaConfig { proposals_max: 4, ..config(folder.path(), EngineKind::Sled) };
    let (replica, _) = open(narrow).await;
    let flood = (0..200).map(|_| {
        let replica = replica.clone();
        tokio::spawn(async move { replica.propose(vec![1; 1000]).await })
    });
    let mut refused = 0;
    for call in flood.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(_) => {}
            Err(ProposeError::Unavailable(Unavailable::QueueFull)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0);
    let giant = replica.propose(vec![0; COMMAND_BYTES_MAX + 1]).await;
    assert!(matches!(giant, Err(ProposeError::TooLarge { .. })));
    replica.propose(vec![0; COMMAND_BYTES_MAX]).await.unwrap();
    assert_eq!(replica.stats().proposals_in_flight, 0);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_itself_has_to_say_waits_for_room_and_is_never_refused() {
    let folder = tempfile::tempdir().unwrap();
    let narrow =
        ReplicaConfig { proposals_max: 4, proposal_bytes_max: 3_000, ..config(folder.path(), EngineKind::Sled) };
    let (replica, published) = open(narrow).await;
    let Role::Leader { term, .. } = replica.role().borrow().clone() else { panic!("it leads alone") };
    let said = (0..200).map(|_| {
        let replica = replica.clone();
        tokio::spawn(async move { replica.propose_in(term, vec![1; 1000]).await })
    });
    for call in said.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(commands(&published).len(), 200);
    // What is larger than all room takes all of it, and is not waited for without end.
    replica.propose_in(term, vec![0; 5_000]).await.unwrap();
    assert_eq!(replica.stats().proposals_in_flight, 0);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_replica_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, _) = open(config(folder.path(), EngineKind::Sled)).await;
    let mut role = replica.role();
    replica.shutdown().await;
    let stopped = role.wait_for(|role| matches!(role, Role::Stopped { .. })).await.unwrap().clone();
    assert_eq!(stopped, Role::Stopped { fault: None });
    assert!(matches!(replica.propose(vec![1]).await, Err(ProposeError::Unavailable(Unavailable::Stopped))));
    assert!(matches!(replica.read_barrier().await, Err(Unavailable::Stopped)));
    assert!(matches!(replica.wait_ready().await, Err(Unavailable::Stopped)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_wait_for_what_was_committed_and_minted_ids_differ() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, published) = open(config(folder.path(), EngineKind::Sled)).await;
    replica.propose(b"one".to_vec()).await.unwrap();
    replica.read_barrier().await.unwrap();
    assert_eq!(commands(&published), [b"one"]);
    let (first, second) = (replica.mint_replica_id().await.unwrap(), replica.mint_replica_id().await.unwrap());
    assert!(replica.identity().replica < first && first < second);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_replica_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, _) = open(config(folder.path(), EngineKind::Sled)).await;
    let second = Replica::open(config(folder.path(), EngineKind::Sled), Journal::new().0).await;
    assert!(matches!(second, Err(OpenError::Home(HomeError::InUse { .. }))));
    replica.shutdown().await;
    drop(replica);
    open(config(folder.path(), EngineKind::Sled)).await.0.shutdown().await;
}
