//! A task succeeds once: by one attempt, for ever, and with what that attempt wrote.

use std::collections::BTreeMap;

use flowyard_model::{AttemptNumber, Digest, TaskKey, TaskOutcome, TaskState};

use super::{Checker, Seen, changed_tasks, require};

pub(super) struct OneSuccessPerTask {
    seen: BTreeMap<TaskKey, (AttemptNumber, Vec<Digest>)>,
}

impl OneSuccessPerTask {
    pub(super) fn new() -> Self {
        Self { seen: BTreeMap::new() }
    }
}

impl Checker for OneSuccessPerTask {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        for (key, task) in changed_tasks(seen) {
            let succeeded = task.state == TaskState::Done(TaskOutcome::Succeeded);
            let Some(attempt) = task.attempts.last().filter(|_| succeeded) else {
                require(!self.seen.contains_key(&key), || format!("{key:?} had succeeded and has not any more"))?;
                continue;
            };
            let ends = attempt.members.iter().filter_map(|member| member.end.as_ref());
            let outputs = ends.flat_map(|end| end.outputs.values().map(|output| output.manifest)).collect();
            let visible = (attempt.number, outputs);
            let first = self.seen.entry(key).or_insert_with(|| visible.clone());
            require(*first == visible, || format!("{key:?} succeeded twice: {first:?}, {visible:?}"))?;
        }
        Ok(())
    }
}
