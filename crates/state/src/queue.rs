//! The queues.

use flowyard_model::{Changed, Queue, QueuePath, Rejection, Reply};

use crate::state::State;

/// Queue names that a rejection lists at most.
const LISTED: usize = 20;

/// Applies `PutQueue`.
pub(crate) fn put(state: &mut State, changed: &mut Changed, queue: Queue) -> Reply {
    if queue.weight == 0 || queue.max_active == Some(0) {
        let message = "weight and max_active are at least 1".to_owned();
        return Reply::Rejected(Rejection::Invalid { path: "queue".to_owned(), message });
    }
    state.queues.insert(queue.path.clone(), queue);
    changed.placement = true;
    Reply::Done
}

/// Applies `DropQueue`.
pub(crate) fn drop_queue(state: &mut State, path: &QueuePath) -> Reply {
    if *path == QueuePath::fallback() {
        let message = format!("`{path}` takes the jobs that name no queue and always exists");
        return Reply::Rejected(Rejection::Invalid { path: "queue".to_owned(), message });
    }
    if state.queue(path).is_none() {
        return Reply::Rejected(unknown(state, path));
    }
    let jobs = state.load(path).jobs;
    if jobs > 0 {
        return Reply::Rejected(Rejection::QueueInUse { queue: path.clone(), jobs });
    }
    state.queues.remove(path);
    Reply::Done
}

/// There is no such queue, but there are these.
pub(crate) fn unknown(state: &State, queue: &QueuePath) -> Rejection {
    let mut known: Vec<_> = state.queues.keys().take(LISTED).map(QueuePath::as_str).collect();
    if state.queues.len() > LISTED {
        known.push("...");
    }
    Rejection::UnknownQueue { queue: queue.clone(), known: known.join(", ") }
}
