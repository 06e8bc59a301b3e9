//! Queues that a call names.

use flowyard_model::{QueuePath, Rejection};
use flowyard_proto::status::rejected;
use flowyard_state::View;
use tonic::Status;

/// Queues named in an error.
const NAMED: usize = 20;

/// Whether something can be for this queue: it has to exist, or to have queues below it.
///
/// # Errors
/// When there is none of it, with those that there are.
pub(crate) fn must_exist(view: &View, queue: &QueuePath) -> Result<(), Status> {
    if view.queues().any(|known| queue.covers(&known.path)) {
        return Ok(());
    }
    Err(unknown_queue(view, queue, |_| true))
}

/// There is no such queue, but there are these, of those that may be shown.
pub(crate) fn unknown_queue(view: &View, queue: &QueuePath, shown: impl Fn(&QueuePath) -> bool) -> Status {
    let known = view.queues().map(|known| &known.path).filter(|path| shown(path));
    let known = known.take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    rejected(&Rejection::UnknownQueue { queue: queue.clone(), known })
}
