//! How an attempt's exit becomes its end: reason, blame, and one sentence for a person. Pure.

use std::collections::BTreeMap;

use flowyard_model::{AttemptOutcome, Blame, End, Logs, Reason, StuckPhase, limits};

use crate::runtime::spec::{ExitCause, ExitRecord};

/// Exit codes that shells give a command that could not be run.
const NOT_EXECUTABLE: i32 = 126;

/// An end with nothing but its cause.
pub fn bare(outcome: AttemptOutcome, reason: Reason, blame: Blame, message: impl Into<String>) -> End {
    End {
        outcome,
        reason,
        blame,
        exit_code: None,
        signal: None,
        message: bounded(message.into()),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    }
}

/// A failure that the user can mend.
pub fn users(reason: Reason, message: impl Into<String>) -> End {
    bare(AttemptOutcome::Failed, reason, Blame::User, message)
}

/// A failure of ours, or of the operator's.
pub fn platforms(reason: Reason, message: impl Into<String>) -> End {
    bare(AttemptOutcome::Failed, reason, Blame::Platform, message)
}

/// The end of an attempt that made no progress for `limit_ms`.
pub fn stuck_end(phase: StuckPhase, limit_ms: u64) -> End {
    let limit = shown_time(limit_ms);
    let message = match phase {
        StuckPhase::Accepting => format!("the agent did not take it for {limit}"),
        StuckPhase::Fetching => {
            format!("what it needs did not come: no byte of code, inputs or image moved for {limit}")
        }
        StuckPhase::Starting => format!("its process did not start within {limit} and was killed"),
        StuckPhase::Storing => format!("its outputs and logs could not be stored: no byte moved for {limit}"),
        StuckPhase::Stopping => format!("it was killed and was still there {limit} later"),
    };
    platforms(Reason::Stuck, message)
}

/// The end of an attempt whose process was watched to its end. Outputs and logs are added afterwards.
pub fn of_exit(record: &ExitRecord) -> End {
    let mut end = of_cause(&record.cause);
    end.peak_memory_bytes = record.peak_memory_bytes;
    end.cpu_us = record.cpu_us;
    end
}

fn of_cause(cause: &ExitCause) -> End {
    match cause {
        ExitCause::Exited { code: 0 } => {
            End { exit_code: Some(0), ..bare(AttemptOutcome::Succeeded, Reason::Exit, Blame::User, "") }
        }
        ExitCause::Exited { code } => {
            End { exit_code: Some(*code), ..users(Reason::Exit, format!("the command exited with code {code}")) }
        }
        ExitCause::Signalled { signal } => {
            let message = format!("the command was ended by signal {signal} ({})", signal_name(*signal));
            End { signal: Some(*signal), ..users(Reason::Signal, message) }
        }
        ExitCause::OutOfMemory { limit_bytes } => {
            let message = format!(
                "the command used more memory than its limit of {}; ask for more with `memory`",
                shown_bytes(*limit_bytes)
            );
            End { signal: Some(9), ..users(Reason::Oom, message) }
        }
        ExitCause::TimedOut { limit_ms } => {
            users(Reason::Timeout, format!("the command ran longer than its `timeout` of {}", shown_time(*limit_ms)))
        }
        ExitCause::Stopped => bare(AttemptOutcome::Stopped, Reason::Cancelled, Blame::User, "stopped on request"),
        ExitCause::LeaseExpired => bare(
            AttemptOutcome::Lost,
            Reason::LeaseExpired,
            Blame::Platform,
            "the lease ended without word from the agent",
        ),
        ExitCause::CommandFailed { code, message } => {
            let message = match *code {
                NOT_EXECUTABLE => format!("{message}; make it executable, or name an interpreter in front of it"),
                _ => message.clone(),
            };
            End { exit_code: Some(*code), ..users(Reason::Command, message) }
        }
        ExitCause::StartFailed { message } => platforms(Reason::Sandbox, message.clone()),
    }
}

/// At most as long as state keeps, cut between characters, without anything that moves a terminal's cursor.
fn bounded(message: String) -> String {
    let clean: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = clean.len().min(limits::MESSAGE_BYTES);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean[..end].to_owned()
}

/// Bytes in the largest unit that keeps them exact, or with one digit after the point.
pub fn shown_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < UNITS.len() && bytes >= scale * 1024 {
        scale *= 1024;
        unit += 1;
    }
    match (bytes / scale, bytes % scale * 10 / scale) {
        (whole, 0) => format!("{whole}{}", UNITS[unit]),
        (whole, tenth) => format!("{whole}.{tenth}{}", UNITS[unit]),
    }
}

fn shown_time(ms: u64) -> String {
    match ms {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = source.source();
    }
    text
}

fn signal_name(signal: i32) -> &'static str {
    nix::sys::signal::Signal::try_from(signal).map_or("unknown", nix::sys::signal::Signal::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(cause: ExitCause) -> End {
        of_exit(&ExitRecord { cause, started_at_ms: None, ended_at_ms: 1, peak_memory_bytes: 7, cpu_us: 8 })
    }

    #[test]
    fn every_cause_has_its_reason_and_its_blame() {
        let oom = exit(ExitCause::OutOfMemory { limit_bytes: 256 << 20 });
        assert_eq!((oom.reason, oom.blame, oom.peak_memory_bytes), (Reason::Oom, Blame::User, 7));
        assert!(oom.message.contains("256MiB"), "{}", oom.message);
        let late = exit(ExitCause::TimedOut { limit_ms: 600_000 });
        assert!(late.reason == Reason::Timeout && late.message.contains("10m"), "{}", late.message);
        let good = exit(ExitCause::Exited { code: 0 });
        assert_eq!((good.outcome, good.exit_code), (AttemptOutcome::Succeeded, Some(0)));
        assert_eq!(exit(ExitCause::Exited { code: 3 }).exit_code, Some(3));
        assert!(exit(ExitCause::Signalled { signal: 11 }).message.contains("SIGSEGV"));
        assert_eq!(exit(ExitCause::StartFailed { message: "x".into() }).blame, Blame::Platform);
    }

    #[test]
    fn messages_are_bounded_and_harmless() {
        let end = users(Reason::Command, "\u{1b}[31m".to_owned() + &"ä".repeat(limits::MESSAGE_BYTES));
        assert!(end.message.len() <= limits::MESSAGE_BYTES && !end.message.contains('\u{1b}'));
    }
}
