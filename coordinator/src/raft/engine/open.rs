//! Opening a log: take the lock, open the files, check everything, or set the folder aside.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::{self, Loaded, LogDisk};
use super::engine_error::{DiskError, LogOpenError};
use super::group_log::{GroupLog, unpanicked};
use super::journal_disk::JournalDisk;
use super::redb_disk::RedbDisk;
use super::shadow::TAIL_BYTES_MAX;
use super::sled_disk::{self, SledDisk};
use super::witness::Witness;
use crate::raft::home::lock_left;

/// How often and how long opening waits for an earlier use to let go.
const RELEASE_TRIES: u32 = 100;
const RELEASE_PAUSE: Duration = Duration::from_millis(50);

/// Which engine keeps the log. It is chosen when a replica is made and never changes for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// sled, behind its guards; quicker for single entries, and torn writes of a power cut may cost the whole log.
    Sled,
    /// redb.
    Redb,
    /// Files of our own.
    #[default]
    Journal,
}

impl EngineKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sled, Self::Redb, Self::Journal];

    /// Its name in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Journal => "journal",
        }
    }

    /// The engine of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Opens the log in `folder`, making it if there is none, and checks it whole.
///
/// A damaged log is moved aside untouched and refused: a replica must not go on with less than it promised.
pub fn open_log(kind: EngineKind, folder: &Path) -> Result<GroupLog, LogOpenError> {
    let unreadable = |source| LogOpenError::Unreadable { folder: folder.to_owned(), source };
    flowyard_cas::make_folder(folder).map_err(DiskError::io(folder)).map_err(unreadable)?;
    let lock = lock(folder)?;
    match open_checked(kind, folder) {
        Ok((disk, witness, loaded)) => {
            GroupLog::start(Arc::new(Locked { disk, _lock: lock }), witness, loaded).map_err(unreadable)
        }
        Err(source) if source.is_damage() => Err(quarantine(folder, source)),
        Err(source) => Err(unreadable(source)),
    }
}

fn lock(folder: &Path) -> Result<File, LogOpenError> {
    let path = folder.join("lock");
    let unreadable = |source| LogOpenError::Unreadable { folder: folder.to_owned(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(DiskError::io(&path)).map_err(unreadable)?;
    match lock_left(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogOpenError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unreadable(DiskError::Io { path, source })),
    }
}

fn open_checked(kind: EngineKind, folder: &Path) -> Result<(Box<dyn LogDisk>, Witness, Loaded), DiskError> {
    let witness = Witness::open(folder, kind == EngineKind::Sled)?;
    let opened = match kind {
        EngineKind::Sled => open_sled(folder, &witness),
        EngineKind::Redb => load_checked(|| RedbDisk::open(folder), &witness),
        EngineKind::Journal => load_checked(|| JournalDisk::open(folder), &witness),
    };
    opened.map(|(disk, loaded)| (disk, witness, loaded))
}

/// sled, with one more try without its index snapshots when it calls the database corrupt.
fn open_sled(folder: &Path, witness: &Witness) -> Result<(Box<dyn LogDisk>, Loaded), DiskError> {
    let folder = folder.join("sled");
    match open_released(&folder, witness) {
        Err(error) if error.is_damage() && sled_disk::set_snapshots_aside(&folder)? => {
            tracing::warn!(%error, folder = %folder.display(), "opening the log again without its index snapshot");
            open_released(&folder, witness)
        }
        settled => settled,
    }
}

/// Threads of an earlier use by this process may hold sled's own lock for a moment longer. Ours is held, so nobody else has
/// it.
fn open_released(folder: &Path, witness: &Witness) -> Result<(Box<dyn LogDisk>, Loaded), DiskError> {
    for _ in 0..RELEASE_TRIES {
        match load_checked(|| SledDisk::open(folder), witness) {
            Err(DiskError::Sled(sled::Error::Io(error))) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(RELEASE_PAUSE);
            }
            settled => return settled,
        }
    }
    load_checked(|| SledDisk::open(folder), witness)
}

fn load_checked<D: LogDisk>(
    open: impl FnOnce() -> Result<D, DiskError>,
    witness: &Witness,
) -> Result<(Box<dyn LogDisk>, Loaded), DiskError> {
    unpanicked(|| {
        let disk = open()?;
        let loaded = disk::load(&disk, TAIL_BYTES_MAX)?;
        witness.confirm(&loaded)?;
        disk.settle()?;
        Ok((Box::new(disk) as Box<dyn LogDisk>, loaded))
    })
}

fn quarantine(folder: &Path, source: DiskError) -> LogOpenError {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = (1_u32..)
        .map(|number| folder.with_file_name(format!("{name}.quarantined-{number}")))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| PathBuf::from(folder));
    match std::fs::rename(folder, &aside) {
        Ok(()) => LogOpenError::Quarantined { folder: folder.to_owned(), aside, source },
        Err(error) => {
            tracing::error!(%error, folder = %folder.display(), "cannot move the damaged log aside");
            LogOpenError::Unreadable { folder: folder.to_owned(), source }
        }
    }
}

/// Keeps our own lock for as long as the files are open.
struct Locked {
    disk: Box<dyn LogDisk>,
    _lock: File,
}

impl LogDisk for Locked {
    fn write(&self, batch: &disk::Batch, durable: bool) -> Result<bool, DiskError> {
        self.disk.write(batch, durable)
    }

    fn scan(&self, range: std::ops::Range<u64>, visit: disk::Visit<'_>) -> Result<(), DiskError> {
        self.disk.scan(range, visit)
    }

    fn meta(&self, kind: super::frame::Kind) -> Result<Option<Vec<u8>>, DiskError> {
        self.disk.meta(kind)
    }

    fn file_bytes(&self) -> u64 {
        self.disk.file_bytes()
    }

    fn barriers(&self) -> u64 {
        self.disk.barriers()
    }
}
