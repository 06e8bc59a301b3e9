//! What is left on every host after all was stopped in order: nothing. Containers and processes, cgroups, mounts, folders of attempts.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fleet::{AGENTS, Fleet};
use crate::host::Host;
use crate::system::{PATIENCE, waited};

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Looked {
    pub(crate) hosts: usize,
    pub(crate) cgroups: usize,
}

/// What should not be there.
pub(crate) fn violations(fleet: &Fleet) -> (Looked, Vec<String>) {
    let (mut looked, mut wrong) = (Looked::default(), Vec::new());
    for (name, host) in fleet.hosts_on() {
        looked.hosts += 1;
        // Whoever was told to end may still be about it.
        waited(PATIENCE, || host.processes().is_empty());
        wrong.extend(host.processes().into_iter().map(|(_, line)| format!("{name} still runs `{line}`")));
        wrong.extend(host.mounts().into_iter().map(|place| format!("{name} still has a mount at {place}")));
        let cgroups = cgroups_of(host);
        looked.cgroups += cgroups.len();
        let used = cgroups.iter().filter(|cgroup| has_processes(cgroup));
        wrong.extend(used.map(|cgroup| format!("{name} has processes in {}", cgroup.display())));
    }
    for number in (0..AGENTS).filter(|number| fleet.host(&format!("n{number}")).is_on()) {
        let attempts = Path::new(&fleet.agent_folder(number)).join("attempts");
        let left = std::fs::read_dir(attempts).into_iter().flatten().flatten();
        wrong.extend(
            left.map(|entry| format!("n{number} still has the attempt {}", entry.file_name().to_string_lossy())),
        );
    }
    (looked, wrong)
}

/// The cgroups of a host's launcher: they are named after the device of its folder, which is that host's disk.
fn cgroups_of(host: &Host) -> Vec<PathBuf> {
    let Ok(disk) = std::fs::metadata(host.disk()) else { return Vec::new() };
    let begin = format!("flowyard-{:x}-", disk.dev());
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(&begin) {
                found.push(entry.path());
                found.extend(std::fs::read_dir(entry.path()).into_iter().flatten().flatten().map(|slot| slot.path()));
            }
            open.push(entry.path());
        }
    }
    found.retain(|path| path.is_dir());
    found
}

fn has_processes(cgroup: &Path) -> bool {
    std::fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|processes| !processes.trim().is_empty())
}

/// Removes what a launcher that lost its power left to the next one of its host, which is not to come.
pub(crate) fn remove_cgroups(fleet: &Fleet) {
    for number in 0..AGENTS {
        let mut cgroups = cgroups_of(fleet.host(&format!("n{number}")));
        // The innermost first.
        cgroups.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for cgroup in cgroups {
            // One that still has a process says so; it is found above.
            let _ = std::fs::remove_dir(cgroup);
        }
    }
}
