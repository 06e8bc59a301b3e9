//! Which shims of a launcher live, kept in its folder, so that the next launcher finds them if this one dies.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use super::record;

const SHIMS: &str = "shims";

/// One shim, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShimRecord {
    pub(super) identity: Identity,
    /// The folder of its attempt.
    pub(super) folder: PathBuf,
    /// The cgroup slot it uses.
    pub(super) slot: Option<String>,
    /// When the user's process started, wall clock in milliseconds.
    pub(super) started_at_ms: Option<u64>,
}

impl ShimRecord {
    /// Makes the place of the records.
    pub(super) fn prepare(home: &Path) -> io::Result<()> {
        std::fs::create_dir_all(home.join(SHIMS))
    }

    /// The records of shims that live; those of the dead are removed.
    pub(super) fn living(home: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(home.join(SHIMS)).into_iter().flatten().flatten();
        let mut living = Vec::new();
        for path in entries.map(|entry| entry.path()) {
            match record::read::<Self>(path.clone()) {
                Ok(Some(shim)) if shim.identity.is_alive() => living.push(shim),
                // Half a record is one that was never renamed: its shim died writing it. If it stays, nothing reads it.
                _ => drop(std::fs::remove_file(path)),
            }
        }
        living
    }

    /// Writes the record, in place of an earlier one.
    pub(super) fn write(&self, home: &Path) -> io::Result<()> {
        record::write(&path(home, self.identity.pid), self)
    }

    /// Removes the record of the shim `pid`.
    pub(super) fn forget(home: &Path, pid: u32) {
        // A record that stays is removed when it is next read, for its shim is dead then.
        let _ = std::fs::remove_file(path(home, pid));
    }
}

fn path(home: &Path, pid: u32) -> PathBuf {
    home.join(SHIMS).join(format!("{pid}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_found_and_the_dead_are_forgotten() {
        let home = tempfile::tempdir().expect("folder");
        ShimRecord::prepare(home.path()).expect("folder");
        let own = Identity::own().expect("identity");
        let living = ShimRecord { identity: own, folder: "/a".into(), slot: None, started_at_ms: Some(1) };
        let gone = Identity { pid: own.pid + 1_000_000, ..own };
        living.write(home.path()).expect("write");
        ShimRecord { identity: gone, ..living.clone() }.write(home.path()).expect("write");
        assert_eq!(ShimRecord::living(home.path()), [living]);
        assert_eq!(std::fs::read_dir(home.path().join(SHIMS)).expect("folder").count(), 1);
    }
}
