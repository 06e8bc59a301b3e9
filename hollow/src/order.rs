//! What a hollow fleet is told when it starts.

use std::collections::BTreeMap;

use flowyard_model::{Abilities, Gpu, Inventory, Name, PortRange, Rendezvous};
use serde::{Deserialize, Serialize};

use crate::fate::Fates;

/// The label that every hollow node has, with the name of its run. A task that does not ask for it is refused there.
pub const LABEL: &str = "hollow";

/// A fleet of hollow agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name: nodes are called by it, and their label has it.
    pub run: Name,
    /// Tokens to join with, each with how many agents it lets in.
    pub tokens: Vec<(String, u32)>,
    /// The nodes.
    pub classes: Vec<Class>,
    /// How attempts end.
    pub fates: Fates,
}

/// Nodes that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// How many.
    pub count: u32,
    /// What each offers.
    pub inventory: Inventory,
}

impl Order {
    /// How many nodes there are.
    pub fn nodes(&self) -> u32 {
        self.classes.iter().map(|class| class.count).sum()
    }

    /// The name of a node.
    pub fn name(&self, number: u32) -> String {
        format!("{}-{number:05}", self.run)
    }
}

/// What a hollow node offers, labelled with its run. Containers are left to nodes that can make them.
pub fn inventory(run: &Name, cpu_milli: u64, memory_bytes: u64, gpus: Vec<Gpu>) -> Inventory {
    const DISK_BYTES: u64 = 1 << 40;
    let labels = LABEL.parse().map(|label| BTreeMap::from([(label, run.to_string())]));
    Inventory {
        cpu_milli,
        memory_bytes,
        disk_bytes: DISK_BYTES,
        gpus,
        tokens: BTreeMap::new(),
        labels: labels.unwrap_or_default(),
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        abilities: Abilities {
            containers: false,
            process_isolation: true,
            host_image: true,
            private_networks: false,
            separation: "nothing runs on a hollow node".to_owned(),
            enforcement: "nothing runs on a hollow node".to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            system: "hollow".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hollow_node_says_by_its_label_which_run_it_belongs_to_and_offers_no_container() {
        let run: Name = "bench-1".parse().unwrap();
        let offered = inventory(&run, 8_000, 1 << 30, vec![]);
        assert_eq!(
            offered.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).next(),
            Some((LABEL, "bench-1"))
        );
        assert!(!offered.abilities.containers);
        let order = Order {
            run,
            tokens: vec![],
            classes: [2, 3].map(|count| Class { count, inventory: offered.clone() }).into(),
            fates: Fates { seed: 1, failures_ppm: 0, faults_ppm: 0 },
        };
        assert_eq!((order.nodes(), order.name(4)), (5, "bench-1-00004".to_owned()));
    }
}
