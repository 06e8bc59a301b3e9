//! The log in sled 0.34, with the guards that make it trustworthy.
//!
//! `flush` of sled ends in `sync_file_range`, which reaches neither the metadata nor the disk's cache. So every durable
//! batch ends with our own `sync_data` on the file. One tree (batches are atomic per tree only); values of at most 64 KiB, because
//! larger ones go to blob files that are never synced; the flusher stays on, because it also collects garbage.

use std::fs::File;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Batch, LogDisk, Sweep, Visit};
use super::engine_error::DiskError;
use super::frame::{self, Kind};

/// Page cache of sled. The tail cache answers nearly all reads, so this is for opening and for far-behind followers.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const FLUSH_EVERY_MS: u64 = 500;

#[derive(Debug)]
pub(super) struct SledDisk {
    db: sled::Db,
    folder: PathBuf,
    /// The database file, opened a second time for the barrier alone.
    barrier: File,
    barriers: AtomicU64,
}

impl SledDisk {
    pub(super) fn open(folder: &Path) -> Result<Self, DiskError> {
        let created = !folder.join("db").exists();
        let db = sled::Config::new()
            .path(folder)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .use_compression(false)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .open()?;
        let path = folder.join("db");
        let barrier = File::open(&path).map_err(DiskError::io(&path))?;
        let disk = Self { db, folder: folder.to_owned(), barrier, barriers: AtomicU64::new(0) };
        if created {
            disk.settle_creation()?;
        }
        // What is read now may be told to others, and a process that was killed may not have synced it.
        disk.barrier()?;
        Ok(disk)
    }

    /// Makes the names of a new database durable: its files, its folder and the folder that holds it.
    fn settle_creation(&self) -> Result<(), DiskError> {
        self.db.flush()?;
        self.barrier()?;
        let parent = self.folder.parent().unwrap_or(&self.folder);
        for path in [&self.folder.join("conf"), &self.folder, parent] {
            File::open(path).and_then(|file| file.sync_all()).map_err(DiskError::io(path))?;
        }
        Ok(())
    }

    fn barrier(&self) -> Result<(), DiskError> {
        self.barriers.fetch_add(1, Ordering::Relaxed);
        self.barrier.sync_data().map_err(DiskError::io(self.folder.join("db")))
    }

    fn remove_from(&self, from: u64, batch: &mut sled::Batch) -> Result<(), DiskError> {
        for key in self.db.range(frame::entry_key(from, 0)..=frame::entry_key(u64::MAX, u16::MAX)).keys() {
            batch.remove(key?);
        }
        Ok(())
    }

    /// True when no more purged values are left than were removed here.
    fn sweep(&self, sweep: Sweep, batch: &mut sled::Batch) -> Result<bool, DiskError> {
        let purged = frame::entry_key(0, 0)..=frame::entry_key(sweep.upto, u16::MAX);
        let mut keys = self.db.range(purged).keys();
        for key in keys.by_ref().take(sweep.values_max) {
            batch.remove(key?);
        }
        Ok(keys.next().is_none())
    }
}

impl LogDisk for SledDisk {
    fn write(&self, batch: &Batch, durable: bool) -> Result<bool, DiskError> {
        let mut changes = sled::Batch::default();
        let swept = batch.sweep.map_or(Ok(true), |sweep| self.sweep(sweep, &mut changes))?;
        if let Some(from) = batch.truncate_from {
            self.remove_from(from, &mut changes)?;
        }
        for record in &batch.puts {
            for (chunk, value) in frame::entry_values(record) {
                changes.insert(&frame::entry_key(record.point.index, chunk), value);
            }
        }
        if let Some(ballot) = batch.vote {
            changes.insert(&frame::meta_key(Kind::Vote), frame::seal_ballot(ballot));
        }
        let points = [(Kind::Committed, batch.committed), (Kind::Purged, batch.purged), (Kind::Start, batch.start)];
        for (kind, point) in points {
            if let Some(point) = point {
                changes.insert(&frame::meta_key(kind), frame::seal_point(kind, point));
            }
        }
        self.db.apply_batch(changes)?;
        if durable {
            self.db.flush()?;
            self.barrier()?;
        }
        Ok(swept)
    }

    fn scan(&self, range: Range<u64>, visit: Visit<'_>) -> Result<(), DiskError> {
        for pair in self.db.range(frame::entry_key(range.start, 0)..frame::entry_key(range.end, 0)) {
            let (key, value) = pair?;
            if visit(&key, &value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn meta(&self, kind: Kind) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.db.get(frame::meta_key(kind))?.map(|value| value.to_vec()))
    }

    fn file_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    fn barriers(&self) -> u64 {
        self.barriers.load(Ordering::Relaxed)
    }
}

/// Moves sled's index snapshots aside: they only speed up opening, and a torn one makes sled refuse the whole database.
pub(super) fn set_snapshots_aside(folder: &Path) -> Result<bool, DiskError> {
    let aside = folder.join("set-aside");
    let mut moved = false;
    for entry in std::fs::read_dir(folder).map_err(DiskError::io(folder))? {
        let entry = entry.map_err(DiskError::io(folder))?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            std::fs::create_dir_all(&aside).map_err(DiskError::io(&aside))?;
            std::fs::rename(entry.path(), aside.join(entry.file_name())).map_err(DiskError::io(entry.path()))?;
            moved = true;
        }
    }
    Ok(moved)
}
