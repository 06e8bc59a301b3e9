//! The processes that no cgroup holds: written down, so that the next launcher can end them if this one dies.
//!
//! Where there are cgroups nothing is written, for their slots tell the same.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::identity::Identity;

/// A longer list is written anew with the living only.
const LIST_BYTES: u64 = 256 * 1024;

/// The list, in the launcher's folder.
#[derive(Debug)]
pub(super) struct Roster {
    file: File,
    bytes: u64,
}

impl Roster {
    /// Ends what an earlier launcher left running, and begins an empty list.
    pub(super) fn open(home: &Path) -> io::Result<Self> {
        let path = home.join("processes");
        for left in living(&path) {
            // SAFETY: kill has no memory effects. The process was a leader of its group and lives, so the group is its own.
            unsafe { libc::kill(-(left.pid as i32), libc::SIGKILL) };
        }
        let file = File::options().create(true).append(true).open(path)?;
        file.set_len(0)?;
        Ok(Self { file, bytes: 0 })
    }

    /// Adds the leader of a process group.
    pub(super) fn add(&mut self, home: &Path, pid: u32) -> io::Result<()> {
        // One that has ended already needs no place.
        let Some(identity) = Identity::of(pid) else { return Ok(()) };
        if self.bytes > LIST_BYTES {
            let living = living(&home.join("processes"));
            self.clear()?;
            living.iter().try_for_each(|one| self.append(one))?;
        }
        self.append(&identity)
    }

    /// Empties the list when nothing runs.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if self.bytes > 0 {
            self.file.set_len(0)?;
            self.bytes = 0;
        }
        Ok(())
    }

    fn append(&mut self, identity: &Identity) -> io::Result<()> {
        let line = format!("{} {}\n", identity.pid, identity.start_ticks);
        self.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

/// The processes of the list that still are.
fn living(path: &Path) -> Vec<Identity> {
    let parse = |line: &str| {
        let (pid, start_ticks) = line.split_once(' ')?;
        Some(Identity { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? })
    };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(parse).filter(Identity::is_alive).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_living_are_listed_and_a_torn_line_is_nobody() {
        let folder = tempfile::tempdir().expect("folder");
        let mut roster = Roster::open(folder.path()).expect("roster");
        let own = Identity::own().expect("identity");
        roster.add(folder.path(), own.pid).expect("write");
        roster.append(&Identity { pid: own.pid, start_ticks: own.start_ticks + 1 }).expect("write");
        roster.file.write_all(b"12").expect("write");
        let path = folder.path().join("processes");
        assert_eq!(living(&path), [own]);
        roster.clear().expect("clear");
        assert!(living(&path).is_empty());
    }
}
