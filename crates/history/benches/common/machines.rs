//! Machines that are alike, for benches.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_history::Machines;
use flowyard_model::{Abilities, Gpu, Inventory, PortRange, Rendezvous};

/// GPUs of each.
pub(crate) const GPUS: u32 = 8;

/// So many machines.
pub(crate) fn fleet(count: u32) -> Machines {
    let gpu = |at: u32| Gpu {
        id: format!("gpu-{at}"),
        model: "A100".to_owned(),
        memory_bytes: 80 << 30,
        numa_node: Some(at / 4),
        link_group: Some(0),
        pcie_group: None,
        healthy: true,
        fake: true,
        part: None,
    };
    let abilities = Abilities {
        containers: true,
        process_isolation: true,
        host_image: true,
        private_networks: true,
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    };
    let inventory = Inventory {
        cpu_milli: 96_000,
        memory_bytes: 1 << 40,
        disk_bytes: 0,
        gpus: (0..GPUS).map(gpu).collect(),
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        abilities,
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
    };
    let names = (1..=count).map(|at| format!("gpu-{at}").parse().expect("it is a name")).collect();
    Machines { names, inventory: Arc::new(inventory) }
}
