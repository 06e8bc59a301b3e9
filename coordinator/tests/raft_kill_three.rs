//! Three replicas, one of them killed (kill -9) again and again, and at last all at once: what any of them acknowledged is in all of
//! them, in the same place, once.
//!
//! The children are this test binary again. Each proposes without end, whoever leads, and prints what was acknowledged.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{Journal, Published};
use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_coordinator::raft::{Identity, MembershipError, Replica, ReplicaConfig, Speakers, Start};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

const FOLDER: &str = "FLOWYARD_TEST_THREE_FOLDER";
const ADDRESS: &str = "FLOWYARD_TEST_THREE_ADDRESS";
const ENGINE: &str = "FLOWYARD_TEST_THREE_ENGINE";
const RUN: &str = "FLOWYARD_TEST_THREE_RUN";
/// Kills in the suite; `cargo xtask kill-loop` asks for more.
const KILLS: u64 = 6;
/// How often somebody is asked to change the membership before it is given up.
const ASKED: usize = 3_000;

/// Where a replica is kept and where it is reached.
#[derive(Clone)]
struct Place {
    folder: PathBuf,
    address: SocketAddr,
}

async fn open(place: &Place, engine: EngineKind, start: Start) -> (Replica<Journal>, Published) {
    let listener = TcpListener::bind(place.address).await.expect("the port is free");
    let address = place.address.to_string();
    let config = ReplicaConfig {
        engine,
        address,
        start,
        snapshot_every_entries: 300,
        keep_entries: 50,
        ..ReplicaConfig::new(&place.folder)
    };
    let (journal, published) = Journal::new();
    let replica = Replica::open(config, journal).await.expect("the replica opens");
    let service = replica.peer_service(Speakers::Anyone);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    (replica, published)
}

/// Makes a cluster of three and closes it.
async fn form(places: &[Place], engine: EngineKind) {
    let (first, _) = open(&places[0], engine, Start::Form).await;
    first.wait_ready().await.unwrap();
    let (identity, mut all) = (first.identity(), vec![first]);
    for place in &places[1..] {
        let replica = add(&all, &place.address.to_string()).await;
        all.push(open(place, engine, Start::Join(Identity { replica, ..identity })).await.0);
        promote(&all, replica).await;
    }
    for replica in &all {
        replica.shutdown().await;
    }
}

/// On a busy machine another may lead by now: all are asked, again and again.
async fn add(all: &[Replica<Journal>], address: &str) -> u64 {
    for asked in all.iter().cycle().take(ASKED) {
        match asked.add_learner(address).await {
            Ok(replica) | Err(MembershipError::AddressTaken { replica, .. }) => return replica,
            Err(MembershipError::Unavailable(_) | MembershipError::Contended) => pause().await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nobody could add {address}")
}

/// As [`add`], until it votes.
async fn promote(all: &[Replica<Journal>], replica: u64) {
    use MembershipError::{Behind, Contended, Silent, Unavailable, VotesAlready};
    for asked in all.iter().cycle().take(ASKED) {
        match asked.promote(replica).await {
            Ok(()) | Err(VotesAlready { .. }) => return,
            Err(Behind { .. } | Silent { .. } | Contended | Unavailable(_)) => pause().await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("replica {replica} does not come to vote")
}

/// A child, and the thread that hears what it acknowledges.
struct Running {
    child: Child,
    heard: Option<JoinHandle<Vec<String>>>,
}

impl Drop for Running {
    /// It goes with the test, however that ends.
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait().map(drop));
    }
}

impl Running {
    fn start(place: &Place, engine: EngineKind, run: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, &place.folder)
            .env(ADDRESS, place.address.to_string())
            .env(ENGINE, engine.name())
            .env(RUN, run.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let whole = |line: String| line.strip_prefix("ack ")?.strip_suffix(" .").map(str::to_owned);
        let heard = std::thread::spawn(move || lines.map_while(Result::ok).filter_map(whole).collect());
        Self { child, heard: Some(heard) }
    }

    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.heard.take().map_or_else(Vec::new, |heard| heard.join().unwrap())
    }
}

#[test]
fn nothing_acknowledged_by_three_is_lost_by_kill() {
    let folder = tempfile::tempdir().unwrap();
    let places: Vec<Place> = (1..=3).map(|number| place(folder.path(), number)).collect();
    let engine = EngineKind::default();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let forming = runtime();
    forming.block_on(form(&places, engine));
    forming.shutdown_timeout(Duration::from_secs(5));
    let kills = std::env::var("FLOWYARD_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(KILLS);
    let mut acks = Vec::new();
    let mut running: Vec<Running> =
        (0..3).map(|member| Running::start(&places[member], engine, member as u64)).collect();
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(400 + kill * 217 % 700));
        let victim = (kill * 7 % 3) as usize;
        acks.extend(running.remove(victim).kill());
        running.insert(victim, Running::start(&places[victim], engine, 3 + kill));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    running.into_iter().for_each(|running| acks.extend(running.kill()));
    assert!(acks.len() as u64 > 3 * kills, "only {} acknowledgements, the load was none", acks.len());
    runtime().block_on(check(&places, engine, &acks));
}

fn place(folder: &Path, number: u32) -> Place {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Place { folder: folder.join(number.to_string()), address: free }
}

/// Opens all three; each must have applied every acknowledged command where it was acknowledged, and none twice.
async fn check(places: &[Place], engine: EngineKind, acks: &[String]) {
    let mut opened = Vec::new();
    for place in places {
        opened.push(open(place, engine, Start::Reopen).await);
    }
    for (replica, _) in &opened {
        replica.wait_ready().await.unwrap();
        let caught_up = async {
            while replica.read_barrier().await.is_err() {
                pause().await
            }
        };
        tokio::time::timeout(Duration::from_secs(60), caught_up).await.expect("a leader is found");
    }
    for (_, published) in &opened {
        let applied = published.lock().unwrap().clone();
        let by_index: BTreeMap<u64, &[u8]> = applied.iter().map(|(index, command)| (*index, &command[..])).collect();
        for ack in acks {
            let (index, name) = ack.split_once(' ').unwrap();
            assert_eq!(by_index.get(&index.parse().unwrap()), Some(&name.as_bytes()), "lost: {ack}");
        }
        let mut names: Vec<&[u8]> = by_index.into_values().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a command was applied twice");
    }
    for (replica, _) in &opened {
        replica.shutdown().await;
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Not a test of its own: what the spawned processes run.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let of = |name: &str| std::env::var(name).unwrap();
    let engine = EngineKind::from_name(&of(ENGINE)).unwrap();
    let place = Place { folder: PathBuf::from(folder), address: of(ADDRESS).parse().unwrap() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (replica, _) = open(&place, engine, Start::Reopen).await;
        for number in 0_u64.. {
            let name = format!("{}.{number}", of(RUN));
            match replica.propose(name.clone().into_bytes()).await {
                Ok((index, _)) => {
                    let line = format!("\nack {index} {name} .\n");
                    let mut out = std::io::stdout().lock();
                    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
                }
                // Nobody leads, or whoever led is gone: whether it was taken is not known, and nobody was told that it was.
                Err(_) => pause().await,
            }
        }
    });
}
