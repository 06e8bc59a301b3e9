//! Whether a task is tried again after an attempt, and when. A pure function of the rule and the end.

use flowyard_model::{
    AttemptOutcome, Backoff, Blame, End, Growth, Reason, Retry, RetryOn, Revision, TaskKey, TaskOutcome, TaskState,
    TimeMs, limits,
};

/// How often a task was tried in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Try {
    /// Attempts that spent a retry.
    pub(crate) spent: u32,
    /// Attempts that ended through no fault of the user.
    pub(crate) unblamed: u32,
}

/// The end of an attempt, as the rule is asked about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// How it ended.
    pub(crate) end: &'a End,
    /// Attempts of the task, this one included, that fell under the same exception of the rule.
    pub(crate) alike: u32,
    /// The same on every replica and another for every attempt; see [`salt`].
    pub(crate) salt: u64,
}

/// A number that is drawn by the entry that ends an attempt, so that every replica draws the same. The mixer is splitmix64's.
pub(crate) fn salt(revision: Revision, time: TimeMs, task: TaskKey) -> u64 {
    let parts = [revision.0, time.0, task.job.0, u64::from(task.step.0) << 32 | u64::from(task.task.0)];
    parts.into_iter().fold(0, |mixed: u64, part| {
        let mut x = mixed.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    })
}

/// Where the task of a job that is not stopping goes after an attempt ended like this.
pub(crate) fn after_attempt(rule: &Retry, mut tried: Try, trial: Trial<'_>, now: TimeMs) -> (TaskState, Try) {
    let end = trial.end;
    let users = end.blame == Blame::User;
    let to = match end.outcome {
        AttemptOutcome::Succeeded => TaskState::Done(TaskOutcome::Succeeded),
        AttemptOutcome::Preempted => TaskState::Ready,
        AttemptOutcome::Failed if users => {
            tried.spent += 1;
            match users_wait(rule, tried.spent, trial) {
                Some(wait_ms) => begin_after(wait_ms, now),
                None => TaskState::Done(TaskOutcome::Failed),
            }
        }
        AttemptOutcome::Failed | AttemptOutcome::Rejected | AttemptOutcome::Stopped | AttemptOutcome::Lost => {
            tried.unblamed += 1;
            let at_once = matches!(end.outcome, AttemptOutcome::Lost | AttemptOutcome::Stopped);
            let backoff_ms = if at_once { 0 } else { limits::UNBLAMED_BACKOFF_MS };
            if tried.unblamed >= limits::UNBLAMED_ATTEMPTS {
                TaskState::Done(TaskOutcome::Failed)
            } else {
                begin_after(length(backoff_ms, Growth::DOUBLING, tried.unblamed, 0), now)
            }
        }
    };
    (to, tried)
}

/// How long to wait after the user's failure number `spent`; `None` if the task is not tried again.
fn users_wait(rule: &Retry, spent: u32, trial: Trial<'_>) -> Option<u64> {
    let Trial { end, alike, salt } = trial;
    let Some(exception) = rule.rule_for(end).map(|at| &rule.rules[at]) else {
        let again = spent <= rule.times && rule.on.contains(&kind(end.reason));
        return again.then(|| length(rule.backoff_ms, rule.growth, spent, salt));
    };
    let again = spent <= rule.times && exception.times.is_none_or(|times| alike <= times);
    again.then(|| match exception.backoff {
        Some(Backoff { first_ms, growth }) => length(first_ms, growth, alike, salt),
        None => length(rule.backoff_ms, rule.growth, spent, salt),
    })
}

fn kind(reason: Reason) -> RetryOn {
    match reason {
        Reason::Oom => RetryOn::Oom,
        Reason::Timeout => RetryOn::Timeout,
        _ => RetryOn::Failed,
    }
}

/// The wait before the next try, after `tries` in vain.
fn length(first_ms: u64, growth: Growth, tries: u32, salt: u64) -> u64 {
    let most = growth.max_ms.unwrap_or_else(|| first_ms.saturating_mul(limits::BACKOFF_GROWTH));
    let mut wait = first_ms;
    for _ in 1..tries {
        if wait == 0 || wait >= most || growth.factor <= 1 {
            break;
        }
        wait = wait.saturating_mul(growth.factor.into());
    }
    let wait = wait.min(most);
    if growth.jitter { wait - salt % (wait / 2 + 1) } else { wait }
}

fn begin_after(wait_ms: u64, now: TimeMs) -> TaskState {
    if wait_ms == 0 { TaskState::Ready } else { TaskState::Waiting(now.after(wait_ms)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flowyard_model::{JobId, RetryRule, StepIndex, TaskIndex};

    use super::*;
    use crate::attempt::lost;

    fn rule(times: u32, on: &[RetryOn]) -> Retry {
        Retry::plain(times, 10, on.iter().copied())
    }

    fn trial(end: &End) -> Trial<'_> {
        Trial { end, alike: 0, salt: 0 }
    }

    fn ended(outcome: AttemptOutcome, reason: Reason, blame: Blame) -> End {
        End { outcome, reason, blame, ..lost(reason, blame, "") }
    }

    #[test]
    fn a_wait_doubles_up_to_sixty_four_fold() {
        let end = ended(AttemptOutcome::Failed, Reason::Exit, Blame::User);
        let rule = rule(100, &[RetryOn::Failed]);
        let waits: Vec<_> = (0..9)
            .map(|spent| after_attempt(&rule, Try { spent, unblamed: 0 }, trial(&end), TimeMs(0)).0)
            .map(|state| if let TaskState::Waiting(until) = state { until.0 } else { 0 })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
    }

    #[test]
    fn only_ends_that_the_rule_names_are_tried_again() {
        let oom = ended(AttemptOutcome::Failed, Reason::Oom, Blame::User);
        let none = Try { spent: 0, unblamed: 0 };
        let failed = TaskState::Done(TaskOutcome::Failed);
        assert_eq!(after_attempt(&rule(3, &[RetryOn::Failed]), none, trial(&oom), TimeMs(0)).0, failed);
        assert_eq!(
            after_attempt(&rule(3, &[RetryOn::Oom]), none, trial(&oom), TimeMs(0)).0,
            TaskState::Waiting(TimeMs(10))
        );
        assert_eq!(after_attempt(&rule(0, &[RetryOn::Oom]), none, trial(&oom), TimeMs(0)).0, failed);
    }

    #[test]
    fn what_is_not_the_users_fault_spends_no_retry_but_is_not_tried_for_ever() {
        let end = ended(AttemptOutcome::Failed, Reason::Image, Blame::Platform);
        let mut tried = Try { spent: 0, unblamed: 0 };
        for _ in 1..limits::UNBLAMED_ATTEMPTS {
            let (to, next) = after_attempt(&rule(0, &[]), tried, trial(&end), TimeMs(0));
            assert!(matches!(to, TaskState::Waiting(_)), "{to:?}");
            tried = next;
        }
        assert_eq!(tried.spent, 0);
        let (to, _) = after_attempt(&rule(0, &[]), tried, trial(&end), TimeMs(0));
        assert_eq!(to, TaskState::Done(TaskOutcome::Failed));
    }

    #[test]
    fn being_preempted_is_not_counted_and_being_lost_is_made_good_at_once() {
        let tried = Try { spent: 1, unblamed: 2 };
        let preempted = ended(AttemptOutcome::Preempted, Reason::Preempted, Blame::Platform);
        assert_eq!(after_attempt(&rule(0, &[]), tried, trial(&preempted), TimeMs(0)), (TaskState::Ready, tried));
        let lost = ended(AttemptOutcome::Lost, Reason::NodeLost, Blame::Platform);
        let (to, next) = after_attempt(&rule(0, &[]), tried, trial(&lost), TimeMs(0));
        assert_eq!((to, next), (TaskState::Ready, Try { spent: 1, unblamed: 3 }));
    }

    #[test]
    fn the_first_exception_that_an_end_falls_under_decides_about_it() {
        let codes = |codes: &[i32]| codes.iter().copied().collect();
        let exception = |reasons: &[Reason], exit_codes: &[i32], times, backoff| RetryRule {
            reasons: reasons.iter().copied().collect(),
            exit_codes: codes(exit_codes),
            times,
            backoff,
        };
        let fixed = Growth { factor: 1, ..Growth::DOUBLING };
        let rule = Retry {
            rules: vec![
                exception(&[Reason::Oom], &[], Some(1), None),
                exception(&[], &[42, 43], None, Some(Backoff { first_ms: 7, growth: fixed })),
                exception(&[Reason::Exit], &[1], Some(0), None),
            ],
            ..rule(3, &[RetryOn::Failed])
        };
        let none = Try { spent: 0, unblamed: 0 };
        let to = |end: &End, alike| after_attempt(&rule, none, Trial { end, alike, salt: 0 }, TimeMs(0)).0;
        let oom = ended(AttemptOutcome::Failed, Reason::Oom, Blame::User);
        let exit = |code| End { exit_code: Some(code), ..ended(AttemptOutcome::Failed, Reason::Exit, Blame::User) };
        let failed = TaskState::Done(TaskOutcome::Failed);
        assert_eq!((to(&oom, 1), to(&oom, 2)), (TaskState::Waiting(TimeMs(10)), failed), "although `on` lacks it");
        assert_eq!(
            (to(&exit(42), 1), to(&exit(43), 3)),
            (TaskState::Waiting(TimeMs(7)), TaskState::Waiting(TimeMs(7)))
        );
        assert_eq!((to(&exit(1), 1), to(&exit(2), 0)), (failed, TaskState::Waiting(TimeMs(10))));
        let spent = Try { spent: 3, unblamed: 0 };
        let (to, _) = after_attempt(&rule, spent, Trial { end: &exit(42), alike: 1, salt: 0 }, TimeMs(0));
        assert_eq!(to, failed, "no exception allows more than all together");
    }

    #[test]
    fn waits_grow_as_their_rule_says_and_jitter_takes_at_most_half_of_them() {
        let waits = |growth| (1..6).map(|tries| length(10, growth, tries, 0)).collect::<Vec<_>>();
        assert_eq!(waits(Growth { factor: 1, ..Growth::DOUBLING }), [10; 5]);
        assert_eq!(waits(Growth { factor: 3, max_ms: Some(100), jitter: false }), [10, 30, 90, 100, 100]);
        let jitter = Growth { jitter: true, ..Growth::DOUBLING };
        let key = |task| TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(task) };
        let lengths: BTreeSet<_> =
            (0..200).map(|task| length(1_000, jitter, 1, salt(Revision(7), TimeMs(5), key(task)))).collect();
        assert!(lengths.len() > 100 && lengths.iter().all(|ms| (500..=1_000).contains(ms)), "{lengths:?}");
        assert_eq!(salt(Revision(7), TimeMs(5), key(3)), salt(Revision(7), TimeMs(5), key(3)));
        assert_eq!(length(0, jitter, 9, 3), 0);
    }
}
