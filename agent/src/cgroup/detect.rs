//! Which hierarchies the host has, which controllers hang on each, and where in them this process is. Reads two files.

use std::path::{Path, PathBuf};

/// A controller we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Cpu,
    CpuAcct,
    Memory,
    Pids,
    Devices,
}

impl Controller {
    const ALL: [Self; 5] = [Self::Cpu, Self::CpuAcct, Self::Memory, Self::Pids, Self::Devices];

    /// The kernel's word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAcct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Devices => "devices",
        }
    }
}

/// Which interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One mounted hierarchy in which this process has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The directory of this process's own cgroup.
    pub(super) own: PathBuf,
    /// Our controllers on it (v1), or those it could offer here (v2).
    pub(super) controllers: Vec<Controller>,
}

/// The hierarchies of this host that are of use to us.
pub(super) fn detect() -> Vec<Hierarchy> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), |own| {
        std::fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default()
    })
}

fn parse(mountinfo: &str, own_cgroups: &str, offered: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some(hierarchy) = parse_mount(line, own_cgroups, &offered) else { continue };
        // The same hierarchy may be mounted twice; the first place is as good.
        let known = |controller: &Controller| {
            found.iter().any(|other| other.version == hierarchy.version && other.controllers.contains(controller))
        };
        if !hierarchy.controllers.is_empty() && !hierarchy.controllers.iter().any(known) {
            found.push(hierarchy);
        }
    }
    // A controller hangs on one hierarchy only; where v1 has it, v2 does not offer it.
    found.sort_by_key(|hierarchy| hierarchy.version == Version::V2);
    found
}

fn parse_mount(line: &str, own_cgroups: &str, offered: &impl Fn(&Path) -> String) -> Option<Hierarchy> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, mount) = (place.next()?, PathBuf::from(place.next()?));
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options: Vec<&str> = kind.nth(1)?.split(',').collect();
    let own_path = own_path(own_cgroups, version, &options)?;
    let below_root = own_path.strip_prefix(root).unwrap_or(own_path).trim_start_matches('/');
    // Without this the path of the hierarchy's top would end in a slash.
    let own = if below_root.is_empty() { mount.clone() } else { mount.join(below_root) };
    let controllers = match version {
        Version::V1 => Controller::ALL.into_iter().filter(|one| options.contains(&one.name())).collect(),
        Version::V2 => {
            let offered = offered(&own);
            let offers = |one: &Controller| offered.split_whitespace().any(|name| name == one.name());
            Controller::ALL.into_iter().filter(offers).collect()
        }
    };
    Some(Hierarchy { version, mount, own, controllers })
}

/// The path of our cgroup in the hierarchy with these mount options, from the lines `id:controllers:path`.
fn own_path<'a>(own_cgroups: &'a str, version: Version, options: &[&str]) -> Option<&'a str> {
    own_cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let ours = match version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => controllers.split(',').any(|name| !name.is_empty() && options.contains(&name)),
        };
        ours.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_gives_its_v1_controllers_where_we_are() {
        let mounts = "\
30 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
33 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";
        let own = "5:memory:/deep/er\n4:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n";
        let found = parse(mounts, own, |_| "hugetlb".to_owned());
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(found[0].controllers, [Controller::Cpu, Controller::CpuAcct]);
        assert_eq!(found[1].own, Path::new("/sys/fs/cgroup/memory/deep/er"));
    }

    #[test]
    fn a_unified_host_gives_what_our_cgroup_offers() {
        let mounts = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let found = parse(mounts, "0::/user.slice/a.scope\n", |own| {
            assert_eq!(own, Path::new("/sys/fs/cgroup/user.slice/a.scope"));
            "cpuset cpu io memory pids".to_owned()
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].version, Version::V2);
        assert_eq!(found[0].controllers, [Controller::Cpu, Controller::Memory, Controller::Pids]);
    }

    #[test]
    fn inside_a_container_the_path_is_taken_from_the_mounts_root() {
        let mounts = "40 39 0:30 /box/7 /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids";
        let found = parse(mounts, "8:pids:/box/7/sub\n", |_| String::new());
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/pids/sub"));
    }
}
