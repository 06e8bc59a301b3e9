//! Whether a node, as it was built, suits a request. Room is another question: it changes with every placement.
//!
//! Both sides of the system ask it, the solver before it proposes and apply before it accepts; so it is answered once, here.

use std::hash::{Hash, Hasher};

use crate::{
    Abilities, Constraint, ConstraintOperator, Gpu, GpuIndex, GpuRequest, Image, Inventory, Isolation, NetworkMode,
    Placing, Resources, StepSpec,
};

/// What placement looks at in a step. Tasks of equal shapes are interchangeable to it, so pending work is grouped by shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape<'a> {
    /// What each member needs.
    pub resources: &'a Resources,
    /// Members of a task.
    pub size: u32,
    /// Conditions on labels.
    pub constraints: &'a [Constraint],
    /// Whether it runs without a container.
    pub process: bool,
    /// Whether it needs the node's own operating system as image.
    pub host_image: bool,
    /// Whether it needs a network of its own.
    pub private_network: bool,
    /// Whether it may be evicted: what may not has bounds of its own.
    pub preemptible: bool,
    /// Where its members go in relation to each other.
    pub placing: &'a Placing,
}

impl Shape<'_> {
    /// A number that equal shapes share and different ones hardly ever do. Good for grouping within one process; never to be
    /// stored, as it may differ between builds.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The hash of Fowler, Noll and Vo (1a, 64 bits): unlike the standard library's, it has no random key.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Constraint {
    /// Whether a node with this inventory satisfies it.
    pub fn holds(&self, inventory: &Inventory) -> bool {
        let label = inventory.labels.get(&self.label);
        match self.operator {
            ConstraintOperator::In => label.is_some_and(|value| self.values.contains(value)),
            ConstraintOperator::NotIn => label.is_none_or(|value| !self.values.contains(value)),
            ConstraintOperator::Exists => label.is_some(),
            ConstraintOperator::Absent => label.is_none(),
        }
    }
}

impl Abilities {
    /// Whether an agent with these can run tasks with this isolation and image.
    pub fn suffice(&self, isolation: Isolation, image: &Image) -> bool {
        match (isolation, image) {
            (Isolation::Process, _) => self.process_isolation,
            (Isolation::Container, Image::Host) => self.containers && self.host_image,
            (Isolation::Container, Image::Stored { .. }) => self.containers,
        }
    }
}

impl Abilities {
    /// Whether an agent with these can give a task this network.
    pub fn connect(&self, isolation: Isolation, network: NetworkMode) -> bool {
        self.private_networks || isolation == Isolation::Process || network != NetworkMode::Private
    }

    /// Why there are no private networks, for people: what the agent says of its tasks.
    pub fn unconnected(&self) -> &str {
        if self.separation.is_empty() { "its agent is of a release without them" } else { &self.separation }
    }
}

impl GpuRequest {
    /// Whether this device is of the kind asked for. Health and what is free of it are other questions.
    pub fn accepts(&self, gpu: &Gpu) -> bool {
        let model = self.model.as_ref().is_none_or(|model| model.eq_ignore_ascii_case(&gpu.model));
        let as_asked = gpu.part.is_none() || self.takes_parts();
        model && as_asked && gpu.memory_bytes >= self.min_memory_bytes.max(self.memory_bytes)
    }

    /// Whether a part of a device will do: only for who says of which model, or how much memory it has to have. Who asks for a GPU
    /// and nothing more means a whole one.
    pub fn takes_parts(&self) -> bool {
        self.model.is_some() || self.min_memory_bytes > 0 || self.memory_bytes > 0
    }

    /// Whether these distinct devices of a node are what was asked for: as many, each acceptable, as near to each other as
    /// they must be.
    pub fn accepts_all(&self, inventory: &Inventory, gpus: &[GpuIndex]) -> bool {
        let devices: Vec<_> = gpus.iter().filter_map(|index| inventory.gpus.get(index.0 as usize)).collect();
        let distinct = gpus.iter().enumerate().all(|(at, index)| !gpus[..at].contains(index));
        let complete = devices.len() == gpus.len() && gpus.len() == self.count as usize;
        let near = self.are_near(devices.iter().copied());
        distinct && complete && near && devices.iter().all(|gpu| self.accepts(gpu))
    }
}

impl StepSpec {
    /// The fewest members that a task starts with.
    pub fn least_size(&self) -> u32 {
        self.placing.min_size.map_or(self.size, |least| least.min(self.size))
    }

    /// Whether a task may start with so many members.
    pub fn takes(&self, members: usize) -> bool {
        (self.least_size() as usize..=self.size as usize).contains(&members)
    }

    /// The same as if its tasks had so many members, neither more nor less.
    #[must_use]
    pub fn of_size(&self, size: u32) -> Self {
        let mut spec = self.clone();
        (spec.size, spec.placing.min_size) = (size, None);
        spec
    }

    /// What placement looks at.
    pub fn shape(&self) -> Shape<'_> {
        Shape {
            resources: &self.resources,
            size: self.size,
            constraints: &self.constraints,
            process: self.isolation == Isolation::Process,
            host_image: self.image == Image::Host,
            private_network: self.network == NetworkMode::Private,
            preemptible: self.preemptible,
            placing: &self.placing,
        }
    }

    /// Whether a node with this inventory could run this step as far as abilities and constraints go.
    pub fn allows(&self, inventory: &Inventory) -> bool {
        let able = inventory.abilities.suffice(self.isolation, &self.image);
        able && self.constraints.iter().all(|constraint| constraint.holds(inventory))
    }

    /// Whether it could have the network there that the step asks for, and meet the others of its gang. A question of its own, because cluster version 1 did not ask it.
    pub fn connects(&self, inventory: &Inventory) -> bool {
        let met = self.size <= 1 || inventory.rendezvous.is_some();
        met && inventory.abilities.connect(self.isolation, self.network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(model: &str, memory_bytes: u64, link_group: Option<u32>) -> Gpu {
        Gpu {
            id: model.to_owned(),
            model: model.to_owned(),
            memory_bytes,
            numa_node: None,
            link_group,
            pcie_group: None,
            healthy: true,
            fake: true,
            part: None,
        }
    }

    fn inventory(gpus: Vec<Gpu>) -> Inventory {
        let abilities = Abilities {
            containers: true,
            process_isolation: false,
            host_image: false,
            private_networks: false,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: String::new(),
            system: String::new(),
        };
        let labels = [("zone".parse().unwrap(), "a".to_owned())].into();
        Inventory {
            cpu_milli: 1,
            memory_bytes: 1,
            disk_bytes: 0,
            gpus,
            tokens: Default::default(),
            labels,
            abilities,
            rendezvous: None,
        }
    }

    #[test]
    fn constraints_compare_labels() {
        let node = inventory(vec![]);
        let check = |label: &str, operator, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            Constraint { label: label.parse().unwrap(), operator, values }.holds(&node)
        };
        assert!(check("zone", ConstraintOperator::In, &["b", "a"]));
        assert!(!check("zone", ConstraintOperator::In, &["b"]));
        assert!(!check("rack", ConstraintOperator::In, &["a"]));
        assert!(check("zone", ConstraintOperator::NotIn, &["b"]));
        assert!(check("rack", ConstraintOperator::NotIn, &["a"]));
        assert!(!check("zone", ConstraintOperator::NotIn, &["a"]));
        assert!(check("zone", ConstraintOperator::Exists, &[]) && !check("rack", ConstraintOperator::Exists, &[]));
        assert!(check("rack", ConstraintOperator::Absent, &[]) && !check("zone", ConstraintOperator::Absent, &[]));
    }

    #[test]
    fn only_a_container_needs_a_node_that_makes_private_networks() {
        let Abilities { private_networks, .. } = inventory(vec![]).abilities;
        assert!(!private_networks);
        let (without, with) =
            (inventory(vec![]).abilities, Abilities { private_networks: true, ..inventory(vec![]).abilities });
        for network in [NetworkMode::Host, NetworkMode::None] {
            assert!(without.connect(Isolation::Container, network));
        }
        assert!(!without.connect(Isolation::Container, NetworkMode::Private));
        assert!(with.connect(Isolation::Container, NetworkMode::Private));
        assert!(without.connect(Isolation::Process, NetworkMode::Private));
    }

    #[test]
    fn devices_must_be_as_many_distinct_of_the_model_and_linked() {
        let node = inventory(vec![gpu("A100", 40, Some(0)), gpu("a100", 40, Some(0)), gpu("L4", 24, None)]);
        let request = |count, model: Option<&str>, same_link_group| GpuRequest {
            count,
            model: model.map(str::to_owned),
            min_memory_bytes: 0,
            same_link_group,
            share_milli: 1_000,
            memory_bytes: 0,
            link: None,
        };
        let indexes = |of: &[u32]| of.iter().copied().map(GpuIndex).collect::<Vec<_>>();
        assert!(request(2, Some("A100"), true).accepts_all(&node, &indexes(&[0, 1])));
        assert!(!request(2, Some("A100"), false).accepts_all(&node, &indexes(&[0, 2])));
        assert!(!request(2, None, true).accepts_all(&node, &indexes(&[0, 2])));
        assert!(!request(2, None, false).accepts_all(&node, &indexes(&[0, 0])));
        assert!(!request(2, None, false).accepts_all(&node, &indexes(&[0])));
        assert!(!request(1, None, false).accepts_all(&node, &indexes(&[7])));
        let part = |model: &str| Gpu {
            part: Some(crate::GpuPart { of: "GPU-a".to_owned(), instance: 1, compute: 0 }),
            ..gpu(model, 10, None)
        };
        assert!(!request(1, None, false).accepts(&part("A MIG 1g.10gb")), "who asks for a GPU means a whole one");
        assert!(request(1, Some("a mig 1g.10gb"), false).accepts(&part("A MIG 1g.10gb")));
        assert!(GpuRequest { min_memory_bytes: 10, ..request(1, None, false) }.accepts(&part("A MIG 1g.10gb")));
        assert!(!GpuRequest { min_memory_bytes: 30, ..request(1, None, false) }.accepts_all(&node, &indexes(&[2])));
    }
}
