//! kill -9 under load, again and again: what was acknowledged stays, and no vote is forgotten.
//!
//! The child is this test binary again, told by an environment variable what to do. It proposes from several tasks and prints
//! each acknowledgement; on its next start it checks all of them against what it restored.

#![allow(clippy::print_stderr)]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::Journal;
use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_coordinator::raft::{Replica, ReplicaConfig, Role};

const TASK: &str = "FLOWYARD_TEST_CHILD";
const FOLDER: &str = "FLOWYARD_TEST_FOLDER";
const ENGINE: &str = "FLOWYARD_TEST_ENGINE";
const PROPOSERS: u64 = 8;
const SIGABRT: i32 = 6;

#[test]
fn nothing_acknowledged_by_sled_is_lost_by_kill() {
    kill_loop(EngineKind::Sled);
}

#[test]
fn nothing_acknowledged_by_redb_is_lost_by_kill() {
    kill_loop(EngineKind::Redb);
}

#[test]
fn nothing_acknowledged_by_the_journal_is_lost_by_kill() {
    kill_loop(EngineKind::Journal);
}

fn rounds() -> u64 {
    std::env::var("FLOWYARD_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

fn kill_loop(engine: EngineKind) {
    let folder = tempfile::tempdir().unwrap();
    let (mut term_before, mut acknowledged) = (0, 0);
    for round in 0..rounds() {
        let mut child = spawn("load", engine, folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (term, checked) = read_start(&mut lines, &mut child);
        assert_eq!(checked, acknowledged, "round {round}: the child did not check everything");
        assert!(term > term_before, "round {round}: term {term} after {term_before}, the vote was lost");
        term_before = term;
        acknowledged += kill_after(round, child, lines, folder.path());
    }
    assert!(acknowledged > rounds(), "only {acknowledged} acknowledgements, the load was none");
    // The last kill is checked as well.
    let mut child = spawn("load", engine, folder.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(read_start(&mut lines, &mut child).1, acknowledged);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn spawn(task: &str, engine: EngineKind, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .env(FOLDER, folder)
        .env(ENGINE, engine.name())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the child has checked the past; its term and how many acknowledgements it found.
fn read_start(lines: &mut BufReader<ChildStdout>, child: &mut Child) -> (u64, u64) {
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["ready", term, checked] = words[..] {
            return (term.parse().unwrap(), checked.parse().unwrap());
        }
        line.clear();
    }
    panic!("the child ended before it was ready: {}", child.wait().unwrap());
}

/// Lets the child work for a moment that differs each round, kills it, and keeps the acknowledgements it printed.
fn kill_after(round: u64, mut child: Child, lines: BufReader<ChildStdout>, folder: &Path) -> u64 {
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5 + round * 37 % 120));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let mut kept = std::fs::OpenOptions::new().append(true).create(true).open(acks_of(folder)).unwrap();
    let mut count = 0;
    for line in lines.lines() {
        let line = line.unwrap();
        // A line cut off by the kill is not an acknowledgement anybody has seen whole.
        if line.starts_with("ack ") && line.ends_with(" .") {
            writeln!(kept, "{line}").unwrap();
            count += 1;
        }
    }
    killer.join().unwrap();
    count
}

fn acks_of(folder: &Path) -> PathBuf {
    folder.join("acks")
}

#[test]
fn a_panic_while_applying_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().unwrap();
    for attempt in 0..2 {
        let status = spawn("panic", EngineKind::Sled, folder.path()).wait_with_output().unwrap().status;
        assert_eq!(status.signal(), Some(SIGABRT), "attempt {attempt}: the entry stays, so it ends again");
    }
}

#[test]
fn every_acknowledged_batch_had_its_barrier() {
    for engine in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let traced = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=fdatasync", "-o"])
            .arg(&trace)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(TASK, "one-by-one")
            .env(FOLDER, folder.path().join("replica"))
            .env(ENGINE, engine.name())
            .output();
        let Ok(output) = traced else {
            eprintln!("skipped: strace is not installed");
            return;
        };
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let acknowledged = text.lines().filter(|line| line.starts_with("ack ")).count();
        let calls = std::fs::read_to_string(&trace).unwrap();
        let barriers = calls.lines().filter(|line| line.contains("fdatasync(") && !line.contains("resumed")).count();
        assert_eq!(acknowledged, 60);
        assert!(barriers >= acknowledged, "{barriers} barriers for {acknowledged} batches on {engine:?}");
    }
}

/// Not a test of its own: what the spawned processes run.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let engine = EngineKind::from_name(&std::env::var(ENGINE).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match task.as_str() {
            "load" => load(&folder, engine).await,
            "panic" => panic_in_apply(&folder, engine).await,
            _ => one_by_one(&folder, engine).await,
        }
    });
}

async fn open(folder: &Path, engine: EngineKind) -> (Replica<Journal>, common::Published, u64) {
    let small = ReplicaConfig { engine, snapshot_every_entries: 700, keep_entries: 100, ..ReplicaConfig::new(folder) };
    let (journal, published) = Journal::new();
    let replica = Replica::open(small, journal).await.unwrap();
    let Role::Leader { term, .. } = replica.wait_ready().await.unwrap() else { panic!("it follows") };
    (replica, published, term)
}

fn say(line: &str) {
    // One write per line: the kill may come at any moment.
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}

async fn load(folder: &Path, engine: EngineKind) {
    let (replica, published, term) = open(&folder.join("replica"), engine).await;
    let checked = check_acks(folder, &published.lock().unwrap());
    say(&format!("\nready {term} {checked}\n"));
    let proposers = (0..PROPOSERS).map(|proposer| {
        let replica = replica.clone();
        tokio::spawn(async move {
            for number in 0_u64.. {
                // Every fiftieth is long enough to be stored in several pieces.
                let padding = "x".repeat(if number % 50 == 7 { 150_000 } else { number as usize % 300 });
                let command = format!("{term}.{proposer}.{number} {padding}");
                let name = format!("{term}.{proposer}.{number}");
                let (index, _) = replica.propose(command.into_bytes()).await.unwrap();
                say(&format!("ack {index} {name} .\n"));
            }
        })
    });
    for proposer in proposers.collect::<Vec<_>>() {
        proposer.await.unwrap();
    }
}

/// Fails unless everything acknowledged is there, under its index; says how much that was.
fn check_acks(folder: &Path, applied: &[(u64, Vec<u8>)]) -> u64 {
    let Ok(acks) = std::fs::read_to_string(acks_of(folder)) else { return 0 };
    let by_index: HashMap<u64, &[u8]> = applied.iter().map(|(index, command)| (*index, &command[..])).collect();
    for ack in acks.lines() {
        let words: Vec<&str> = ack.split(' ').collect();
        let command = by_index.get(&words[1].parse().unwrap()).unwrap_or_else(|| panic!("lost: {ack}"));
        assert!(command.starts_with(format!("{} ", words[2]).as_bytes()), "another command in the place of: {ack}");
    }
    acks.lines().count() as u64
}

async fn panic_in_apply(folder: &Path, engine: EngineKind) {
    let (replica, ..) = open(folder, engine).await;
    let _ = replica.propose(b"panic!".to_vec()).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
}

async fn one_by_one(folder: &Path, engine: EngineKind) {
    let (replica, ..) = open(folder, engine).await;
    for number in 0..60 {
        let (index, _) = replica.propose(format!("{number}").into_bytes()).await.unwrap();
        // The test harness writes to the same line before the first one.
        say(&format!("\nack {index}\n"));
    }
    replica.shutdown().await;
}
