//! What is left on every host after all was stopped in order: nothing. Containers and processes, cgroups, mounts,
//! interfaces and filters, folders of attempts.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fleet::{AGENTS, Fleet};
use crate::host::Host;
use crate::system::{PATIENCE, waited};

/// What there was while all of it ran, so that nothing being left says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Looked {
    pub(crate) hosts: usize,
    pub(crate) processes: usize,
    pub(crate) cgroups: usize,
}

/// What there is now.
pub(crate) fn look(fleet: &Fleet) -> Looked {
    let mut looked = Looked::default();
    for (_, host) in fleet.hosts_on() {
        looked.hosts += 1;
        looked.processes += host.processes().len();
        looked.cgroups += cgroups_of(host).len();
    }
    looked
}

/// What should not be there.
pub(crate) fn violations(fleet: &Fleet) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, host) in fleet.hosts_on() {
        // Whoever was told to end may still be about it.
        waited(PATIENCE, || host.processes().is_empty());
        wrong.extend(left_on(name, host));
    }
    for number in (0..AGENTS).filter(|number| fleet.host(&format!("n{number}")).is_on()) {
        wrong.extend(left_in(&format!("n{number}"), Path::new(&fleet.agent_folder(number))));
    }
    wrong
}

/// What is left on a host on which nothing runs any more.
fn left_on(name: &str, host: &Host) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(host.processes().into_iter().map(|(_, line)| format!("{name} still runs `{line}`")));
    wrong.extend(host.mounts().into_iter().map(|place| format!("{name} still has a mount at {place}")));
    wrong.extend(host.networks().into_iter().map(|what| format!("{name} still has in its network: {what}")));
    let used = cgroups_of(host).into_iter().filter(|cgroup| has_processes(cgroup));
    wrong.extend(used.map(|cgroup| format!("{name} has processes in {}", cgroup.display())));
    wrong
}

/// Attempts that are left in an agent's folder.
fn left_in(name: &str, folder: &Path) -> Vec<String> {
    let left = std::fs::read_dir(folder.join("attempts")).into_iter().flatten().flatten();
    left.map(|entry| format!("{name} still has the attempt {}", entry.file_name().to_string_lossy())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    /// A cgroup as the launcher of this host names them, on whichever hierarchy there may be one.
    fn cgroup(host: &Host) -> Option<PathBuf> {
        let name = format!("flowyard-{:x}-test", std::fs::metadata(host.disk()).ok()?.dev());
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory"];
        let made = roots.map(|root| Path::new(root).join(&name)).into_iter();
        made.filter(|path| std::fs::create_dir(path).is_ok()).find(|path| path.join("cgroup.procs").is_file())
    }

    #[test]
    fn whatever_is_left_on_a_host_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let made = Network::of(&["h0"]).and_then(|network| Ok((Host::new("h0", &network, folder.path())?, network)));
        let (host, _network) = match made {
            Ok(made) => made,
            Err(reason) => return flowyard_skip::skip(&format!("only root may make hosts: {reason}")),
        };
        assert_eq!(left_on("h0", &host), Vec::<String>::new());
        host.run("sh", &["-c", "sleep 1000 >/dev/null 2>&1 &"]).unwrap();
        host.run("mount", &["-t", "tmpfs", "left", "/mnt"]).unwrap();
        host.run("ip", &["link", "add", "left0", "type", "bridge"]).unwrap();
        let found = left_on("h0", &host).join("\n");
        assert!(found.contains("still runs `sleep 1000") && found.contains("a mount at /mnt"), "{found}");
        assert!(found.contains("in its network") && found.contains("left0"), "{found}");
        let Some(cgroup) = cgroup(&host) else { return flowyard_skip::skip("no cgroup can be made here") };
        let sleeper = host.processes()[0].0;
        std::fs::write(cgroup.join("cgroup.procs"), sleeper.to_string()).unwrap();
        let found = left_on("h0", &host).join("\n");
        drop(host);
        waited(PATIENCE, || std::fs::remove_dir(&cgroup).is_ok());
        assert!(found.contains("has processes in") && !cgroup.exists(), "{found}");
    }

    #[test]
    fn an_attempt_that_is_left_in_a_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(left_in("n0", folder.path()), Vec::<String>::new());
        std::fs::create_dir_all(folder.path().join("attempts/7-0-0-1")).unwrap();
        assert_eq!(left_in("n0", folder.path()), ["n0 still has the attempt 7-0-0-1"]);
    }
}
