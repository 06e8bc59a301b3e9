//! The queues: what a record of one may say, and when it may go.

use std::ops::Bound;
use std::sync::Arc;

use flowyard_model::{Changed, ClusterVersion, Queue, QueuePath, Rejection, Reply, validate_queue};
use imbl::OrdMap;

use crate::promises;
use crate::state::State;

/// Queue names that a rejection lists at most.
const LISTED: usize = 20;

/// Applies `PutQueue`. Queues above it need no record: they then have weight 1, and neither bounds nor promises.
pub(crate) fn put(state: &mut State, changed: &mut Changed, queue: Arc<Queue>) -> Reply {
    if queue.weight == 0 || queue.max_active == Some(0) {
        return invalid("queue", "weight and max_active are at least 1".to_owned());
    }
    if state.version() >= ClusterVersion::ACCESS
        && let Err(rejection) = validate_queue(&queue)
    {
        return Reply::Rejected(rejection);
    }
    let mut then = state.queues.clone();
    let top = queue.path.levels().next().expect("a path has a level").to_owned();
    then.insert(queue.path.clone(), queue);
    if let Some(message) = promises::fault(&then, &top) {
        return invalid("queue.reserve", message);
    }
    state.queues = then;
    changed.placement = true;
    Reply::Done
}

fn invalid(path: &str, message: String) -> Reply {
    Reply::Rejected(Rejection::Invalid { path: path.to_owned(), message })
}

/// The queues below a path that have a record, however deep.
pub(crate) fn below<'a>(queues: &'a OrdMap<QueuePath, Arc<Queue>>, path: &str) -> impl Iterator<Item = &'a Arc<Queue>> {
    let first = format!("{path}/");
    let from = queues.range::<_, str>((Bound::Included(first.as_str()), Bound::Unbounded));
    from.map(|(_, queue)| queue).take_while(move |queue| queue.path.as_str().starts_with(&first))
}

/// Applies `DropQueue`.
pub(crate) fn drop_queue(state: &mut State, changed: &mut Changed, path: &QueuePath) -> Reply {
    if *path == QueuePath::fallback() {
        return invalid("queue", format!("`{path}` takes the jobs that name no queue and always exists"));
    }
    if state.queue(path).is_none() {
        return Reply::Rejected(unknown(state, path));
    }
    if state.version() >= ClusterVersion::ACCESS
        && let Some(first) = below(&state.queues, path.as_str()).next()
    {
        let count = below(&state.queues, path.as_str()).count();
        let message = match count {
            1 => format!("queue `{}` is below `{path}`; drop it first", first.path),
            _ => format!("{count} queues are below `{path}`, such as `{}`; drop them first", first.path),
        };
        return invalid("queue", message);
    }
    let jobs = state.load(path).own_jobs;
    if jobs > 0 {
        return Reply::Rejected(Rejection::QueueInUse { queue: path.clone(), jobs });
    }
    let was = state.queues.remove(path);
    // Room that it kept for itself is free for others now.
    changed.placement |= was.is_some_and(|queue| !queue.lend.is_empty());
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
