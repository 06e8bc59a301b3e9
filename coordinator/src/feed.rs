//! What the applier publishes: the view, and who should look at it again.
//!
//! Invariant: a signal says that something changed, never what to do. Signals are coalesced; whoever is woken reads the
//! newest view and compares it with what it knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flowyard_model::{Changed, JobId, NodeId, Revision, TimeMs};
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
    recent: Mutex<Recent>,
}

/// Jobs whose last change is remembered.
const RECENT_JOBS: usize = 50_000;

/// When jobs changed last.
#[derive(Debug)]
struct Recent {
    /// What changed up to here is not known.
    since: Revision,
    jobs: BTreeMap<JobId, Revision>,
}

impl Recent {
    fn since(since: Revision) -> Self {
        Self { since, jobs: BTreeMap::new() }
    }

    fn note(&mut self, job: JobId, at: Revision) {
        if self.jobs.len() >= RECENT_JOBS && !self.jobs.contains_key(&job) {
            // Half of them, the longer unchanged ones, are forgotten together with the time they stand for.
            let mut all: Vec<Revision> = self.jobs.values().copied().collect();
            let middle = *all.select_nth_unstable(RECENT_JOBS / 2).1;
            self.jobs.retain(|_, changed| *changed > middle);
            self.since = self.since.max(middle);
        }
        self.jobs.insert(job, at);
    }
}

impl Feed {
    /// A feed that starts with this view.
    pub fn starting_with(view: View) -> Self {
        let deadline = watch::Sender::new(view.next_deadline());
        let recent = Mutex::new(Recent::since(view.revision()));
        let shared = Shared {
            recent,
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
        {
            let (at, mut recent) = (view.revision(), self.recent());
            changed.jobs.iter().for_each(|job| recent.note(*job, at));
        }
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
        *self.recent() = Recent::since(view.revision());
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

    /// Wakes when somebody may have lost a right: a token was taken back, or an identity shut out.
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

    /// Whether it is certain that nothing about a job changed after this revision.
    pub(crate) fn job_unchanged_since(&self, job: JobId, seen: Revision) -> bool {
        let recent = self.recent();
        seen >= recent.since && recent.jobs.get(&job).is_none_or(|changed| *changed <= seen)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn what_is_forgotten_of_changes_counts_as_changed() {
        let mut recent = Recent::since(Revision(1));
        for job in 0..=RECENT_JOBS as u64 {
            recent.note(JobId(job), Revision(10 + job));
        }
        assert!(recent.jobs.len() <= RECENT_JOBS / 2 + 1 && recent.jobs.contains_key(&JobId(RECENT_JOBS as u64)));
        assert!(recent.since > Revision(1000) && !recent.jobs.contains_key(&JobId(0)));
    }

    #[test]
    fn after_a_restart_everybody_looks_again_also_at_what_is_gone() {
        let feed = Feed::starting_with(State::new().view());
        let (job, node, placement) = (feed.job(JobId(7)), feed.node(NodeId(7)), feed.placement());
        feed.restart(State::new().view());
        assert!([job, node, placement].iter().all(|topic| topic.has_changed().unwrap()));
    }
}
