//! The log in redb 4: slower for single entries than sled, and whole after every power cut that was tried.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Bound, ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, Durability, ReadableDatabase, StorageBackend, TableDefinition};

use super::disk::{Batch, LogDisk, Sweep, Visit};
use super::engine_error::DiskError;
use super::frame::{self, Kind};

const LOG: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("log");
/// As for sled: nearly all reads are answered by the tail cache.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct RedbDisk {
    db: redb::Database,
    path: PathBuf,
    barriers: Arc<AtomicU64>,
}

type LogTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

impl RedbDisk {
    pub(super) fn open(folder: &Path) -> Result<Self, DiskError> {
        let path = folder.join("log.redb");
        let barriers = Arc::new(AtomicU64::new(0));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(DiskError::io(&path))?;
        // What is read now may be told to others, and a process that was killed may not have synced it.
        file.sync_data().map_err(DiskError::io(&path))?;
        let counted = CountedFile { file: FileBackend::new(file)?, barriers: barriers.clone() };
        let db = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(counted)?;
        let disk = Self { db, path, barriers };
        // Also where the power went between the creation of the file and that of the table: nothing was ever told to be in it.
        if disk.is_new()? {
            disk.settle_creation(folder)?;
        }
        Ok(disk)
    }

    /// Whether nothing was ever written.
    fn is_new(&self) -> Result<bool, DiskError> {
        match self.db.begin_read()?.open_table(LOG) {
            Ok(_) => Ok(false),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn settle_creation(&self, folder: &Path) -> Result<(), DiskError> {
        let transaction = self.db.begin_write()?;
        transaction.open_table(LOG)?;
        transaction.commit()?;
        for path in [folder, folder.parent().unwrap_or(folder)] {
            File::open(path).and_then(|file| file.sync_all()).map_err(DiskError::io(path))?;
        }
        Ok(())
    }
}

impl LogDisk for RedbDisk {
    fn write(&self, batch: &Batch, durable: bool) -> Result<bool, DiskError> {
        let mut transaction = self.db.begin_write()?;
        let durability = if durable { Durability::Immediate } else { Durability::None };
        transaction.set_durability(durability)?;
        let mut table = transaction.open_table(LOG)?;
        let swept = batch.sweep.map_or(Ok(true), |sweep| remove_swept(&mut table, sweep))?;
        if let Some(from) = batch.truncate_from {
            let gone = frame::entry_key(from, 0)..=frame::entry_key(u64::MAX, u16::MAX);
            table.retain_in::<&[u8], _>(range_of(&gone), |_, _| false)?;
        }
        put_all(&mut table, batch)?;
        drop(table);
        transaction.commit()?;
        Ok(swept)
    }

    fn scan(&self, range: Range<u64>, visit: Visit<'_>) -> Result<(), DiskError> {
        let table = self.db.begin_read()?.open_table(LOG)?;
        let (from, to) = (frame::entry_key(range.start, 0), frame::entry_key(range.end, 0));
        for pair in table.range::<&[u8]>((Bound::Included(&from[..]), Bound::Excluded(&to[..])))? {
            let (key, value) = pair?;
            if visit(key.value(), value.value())? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn meta(&self, kind: Kind) -> Result<Option<Vec<u8>>, DiskError> {
        let table = self.db.begin_read()?.open_table(LOG)?;
        Ok(table.get(&frame::meta_key(kind)[..])?.map(|value| value.value().to_vec()))
    }

    fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn barriers(&self) -> u64 {
        self.barriers.load(Ordering::Relaxed)
    }
}

fn range_of(keys: &std::ops::RangeInclusive<[u8; frame::KEY_BYTES]>) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(&keys.start()[..]), Bound::Included(&keys.end()[..]))
}

fn remove_swept(table: &mut LogTable<'_>, sweep: Sweep) -> Result<bool, DiskError> {
    let purged = frame::entry_key(0, 0)..=frame::entry_key(sweep.upto, u16::MAX);
    let mut removed = 0;
    // The iterator removes as it goes; what it does not reach stays.
    for value in table.extract_from_if::<&[u8], _>(range_of(&purged), |_, _| true)?.take(sweep.values_max) {
        value?;
        removed += 1;
    }
    Ok(removed < sweep.values_max)
}

fn put_all(table: &mut LogTable<'_>, batch: &Batch) -> Result<(), DiskError> {
    for record in &batch.puts {
        for (chunk, value) in frame::entry_values(record) {
            table.insert(&frame::entry_key(record.point.index, chunk)[..], &value[..])?;
        }
    }
    if let Some(ballot) = batch.vote {
        table.insert(&frame::meta_key(Kind::Vote)[..], &frame::seal_ballot(ballot)[..])?;
    }
    let points = [(Kind::Committed, batch.committed), (Kind::Purged, batch.purged), (Kind::Start, batch.start)];
    for (kind, point) in points {
        if let Some(point) = point {
            table.insert(&frame::meta_key(kind)[..], &frame::seal_point(kind, point)[..])?;
        }
    }
    Ok(())
}

/// redb's own file access, with its barriers counted.
#[derive(Debug)]
struct CountedFile {
    file: FileBackend,
    barriers: Arc<AtomicU64>,
}

impl StorageBackend for CountedFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.barriers.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
