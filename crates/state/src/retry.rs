//! Whether a task is tried again after an attempt, and when. A pure function of the rule and the end.

use flowyard_model::{AttemptOutcome, Blame, End, Reason, Retry, RetryOn, TaskOutcome, TaskState, TimeMs, limits};

/// How often a task was tried in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Try {
    /// Attempts that spent a retry.
    pub(crate) spent: u32,
    /// Attempts that ended through no fault of the user.
    pub(crate) unblamed: u32,
}

/// Where the task of a job that is not stopping goes after an attempt ended like this.
pub(crate) fn after_attempt(rule: &Retry, mut tried: Try, end: &End, now: TimeMs) -> (TaskState, Try) {
    let users = end.blame == Blame::User;
    let to = match end.outcome {
        AttemptOutcome::Succeeded => TaskState::Done(TaskOutcome::Succeeded),
        AttemptOutcome::Preempted => TaskState::Ready,
        AttemptOutcome::Failed if users => {
            tried.spent += 1;
            if tried.spent <= rule.times && rule.on.contains(&kind(end.reason)) {
                wait(rule.backoff_ms, tried.spent, now)
            } else {
                TaskState::Done(TaskOutcome::Failed)
            }
        }
        AttemptOutcome::Failed | AttemptOutcome::Rejected | AttemptOutcome::Stopped | AttemptOutcome::Lost => {
            tried.unblamed += 1;
            let at_once = matches!(end.outcome, AttemptOutcome::Lost | AttemptOutcome::Stopped);
            let backoff_ms = if at_once { 0 } else { limits::UNBLAMED_BACKOFF_MS };
            if tried.unblamed >= limits::UNBLAMED_ATTEMPTS {
                TaskState::Done(TaskOutcome::Failed)
            } else {
                wait(backoff_ms, tried.unblamed, now)
            }
        }
    };
    (to, tried)
}

fn kind(reason: Reason) -> RetryOn {
    match reason {
        Reason::Oom => RetryOn::Oom,
        Reason::Timeout => RetryOn::Timeout,
        _ => RetryOn::Failed,
    }
}

/// Doubled for each try after the first.
fn wait(backoff_ms: u64, tries: u32, now: TimeMs) -> TaskState {
    let doublings = (tries - 1).min(limits::BACKOFF_DOUBLINGS);
    match backoff_ms.saturating_mul(1 << doublings) {
        0 => TaskState::Ready,
        wait_ms => TaskState::Waiting(now.after(wait_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::lost;

    fn rule(times: u32, on: &[RetryOn]) -> Retry {
        Retry { times, backoff_ms: 10, on: on.iter().copied().collect() }
    }

    fn ended(outcome: AttemptOutcome, reason: Reason, blame: Blame) -> End {
        End { outcome, reason, blame, ..lost(reason, blame, "") }
    }

    #[test]
    fn a_wait_doubles_up_to_sixty_four_fold() {
        let end = ended(AttemptOutcome::Failed, Reason::Exit, Blame::User);
        let rule = rule(100, &[RetryOn::Failed]);
        let waits: Vec<_> = (0..9)
            .map(|spent| after_attempt(&rule, Try { spent, unblamed: 0 }, &end, TimeMs(0)).0)
            .map(|state| if let TaskState::Waiting(until) = state { until.0 } else { 0 })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
    }

    #[test]
    fn only_ends_that_the_rule_names_are_tried_again() {
        let oom = ended(AttemptOutcome::Failed, Reason::Oom, Blame::User);
        let none = Try { spent: 0, unblamed: 0 };
        let failed = TaskState::Done(TaskOutcome::Failed);
        assert_eq!(after_attempt(&rule(3, &[RetryOn::Failed]), none, &oom, TimeMs(0)).0, failed);
        assert_eq!(after_attempt(&rule(3, &[RetryOn::Oom]), none, &oom, TimeMs(0)).0, TaskState::Waiting(TimeMs(10)));
        assert_eq!(after_attempt(&rule(0, &[RetryOn::Oom]), none, &oom, TimeMs(0)).0, failed);
    }

    #[test]
    fn what_is_not_the_users_fault_spends_no_retry_but_is_not_tried_for_ever() {
        let end = ended(AttemptOutcome::Failed, Reason::Image, Blame::Platform);
        let mut tried = Try { spent: 0, unblamed: 0 };
        for _ in 1..limits::UNBLAMED_ATTEMPTS {
            let (to, next) = after_attempt(&rule(0, &[]), tried, &end, TimeMs(0));
            assert!(matches!(to, TaskState::Waiting(_)), "{to:?}");
            tried = next;
        }
        assert_eq!(tried.spent, 0);
        let (to, _) = after_attempt(&rule(0, &[]), tried, &end, TimeMs(0));
        assert_eq!(to, TaskState::Done(TaskOutcome::Failed));
    }

    #[test]
    fn being_preempted_is_not_counted_and_being_lost_is_made_good_at_once() {
        let tried = Try { spent: 1, unblamed: 2 };
        let preempted = ended(AttemptOutcome::Preempted, Reason::Preempted, Blame::Platform);
        assert_eq!(after_attempt(&rule(0, &[]), tried, &preempted, TimeMs(0)), (TaskState::Ready, tried));
        let lost = ended(AttemptOutcome::Lost, Reason::NodeLost, Blame::Platform);
        let (to, next) = after_attempt(&rule(0, &[]), tried, &lost, TimeMs(0));
        assert_eq!((to, next), (TaskState::Ready, Try { spent: 1, unblamed: 3 }));
    }
}
