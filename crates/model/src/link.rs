//! How near to each other GPUs of one node are.

use serde::{Deserialize, Serialize};

use crate::{Gpu, GpuRequest};

/// A level on which GPUs of one node are near to each other. Each level parts the GPUs of a node into groups; which are the wider
/// ones is not the same everywhere: GPUs linked by a switch of their own hang on several processors, and those linked in pairs
/// on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuLink {
    /// Each is linked with each, directly or by one switch of such links.
    Nvlink,
    /// Below one PCIe switch, or else one PCIe root complex.
    Pcie,
    /// On one NUMA node.
    Numa,
}

impl GpuLink {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nvlink, Self::Pcie, Self::Numa];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nvlink => "nvlink",
            Self::Pcie => "pcie",
            Self::Numa => "numa",
        }
    }

    /// What a group of the level is, for people.
    pub fn group(self) -> &'static str {
        match self {
            Self::Nvlink => "NVLink group",
            Self::Pcie => "PCIe group",
            Self::Numa => "NUMA node",
        }
    }
}

impl Gpu {
    /// Its group of a level, if it is in one.
    pub fn group(&self, link: GpuLink) -> Option<u32> {
        match link {
            GpuLink::Nvlink => self.link_group,
            GpuLink::Pcie => self.pcie_group,
            GpuLink::Numa => self.numa_node,
        }
    }
}

impl GpuRequest {
    /// The level of which all its devices must be in one group. One device is near to itself wherever it is, also in no group.
    pub fn near(&self) -> Option<GpuLink> {
        let old = self.same_link_group.then_some(GpuLink::Nvlink);
        self.link.or(old).filter(|_| self.count > 1)
    }

    /// Whether so many devices are as near to each other as they have to be.
    pub fn are_near<'a>(&self, devices: impl IntoIterator<Item = &'a Gpu>) -> bool {
        let Some(link) = self.near() else { return true };
        let mut groups = devices.into_iter().map(|gpu| gpu.group(link));
        let first = groups.next().flatten();
        first.is_some() && groups.all(|group| group == first)
    }

    /// The same without a level.
    #[must_use]
    pub fn anyhow_linked(&self) -> Self {
        Self { link: None, same_link_group: false, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_device_is_near_to_itself_and_the_old_word_means_nvlink() {
        let gpu = |groups: [Option<u32>; 3]| Gpu {
            id: String::new(),
            model: String::new(),
            memory_bytes: 1,
            numa_node: groups[2],
            link_group: groups[0],
            healthy: true,
            fake: true,
            part: None,
            pcie_group: groups[1],
        };
        let any = GpuRequest {
            count: 2,
            model: None,
            min_memory_bytes: 0,
            same_link_group: false,
            share_milli: 1_000,
            memory_bytes: 0,
            link: None,
        };
        let of = |link| GpuRequest { link: Some(link), ..any.clone() };
        let old = GpuRequest { same_link_group: true, ..any.clone() };
        assert_eq!((any.near(), old.near()), (None, Some(GpuLink::Nvlink)));
        // Linked and on one processor, but below two switches.
        let pair = [gpu([Some(4), Some(0), Some(1)]), gpu([Some(4), Some(1), Some(1)])];
        let near = |request: &GpuRequest| request.are_near(&pair);
        assert!(near(&any) && near(&old) && near(&of(GpuLink::Nvlink)) && near(&of(GpuLink::Numa)));
        assert!(!near(&of(GpuLink::Pcie)));
        let alone = [gpu([None; 3]), gpu([None; 3])];
        assert!(GpuLink::ALL.iter().all(|link| !of(*link).are_near(&alone)), "those of no group are near to none");
        let one = GpuRequest { count: 1, ..of(GpuLink::Pcie) };
        assert!(one.near().is_none() && one.are_near(&alone[..1]));
        assert_eq!(old.anyhow_linked(), any);
    }
}
