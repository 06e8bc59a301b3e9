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
    let known = view.queues().take(NAMED).map(|known| known.path.to_string()).collect::<Vec<_>>().join(", ");
    Err(rejected(&Rejection::UnknownQueue { queue: queue.clone(), known }))
}
