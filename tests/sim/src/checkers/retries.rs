//! Only the user's failures spend retries, and never more than the rule allows; the rest is bounded too.

use flowyard_model::{Attempt, AttemptOutcome, Blame, Retry, limits};

use super::{Checker, Seen, changed_tasks, is_live, require};

pub(super) struct RetriesKeepTheirRule;

impl Checker for RetriesKeepTheirRule {
    fn check(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        for (key, task) in changed_tasks(seen) {
            let times = seen.state.step_spec(key.job, key.step).map_or(0, |spec| spec.retry.times);
            let ended = || task.attempts.iter().filter(|attempt| !is_live(attempt));
            let failures = ended().filter(|attempt| failed_by_user(attempt)).count() as u32;
            require(failures <= times + 1, || format!("{key:?} failed {failures} times with {times} retries"))?;
            if let Some(spec) = seen.state.step_spec(key.job, key.step) {
                keep_exceptions(&spec.retry, ended().filter(|attempt| failed_by_user(attempt)))
                    .map_err(|rule| format!("{key:?} was tried more often than rule {rule} of its retries allows"))?;
            }
            let vain = ended().filter(|attempt| !failed_by_user(attempt) && was_in_vain(attempt)).count() as u32;
            // One more may have been stopped together with its job.
            require(vain <= limits::UNBLAMED_ATTEMPTS + 1, || format!("{key:?} was tried in vain {vain} times"))?;
        }
        Ok(())
    }
}

/// No exception is used more often than it allows; the position of one that is.
fn keep_exceptions<'a>(retry: &Retry, failed: impl Iterator<Item = &'a Attempt>) -> Result<(), usize> {
    let mut used = vec![0_u32; retry.rules.len()];
    for attempt in failed {
        // Which member's end decides is the state's business: an exception is counted if it covers every end.
        let mut covering = attempt.members.iter().filter_map(|member| retry.rule_for(member.end.as_ref()?));
        if let Some(rule) = covering.next().filter(|rule| covering.all(|other| other == *rule)) {
            used[rule] += 1;
        }
    }
    let over = |(at, used): (usize, &u32)| retry.rules[at].times.is_some_and(|times| *used > times + 1);
    used.iter().enumerate().find(|it| over(*it)).map_or(Ok(()), |(at, _)| Err(at))
}

fn failed_by_user(attempt: &Attempt) -> bool {
    let mut ends = attempt.members.iter().filter_map(|member| member.end.as_ref());
    ends.any(|end| end.outcome == AttemptOutcome::Failed && end.blame == Blame::User)
}

fn was_in_vain(attempt: &Attempt) -> bool {
    let mut ends = attempt.members.iter().filter_map(|member| member.end.as_ref());
    ends.any(|end| !matches!(end.outcome, AttemptOutcome::Succeeded | AttemptOutcome::Preempted))
}
