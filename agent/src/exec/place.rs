//! Where an attempt is: a process of it, and the cgroups that process is in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runtime::enter::start_ticks;
use crate::runtime::spec::Sandbox;

/// Processes below a shim that are looked at; the container's first is near the top.
const LOOKED_AT: usize = 64;

/// A process of the attempt, with its start time. For a container one inside it: the task's own, because its first process lets
/// nobody but root look into it.
///
/// # Errors
/// When it has ended, in words for the user.
pub(super) fn process(pid: u32, sandbox: &Sandbox) -> Result<(u32, u64), String> {
    let found = match sandbox {
        Sandbox::Process => Some(pid),
        Sandbox::Container(_) => inside(pid),
    };
    let named = found.and_then(|pid| Some((pid, start_ticks(pid)?)));
    named.ok_or_else(|| "the task does not run (any more)".to_owned())
}

/// The first process below `shim` that is in a process namespace of its own, or rather that one's first child.
fn inside(shim: u32) -> Option<u32> {
    let mut open = vec![shim];
    for at in 0..LOOKED_AT {
        let pid = *open.get(at)?;
        let children = children(pid);
        if is_first(pid) {
            return Some(children.first().copied().unwrap_or(pid));
        }
        open.extend(children);
    }
    None
}

/// Whether the process is process 1 of a namespace below ours.
fn is_first(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The `cgroup.procs` files of every cgroup that the process is in and we are not.
///
/// # Errors
/// When one of them is not mounted here, in words for the user.
pub(super) fn cgroups(pid: u32) -> Result<Vec<PathBuf>, String> {
    let read = |path: String| fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"));
    let mounts = read("/proc/self/mountinfo".to_owned())?;
    procs_files(&mounts, &read("/proc/self/cgroup".to_owned())?, &read(format!("/proc/{pid}/cgroup"))?)
}

fn procs_files(mounts: &str, own: &str, theirs: &str) -> Result<Vec<PathBuf>, String> {
    let foreign = theirs.lines().filter(|line| !own.lines().any(|own| own == *line));
    let file = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let folder = mounts.lines().find_map(|mount| folder_of(mount, controllers, path))?;
        Some(folder.join("cgroup.procs"))
    };
    foreign.map(|line| file(line).ok_or_else(|| format!("the task's cgroup `{line}` is not mounted here"))).collect()
}

/// The folder of a cgroup, if it is of the hierarchy that this line of the mount table is about.
fn folder_of(mount: &str, controllers: &str, path: &str) -> Option<PathBuf> {
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let is_ours = match kind.next()? {
        "cgroup2" => controllers.is_empty(),
        "cgroup" => {
            let options: Vec<&str> = kind.nth(1)?.split(',').collect();
            !controllers.is_empty() && controllers.split(',').all(|name| options.contains(&name))
        }
        _ => false,
    };
    let below = path.strip_prefix(root)?.trim_start_matches('/');
    is_ours.then(|| Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 /box /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
33 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";

    #[test]
    fn only_cgroups_that_are_not_ours_are_entered_where_they_are_mounted() {
        let own = "5:memory:/box/me\n4:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
        let theirs = "5:memory:/box/f/1\n4:cpu,cpuacct:/f/1\n1:name=systemd:/\n0::/x\n";
        let files = procs_files(HYBRID, own, theirs).unwrap();
        let expected = [
            "/sys/fs/cgroup/memory/f/1/cgroup.procs",
            "/sys/fs/cgroup/cpu,cpuacct/f/1/cgroup.procs",
            "/sys/fs/cgroup/unified/x/cgroup.procs",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        assert!(procs_files(HYBRID, own, own).unwrap().is_empty());
    }

    #[test]
    fn a_cgroup_that_cannot_be_reached_is_an_error() {
        let refused = procs_files(HYBRID, "", "9:freezer:/f\n").unwrap_err();
        assert!(refused.contains("9:freezer:/f"), "{refused}");
    }

    #[test]
    fn we_are_not_process_one_of_a_namespace_below_ours() {
        assert!(!is_first(std::process::id()));
        assert_eq!(process(std::process::id(), &Sandbox::Process).unwrap().0, std::process::id());
    }
}
