//! Quantities, counts and references in words; and a finding, built up.

use flowyard_model::{JobId, StepIndex, TaskCounts};
use flowyard_proto::api::Finding;
use flowyard_state::View;

/// What is so, and why.
pub(in crate::api) fn finding(subject: String, state: &str, reason: impl Into<String>) -> Finding {
    Finding {
        subject,
        state: state.to_owned(),
        reason: reason.into(),
        details: Vec::new(),
        advice: Vec::new(),
        explanation: None,
    }
}

/// Adding to a finding.
pub(super) trait Told: Sized {
    /// Facts behind the reason.
    fn with_details(self, details: impl IntoIterator<Item = String>) -> Self;
    /// What to do.
    fn with_advice(self, advice: impl IntoIterator<Item = String>) -> Self;
}

impl Told for Finding {
    fn with_details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    fn with_advice(mut self, advice: impl IntoIterator<Item = String>) -> Self {
        self.advice.extend(advice);
        self
    }
}

/// `17/train`.
pub(super) fn step_reference(view: &View, job: JobId, step: StepIndex) -> String {
    match view.step_spec(job, step) {
        Some(spec) => format!("{job}/{}", spec.name),
        None => format!("{job}/{step}"),
    }
}

/// A count with its noun.
pub(in crate::api) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Counts by state, without the zeros.
pub(super) fn counts(counts: &TaskCounts) -> String {
    let parts = [
        (counts.active, "active"),
        (counts.ready, "ready"),
        (counts.waiting, "waiting"),
        (counts.blocked, "blocked"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.skipped, "skipped"),
    ];
    let parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if parts.is_empty() { "no tasks".to_owned() } else { parts.join(", ") }
}

/// A duration.
pub(super) fn duration(ms: u64) -> String {
    match ms / 1_000 {
        0 => format!("{ms}ms"),
        seconds @ 1..60 => format!("{seconds}.{}s", ms % 1_000 / 100),
        seconds @ 60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A size, exact where it is whole in its unit.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit);
    match unit {
        None => format!("{bytes}B"),
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{}{name}", bytes / unit),
        Some((unit, name)) => format!("{}.{}{name}", bytes / unit, bytes % unit * 10 / unit),
    }
}

/// CPUs from thousandths.
pub(super) fn cpu(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
