//! What the applier publishes: the view, and who should look at it again.
//!
//! Invariant: a signal says that something changed, never what to do. Signals are coalesced; whoever is woken reads the
//! newest view and compares it with what it knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    access: watch::Sender<u64>,
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
            access: watch::Sender::new(0),
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
        if changed.access {
            self.shared.access.send_modify(|count| *count += 1);
        }
        if changed.deadline {
            self.shared.deadline.send_if_modified(|now| std::mem::replace(now, deadline) != deadline);
        }
    }

    /// Makes a view the newest that did not come from the one before: everybody is woken, also who listens to what is gone.
    pub(crate) fn restart(&self, view: View) {
        let deadline = view.next_deadline();
        self.shared.view.send_replace(view);
        self.shared.nodes.wake_all();
        self.shared.jobs.wake_all();
        self.shared.placement.send_modify(|count| *count += 1);
        self.shared.access.send_modify(|count| *count += 1);
        self.shared.deadline.send_replace(deadline);
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

    /// Wakes when a token or a revocation was made, used or taken back.
    pub fn access(&self) -> watch::Receiver<u64> {
        self.shared.access.subscribe()
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

/// Topics below which nobody looks for those that nobody listens to any more.
const FEW_TOPICS: usize = 64;

/// A counter per key that somebody listens to.
#[derive(Debug)]
struct Topics<K> {
    listened: Mutex<Listened<K>>,
}

#[derive(Debug)]
struct Listened<K> {
    counters: BTreeMap<K, watch::Sender<u64>>,
    /// With this many, those that nobody listens to are removed before the next is added.
    crowded: usize,
}

impl<K: Ord + Copy> Topics<K> {
    fn empty() -> Self {
        Self { listened: Mutex::new(Listened { counters: BTreeMap::new(), crowded: FEW_TOPICS }) }
    }

    fn subscribe(&self, key: K) -> watch::Receiver<u64> {
        let mut listened = self.lock();
        if listened.counters.len() >= listened.crowded {
            listened.counters.retain(|_, counter| counter.receiver_count() > 0);
            listened.crowded = FEW_TOPICS.max(2 * listened.counters.len());
        }
        listened.counters.entry(key).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn wake(&self, key: K) {
        let counters = &mut self.lock().counters;
        let Some(counter) = counters.get(&key) else { return };
        if counter.receiver_count() == 0 {
            counters.remove(&key);
        } else {
            counter.send_modify(|count| *count += 1);
        }
    }

    fn wake_all(&self) {
        for counter in self.lock().counters.values() {
            counter.send_modify(|count| *count += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listened<K>> {
        self.listened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use flowyard_state::State;

    use super::*;

    #[test]
    fn topics_that_nobody_listens_to_are_removed() {
        let feed = Feed::starting_with(State::new().view());
        let kept = feed.job(JobId(0));
        for job in 1..10_000 {
            drop(feed.job(JobId(job)));
        }
        let topics = feed.shared.jobs.lock().counters.len();
        assert!(topics <= FEW_TOPICS, "{topics} topics for one listener");
        feed.restart(State::new().view());
        assert!(kept.has_changed().unwrap(), "who listens stays");
    }

    #[test]
    fn after_a_restart_everybody_looks_again_also_at_what_is_gone() {
        let feed = Feed::starting_with(State::new().view());
        let (job, node, placement) = (feed.job(JobId(7)), feed.node(NodeId(7)), feed.placement());
        feed.restart(State::new().view());
        assert!([job, node, placement].iter().all(|topic| topic.has_changed().unwrap()));
    }
}
