//! What the applier publishes: the view, and who should look at it again.
//!
//! Invariant: a signal says that something changed, never what to do. Signals are coalesced; whoever is woken reads the
//! newest view and compares it with what it knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use flowyard_model::{Changed, JobId, NodeId, TimeMs};
use flowyard_state::View;
use tokio::sync::watch;

/// The reading side; cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    view: watch::Sender<View>,
    placement: watch::Sender<u64>,
    deadline: watch::Sender<Option<TimeMs>>,
    nodes: Topics<NodeId>,
    jobs: Topics<JobId>,
}

impl Feed {
    /// A feed that starts with this view.
    pub fn starting_with(view: View) -> Self {
        let deadline = watch::Sender::new(view.next_deadline());
        let shared = Shared {
            view: watch::Sender::new(view),
            placement: watch::Sender::new(0),
            deadline,
            nodes: Topics::empty(),
            jobs: Topics::empty(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes a new view the newest, then wakes those it concerns. Only the applier calls this.
    pub(crate) fn publish(&self, view: View, changed: &Changed) {
        let deadline = view.next_deadline();
        self.shared.view.send_replace(view);
        for node in &changed.nodes {
            self.shared.nodes.wake(*node);
        }
        for job in &changed.jobs {
            self.shared.jobs.wake(*job);
        }
        if changed.placement {
            self.shared.placement.send_modify(|count| *count += 1);
        }
        if changed.deadline {
            self.shared.deadline.send_if_modified(|now| std::mem::replace(now, deadline) != deadline);
        }
    }

    /// The newest view.
    pub fn view(&self) -> View {
        self.shared.view.borrow().clone()
    }

    /// Every new view.
    pub fn views(&self) -> watch::Receiver<View> {
        self.shared.view.subscribe()
    }

    /// Wakes when there may be something to place.
    pub fn placement(&self) -> watch::Receiver<u64> {
        self.shared.placement.subscribe()
    }

    /// The next deadline.
    pub fn deadline(&self) -> watch::Receiver<Option<TimeMs>> {
        self.shared.deadline.subscribe()
    }

    /// Wakes when anything about a node changed.
    pub fn node(&self, node: NodeId) -> watch::Receiver<u64> {
        self.shared.nodes.subscribe(node)
    }

    /// Wakes when anything about a job changed.
    pub fn job(&self, job: JobId) -> watch::Receiver<u64> {
        self.shared.jobs.subscribe(job)
    }
}

/// A counter per key that somebody listens to.
#[derive(Debug)]
struct Topics<K> {
    counters: Mutex<BTreeMap<K, watch::Sender<u64>>>,
}

impl<K: Ord + Copy> Topics<K> {
    fn empty() -> Self {
        Self { counters: Mutex::new(BTreeMap::new()) }
    }

    fn subscribe(&self, key: K) -> watch::Receiver<u64> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.entry(key).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn wake(&self, key: K) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counter) = counters.get(&key) else { return };
        if counter.receiver_count() == 0 {
            counters.remove(&key);
        } else {
            counter.send_modify(|count| *count += 1);
        }
    }
}
