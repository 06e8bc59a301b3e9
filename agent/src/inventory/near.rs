//! Which GPUs are near to each other: below one PCIe switch, on one NUMA node, linked by NVLink.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path};

/// Where the kernel tells of devices.
pub(super) const SYS: &str = "/sys";

/// The groups of a device, as the kernel tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pcie_group: Option<u32>,
    pub(super) numa_node: Option<u32>,
}

/// Where on PCIe a device hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hangs {
    /// The host bridge: where a root complex begins.
    complex: OsString,
    /// The root port below it, if the device is not the complex's own.
    port: Option<OsString>,
}

/// Where devices are, by their PCI bus ids as the driver writes them, told by a folder like `/sys`.
///
/// A group is all devices below one root port, where there are several: they have a switch in common. A device that is alone below its
/// root port is in the group of those of its root complex that are so, too. Groups are counted in the order of the devices.
pub(super) fn places(sys: &Path, bus_ids: &[Option<String>]) -> Vec<Place> {
    let bus_ids: Vec<_> = bus_ids.iter().map(|id| id.as_deref().and_then(as_in_kernel)).collect();
    let hangs: Vec<_> = bus_ids.iter().map(|id| hangs(sys, id.as_ref()?)).collect();
    let below = |port: &OsString| hangs.iter().flatten().filter(|other| other.port.as_ref() == Some(port)).count();
    let mut numbers: BTreeMap<OsString, u32> = BTreeMap::new();
    let mut place = |(id, hangs): (&Option<String>, &Option<Hangs>)| {
        let switch = |hangs: &Hangs| hangs.port.clone().filter(|port| below(port) > 1);
        let group = hangs.as_ref().map(|hangs| switch(hangs).unwrap_or_else(|| hangs.complex.clone()));
        let next = numbers.len() as u32;
        Place {
            pcie_group: group.map(|group| *numbers.entry(group).or_insert(next)),
            numa_node: id.as_ref().and_then(|id| numa_node(sys, id)),
        }
    };
    bus_ids.iter().zip(&hangs).map(&mut place).collect()
}

/// The driver writes the domain with eight digits, the kernel with at least four.
fn as_in_kernel(bus_id: &str) -> Option<String> {
    let (domain, rest) = bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    let plain = rest.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
    plain.then(|| format!("{domain:04x}:{}", rest.to_lowercase()))
}

/// A device's folder is a link to where it hangs: `.../devices/pci0000:16/0000:16:02.0/.../0000:18:00.0`.
fn hangs(sys: &Path, bus_id: &str) -> Option<Hangs> {
    let path = std::fs::canonicalize(sys.join("bus/pci/devices").join(bus_id)).ok()?;
    let mut above: Vec<OsString> = Vec::new();
    for part in path.components() {
        let Component::Normal(part) = part else { continue };
        let is_complex = part.to_str().is_some_and(|name| name.starts_with("pci") && name.contains(':'));
        // The last one counts: some have a domain of their own behind a device of another.
        if is_complex {
            above.clear();
        }
        if is_complex || !above.is_empty() {
            above.push(part.to_owned());
        }
    }
    let mut above = above.into_iter();
    let complex = above.next()?;
    Some(Hangs { complex, port: above.next().filter(|port| port.to_str() != Some(bus_id)) })
}

/// The NUMA node of a device. The kernel may leave it open (-1); where there is only one, that is it.
fn numa_node(sys: &Path, bus_id: &str) -> Option<u32> {
    let text = std::fs::read_to_string(sys.join("bus/pci/devices").join(bus_id).join("numa_node")).ok()?;
    let told: i64 = text.trim().parse().ok()?;
    u32::try_from(told).ok().or_else(|| the_only_node(sys))
}

fn the_only_node(sys: &Path) -> Option<u32> {
    let entries = std::fs::read_dir(sys.join("devices/system/node")).ok()?.flatten();
    let mut nodes = entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok());
    nodes.next().filter(|_| nodes.next().is_none())
}

/// Groups in which each device is linked with each, so far as the function says it of two; those that are linked with none are in no
/// group. Where not all reach each other, each goes to the first group that it may be in.
pub(super) fn linked_groups(count: usize, are_linked: impl Fn(usize, usize) -> bool) -> Vec<Option<u32>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in 0..count {
        match groups.iter_mut().find(|group| group.iter().all(|other| are_linked(*other, at))) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    let mut of = vec![None; count];
    let several = groups.iter().filter(|group| group.len() > 1);
    for (number, group) in (0..).zip(several) {
        group.iter().for_each(|at| of[*at] = Some(number));
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder like `/sys` in which devices hang so, each with what is told of its NUMA node.
    fn sys(devices: &[(&str, &str)], numa_nodes: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let links = folder.path().join("bus/pci/devices");
        std::fs::create_dir_all(&links).unwrap();
        for (path, numa) in devices {
            let device = folder.path().join("devices").join(path);
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("numa_node"), format!("{numa}\n")).unwrap();
            std::os::unix::fs::symlink(&device, links.join(device.file_name().unwrap())).unwrap();
        }
        for node in 0..numa_nodes {
            std::fs::create_dir_all(folder.path().join(format!("devices/system/node/node{node}"))).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("devices/system/node/power")).unwrap();
        folder
    }

    fn found(folder: &tempfile::TempDir, bus_ids: &[&str]) -> (Vec<Option<u32>>, Vec<Option<u32>>) {
        let bus_ids: Vec<_> = bus_ids.iter().map(|id| Some((*id).to_owned())).collect();
        let places = places(folder.path(), &bus_ids);
        (places.iter().map(|it| it.pcie_group).collect(), places.iter().map(|it| it.numa_node).collect())
    }

    #[test]
    fn devices_below_one_switch_are_a_group_and_the_others_of_a_root_complex_too() {
        let folder = sys(
            &[
                // Two below a switch, also through one more.
                ("pci0000:16/0000:16:02.0/0000:17:00.0/0000:18:00.0/0000:19:00.0", "0"),
                ("pci0000:16/0000:16:02.0/0000:17:00.0/0000:18:04.0/0000:1a:00.0/0000:1b:00.0/0000:1c:00.0", "0"),
                // Each with a root port to itself.
                ("pci0000:16/0000:16:03.0/0000:20:00.0", "0"),
                ("pci0000:16/0000:16:04.0/0000:21:00.0", "0"),
                // Another root complex, and one of another domain below a device of the first.
                ("pci0000:97/0000:97:01.0/0000:98:00.0", "1"),
                ("pci0000:16/0000:16:05.5/pci10000:00/10000:00:02.0/10000:01:00.0", "1"),
                // One that is at the root complex itself, as in virtual machines.
                ("pci0000:00/0000:00:05.0", "-1"),
            ],
            2,
        );
        let bus_ids = [
            "00000000:19:00.0",
            "00000000:1C:00.0",
            "00000000:20:00.0",
            "00000000:21:00.0",
            "00000000:98:00.0",
            "00010000:01:00.0",
            "00000000:00:05.0",
        ];
        let (pcie, numa) = found(&folder, &bus_ids);
        assert_eq!(pcie, [0, 0, 1, 1, 2, 3, 4].map(Some));
        assert_eq!(numa, [Some(0), Some(0), Some(0), Some(0), Some(1), Some(1), None]);
        assert_eq!(found(&folder, &["00000000:19:00.0"]).0, [Some(0)], "a switch to itself is no group but its own");
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_left_open() {
        let folder = sys(&[("pci0000:00/0000:00:05.0", "-1"), ("pci0000:00/0000:00:06.0", "what")], 1);
        let bus_ids = ["00000000:00:05.0", "00000000:00:06.0", "00000000:77:00.0", "nothing", "0000:../../etc"];
        let (pcie, numa) = found(&folder, &bus_ids);
        assert_eq!(pcie, [Some(0), Some(0), None, None, None]);
        assert_eq!(numa, [Some(0), None, None, None, None], "the only NUMA node there is");
        assert_eq!(places(folder.path(), &[None]), [Place::default()]);
        assert_eq!(places(Path::new("/nowhere"), &[Some("00000000:00:05.0".to_owned())]), [Place::default()]);
    }

    #[test]
    fn those_are_linked_of_whom_each_is_linked_with_each() {
        assert_eq!(linked_groups(4, |_, _| true), [Some(0); 4]);
        assert_eq!(linked_groups(3, |_, _| false), [None; 3]);
        let in_pairs = |one: usize, other: usize| one / 2 == other / 2 && one < 4 && other < 4;
        assert_eq!(linked_groups(5, in_pairs), [Some(0), Some(0), Some(1), Some(1), None]);
        // A ring of four: two pairs, since those across do not reach each other directly.
        let ring = |one: usize, other: usize| (one + 1) % 4 == other || (other + 1) % 4 == one;
        assert_eq!(linked_groups(4, ring), [Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!(linked_groups(0, |_, _| true), []);
    }
}
