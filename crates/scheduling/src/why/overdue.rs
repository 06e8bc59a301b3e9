//! What should have ended by now, by all that is known of it, and has not.

use std::collections::BTreeSet;

use flowyard_model::{AttemptDesired, TaskKey, TimeMs};
use flowyard_state::State;

/// The tasks whose live attempts should have ended before this time, but for those that were asked to stop: how long they have for that is
/// not counted from a time of the wall.
pub fn overdue(state: &State, now: TimeMs) -> Vec<TaskKey> {
    let live = state.nodes().flat_map(|(id, _)| state.live_members(id));
    let runs = live.filter(|(_, attempt, _)| attempt.desired == AttemptDesired::Run);
    let tasks: BTreeSet<TaskKey> = runs.map(|(key, ..)| key.task).collect();
    tasks.into_iter().filter(|task| state.ends_by(*task).is_some_and(|(end, _)| end < now)).collect()
}
