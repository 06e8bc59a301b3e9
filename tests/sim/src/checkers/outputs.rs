//! What becomes visible was really written by that very attempt, which was live and desired until then.

use flowyard_model::{AttemptDesired, AttemptOutcome, Rank, TaskOutcome, TaskState};

use super::{Checker, Seen, changed_tasks, is_live, require};

pub(super) struct OutputsComeFromDesiredAttempts;

impl Checker for OutputsComeFromDesiredAttempts {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let done = TaskState::Done(TaskOutcome::Succeeded);
        for (key, task) in changed_tasks(seen) {
            if task.state != done || seen.before.task(key).is_some_and(|before| before.state == done) {
                continue;
            }
            let attempt = task.attempts.last().ok_or("a success without an attempt")?;
            let before = seen.before.attempt(key, attempt.number);
            let desired = before.is_some_and(|before| before.desired == AttemptDesired::Run && is_live(before));
            require(desired, || format!("{key:?}#{} was not desired and published", attempt.number))?;
            for (rank, member) in attempt.members.iter().enumerate() {
                let end = member.end.as_ref().ok_or("a success without an end")?;
                let gone = attempt.is_vacant(Rank(rank as u32));
                require(gone || end.outcome == AttemptOutcome::Succeeded, || {
                    format!("{key:?}: rank {rank} did not succeed")
                })?;
                let member = attempt.member_key(key, Rank(rank as u32));
                for output in end.outputs.values() {
                    let writer = seen.written.get(&output.manifest);
                    require(writer == Some(&member), || format!("{member:?} shows what {writer:?} wrote"))?;
                }
            }
        }
        Ok(())
    }
}
