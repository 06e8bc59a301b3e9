//! What tests of several modules begin with: a coordinator of its own, and a machine.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_cas::Origin;
use flowyard_model::{Abilities, Command, Incarnation, Inventory, NodeId, RegisterNode, Reply};
use tempfile::TempDir;

use crate::raft::engine::EngineKind;
use crate::{Config, Coordinator, Timing};

/// A small machine.
pub(crate) fn inventory() -> Inventory {
    let abilities = Abilities {
        containers: true,
        process_isolation: true,
        host_image: true,
        private_networks: false,
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    };
    Inventory {
        cpu_milli: 4_000,
        memory_bytes: 1 << 30,
        disk_bytes: 0,
        gpus: vec![],
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        abilities,
    }
}

/// A registration of the machine `name`.
pub(crate) fn registration(name: &str) -> RegisterNode {
    RegisterNode { name: name.parse().unwrap(), inventory: Arc::new(inventory()), previous: None }
}

/// A coordinator that leads, in a folder of its own.
pub(crate) async fn coordinator() -> (Coordinator, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        folder: folder.path().join("coordinator"),
        socket: folder.path().join("api.sock"),
        engine: EngineKind::default(),
        embedded: false,
        usual_network: flowyard_model::NetworkMode::Host,
        home: folder.path().to_owned(),
        timing: Timing::STANDARD,
        storage_budget_bytes: 0,
        shared_origin: true,
        fleet: None,
    };
    (Coordinator::start(config, Origin::in_memory()).await.unwrap(), folder)
}

/// A node of this coordinator.
pub(crate) async fn node(coordinator: &Coordinator, name: &str) -> (NodeId, Incarnation) {
    match coordinator.shared().propose(&Command::RegisterNode(registration(name))).await.unwrap() {
        Reply::Registered { node, incarnation } => (node, incarnation),
        other => panic!("a registration was answered with {other:?}"),
    }
}
