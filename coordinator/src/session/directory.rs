//! Who is connected now. Soft state: empty after an election, filled by sessions as they begin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyard_model::{Incarnation, NodeId};

use super::Outbox;

/// One connected agent.
#[derive(Debug, Clone)]
pub struct Connected {
    /// Its registration.
    pub incarnation: Incarnation,
    /// Where messages to it are put.
    pub outbox: Outbox,
}

/// All connected agents; cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {
    nodes: Arc<Mutex<BTreeMap<NodeId, Connected>>>,
}

impl Directory {
    /// Nobody is connected.
    pub fn empty() -> Self {
        Self { nodes: Arc::new(Mutex::new(BTreeMap::new())) }
    }

    /// An agent connected; a session of an older registration is forgotten.
    pub fn enter(&self, node: NodeId, connected: Connected) {
        self.lock().insert(node, connected);
    }

    /// A session ended; a newer one of the same node stays.
    pub fn leave(&self, node: NodeId, incarnation: Incarnation) {
        let mut nodes = self.lock();
        if nodes.get(&node).is_some_and(|connected| connected.incarnation == incarnation) {
            nodes.remove(&node);
        }
    }

    /// The agent of a node, if it is connected.
    pub fn find(&self, node: NodeId) -> Option<Connected> {
        self.lock().get(&node).cloned()
    }

    /// How many are connected.
    pub fn connected(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Connected>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
