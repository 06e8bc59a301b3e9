//! What a step says about failing and stopping, as `show` has it.

use flowyard_model::{Backoff, Retry, StepSpec, StopSignal};
use flowyard_proto::api;
use serde::Serialize;

use crate::text;

/// When its tasks are tried again, and how they are stopped.
#[derive(Debug, Serialize)]
pub(crate) struct Policy {
    retry: Retry,
    timeout_ms: Option<u64>,
    expected_ms: Option<u64>,
    stop_signal: &'static str,
    kill_grace_ms: u64,
    preemptible: bool,
    notice: Option<Notice>,
}

/// What is sent before the stop signal to one that is evicted.
#[derive(Debug, Serialize)]
struct Notice {
    signal: &'static str,
    ms: u64,
}

/// The policy of a step; `None` if this build does not understand what the cluster says.
pub(crate) fn of(spec: &api::StepSpec) -> Option<Policy> {
    let spec: StepSpec = spec.clone().try_into().ok()?;
    let StepSpec { retry, timeout_ms, expected_ms, stop_signal, kill_grace_ms, preemptible, notice, .. } = spec;
    let notice = notice.map(|notice| Notice { signal: signal(notice.signal), ms: notice.ms });
    let stop_signal = signal(stop_signal);
    Some(Policy { retry, timeout_ms, expected_ms, stop_signal, kill_grace_ms, preemptible, notice })
}

fn signal(signal: StopSignal) -> &'static str {
    match signal {
        StopSignal::Term => "SIGTERM",
        StopSignal::Int => "SIGINT",
        StopSignal::Hup => "SIGHUP",
        StopSignal::Quit => "SIGQUIT",
        StopSignal::Usr1 => "SIGUSR1",
        StopSignal::Usr2 => "SIGUSR2",
    }
}

impl Policy {
    /// In one line each, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.retry.times > 0 {
            let noun = if self.retry.times == 1 { "retry" } else { "retries" };
            let wait = wait(Backoff { first_ms: self.retry.backoff_ms, growth: self.retry.growth });
            lines.push(format!("{} {noun}, after {wait}", self.retry.times));
        }
        for rule in &self.retry.rules {
            let reasons = rule.reasons.iter().map(|reason| word(api::Reason::from(*reason)));
            let codes = rule.exit_codes.iter().map(|code| format!("exit code {code}"));
            let ends: Vec<_> = reasons.chain(codes).collect();
            let times = match rule.times {
                Some(0) => "never".to_owned(),
                Some(times) => format!("at most {times} of them"),
                None => "as many".to_owned(),
            };
            let wait = rule.backoff.map_or_else(String::new, |backoff| format!(", after {}", self::wait(backoff)));
            lines.push(format!("  on {}: {times}{wait}", ends.join(", ")));
        }
        lines.extend(self.timeout_ms.map(|ms| format!("stopped when it runs longer than {}", text::duration(ms))));
        lines.extend(self.expected_ms.map(|ms| format!("expected to run for {}", text::duration(ms))));
        let grace = text::duration(self.kill_grace_ms);
        lines.push(format!("stopped by {}, killed {grace} later", self.stop_signal));
        if let Some(Notice { signal, ms }) = &self.notice {
            lines.push(format!("when evicted: {signal} up to {} before", text::duration(*ms)));
        }
        if !self.preemptible {
            lines.push("never evicted".to_owned());
        }
        lines
    }
}

fn word(reason: api::Reason) -> String {
    text::word(reason.as_str_name(), "REASON_")
}

fn wait(Backoff { first_ms, growth }: Backoff) -> String {
    let first = text::duration(first_ms);
    let jitter = if growth.jitter { ", less up to half" } else { "" };
    match (first_ms, growth.factor) {
        (0, _) => "no wait".to_owned(),
        (_, 1) => format!("{first}{jitter}"),
        (_, factor) => {
            let most = text::duration(growth.max_ms.unwrap_or(first_ms.saturating_mul(64)));
            format!("{first}, each time {factor} times as long up to {most}{jitter}")
        }
    }
}

#[cfg(test)]
mod tests {
    use flowyard_model::{Growth, Reason, RetryOn, RetryRule};

    use super::*;

    #[test]
    fn a_policy_reads_as_what_is_tried_again_and_how_it_is_stopped() {
        let fixed = Growth { factor: 1, max_ms: None, jitter: true };
        let rule = |reasons: &[Reason], codes: &[i32], times, backoff| RetryRule {
            reasons: reasons.iter().copied().collect(),
            exit_codes: codes.iter().copied().collect(),
            times,
            backoff,
        };
        let rules = vec![
            rule(&[Reason::Oom], &[], Some(1), None),
            rule(&[], &[42], None, Some(Backoff { first_ms: 10_000, growth: fixed })),
        ];
        let retry = Retry { rules, ..Retry::plain(3, 1_000, [RetryOn::Failed]) };
        let notice = Some(Notice { signal: "SIGUSR1", ms: 20_000 });
        let (stop_signal, kill_grace_ms) = ("SIGINT", 10_000);
        let (timeout_ms, expected_ms) = (None, Some(1_200_000));
        let policy = Policy { retry, timeout_ms, expected_ms, stop_signal, kill_grace_ms, preemptible: false, notice };
        let expected = [
            "3 retries, after 1.0s, each time 2 times as long up to 1m04s",
            "  on oom: at most 1 of them",
            "  on exit code 42: as many, after 10.0s, less up to half",
            "expected to run for 20m00s",
            "stopped by SIGINT, killed 10.0s later",
            "when evicted: SIGUSR1 up to 20.0s before",
            "never evicted",
        ];
        assert_eq!(policy.lines(), expected);
    }
}
