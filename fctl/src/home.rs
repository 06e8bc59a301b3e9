//! The folder of the embedded cluster: `$FLOWYARD_HOME`, or a folder in the platform's place for data.
//!
//! ```text
//! home            format of this folder
//! lock            held by whoever runs the coordinator
//! agent.lock      held by whoever runs the agent
//! guests          held, shared, by whoever uses a coordinator that another process runs
//! api.sock        the API, while somebody runs the coordinator
//! coordinator/    log and snapshots
//! origin/         artifacts and logs
//! agent/          attempts, local blobs, launcher
//! config.toml     settings, if any
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;

/// The newest layout that this build reads and writes.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "home";
const FIRST_WORD: &str = "flowyard-home";
/// How often a lock is tried that others only look at, and the wait in between.
const LOOKS: u32 = 200;
const LOOK: Duration = Duration::from_millis(1);

/// The folder of the embedded cluster.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    path: PathBuf,
}

/// The right to run the coordinator of a home; given up when dropped.
#[derive(Debug)]
pub(crate) struct HostLock {
    _file: File,
}

/// The right to run the agent of a home; given up when dropped.
#[derive(Debug)]
pub(crate) struct AgentLock {
    _file: File,
}

/// Says that this process uses a coordinator that another one runs.
#[derive(Debug)]
pub(crate) struct GuestLock {
    _file: File,
}

impl Home {
    /// The home that the environment names. It need not exist.
    ///
    /// # Errors
    /// When there is no place for it.
    pub(crate) fn find() -> Result<Self, Failure> {
        let path = match std::env::var_os("FLOWYARD_HOME") {
            Some(path) if path.is_empty() => {
                return Err(Failure::Home("FLOWYARD_HOME is empty; unset it, or name a folder".to_owned()));
            }
            Some(path) => PathBuf::from(path),
            None => dirs::data_dir().map(|data| data.join("flowyard")).ok_or_else(|| {
                Failure::Home("there is no place for data: set FLOWYARD_HOME to a folder, or HOME".to_owned())
            })?,
        };
        let path = std::path::absolute(&path).map_err(Failure::local(path.display()))?;
        Ok(Self { path })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Socket of the API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("api.sock")
    }

    /// Folder of the coordinator.
    pub(crate) fn coordinator(&self) -> PathBuf {
        self.path.join("coordinator")
    }

    /// Folder of the origin.
    pub(crate) fn origin(&self) -> PathBuf {
        self.path.join("origin")
    }

    /// Folder of the agent.
    pub(crate) fn agent(&self) -> PathBuf {
        self.path.join("agent")
    }

    /// Settings.
    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Whether there ever was a cluster here.
    pub(crate) fn exists(&self) -> bool {
        self.path.join(FORMAT_FILE).exists()
    }

    /// Makes the folder, or checks that this build may use it.
    ///
    /// # Errors
    /// When a newer version wrote it, or it cannot be made.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        flowyard_cas::make_folder(&self.path).map_err(Failure::local(self.path.display()))?;
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&self.path, permissions).map_err(Failure::local(self.path.display()))?;
        let file = self.path.join(FORMAT_FILE);
        match std::fs::read_to_string(&file) {
            Ok(text) => self.check_format(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::write(&file, format!("{FIRST_WORD} {FORMAT}\n")).map_err(Failure::local(file.display()))
            }
            Err(source) => Err(Failure::Local { path: file.display().to_string(), source }),
        }
    }

    fn check_format(&self, text: &str) -> Result<(), Failure> {
        let path = self.path.display();
        let mut words = text.split_whitespace();
        let format = match (words.next(), words.next().map(str::parse::<u32>)) {
            (Some(FIRST_WORD), Some(Ok(format))) => format,
            _ => {
                return Err(Failure::Home(format!(
                    "{path} is no home of Flowyard: its file `{FORMAT_FILE}` says something else; set FLOWYARD_HOME to another folder"
                )));
            }
        };
        if format > FORMAT {
            return Err(Failure::Home(format!(
                "{path} was written by a newer version of Flowyard (format {format}; this one reads up to {FORMAT}); use that version, or set FLOWYARD_HOME to another folder"
            )));
        }
        Ok(())
    }

    /// The right to run the coordinator, if nobody else has it.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub(crate) fn host(&self) -> Result<Option<HostLock>, Failure> {
        let path = self.path.join("lock");
        let mut file = open(&path)?;
        match try_lock_among_lookers(&file) {
            Ok(()) => {
                let noted = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                noted.map_err(Failure::local(path.display()))?;
                Ok(Some(HostLock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Failure::Local { path: path.display().to_string(), source }),
        }
    }

    /// The right to run the agent, if nobody else has it. Who runs the coordinator for a command that only reads runs none.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub(crate) fn agent_lock(&self) -> Result<Option<AgentLock>, Failure> {
        let path = self.path.join("agent.lock");
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(AgentLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Failure::Local { path: path.display().to_string(), source }),
        }
    }

    /// Whether another process runs the coordinator.
    pub(crate) fn is_hosted(&self) -> bool {
        let file = File::open(self.path.join("lock"));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Process id of whoever runs the coordinator, as it noted itself.
    pub(crate) fn host_pid(&self) -> Option<u32> {
        let mut text = String::new();
        File::open(self.path.join("lock")).ok()?.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }

    /// Says that this process uses a coordinator that another one runs.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub(crate) fn guest(&self) -> Result<GuestLock, Failure> {
        let path = self.path.join("guests");
        let file = open(&path)?;
        file.lock_shared().map_err(Failure::local(path.display()))?;
        Ok(GuestLock { _file: file })
    }

    /// Whether another process uses the coordinator that this one runs.
    pub(crate) fn has_guests(&self) -> bool {
        open(&self.path.join("guests")).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }
}

/// Whoever looks whether a lock is held shares it for a moment, which is no reason not to get it: only who holds it alone is.
fn try_lock_among_lookers(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => file.try_lock_shared()?,
            locked => return locked,
        }
        file.unlock().map_err(TryLockError::Error)?;
        std::thread::sleep(LOOK);
    }
    Err(TryLockError::WouldBlock)
}

fn open(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(Failure::local(path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (Home, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Home { path: folder.path().to_owned() }, folder)
    }

    #[test]
    fn who_only_looks_does_not_keep_a_host_away() {
        let (home, _folder) = home();
        drop(home.host().unwrap());
        let looking = File::open(home.path.join("lock")).unwrap();
        looking.try_lock_shared().unwrap();
        let looked = std::thread::spawn(move || {
            std::thread::sleep(20 * LOOK);
            drop(looking);
        });
        assert!(home.host().unwrap().is_some(), "a look was taken for a host");
        looked.join().unwrap();
    }

    #[test]
    fn one_host_keeps_the_next_away_until_it_is_gone() {
        let (home, _folder) = home();
        assert!(!home.is_hosted());
        let host = home.host().unwrap();
        assert!(host.is_some() && home.is_hosted() && home.host().unwrap().is_none());
        assert_eq!(home.host_pid(), Some(std::process::id()));
        drop(host);
        assert!(!home.is_hosted() && home.host().unwrap().is_some());
    }
}
