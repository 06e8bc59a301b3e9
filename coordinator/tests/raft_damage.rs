//! Damaged and full disks: refuse clearly, lose nothing that was acknowledged, repair nothing in secret.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use common::Journal;
use flowyard_coordinator::raft::engine::{
    Ballot, EngineError, EngineKind, LogEngine, LogOpenError, LogPoint, Op, Record, open_log,
};
use flowyard_coordinator::raft::{HomeError, OpenError, Replica, ReplicaConfig, Role};

const ENTRIES: u64 = 300;

fn settle(log: &dyn LogEngine, ops: Vec<Op>) -> Result<(), EngineError> {
    let (sender, receiver) = sync_channel(1);
    log.submit(ops, Box::new(move |result| sender.send(result).unwrap()))?;
    receiver.recv().expect("the callback runs")
}

fn entry(index: u64) -> Record {
    Record { point: LogPoint { term: 1, index }, payload: format!("entry {index} {}", "x".repeat(900)).into() }
}

fn fill(engine: EngineKind, folder: &Path) {
    let log = open_log(engine, folder).unwrap();
    settle(&log, vec![Op::PutVote(Ballot { term: 1, candidate: 1, granted: true })]).unwrap();
    for index in 0..ENTRIES {
        settle(&log, vec![Op::Append(vec![entry(index)])]).unwrap();
    }
    log.close();
}

fn main_file(engine: EngineKind, folder: &Path) -> PathBuf {
    folder.join(match engine {
        EngineKind::Sled => "sled/db",
        EngineKind::Redb => "log.redb",
        EngineKind::Journal => "0000000001.journal",
    })
}

/// A copy of a whole folder, so that each damage starts from the same bytes.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target)
        } else {
            drop(std::fs::copy(item.path(), target))
        }
    }
}

/// Opens a damaged log: it must hold everything, or be refused.
fn whole_or_refused(engine: EngineKind, folder: &Path, what: &str) -> bool {
    match open_log(engine, folder) {
        Ok(log) => {
            let records = log.read(0..u64::MAX, usize::MAX).unwrap();
            assert_eq!(records, (0..ENTRIES).map(entry).collect::<Vec<_>>(), "{what}: opened with less");
            assert_eq!(log.state().vote.map(|vote| vote.term), Some(1), "{what}: opened without its vote");
            false
        }
        Err(LogOpenError::Quarantined { aside, .. }) => {
            assert!(aside.exists() && !folder.exists(), "{what}: the damaged log was not kept aside");
            true
        }
        Err(other) => panic!("{what}: {other}: {other:?}"),
    }
}

#[test]
fn a_log_that_lost_its_end_is_refused_and_kept_aside() {
    for engine in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let original = folder.path().join("original");
        fill(engine, &original);
        let bytes = std::fs::metadata(main_file(engine, &original)).unwrap().len();
        let mut refused = 0;
        for tenth in 1..10 {
            let damaged = folder.path().join(format!("cut-{tenth}"));
            copy(&original, &damaged);
            File::options().write(true).open(main_file(engine, &damaged)).unwrap().set_len(bytes * tenth / 10).unwrap();
            refused += u32::from(whole_or_refused(engine, &damaged, &format!("{engine:?} cut to {tenth}/10")));
        }
        assert!(refused >= 5, "{engine:?}: only {refused} of 9 cuts were noticed");
    }
}

/// The journal's newest file, with the place of the last byte in it that is no zero.
fn newest(folder: &Path) -> (PathBuf, usize) {
    let files = std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().path());
    let newest = files.filter(|path| path.extension().is_some_and(|it| it == "journal")).max().unwrap();
    let last = std::fs::read(&newest).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    (newest, last)
}

#[test]
fn what_is_moved_aside_still_has_the_acknowledged_batch_that_was_damaged() {
    let big = |index| Record { payload: vec![7; 200_000].into(), ..entry(index) };
    // The last of several batches of a file, and the first of the next file.
    for files in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("log");
        let log = open_log(EngineKind::Journal, &folder).unwrap();
        settle(&log, vec![Op::PutVote(Ballot { term: 1, candidate: 1, granted: true })]).unwrap();
        let mut entries = 0;
        while entries < 3 || !folder.join(format!("000000000{files}.journal")).exists() {
            settle(&log, vec![Op::Append(vec![big(entries)])]).unwrap();
            entries += 1;
        }
        log.close();
        let (path, last) = newest(&folder);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let Err(LogOpenError::Quarantined { aside, .. }) = open_log(EngineKind::Journal, &folder) else {
            panic!("the damage was not noticed")
        };
        let kept = std::fs::read(aside.join(path.file_name().unwrap())).unwrap();
        assert!(kept == bytes, "what was moved aside was changed before");
    }
}

#[test]
fn a_log_with_a_damaged_byte_is_whole_or_refused() {
    for engine in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let original = folder.path().join("original");
        fill(engine, &original);
        let bytes = std::fs::metadata(main_file(engine, &original)).unwrap().len();
        for step in 0..40 {
            let damaged = folder.path().join(format!("flip-{step}"));
            copy(&original, &damaged);
            let file = OpenOptions::new().read(true).write(true).open(main_file(engine, &damaged)).unwrap();
            let at = bytes * step / 40 + 11;
            let mut block = [0; 16];
            let read = file.read_at(&mut block, at).unwrap();
            block.iter_mut().for_each(|byte| *byte ^= 0x5a);
            file.write_all_at(&block[..read], at).unwrap();
            whole_or_refused(engine, &damaged, &format!("{engine:?} damaged at {at} of {bytes}"));
        }
    }
}

#[test]
fn a_damaged_index_snapshot_of_sled_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fill(EngineKind::Sled, &log);
    let mut damaged = 0;
    for item in std::fs::read_dir(log.join("sled")).unwrap() {
        let path = item.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(!whole_or_refused(EngineKind::Sled, &log, "damaged snap file"), "{damaged} files damaged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_log_was_set_aside_does_not_start_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = || ReplicaConfig { engine: EngineKind::Sled, ..ReplicaConfig::new(folder.path()) };
    let replica = Replica::open(config(), Journal::new().0).await.unwrap();
    replica.wait_ready().await.unwrap();
    for number in 0..100 {
        replica.propose(format!("{number}").into_bytes()).await.unwrap();
    }
    replica.shutdown().await;
    drop(replica);
    File::options().write(true).open(folder.path().join("log/sled/db")).unwrap().set_len(4096).unwrap();
    let first = Replica::open(config(), Journal::new().0).await.err().unwrap();
    assert!(matches!(first, OpenError::Log(LogOpenError::Quarantined { .. })), "{first}");
    assert!(first.to_string().contains("join again as a new replica"), "{first}");
    let second = Replica::open(config(), Journal::new().0).await.err().unwrap();
    assert!(matches!(second, OpenError::Home(HomeError::LogMissing { .. })), "{second}");
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(&at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            refused => {
                eprintln!("skipped: cannot mount a small file system: {refused:?}");
                None
            }
        }
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const FOLDER: &str = "FLOWYARD_TEST_FULL_FOLDER";
const ENGINE: &str = "FLOWYARD_TEST_FULL_ENGINE";

fn small_disk_config(engine: EngineKind, folder: &Path) -> ReplicaConfig {
    ReplicaConfig { engine, ..ReplicaConfig::new(folder) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_replica_and_costs_nothing_acknowledged() {
    for engine in EngineKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(folder.path().join("small")) else { return };
        let replica = disk.0.join("replica");
        let filled = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fill_a_small_disk", "--nocapture"])
            .env(FOLDER, &replica)
            .env(ENGINE, engine.name())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&filled.stdout).into_owned();
        let full = text.lines().find_map(|line| line.strip_prefix("full after "));
        let acknowledged: usize = full.unwrap_or_else(|| panic!("{engine:?}: {filled:?}")).parse().unwrap();
        assert!(acknowledged > 10, "{engine:?}: full after {acknowledged}");
        disk.grow();
        let (journal, published) = Journal::new();
        let again = Replica::open(small_disk_config(engine, &replica), journal).await.unwrap();
        again.wait_ready().await.unwrap();
        let applied: Vec<_> = published.lock().unwrap().clone();
        assert!(applied.len() >= acknowledged, "{engine:?}: {} of {acknowledged} are left", applied.len());
        for (number, (_, command)) in applied.iter().enumerate().take(acknowledged) {
            assert!(command.starts_with(format!("{number} ").as_bytes()), "{engine:?}: lost {number}");
        }
        again.propose(b"on".to_vec()).await.unwrap();
        again.shutdown().await;
    }
}

/// Not a test of its own: fills the small disk in a process that ends over it, as a coordinator would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fill_a_small_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let engine = EngineKind::from_name(&std::env::var(ENGINE).unwrap()).unwrap();
    let replica = Replica::open(small_disk_config(engine, Path::new(&folder)), Journal::new().0).await.unwrap();
    replica.wait_ready().await.unwrap();
    let mut acknowledged = 0;
    while replica.propose(format!("{acknowledged} {}", "x".repeat(20_000)).into_bytes()).await.is_ok() {
        acknowledged += 1;
        assert!(acknowledged < 1000, "the disk never filled up");
    }
    let mut role = replica.role();
    let stopped = role.wait_for(|role| matches!(role, Role::Stopped { .. })).await.unwrap().clone();
    let Role::Stopped { fault: Some(fault) } = stopped else { panic!("stopped without a fault") };
    assert!(fault.to_string().contains("No space left on device"), "{fault}");
    replica.shutdown().await;
    println!("full after {acknowledged}");
}

#[test]
fn a_failed_log_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path().join("small")) else { return };
    let log = Arc::new(open_log(EngineKind::Redb, &disk.0.join("log")).unwrap());
    settle(&*log, vec![Op::PutVote(Ballot { term: 1, candidate: 1, granted: true })]).unwrap();
    let big = |index| Record { payload: vec![index as u8; 500_000].into(), ..entry(index) };
    let failed = (0..100).find(|&index| settle(&*log, vec![Op::Append(vec![big(index)])]).is_err()).unwrap();
    let refused = settle(&*log, vec![Op::Append(vec![entry(failed + 1)])]);
    assert!(matches!(refused, Err(EngineError::Failed(_))), "{refused:?}");
    assert!(matches!(log.read(0..1, 1), Err(EngineError::Failed(_))));
    log.close();
}
