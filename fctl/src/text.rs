//! Small things as people read them: times, sizes, counts, states.

use flowyard_proto::api;

/// A duration: `850ms`, `12.3s`, `4m05s`, `2h10m`, `3d04h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A moment, in the calendar and in UTC: `2026-11-29T20:15:00.123Z`.
pub(crate) fn moment(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1_000, at_ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the day that some have more is the last one.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let part = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * part + 2) / 5 + 1, if part < 10 { part + 3 } else { part - 9 });
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// How long ago a moment was.
pub(crate) fn ago(at_ms: u64) -> String {
    format!("{} ago", duration(flowyard_clock::wall_ms().saturating_sub(at_ms)))
}

/// A size with a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scale = 1_u64;
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    match (bytes / scale, bytes % scale * 10 / scale) {
        (whole, _) if unit == 0 || whole >= 100 => format!("{whole}{}", UNITS[unit]),
        (whole, tenth) => format!("{whole}.{tenth}{}", UNITS[unit]),
    }
}

/// CPUs from thousandths.
pub(crate) fn cpu(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count with its noun.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// State of a job.
pub(crate) fn job_state(state: api::JobPhase) -> &'static str {
    match state {
        api::JobPhase::Unspecified => "unknown",
        api::JobPhase::Active => "active",
        api::JobPhase::Succeeded => "succeeded",
        api::JobPhase::Failed => "failed",
        api::JobPhase::Cancelled => "cancelled",
    }
}

/// State of a task.
pub(crate) fn task_state(state: api::TaskState) -> &'static str {
    match state {
        api::TaskState::Unspecified => "unknown",
        api::TaskState::Blocked => "blocked",
        api::TaskState::Ready => "ready",
        api::TaskState::Waiting => "waiting",
        api::TaskState::Active => "active",
        api::TaskState::Succeeded => "succeeded",
        api::TaskState::Failed => "failed",
        api::TaskState::Cancelled => "cancelled",
        api::TaskState::Skipped => "skipped",
    }
}

/// The words of a closed enum of the API, from its wire name without prefix: `REASON_NODE_LOST` is `node_lost`.
pub(crate) fn word(wire_name: &str, prefix: &str) -> String {
    wire_name.strip_prefix(prefix).unwrap_or(wire_name).to_ascii_lowercase()
}

/// A text of unknown origin, whole, with what a terminal would obey made harmless.
pub(crate) fn harmless(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    // `shown` cuts what is long; a piece of this length it leaves whole.
    characters.chunks(64).map(|piece| flowyard_sdk::shown::shown(&piece.iter().collect::<String>())).collect()
}

/// Counts by state, without the zeros: `3 active, 97 ready`.
pub(crate) fn counts(counts: &api::TaskCounts) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(moment(1_796_000_000_000), "2026-11-30T00:53:20.000Z");
    }

    #[test]
    fn a_long_text_stays_whole_and_is_harmless() {
        let long = "x".repeat(200);
        assert_eq!(harmless(&format!("{long}\u{1b}")), format!("{long}\\u{{1b}}"));
    }

    #[test]
    fn quantities_read_well() {
        assert_eq!(duration(850), "850ms");
        assert_eq!(duration(12_340), "12.3s");
        assert_eq!(duration(245_000), "4m05s");
        assert_eq!(duration(26 * 3_600_000), "1d02h");
        assert_eq!(size(0), "0B");
        assert_eq!(size(1_536), "1.5KiB");
        assert_eq!(size(300 << 20), "300MiB");
        assert_eq!(cpu(500), "0.5");
        assert_eq!(cpu(2_000), "2");
        assert_eq!(count(1, "task"), "1 task");
    }
}
