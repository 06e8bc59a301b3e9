//! One set of cgroups, one per hierarchy, that holds one attempt at a time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use super::CgroupError;
use super::controllers::{Cpu, CpuTime, Memory, Pids, devices};
use super::detect::{Controller, Version};
use super::parents::{Parent, kill_all};
use crate::runtime::spec::Limits;

/// What an attempt used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Highest memory use, in bytes.
    pub peak_memory_bytes: u64,
    /// CPU time, in microseconds.
    pub cpu_us: u64,
    /// Whether the kernel killed something for the memory limit.
    pub oom_killed: bool,
}

/// A set of cgroups in which one attempt can run.
#[derive(Debug)]
pub struct Slot {
    name: String,
    directories: Vec<(PathBuf, Version, Vec<Controller>)>,
    enter: Vec<File>,
    memory: Option<Memory>,
    pids: Option<Pids>,
    cpu: Option<Cpu>,
    cpu_time: Option<CpuTime>,
    devices: Option<PathBuf>,
    /// What the cgroups are set to; `None` if unknown.
    limits: Option<(u64, u64, u64)>,
    devices_restricted: bool,
}

impl Slot {
    pub(super) fn make(parents: &[Parent], name: String) -> Result<Self, CgroupError> {
        let mut slot = Self {
            name,
            directories: Vec::new(),
            enter: Vec::new(),
            memory: None,
            pids: None,
            cpu: None,
            cpu_time: None,
            devices: None,
            limits: None,
            devices_restricted: false,
        };
        for parent in parents {
            let directory = parent.directory.join(&slot.name);
            if let Err(source) = slot.add(&directory, parent) {
                slot.remove();
                return Err(CgroupError { action: "prepare", path: directory, source });
            }
        }
        Ok(slot)
    }

    fn add(&mut self, directory: &Path, parent: &Parent) -> io::Result<()> {
        std::fs::create_dir(directory)?;
        self.directories.push((directory.to_owned(), parent.version, parent.controllers.clone()));
        for controller in &parent.controllers {
            match controller {
                Controller::Memory => self.memory = Some(Memory::open(directory, parent.version)?),
                Controller::Pids => self.pids = Some(Pids::open(directory)?),
                Controller::Cpu => self.cpu = Some(Cpu { version: parent.version }),
                Controller::CpuAcct => self.cpu_time = Some(CpuTime::open(directory, parent.version)?),
                Controller::Devices => self.devices = Some(directory.to_owned()),
            }
        }
        if parent.version == Version::V2 && self.cpu_time.is_none() {
            self.cpu_time = CpuTime::open(directory, Version::V2).ok();
        }
        // Devices bind containers only, and each hierarchy more to enter costs every process attempt its share.
        if parent.controllers != [Controller::Devices] {
            self.enter.push(OpenOptions::new().write(true).open(directory.join("cgroup.procs"))?);
        }
        Ok(())
    }

    /// The slot's name, the last part of each of its directories.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the limits and forgets what an earlier attempt used. A limit of 0 is none.
    pub fn prepare(&mut self, limits: &Limits) -> Result<(), CgroupError> {
        let wanted = (limits.cpu_milli, limits.memory_bytes, limits.pids);
        if self.limits != Some(wanted) {
            self.limits = None;
            self.set_limits(limits)?;
            self.limits = Some(wanted);
        }
        let rewound = self.memory.as_mut().map_or(Ok(()), Memory::rewind);
        let rewound = rewound.and_then(|()| self.cpu_time.as_mut().map_or(Ok(()), CpuTime::rewind));
        rewound.map_err(CgroupError::new("reset", &self.name))
    }

    fn set_limits(&mut self, limits: &Limits) -> Result<(), CgroupError> {
        for (directory, _, controllers) in &self.directories {
            for controller in controllers {
                let set = match controller {
                    Controller::Memory => self.memory.as_ref().map(|one| one.limit(directory, limits.memory_bytes)),
                    Controller::Pids => self.pids.as_ref().map(|one| one.limit(limits.pids)),
                    Controller::Cpu => self.cpu.map(|one| one.limit(directory, limits.cpu_milli)),
                    Controller::CpuAcct | Controller::Devices => None,
                };
                set.unwrap_or(Ok(())).map_err(CgroupError::new("set the limits of", directory))?;
            }
        }
        Ok(())
    }

    /// Denies every device node but those of `rules` (`c 1:3 rwm`); false where the kernel has no such rules.
    pub fn restrict_devices(&mut self, rules: &[String]) -> Result<bool, CgroupError> {
        let Some(directory) = &self.devices else { return Ok(false) };
        self.devices_restricted = true;
        devices::allow_only(directory, rules).map_err(CgroupError::new("restrict the devices of", directory))?;
        Ok(true)
    }

    /// Descriptors to which a process writes `0` to enter; they live as long as the slot.
    pub fn enter_fds(&self) -> impl Iterator<Item = RawFd> {
        self.enter.iter().map(AsRawFd::as_raw_fd)
    }

    /// Puts the process `pid` into every hierarchy, devices included.
    pub fn enter(&self, pid: u32) -> Result<(), CgroupError> {
        for mut file in &self.enter {
            file.write_all(pid.to_string().as_bytes()).map_err(CgroupError::new("enter", &self.name))?;
        }
        if let Some(directory) = &self.devices {
            let entered = std::fs::write(directory.join("cgroup.procs"), pid.to_string());
            entered.map_err(CgroupError::new("enter", directory))?;
        }
        Ok(())
    }

    /// Whether the kernel holds the memory limit here.
    pub fn bounds_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// What was used since [`Slot::prepare`].
    pub fn usage(&self) -> Usage {
        Usage {
            peak_memory_bytes: self.memory.as_ref().map_or(0, Memory::peak_bytes),
            cpu_us: self.cpu_time.as_ref().map_or(0, CpuTime::used_us),
            oom_killed: self.memory.as_ref().is_some_and(Memory::was_oom_killed),
        }
    }

    /// Whether no process is inside. A cgroup that somebody removed cannot be read, and holds nobody.
    pub fn is_empty(&self) -> bool {
        if let Some(pids) = &self.pids {
            return pids.current().is_ok_and(|count| count == 0) || !self.exists();
        }
        let inside = |(directory, ..): &(PathBuf, _, _)| std::fs::read_to_string(directory.join("cgroup.procs"));
        self.directories.first().is_none_or(|first| inside(first).is_ok_and(|text| text.is_empty()))
    }

    fn exists(&self) -> bool {
        self.directories.iter().all(|(directory, ..)| directory.exists())
    }

    /// Kills everything inside. Nothing can fork its way out where the number of processes is bounded.
    pub fn kill_all(&mut self) {
        if let Some(pids) = &self.pids {
            self.limits = None;
            // Without it the rounds of killing still end a process that does not fork faster than we kill.
            let _ = pids.freeze();
        }
        if let Some((directory, ..)) = self.directories.first() {
            kill_all(directory);
        }
    }

    /// Whether it still carries so much of the last attempt (page cache, device rules) that a fresh one is better.
    pub(super) fn is_worn(&self) -> bool {
        const CARRIED_BYTES: u64 = 16 << 20;
        let carried = match self.memory.as_ref().map(Memory::usage_bytes) {
            None => 0,
            Some(Ok(bytes)) => bytes,
            // Somebody removed the cgroup.
            Some(Err(_)) => return true,
        };
        let lifted = match (&self.devices, self.devices_restricted) {
            (Some(directory), true) => devices::allow_all(directory).is_ok(),
            _ => true,
        };
        carried > CARRIED_BYTES || !lifted
    }

    /// Removes the cgroups; one that is not empty stays for a later sweep.
    pub(super) fn remove(&mut self) {
        for (directory, ..) in self.directories.drain(..) {
            // The only refusal is that something is still inside.
            let _ = std::fs::remove_dir(directory);
        }
    }
}
