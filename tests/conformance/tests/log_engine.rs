//! The log engines against their suite.

use std::sync::Arc;

use flowyard_conformance::log_engine::{Make, log_engine};
use flowyard_coordinator::raft::engine::{EngineKind, LogEngine, MemoryLog, open_log};
use tempfile::TempDir;

struct OnDisk(EngineKind, TempDir);

impl Make for OnDisk {
    fn open(&self) -> Arc<dyn LogEngine> {
        Arc::new(open_log(self.0, &self.1.path().join("log")).expect("the log opens"))
    }

    fn durable(&self) -> bool {
        true
    }
}

struct InMemory;

impl Make for InMemory {
    fn open(&self) -> Arc<dyn LogEngine> {
        Arc::new(MemoryLog::default())
    }

    fn durable(&self) -> bool {
        false
    }
}

fn on_disk(kind: EngineKind) -> OnDisk {
    OnDisk(kind, tempfile::tempdir().expect("a folder"))
}

#[test]
fn sled_conforms() {
    log_engine(|| on_disk(EngineKind::Sled));
}

#[test]
fn redb_conforms() {
    log_engine(|| on_disk(EngineKind::Redb));
}

#[test]
fn the_journal_conforms() {
    log_engine(|| on_disk(EngineKind::Journal));
}

#[test]
fn memory_conforms() {
    log_engine(|| InMemory);
}
