//! Slots that wait for their next attempt.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::detect::Controller;
use super::parents::{Parent, prepare, sweep};
use super::slot::Slot;
use super::{CgroupError, Enforced, Enforcement};
use crate::runtime::spec::Limits;

/// More slots than this do not wait for work; they are removed.
const MAX_IDLE: usize = 256;

/// Hands out slots and takes them back.
#[derive(Debug)]
pub struct Pool {
    /// The directories' name in each hierarchy.
    name: String,
    parents: Vec<Parent>,
    idle: Vec<Slot>,
    /// Slots whose last processes were killed and have not all gone.
    leaving: Vec<Slot>,
    made: u64,
    /// Makes slot names differ from those of an earlier life of the same pool.
    life: u64,
}

impl Pool {
    /// The pool that belongs to the folder `home`: its cgroups are named after the folder, so that a pool opened on it after a
    /// crash finds them. Everything left in them is killed, save in the slots that `keep` names.
    pub fn open(home: &Path, keep: &dyn Fn(&str) -> bool) -> Result<Self, CgroupError> {
        let identity = std::fs::metadata(home).map_err(CgroupError::new("look at", home))?;
        let name = format!("flowyard-{:x}-{:x}", identity.dev(), identity.ino());
        let record = home.join("cgroups");
        // Another life may have been started in another cgroup, and left its slots there.
        let earlier = std::fs::read_to_string(&record).unwrap_or_default();
        for directory in earlier.lines().map(Path::new).filter(|path| path.ends_with(&name)) {
            sweep(directory, keep)?;
        }
        let parents = prepare(&name);
        for parent in &parents {
            sweep(&parent.directory, keep)?;
        }
        let places: Vec<String> = parents.iter().map(|parent| parent.directory.display().to_string()).collect();
        std::fs::write(&record, places.join("\n")).map_err(CgroupError::new("write", &record))?;
        Ok(Self { name, parents, idle: Vec::new(), leaving: Vec::new(), made: 0, life: flowyard_clock::boot_ms() })
    }

    /// How limits are held with this pool.
    pub fn enforcement(&self) -> Enforcement {
        let held = |controller| match self.parents.iter().any(|parent| parent.controllers.contains(&controller)) {
            true => Enforced::Cgroup,
            false => Enforced::None,
        };
        let memory = match held(Controller::Memory) {
            Enforced::None => Enforced::Watched,
            held => held,
        };
        Enforcement {
            cpu: held(Controller::Cpu),
            memory,
            pids: held(Controller::Pids),
            devices: held(Controller::Devices),
        }
    }

    /// A slot with these limits; `None` where the host gives us no cgroup.
    pub fn acquire(&mut self, limits: &Limits) -> Result<Option<Slot>, CgroupError> {
        if self.parents.is_empty() {
            return Ok(None);
        }
        let mut slot = match self.take_idle() {
            Some(slot) => slot,
            None => self.make()?,
        };
        match slot.prepare(limits) {
            Ok(()) => Ok(Some(slot)),
            // Somebody removed the idle slot, perhaps all of them: a fresh one is as good.
            Err(error) if is_gone(&error) => {
                slot.remove();
                let mut fresh = self.make()?;
                fresh.prepare(limits)?;
                Ok(Some(fresh))
            }
            Err(error) => {
                slot.remove();
                Err(error)
            }
        }
    }

    /// A new slot. When somebody has removed our directories under us, they are made again.
    fn make(&mut self) -> Result<Slot, CgroupError> {
        self.made += 1;
        let name = format!("{:x}-{}", self.life, self.made);
        match Slot::make(&self.parents, name.clone()) {
            Err(error) if is_gone(&error) => {
                self.parents = prepare(&self.name);
                Slot::make(&self.parents, name)
            }
            made => made,
        }
    }

    fn take_idle(&mut self) -> Option<Slot> {
        if self.idle.is_empty() {
            let gone = self.leaving.iter().position(Slot::is_empty)?;
            return Some(self.leaving.swap_remove(gone));
        }
        self.idle.pop()
    }

    /// Takes a slot back whose attempt ended; what is still inside is killed.
    pub fn release(&mut self, mut slot: Slot) {
        if !slot.is_empty() {
            slot.kill_all();
            self.leaving.push(slot);
        } else if self.idle.len() >= MAX_IDLE || slot.is_worn() {
            slot.remove();
        } else {
            self.idle.push(slot);
        }
    }

    /// Removes the slot called `name`, which a shim used that an earlier life of this pool started.
    pub fn remove_left(&self, name: &str) -> Result<(), CgroupError> {
        self.directories().try_for_each(|directory| sweep(directory, &|other| other != name))
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.parents.iter().map(|parent| &parent.directory)
    }

    /// Ends what is left in the pool's cgroups and removes them. Nothing may run in a slot that was handed out.
    pub fn close(mut self) {
        for slot in self.idle.iter_mut().chain(&mut self.leaving) {
            slot.remove();
        }
        for directory in self.directories() {
            // What cannot be removed is found by the next sweep.
            if sweep(directory, &|_| false).is_ok() {
                let _ = std::fs::remove_dir(directory);
            }
        }
    }
}

/// Whether a cgroup that ought to be there is not. Files of a removed one that are still open say so in their own way.
fn is_gone(error: &CgroupError) -> bool {
    matches!(error.source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { cpu_milli: 1000, memory_bytes: 64 << 20, pids: 10, shm_bytes: 0, disk_bytes: 0 };

    fn gone(pool: &Pool) {
        for directory in pool.directories() {
            sweep(directory, &|_| false).expect("empty cgroups");
            std::fs::remove_dir(directory).expect("an empty parent");
        }
    }

    #[test]
    fn cgroups_that_somebody_removed_are_made_again() {
        let home = tempfile::tempdir().expect("a folder");
        let mut pool = Pool::open(home.path(), &|_| false).expect("a pool");
        gone(&pool);
        let Some(slot) = pool.acquire(&LIMITS).expect("a slot in new parents") else { return };
        assert!(pool.directories().all(|directory| directory.join(slot.name()).exists()));
        pool.release(slot);
        gone(&pool);
        let other = Limits { pids: 11, ..LIMITS };
        let slot = pool.acquire(&other).expect("a slot instead of the idle one").expect("cgroups as before");
        assert!(pool.directories().all(|directory| directory.join(slot.name()).exists()));
        pool.release(slot);
        pool.close();
    }
}
