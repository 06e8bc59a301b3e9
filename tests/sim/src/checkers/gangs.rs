//! A gang starts whole; as soon as one member ends otherwise than well, the rest is asked to stop.

use flowyard_model::{AttemptDesired, AttemptOutcome};

use super::{Checker, Seen, changed_tasks, is_live, require};

pub(super) struct GangsRunWhole;

impl Checker for GangsRunWhole {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        for (key, task) in changed_tasks(seen) {
            let size = seen.state.step_spec(key.job, key.step).map_or(0, |spec| spec.size as usize);
            for attempt in &task.attempts {
                let number = attempt.number;
                require(attempt.members.len() == size, || format!("{key:?}#{number} is not whole"))?;
                let mut ends = attempt.members.iter().filter_map(|member| member.end.as_ref());
                let broken = ends.any(|end| end.outcome != AttemptOutcome::Succeeded);
                let goes_on = is_live(attempt) && attempt.desired == AttemptDesired::Run;
                require(!(broken && goes_on), || format!("{key:?}#{number} runs on without a member"))?;
            }
        }
        Ok(())
    }
}
