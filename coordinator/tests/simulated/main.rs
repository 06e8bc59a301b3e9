//! The real replicas and their real messages over a simulated network, clock and disk: partitions, delays, power cuts and
//! restarts drawn from a seed. What was acknowledged stays, in one order, and reads see it.
//!
//! `FLOWYARD_SIM_SEEDS=1000 FLOWYARD_SIM_FIRST=1 FLOWYARD_SIM_SIDE_BY_SIDE=2` chooses how many histories are run, from which
//! seed on, and how many at once. Time is the runtime's own and stands still while anything is left to do, so a history of half a
//! minute takes a part of a second. The library draws its election timeouts itself: a seed fixes faults, delays and load, not
//! who is elected.
#![allow(clippy::print_stdout)]

mod clients;
#[path = "../common/mod.rs"]
mod common;
mod dice;
mod disk;
mod host;
mod net;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clients::{Targets, Told, check, client};
use dice::Dice;
use flowyard_coordinator::raft::Start;
use host::{Host, grow};
use net::Net;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Faults of one history.
const FAULTS: usize = 8;
/// Kinds of them, as they are counted.
const KINDS: [&str; 9] = [
    "power cut of one",
    "cut off",
    "not heard",
    "not told",
    "mended",
    "slow disk",
    "slow network",
    "connections broken",
    "power cut of all",
];
/// No history takes longer than this, in simulated time.
const LONGEST: Duration = Duration::from_secs(600);

/// What was seen in one history, or in many.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: usize,
    reads: u64,
    terms: u64,
    simulated_ms: u64,
    faults: [u64; KINDS.len()],
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.terms += other.terms;
        self.simulated_ms += other.simulated_ms;
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, more)| *sum += more);
    }
}

fn running(hosts: &[Host]) -> Targets {
    hosts.iter().map(Host::open).collect()
}

/// These hosts lose their power, for up to so long.
async fn cut_power(hosts: &mut [Host], net: &Arc<Net>, targets: &watch::Sender<Targets>, which: &[usize], off_ms: u64) {
    let mut left = running(hosts);
    which.iter().for_each(|at| left[*at] = None);
    targets.send_replace(left);
    for at in which {
        hosts[*at].crash(net).await;
    }
    tokio::time::sleep(Duration::from_millis(1 + off_ms)).await;
    for at in which {
        hosts[*at].start(net, Start::Reopen).await;
    }
    targets.send_replace(running(hosts));
}

/// One fault, drawn by `dice`; which kind it was.
async fn fault(hosts: &mut [Host], net: &Arc<Net>, targets: &watch::Sender<Targets>, dice: &mut Dice) -> usize {
    let (victim, kind) = (dice.roll(hosts.len() as u64) as usize, dice.roll(KINDS.len() as u64) as usize);
    let name = hosts[victim].name.clone();
    let others: Vec<String> = hosts.iter().map(|host| host.name.clone()).filter(|other| *other != name).collect();
    let out = || others.iter().map(|other| (name.clone(), other.clone()));
    let back = || others.iter().map(|other| (other.clone(), name.clone()));
    match kind {
        0 => cut_power(hosts, net, targets, &[victim], dice.roll(1_500)).await,
        1 => net.cut(out().chain(back())),
        2 => net.cut(out()),
        3 => net.cut(back()),
        4 => mend(hosts, net),
        5 => hosts[victim].platter.slow(1 + dice.roll(400)),
        6 => net.slow(1 + dice.roll(150)),
        7 => net.break_connections(&name),
        _ => cut_power(hosts, net, targets, &[0, 1, 2], dice.roll(1_500)).await,
    }
    tokio::time::sleep(Duration::from_millis(200 + dice.roll(1_800))).await;
    kind
}

fn mend(hosts: &[Host], net: &Net) {
    net.mend();
    hosts.iter().for_each(|host| host.platter.mend());
}

async fn history(seed: u64, lies: bool) -> Seen {
    let (mut dice, start) = (Dice(seed), tokio::time::Instant::now());
    let net = Net::new(seed);
    let mut hosts = grow(&net, lies).await;
    let (targets, seen) = watch::channel(running(&hosts));
    let newest = Arc::new(AtomicU64::new(0));
    let mut clients: JoinSet<Told> = (0..3).map(|number| client(number, seen.clone(), newest.clone())).collect();
    drop(seen);
    let mut faults = [0; KINDS.len()];
    for _ in 0..FAULTS {
        faults[fault(&mut hosts, &net, &targets, &mut dice).await] += 1;
    }
    mend(&hosts, &net);
    tokio::time::sleep(Duration::from_secs(5)).await;
    targets.send_replace(vec![]);
    let (mut acknowledged, mut reads) = (Vec::new(), 0);
    while let Some(ended) = clients.join_next().await {
        let told = ended.expect("no client saw anything wrong");
        (acknowledged, reads) = ([acknowledged, told.acknowledged].concat(), reads + told.reads);
    }
    let mut states = Vec::new();
    for host in &hosts {
        let (replica, published) = host.open().expect("it was started again");
        let read = tokio::time::timeout(Duration::from_secs(10), replica.read_barrier()).await;
        read.expect("healed, it answers").expect("healed, it answers well");
        states.push(published.lock().unwrap().clone());
    }
    assert!(states.windows(2).all(|two| two[0] == two[1]), "replicas differ");
    check(&states[0], &mut acknowledged);
    let terms = hosts[0].open().map_or(0, |(replica, _)| term(&replica));
    for host in &mut hosts {
        host.crash(&net).await;
    }
    let simulated_ms = start.elapsed().as_millis() as u64;
    Seen { acknowledged: acknowledged.len(), reads, terms, simulated_ms, faults }
}

fn term(replica: &flowyard_coordinator::raft::Replica<common::Journal>) -> u64 {
    use flowyard_coordinator::raft::Role;
    match *replica.role().borrow() {
        Role::Leader { term, .. } | Role::Follower { term, .. } => term,
        Role::Seeking | Role::Stopped { .. } => 0,
    }
}

/// One history in a runtime of its own, whose clock moves on when there is nothing left to do; `None` if something was wrong.
fn run(seed: u64, lies: bool) -> Option<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let all = async { tokio::time::timeout(LONGEST, history(seed, lies)).await.expect("a history comes to its end") };
    std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(all))).ok()
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn nothing_acknowledged_is_lost_or_reordered_whatever_breaks() {
    let (first, seeds) = (number("FLOWYARD_SIM_FIRST", 1), number("FLOWYARD_SIM_SEEDS", 16));
    let lanes = number("FLOWYARD_SIM_SIDE_BY_SIDE", 2);
    let lane = move |lane: u64| {
        let own = (first..first + seeds).filter(move |seed| seed % lanes == lane);
        own.map(|seed| (seed, run(seed, false))).collect::<Vec<_>>()
    };
    let running: Vec<_> = (0..lanes).map(|at| std::thread::spawn(move || lane(at))).collect();
    let all: Vec<_> = running.into_iter().flat_map(|lane| lane.join().expect("panics are caught")).collect();
    let mut total = Seen::default();
    all.iter().filter_map(|(_, seen)| seen.as_ref()).for_each(|seen| total.add(seen));
    println!(
        "{seeds} histories, {} acknowledged writes, {} reads, {} terms, {} simulated seconds",
        total.acknowledged,
        total.reads,
        total.terms,
        total.simulated_ms / 1_000
    );
    KINDS.iter().zip(total.faults).for_each(|(kind, times)| println!("{kind}: {times}"));
    let failed: Vec<_> = all.iter().filter(|(_, seen)| seen.is_none()).map(|(seed, _)| seed).collect();
    assert!(failed.is_empty(), "these seeds show something wrong, as said above: {failed:?}");
    assert!(total.acknowledged as u64 > seeds && total.reads > seeds, "hardly anything was ever acknowledged");
}

#[test]
fn a_disk_that_lies_is_noticed() {
    assert!((1..=20).any(|seed| run(seed, true).is_none()), "20 histories over disks that lie went well");
}
