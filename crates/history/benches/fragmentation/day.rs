//! The day of the solver's bench as a workload of a cluster: the same arrivals at the same nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_history::{Arrival, Change, Machines, Measures, Policy, of_arrivals, run};
use flowyard_model::{Abilities, Gpu, Inventory, PortRange, Rendezvous};
use flowyard_placement::Device;

use crate::trace::{Size, Trace, node};

/// Rules by which nodes are chosen for work with GPUs; who is next is the same by all.
pub(crate) const RULES: [Policy; 3] = [Policy::Ours, Policy::BestFit, Policy::FirstFit];
/// People who submit, one after the other.
const PEOPLE: usize = 20;

/// Lives through a day.
pub(crate) fn day(seed: u64, size: Size, policy: Policy) -> Measures {
    let trace = Trace::new(seed, size);
    let arrivals: Vec<_> = (0..trace.arrivals.len()).map(|at| arrival(&trace, at)).collect();
    let machines: Vec<_> = (0..size.nodes).map(machine).collect();
    let workload = of_arrivals(&arrivals, &machines, &[]).expect("it is a workload").cut(size.hours * 3_600_000);
    run(&workload, &Change { policy, seed: 1, ..Change::default() }).measures
}

/// GPUs of all nodes.
pub(crate) fn devices(size: Size) -> u64 {
    (0..size.nodes).map(|at| node(at).devices.len() as u64).sum()
}

fn arrival(trace: &Trace, at: usize) -> Arrival {
    let arrival = trace.arrivals[at];
    let shape = &trace.shapes[arrival.shape as usize];
    Arrival {
        at_ms: arrival.at_s * 1_000,
        duration_ms: arrival.runs_s * 1_000,
        cpu_milli: shape.needs.cpu_milli,
        memory_bytes: shape.needs.memory_bytes,
        gpus: shape.wishes[0].count,
        share_milli: shape.wishes[0].share_milli,
        model: shape.wishes[0].model.map(model),
        queue: None,
        user: format!("user-{:02}", at % PEOPLE),
        count: 1,
    }
}

fn model(number: u32) -> String {
    format!("model-{number}")
}

fn machine(at: u32) -> Machines {
    let facts = node(at);
    let gpu = |(number, device): (usize, &Device)| Gpu {
        id: format!("gpu-{number}"),
        model: model(device.model),
        memory_bytes: device.memory_bytes,
        numa_node: None,
        pcie_group: None,
        link_group: device.groups[0],
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
        cpu_milli: facts.all.cpu_milli,
        memory_bytes: facts.all.memory_bytes,
        disk_bytes: facts.all.disk_bytes,
        gpus: facts.devices.iter().enumerate().map(gpu).collect(),
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        abilities,
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
    };
    Machines { names: vec![format!("node-{at:03}").parse().expect("it is a name")], inventory: Arc::new(inventory) }
}
