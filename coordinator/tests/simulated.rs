//! The real replicas and their real messages over a simulated network: partitions, delays, crashes and restarts drawn
//! from a seed. What was acknowledged stays, in one order, and reads see it.
//!
//! `FLOWYARD_SIM_SEEDS=1000 FLOWYARD_SIM_FIRST=1 FLOWYARD_SIM_SIDE_BY_SIDE=8` chooses how many histories are run, from which
//! seed on, and how many at once. The clock is real, and the library draws its election timeouts itself: a seed fixes faults
//! and load, not every step.
#![allow(clippy::print_stdout)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Journal, Published};
use flowyard_coordinator::raft::engine::{
    Callback, EngineError, EngineState, EngineStats, LogEngine, LogPoint, MemoryLog, Op, Record,
};
use flowyard_coordinator::raft::{
    Connect, HomeError, Identity, MembershipError, OpenError, Replica, ReplicaConfig, Start, Wire,
};
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

/// Small and good enough: the faults need variety, not secrecy.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

type Cut = BTreeSet<(String, String)>;

/// Who listens where, and which ways are cut. What is sent on a cut way waits, as TCP would keep trying.
#[derive(Debug)]
struct Net {
    doors: Mutex<BTreeMap<String, mpsc::Sender<io::Result<DuplexStream>>>>,
    cut: watch::Sender<Cut>,
    /// Who crashed how often; a crash ends the host's connections.
    crashes: watch::Sender<BTreeMap<String, u64>>,
    dice: Mutex<u64>,
}

#[derive(Debug)]
struct Side {
    net: Arc<Net>,
    name: String,
}

impl Connect for Side {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Wire>>> {
        let (net, from, to) = (self.net.clone(), self.name.clone(), address.to_owned());
        Box::pin(async move {
            let mut cut = net.cut.subscribe();
            let way = (from.clone(), to.clone());
            cut.wait_for(|cut| !cut.contains(&way)).await.map_err(io::Error::other)?;
            let door = net.doors.lock().unwrap().get(&to).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
            let (here, near) = tokio::io::duplex(64 * 1024);
            let (far, there) = tokio::io::duplex(64 * 1024);
            door.send(Ok(there)).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
            tokio::spawn(carry(net.clone(), way, near_in, far_out));
            tokio::spawn(carry(net.clone(), (to, from), far_in, near_out));
            Ok(Box::new(here) as Box<dyn Wire>)
        })
    }
}

async fn carry(
    net: Arc<Net>,
    way: (String, String),
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) {
    let mut crashes = net.crashes.subscribe();
    let known = |crashes: &BTreeMap<String, u64>| (crashes.get(&way.0).copied(), crashes.get(&way.1).copied());
    let before = known(&crashes.borrow());
    tokio::select! {
        () = copy(&net, &way, &mut from, &mut to) => {}
        _ = crashes.wait_for(|crashes| known(crashes) != before) => {}
    }
    let _ = to.shutdown().await;
}

async fn copy(
    net: &Net,
    way: &(String, String),
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) {
    let (mut bytes, mut cut) = (vec![0; 16 * 1024], net.cut.subscribe());
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        let delay = {
            let mut dice = net.dice.lock().unwrap();
            *dice += 1;
            Dice(*dice).roll(8)
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        if cut.wait_for(|cut| !cut.contains(way)).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// A disk that outlives its replica.
struct Disk(Arc<MemoryLog>);

impl LogEngine for Disk {
    fn submit(&self, ops: Vec<Op>, done: Callback) -> Result<(), EngineError> {
        self.0.submit(ops, done)
    }
    fn read(&self, range: std::ops::Range<u64>, byte_limit: usize) -> Result<Vec<Record>, EngineError> {
        self.0.read(range, byte_limit)
    }
    fn read_recent(&self, range: std::ops::Range<u64>) -> Option<Vec<Record>> {
        self.0.read_recent(range)
    }
    fn state(&self) -> EngineState {
        self.0.state()
    }
    fn term_ends(&self) -> Vec<LogPoint> {
        self.0.term_ends()
    }
    fn stats(&self) -> EngineStats {
        self.0.stats()
    }
    fn close(&self) {}
}

/// One machine: what survives a crash, and the replica while it runs.
struct Host {
    name: String,
    folder: TempDir,
    disk: Arc<MemoryLog>,
    up: Option<(Replica<Journal>, Published, AbortHandle)>,
}

impl Host {
    fn new(number: usize) -> Self {
        let (folder, disk) = (tempfile::tempdir().unwrap(), Arc::new(MemoryLog::default()));
        Self { name: format!("host{number}"), folder, disk, up: None }
    }

    async fn start(&mut self, net: &Arc<Net>, start: Start) {
        let connect = Arc::new(Side { net: net.clone(), name: self.name.clone() });
        let config = ReplicaConfig {
            address: self.name.clone(),
            start,
            connect,
            snapshot_every_entries: 60,
            keep_entries: 10,
            ..ReplicaConfig::new(self.folder.path())
        };
        let (replica, published) = loop {
            let (journal, published) = Journal::new();
            match Replica::open_over(config.clone(), Arc::new(Disk(self.disk.clone())), journal).await {
                Ok(replica) => break (replica, published),
                // A client still waits for what the crashed one will never answer.
                Err(OpenError::Home(HomeError::InUse { .. })) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        };
        let (door, calls) = mpsc::channel(16);
        net.doors.lock().unwrap().insert(self.name.clone(), door);
        let service = replica.peer_service(flowyard_coordinator::raft::Speakers::Anyone);
        let server = tokio::spawn(async move {
            let _ = Server::builder().add_service(service).serve_with_incoming(ReceiverStream::new(calls)).await;
        });
        self.up = Some((replica, published, server.abort_handle()));
    }

    async fn crash(&mut self, net: &Net) {
        let Some((replica, _, server)) = self.up.take() else { return };
        net.doors.lock().unwrap().remove(&self.name);
        server.abort();
        net.crashes.send_modify(|crashes| *crashes.entry(self.name.clone()).or_default() += 1);
        replica.shutdown().await;
    }

    fn replica(&self) -> Option<Replica<Journal>> {
        self.up.as_ref().map(|(replica, ..)| replica.clone())
    }
}

/// When a command was begun and acknowledged, and where it went, in the order of the simulated clock.
#[derive(Debug, Clone)]
struct Acknowledged {
    command: String,
    index: u64,
    begun: tokio::time::Instant,
    ended: tokio::time::Instant,
}

async fn grow(net: &Arc<Net>) -> Vec<Host> {
    let mut hosts: Vec<Host> = (0..3).map(Host::new).collect();
    hosts[0].start(net, Start::Form).await;
    let first = hosts[0].replica().unwrap();
    first.wait_ready().await.unwrap();
    for host in &mut hosts[1..] {
        let id = first.add_learner(&host.name).await.unwrap();
        host.start(net, Start::Join(Identity { replica: id, ..first.identity() })).await;
        while let Err(error) = first.promote(id).await {
            let wait = matches!(error, MembershipError::Behind { .. } | MembershipError::Silent { .. });
            assert!(wait || matches!(error, MembershipError::Contended), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    hosts
}

type Targets = watch::Sender<Vec<Option<Replica<Journal>>>>;

fn running(hosts: &[Host]) -> Vec<Option<Replica<Journal>>> {
    hosts.iter().map(Host::replica).collect()
}

/// One fault, drawn by `dice`; at most one host is down at a time.
async fn fault(hosts: &mut [Host], net: &Arc<Net>, targets: &Targets, dice: &mut Dice) {
    let (victim, kind) = (dice.roll(3) as usize, dice.roll(4));
    let name = hosts[victim].name.clone();
    let others: Vec<String> = hosts.iter().map(|host| host.name.clone()).filter(|other| *other != name).collect();
    match kind {
        0 => {
            hosts[victim].crash(net).await;
            targets.send_replace(running(hosts));
            tokio::time::sleep(Duration::from_millis(dice.roll(1_500))).await;
            hosts[victim].start(net, Start::Reopen).await;
            targets.send_replace(running(hosts));
        }
        1 => net.cut.send_modify(|cut| {
            cut.extend(others.iter().flat_map(|other| [(name.clone(), other.clone()), (other.clone(), name.clone())]));
        }),
        2 => net.cut.send_modify(|cut| cut.extend(others.iter().map(|other| (name.clone(), other.clone())))),
        _ => net.cut.send_modify(Cut::clear),
    }
    tokio::time::sleep(Duration::from_millis(200 + dice.roll(1_800))).await;
}

/// Proposes numbered commands, one after the other, until told to stop.
async fn client(number: usize, replicas: watch::Receiver<Vec<Option<Replica<Journal>>>>) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for count in 0.. {
        let target = {
            let now = replicas.borrow();
            if now.is_empty() {
                break;
            }
            now[(count + number) % now.len()].clone()
        };
        let (command, begun) = (format!("{number}/{count}"), tokio::time::Instant::now());
        if let Some(replica) = target {
            let proposed = replica.propose(command.clone().into_bytes());
            if let Ok(Ok((index, _))) = tokio::time::timeout(Duration::from_secs(3), proposed).await {
                acknowledged.push(Acknowledged { command, index, begun, ended: tokio::time::Instant::now() });
            }
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    acknowledged
}

fn check(seed: u64, applied: &[(u64, Vec<u8>)], acknowledged: &mut [Acknowledged]) {
    let by_index: BTreeMap<u64, &[u8]> = applied.iter().map(|(index, command)| (*index, &command[..])).collect();
    let distinct: BTreeSet<&[u8]> = applied.iter().map(|(_, command)| &command[..]).collect();
    assert_eq!(distinct.len(), applied.len(), "seed {seed}: a command was applied twice");
    for one in acknowledged.iter() {
        assert_eq!(by_index.get(&one.index), Some(&one.command.as_bytes()), "seed {seed}: lost {one:?}");
    }
    // Linearizable: what was acknowledged before another began stands before it in the one order.
    acknowledged.sort_by_key(|one| one.index);
    let mut latest_begun = None;
    for one in acknowledged.iter() {
        assert!(latest_begun.is_none_or(|begun| begun <= one.ended), "seed {seed}: {one:?} overtook in the past");
        latest_begun = latest_begun.max(Some(one.begun));
    }
}

async fn history(seed: u64) -> usize {
    let mut dice = Dice(seed);
    let (cut, doors) = (watch::Sender::new(Cut::new()), Mutex::default());
    let crashes = watch::Sender::default();
    let net = Arc::new(Net { doors, cut, crashes, dice: Mutex::new(seed << 20) });
    let mut hosts = grow(&net).await;
    let (targets, seen) = watch::channel(running(&hosts));
    let mut clients: JoinSet<_> = (0..3).map(|number| client(number, seen.clone())).collect();
    drop(seen);
    for _ in 0..8 {
        fault(&mut hosts, &net, &targets, &mut dice).await;
    }
    net.cut.send_modify(Cut::clear);
    tokio::time::sleep(Duration::from_secs(5)).await;
    targets.send_replace(vec![]);
    let mut acknowledged = Vec::new();
    while let Some(ended) = clients.join_next().await {
        acknowledged.extend(ended.unwrap());
    }
    let mut states = Vec::new();
    for host in &hosts {
        let (replica, published, _) = host.up.as_ref().unwrap();
        let read = tokio::time::timeout(Duration::from_secs(10), replica.read_barrier()).await;
        read.expect("healed, it answers").unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        states.push(published.lock().unwrap().clone());
    }
    assert!(states.windows(2).all(|two| two[0] == two[1]), "seed {seed}: replicas differ");
    check(seed, &states[0], &mut acknowledged);
    for host in &mut hosts {
        host.crash(&net).await;
    }
    acknowledged.len()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn nothing_acknowledged_is_lost_or_reordered_whatever_breaks() {
    let (first, seeds) = (number("FLOWYARD_SIM_FIRST", 1), number("FLOWYARD_SIM_SEEDS", 6));
    let lanes = number("FLOWYARD_SIM_SIDE_BY_SIDE", 3);
    let run = move |lane: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let own = (first..first + seeds).filter(|seed| seed % lanes == lane);
        own.map(|seed| runtime.block_on(history(seed))).sum::<usize>()
    };
    let running: Vec<_> = (0..lanes).map(|lane| std::thread::spawn(move || run(lane))).collect();
    let acknowledged: usize = running.into_iter().map(|lane| lane.join().expect("a history failed")).sum();
    assert!(acknowledged > 0, "nothing was ever acknowledged");
    println!("{seeds} histories, {acknowledged} acknowledged writes");
}
