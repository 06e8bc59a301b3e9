//! Effects name every job and node that changed: who only listens to them misses nothing.

use flowyard_model::{AttemptDesired, Phase, Task, TaskKey, TaskState};
use flowyard_state::State;

use super::{Checker, Seen, require};

pub(super) struct ChangesAreNamed;

impl Checker for ChangesAreNamed {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let (changed, found) = (&seen.effects.changed, seen.differences);
        let moved = seen.before.next_deadline() != seen.state.next_deadline();
        require(moved == changed.deadline, || "the deadline changed and is not named".to_owned())?;
        let job = found.jobs.difference(&changed.jobs).next();
        require(job.is_none(), || format!("a job changed and is not named: {job:?}"))?;
        let task = found.tasks.iter().find(|key| !changed.jobs.contains(&key.job) && moved_on(seen, **key));
        require(task.is_none(), || format!("a task changed and its job is not named: {task:?}"))?;
        let node = found.nodes.difference(&changed.nodes).next();
        require(node.is_none(), || format!("a node changed and is not named: {node:?}"))?;
        require(changed.placement || !found.more_ready, || "work became ready and is not named".to_owned())
    }
}

/// Whether a task stands otherwise than before. Under which registration its members run, and at which place the devices stand
/// that they hold, is not told.
fn moved_on(seen: &Seen<'_>, key: TaskKey) -> bool {
    let standing = |state: &State| state.task(key).map(|task| task_stands(task));
    standing(seen.before) != standing(seen.state)
}

fn task_stands(task: &Task) -> (TaskState, Vec<(AttemptDesired, Vec<Phase>)>) {
    let attempts = task.attempts.iter();
    let attempts = attempts.map(|it| (it.desired, it.members.iter().map(|member| member.phase).collect()));
    (task.state, attempts.collect())
}
