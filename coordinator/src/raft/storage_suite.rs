//! The Raft library's own storage suite, on every engine.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::watch;

use super::applier::Applier;
use super::engine::{EngineKind, LogEngine, MemoryLog, open_log};
use super::log_storage::LogStore;
use super::machine::Machine;
use super::snapshot::SnapshotFolder;
use super::types::Types;

/// Counts what it applied.
#[derive(Default)]
pub(super) struct Count(u64);

impl Machine for Count {
    type Reply = u64;
    type Snapshot = u64;

    fn apply(&mut self, _index: u64, _payload: &[u8]) -> u64 {
        self.0 += 1;
        self.0
    }

    fn encode_reply(reply: &u64) -> Vec<u8> {
        reply.to_le_bytes().to_vec()
    }

    fn decode_reply(bytes: &[u8]) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(u64::from_le_bytes(bytes.try_into()?))
    }

    fn after_batch(&mut self, _index: u64) {}

    fn snapshot(&self) -> u64 {
        self.0
    }

    fn encode(snapshot: &u64, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(&snapshot.to_le_bytes())
    }

    fn restore(&mut self, input: &mut dyn Read) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut bytes = [0; 8];
        input.read_exact(&mut bytes)?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }
}

struct Builder(fn(&Path) -> Arc<dyn LogEngine>);

impl StoreBuilder<Types<u64>, LogStore<u64>, Applier<Count>, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore<u64>, Applier<Count>), StorageError<Types<u64>>> {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let engine = (self.0)(&folder.path().join("log"));
        let snapshots = SnapshotFolder::open(&folder.path().join("snapshots")).expect("an empty folder opens");
        let applier = Applier::new(Count::default(), Arc::new(snapshots), watch::channel(0).0);
        Ok((folder, LogStore::new(engine), applier))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_passes_the_storage_suite() {
    Suite::test_all(Builder(|folder| Arc::new(open_log(EngineKind::Sled, folder).unwrap()))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_passes_the_storage_suite() {
    Suite::test_all(Builder(|folder| Arc::new(open_log(EngineKind::Redb, folder).unwrap()))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_passes_the_storage_suite() {
    Suite::test_all(Builder(|folder| Arc::new(open_log(EngineKind::Journal, folder).unwrap()))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_passes_the_storage_suite() {
    Suite::test_all(Builder(|_| Arc::new(MemoryLog::default()))).await.unwrap();
}
