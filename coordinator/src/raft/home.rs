//! The record that says whose folder this is: format, cluster, replica, engine.
//!
//! A small text file, replaced atomically. It is read before anything else is opened, so a folder of a newer version is
//! refused before it could be harmed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::engine::EngineKind;

/// The newest layout of the folder that this version reads and writes.
pub const HOME_FORMAT: u32 = 1;
const RECORD: &str = "replica";
const FIRST_LINE: &str = "flowyard-replica";
/// The id of the replica that forms a cluster. Later ones are named by the index of a committed entry, never this low.
pub(super) const FIRST_REPLICA: u64 = 1;

/// Who this replica is. It never changes, and an id is never given twice in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: Uuid,
    /// Raised by a restore and by a forced recovery, so that old numbers are not mistaken for new ones.
    pub epoch: u32,
    /// The replica in its cluster.
    pub replica: u64,
}

/// What an empty folder becomes. A folder that has a replica keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The first replica of a new cluster.
    #[default]
    Form,
    /// This replica of a cluster that has added it; a folder that has another one is refused.
    Join(Identity),
    /// Nothing: an empty folder is refused.
    Reopen,
}

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{path} is in use by another process{}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path = folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Whose lock it is, if it says so.
        pid: Option<u32>,
    },
    /// A newer version wrote it.
    #[error(
        "{path} was written by a newer version of flowyard (format {found}; this one reads up to {HOME_FORMAT}): use \
         that version, or another folder",
        path = folder.display()
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The record makes no sense.
    #[error("{path} is not a replica record: line {line}", path = path.display())]
    Malformed {
        /// The record.
        path: PathBuf,
        /// The offending line, from 1.
        line: usize,
    },
    /// It was to have a replica, and has none.
    #[error("{path} has no replica", path = folder.display())]
    Vacant {
        /// The folder.
        folder: PathBuf,
    },
    /// It was to become a replica, and is another one already.
    #[error(
        "{path} belongs to replica {} of cluster {} (epoch {}); use another folder",
        found.replica, found.cluster, found.epoch, path = folder.display()
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        found: Identity,
    },
    /// The record says a log was kept here, and it is gone.
    #[error(
        "{path} had a log and has none now; a replica that forgot its promises must not vote: restore the folder from \
         a backup, or let the machine join again as a new replica",
        path = folder.display()
    )]
    LogMissing {
        /// The folder.
        folder: PathBuf,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> HomeError + use<> {
    let path = path.to_owned();
    move |source| HomeError::Io { path, source }
}

/// An open, locked folder of a replica.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    record: Record,
    _lock: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    identity: Identity,
    engine: EngineKind,
    /// False until the first log of this replica was durable; what is there before has promised nothing.
    formed: bool,
}

impl Home {
    /// Opens `folder`; when it is empty, makes it what `start` says.
    pub(super) fn open(folder: &Path, engine: EngineKind, start: Start) -> Result<Self, HomeError> {
        flowyard_cas::make_folder(folder).map_err(io_at(folder))?;
        let lock = lock(folder)?;
        // A process that was killed may have replaced the record without syncing it.
        flowyard_cas::sync_folder(folder).map_err(io_at(folder))?;
        let path = folder.join(RECORD);
        let record = match std::fs::read_to_string(&path) {
            Ok(text) => Record::parse(&text, folder)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = match start {
                    Start::Form => Identity { cluster: Uuid::now_v7(), epoch: 0, replica: FIRST_REPLICA },
                    Start::Join(identity) => identity,
                    Start::Reopen => return Err(HomeError::Vacant { folder: folder.to_owned() }),
                };
                Record { identity, engine, formed: false }
            }
            Err(error) => return Err(io_at(&path)(error)),
        };
        if matches!(start, Start::Join(wanted) if wanted != record.identity) {
            return Err(HomeError::Taken { folder: folder.to_owned(), found: record.identity });
        }
        let home = Self { folder: folder.to_owned(), record, _lock: lock };
        home.prepare_log()?;
        Ok(home)
    }

    fn prepare_log(&self) -> Result<(), HomeError> {
        match (self.record.formed, self.log_folder().exists()) {
            (true, false) => Err(HomeError::LogMissing { folder: self.folder.clone() }),
            // A first start that was cut short: nothing was acknowledged, so it starts again from nothing.
            (false, _) => {
                for path in [self.log_folder(), self.snapshot_folder()] {
                    if path.exists() {
                        std::fs::remove_dir_all(&path).map_err(io_at(&path))?;
                    }
                }
                self.save()
            }
            (true, true) => Ok(()),
        }
    }

    pub(super) fn identity(&self) -> Identity {
        self.record.identity
    }

    pub(super) fn engine(&self) -> EngineKind {
        self.record.engine
    }

    pub(super) fn log_folder(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(super) fn snapshot_folder(&self) -> PathBuf {
        self.folder.join("snapshots")
    }

    pub(super) fn formed(&self) -> bool {
        self.record.formed
    }

    /// Notes that the log of this replica holds promises from now on.
    pub(super) fn set_formed(&mut self) -> Result<(), HomeError> {
        self.record.formed = true;
        self.save()
    }

    fn save(&self) -> Result<(), HomeError> {
        let (beside, path) = (self.folder.join("replica.new"), self.folder.join(RECORD));
        let mut file = File::create(&beside).map_err(io_at(&beside))?;
        let written = file.write_all(self.record.text().as_bytes()).and_then(|()| file.sync_all());
        written.map_err(io_at(&beside))?;
        std::fs::rename(&beside, &path).map_err(io_at(&path))?;
        flowyard_cas::sync_folder(&self.folder).map_err(io_at(&self.folder))
    }
}

fn lock(folder: &Path) -> Result<File, HomeError> {
    let path = folder.join("replica.lock");
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options.map_err(io_at(&path))?;
    match lock_left(&file) {
        Ok(()) => {}
        Err(TryLockError::Error(source)) => return Err(io_at(&path)(source)),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(HomeError::InUse { folder: folder.to_owned(), pid });
        }
    }
    // Only to tell a second process whose lock it is, so nothing depends on its success.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Locks a file, or waits for a process that is ending to let go of it.
pub(super) fn lock_left(file: &File) -> Result<(), TryLockError> {
    let tried = flowyard_clock::patiently(flowyard_clock::LEAVING, || match file.try_lock() {
        Err(TryLockError::WouldBlock) => None,
        settled => Some(settled),
    });
    tried.unwrap_or(Err(TryLockError::WouldBlock))
}

/// The record in this text, written down again; for tests that hand over anything.
pub(super) fn rewritten(text: &str) -> Option<String> {
    Some(Record::parse(text, Path::new("")).ok()?.text())
}

impl Record {
    fn text(&self) -> String {
        let Identity { cluster, epoch, replica } = self.identity;
        format!(
            "{FIRST_LINE} {HOME_FORMAT}\ncluster {cluster}\nepoch {epoch}\nreplica {replica}\nengine {}\nformed {}\n",
            self.engine.name(),
            self.formed
        )
    }

    /// Reads a record. The first line decides whether the rest may be read at all; lines with unknown keys are skipped.
    fn parse(text: &str, folder: &Path) -> Result<Self, HomeError> {
        let malformed = |line| HomeError::Malformed { path: folder.join(RECORD), line };
        let format = text.lines().next().and_then(|line| line.strip_prefix(FIRST_LINE));
        let format: u32 = format.and_then(|format| format.trim().parse().ok()).ok_or(malformed(1))?;
        if format > HOME_FORMAT {
            return Err(HomeError::Newer { folder: folder.to_owned(), found: format });
        }
        let value = |key: &str| {
            let mut lines = text.lines().enumerate().skip(1);
            let found = lines.find_map(|(at, line)| Some((at + 1, line.strip_prefix(key)?.strip_prefix(' ')?)));
            found.ok_or(malformed(text.lines().count() + 1))
        };
        fn parsed<T: std::str::FromStr>((line, value): (usize, &str)) -> Result<T, usize> {
            value.parse().map_err(|_| line)
        }
        let identity = Identity {
            cluster: parsed(value("cluster")?).map_err(malformed)?,
            epoch: parsed(value("epoch")?).map_err(malformed)?,
            replica: parsed(value("replica")?).map_err(malformed)?,
        };
        let (line, engine) = value("engine")?;
        let engine = EngineKind::from_name(engine).ok_or(malformed(line))?;
        Ok(Self { identity, engine, formed: parsed(value("formed")?).map_err(malformed)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Result<Home, HomeError> {
        Home::open(folder, EngineKind::Redb, Start::Form)
    }

    #[test]
    fn a_home_keeps_its_identity_and_engine_whatever_is_asked_for_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut home = open(folder.path()).unwrap();
        let identity = home.identity();
        std::fs::create_dir(home.log_folder()).unwrap();
        home.set_formed().unwrap();
        drop(home);
        let again = Home::open(folder.path(), EngineKind::Sled, Start::Reopen).unwrap();
        assert_eq!((again.identity(), again.engine()), (identity, EngineKind::Redb));
    }

    #[test]
    fn a_home_of_a_newer_version_is_refused_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join(RECORD);
        std::fs::write(&record, "flowyard-replica 2\nsomething else entirely\n").unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, HomeError::Newer { found: 2, .. }));
        assert!(error.to_string().contains("written by a newer version of flowyard (format 2"), "{error}");
        assert_eq!(std::fs::read_to_string(record).unwrap(), "flowyard-replica 2\nsomething else entirely\n");
    }

    #[test]
    fn a_second_opener_is_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let _home = open(folder.path()).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, HomeError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    }

    #[test]
    fn a_home_whose_last_user_is_leaving_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let leaving = open(folder.path()).unwrap();
        let left = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            drop(leaving);
        });
        open(folder.path()).expect("it was waited for");
        left.join().unwrap();
    }

    #[test]
    fn a_formed_home_without_its_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().set_formed().unwrap();
        assert!(matches!(open(folder.path()), Err(HomeError::LogMissing { .. })));
    }

    #[test]
    fn a_first_start_that_was_cut_short_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let home = open(folder.path()).unwrap();
        std::fs::create_dir(home.log_folder()).unwrap();
        std::fs::write(home.log_folder().join("half"), "x").unwrap();
        let identity = home.identity();
        drop(home);
        let again = open(folder.path()).unwrap();
        assert!(!again.log_folder().exists());
        assert_eq!(again.identity(), identity);
    }

    #[test]
    fn a_folder_joins_once_and_only_as_one_replica() {
        let folder = tempfile::tempdir().unwrap();
        let join = |replica| {
            let identity = Identity { cluster: Uuid::from_u128(5), epoch: 1, replica };
            Home::open(folder.path(), EngineKind::Redb, Start::Join(identity))
        };
        let vacant = Home::open(folder.path(), EngineKind::Redb, Start::Reopen);
        assert!(matches!(vacant, Err(HomeError::Vacant { .. })));
        assert_eq!(join(7).unwrap().identity().replica, 7);
        assert_eq!(join(7).unwrap().identity().replica, 7);
        assert!(matches!(join(8), Err(HomeError::Taken { found: Identity { replica: 7, .. }, .. })));
    }

    #[test]
    fn a_record_that_makes_no_sense_names_its_line() {
        let line_of = |text: &str| match Record::parse(text, Path::new("/x")) {
            Err(HomeError::Malformed { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line_of("hello"), 1);
        assert_eq!(line_of("flowyard-replica 1\ncluster zebra\n"), 2);
        assert_eq!(line_of("flowyard-replica 1\n"), 2);
    }
}
