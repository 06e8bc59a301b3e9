//! The directories under which all slots live: made at start, found again after a crash.

use std::io;
use std::path::{Path, PathBuf};

use super::CgroupError;
use super::controllers::{Cpu, write};
use super::detect::{Controller, Hierarchy, Version, detect};

/// Our directory in one hierarchy.
#[derive(Debug, Clone)]
pub(super) struct Parent {
    pub(super) directory: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
}

/// Makes the directory `name` in every hierarchy that lets us. One that refuses is left out, and its limits with it.
pub(super) fn prepare(name: &str) -> Vec<Parent> {
    let mut parents: Vec<Parent> = Vec::new();
    for hierarchy in detect() {
        let wanted = |controller: &Controller| !parents.iter().any(|parent| parent.controllers.contains(controller));
        let controllers: Vec<Controller> = hierarchy.controllers.iter().copied().filter(wanted).collect();
        let parent = match hierarchy.version {
            Version::V1 => prepare_v1(&hierarchy, name, controllers),
            Version::V2 => prepare_v2(&hierarchy, name, controllers),
        };
        parents.extend(parent);
    }
    parents.iter().for_each(weigh);
    parents
}

/// The whole of the tasks may use the whole node, so it weighs as much, or a few strangers would push all tasks aside.
fn weigh(parent: &Parent) {
    if parent.controllers.contains(&Controller::Cpu) {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Without it tasks are slower beside strangers, and otherwise right.
        let _ = Cpu { version: parent.version }.weigh(&parent.directory, cores as u64 * 1_000);
    }
}

fn prepare_v1(hierarchy: &Hierarchy, name: &str, controllers: Vec<Controller>) -> Option<Parent> {
    let directory = hierarchy.own.join(name);
    make(&directory).ok()?;
    Some(Parent { directory, version: Version::V1, controllers })
}

/// In v2 a cgroup that passes controllers on may hold no process of its own, and our own cgroup holds at least us. So our own
/// processes are moved to a leaf beside the slots, and where strangers live with us, the cgroup above is tried.
fn prepare_v2(hierarchy: &Hierarchy, name: &str, wanted: Vec<Controller>) -> Option<Parent> {
    let mut above = Some(hierarchy.own.as_path());
    while let Some(place) = above.filter(|place| place.starts_with(&hierarchy.mount)) {
        let directory = place.join(name);
        make(&directory).ok()?;
        if pass_on(place, &wanted).is_empty() && only_our_own(place) {
            move_to_leaf(place, &place.join(format!("{name}-agent"))).ok()?;
        }
        let passed = pass_on(place, &wanted);
        if !passed.is_empty() {
            let controllers = pass_on(&directory, &passed);
            return Some(Parent { directory, version: Version::V2, controllers });
        }
        // It was made a moment ago and is empty.
        let _ = std::fs::remove_dir(&directory);
        above = place.parent();
    }
    None
}

/// Hands `wanted` to the children of `place`; gives those that were taken.
fn pass_on(place: &Path, wanted: &[Controller]) -> Vec<Controller> {
    let taken = |one: &Controller| write(place, "cgroup.subtree_control", &format!("+{}", one.name())).is_ok();
    wanted.iter().copied().filter(taken).collect()
}

fn processes(place: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Whether every process in `place` runs this very program.
fn only_our_own(place: &Path) -> bool {
    let Ok(own) = std::fs::read_link("/proc/self/exe") else { return false };
    let same = |pid: &String| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own);
    processes(place).iter().all(same)
}

fn move_to_leaf(place: &Path, leaf: &Path) -> io::Result<()> {
    make(leaf)?;
    processes(place).iter().try_for_each(|pid| write(leaf, "cgroup.procs", pid))
}

fn make(directory: &Path) -> io::Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Ends everything in the children of `parent` whose names `keep` does not name, and removes them.
pub(super) fn sweep(parent: &Path, keep: &dyn Fn(&str) -> bool) -> Result<(), CgroupError> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CgroupError::new("list", parent)(error)),
    };
    for entry in entries.flatten() {
        let is_slot = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_slot && !keep(&entry.file_name().to_string_lossy()) {
            sweep(&entry.path(), &|_| false)?;
            kill_all(&entry.path());
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Sends SIGKILL to every process in `directory` until no new one turns up.
pub(super) fn kill_all(directory: &Path) {
    const ROUNDS: usize = 16;
    if write(directory, "cgroup.kill", "1").is_ok() {
        return;
    }
    let mut before = Vec::new();
    for _ in 0..ROUNDS {
        let now = processes(directory);
        if now == before {
            return;
        }
        for pid in now.iter().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0) {
            // SAFETY: kill has no memory effects; a positive pid names one process.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        before = now;
    }
}

/// Removes a cgroup, waiting a moment for killed processes to leave it.
fn remove(directory: &Path) -> Result<(), CgroupError> {
    const TRIES: u32 = 100;
    let mut tries = 0;
    loop {
        match std::fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < TRIES => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CgroupError::new("remove", directory)(error));
            }
            _ => return Ok(()),
        }
    }
}
