//! An attempt in lines for people: where, how long in which phase, how it ended, what it used and wrote.

use flowyard_proto::api;

use crate::table::{Table, cell, paint, tone_of};
use crate::text::{self, harmless, word};
use crate::{output, record};

/// How the process ended: its exit code or its signal.
pub(crate) fn exit(end: &api::End) -> String {
    match (end.exit_code, end.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "-".to_owned(),
    }
}

/// Prints an attempt; one member is the rule.
pub(crate) fn print(task: &str, attempt: &api::Attempt) {
    let replaced = attempt.replaced.iter().filter_map(|it| Some((it.rank, it.member.as_ref()?, ", replaced")));
    for (rank, member, note) in replaced.chain((0..).zip(&attempt.members).map(|(rank, member)| (rank, member, ""))) {
        let rank = if attempt.members.len() > 1 { format!(".{rank}") } else { String::new() };
        let state = match &member.end {
            Some(end) => word(end.outcome().as_str_name(), "ATTEMPT_OUTCOME_"),
            None => word(member.phase().as_str_name(), "PHASE_"),
        };
        output::line("");
        output::line(format!("attempt {task}#{}{rank}  {}{note}", attempt.number, paint(&state, tone_of(&state))));
        facts(attempt, member).print();
    }
}

fn facts(attempt: &api::Attempt, member: &api::Member) -> Table {
    let mut facts = Table::bare().indented(2);
    facts.row([cell("node"), cell(&member.node_name)]);
    for gpu in &member.gpus {
        let fake = if gpu.fake { " (fake)" } else { "" };
        facts.row([cell("gpu"), cell(format!("{} {}{fake}", gpu.model, gpu.id))]);
    }
    if let Some(at) = member.gpu_alternative {
        facts.row([cell("asked"), cell(format!("alternative {}, {}", at + 1, harmless(&member.gpu_request)))]);
    }
    facts.row([cell("placed"), cell(text::ago(attempt.placed_ms))]);
    let phases = phases(attempt.placed_ms, &member.times.unwrap_or_default(), flowyard_clock::wall_ms());
    facts.row([cell("phases"), cell(phases)]);
    if member.stuck() != api::StuckPhase::Unspecified {
        facts.row([cell("stuck"), cell(word(member.stuck().as_str_name(), "STUCK_PHASE_"))]);
    }
    if let Some(preempted) = &attempt.preempted {
        let (whom, right) = evicted(preempted);
        facts.row([cell("evicted"), cell(format!("{}, to make room for {whom},", text::ago(preempted.at_ms)))]);
        facts.row([cell(""), cell(right)]);
    }
    if let Some(at_ms) = attempt.saved_at_ms {
        facts.row([cell("saved"), cell(text::ago(at_ms))]);
    }
    if attempt.generation > 0 {
        facts.row([cell("generation"), cell(attempt.generation.to_string())]);
    }
    if let Some(until_ms) = attempt.repairing_until_ms {
        let left = text::duration(until_ms.saturating_sub(flowyard_clock::wall_ms()));
        facts.row([cell("repairing"), cell(format!("members are missing; given up in {left}"))]);
    }
    let Some(end) = &member.end else { return facts };
    facts.row([cell("exit"), cell(exit(end))]);
    let failed = end.outcome() != api::AttemptOutcome::Succeeded;
    if failed {
        facts.row([cell("reason"), cell(word(end.reason().as_str_name(), "REASON_"))]);
        facts.row([cell("blame"), cell(word(end.blame().as_str_name(), "BLAME_"))]);
        for piece in pieces(&harmless(&end.message)) {
            facts.row([cell(piece.0), cell(piece.1)]);
        }
    }
    facts.row([cell("peak memory"), cell(text::size(end.peak_memory_bytes))]);
    facts.row([cell("cpu time"), cell(text::duration(end.cpu_us / 1_000))]);
    for (name, output) in &end.outputs {
        let digest = record::digest(output.manifest.as_ref());
        facts.row([cell("output"), cell(format!("{name}  ({})", short(&digest)))]);
    }
    facts
}

/// For whom an attempt made room, and by what right.
fn evicted(preempted: &api::Preempted) -> (String, &'static str) {
    let by = preempted.by.unwrap_or_default();
    let right = match preempted.kind() {
        api::EvictionKind::Priority => "which has a higher priority",
        api::EvictionKind::Reclaim => "whose queue is promised what this one had borrowed",
        api::EvictionKind::Unspecified => "",
    };
    (format!("task {} of step {} of job {}", by.task, by.step + 1, by.job), right)
}

/// A long message as rows that a cell holds whole.
fn pieces(message: &str) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    for word in message.split(' ') {
        match lines.last_mut() {
            Some((_, line)) if line.chars().count() + 1 + word.chars().count() <= 76 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push((if lines.is_empty() { "message" } else { "" }, word.to_owned())),
        }
    }
    lines
}

/// The beginning of a digest, enough for people.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// How long it was in each phase it has reached; the last goes on until `now`.
fn phases(placed: u64, times: &api::PhaseTimes, now: u64) -> String {
    let reached = [
        ("placed", Some(placed)),
        ("accepted", times.accepted_ms),
        ("fetching", times.fetching_ms),
        ("running", times.running_ms),
        ("storing", times.storing_ms),
        ("ended", times.ended_ms),
    ];
    let reached: Vec<_> = reached.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
    let until = reached.iter().skip(1).map(|(_, at)| *at).chain([now]);
    let spans = reached.iter().zip(until).filter(|((name, _), _)| *name != "ended");
    let spans = spans.map(|((name, at), until)| format!("{name} {}", text::duration(until.saturating_sub(*at))));
    spans.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_last_until_the_next_that_was_reached() {
        let mut times =
            api::PhaseTimes { accepted_ms: Some(1_010), running_ms: Some(1_030), ..api::PhaseTimes::default() };
        assert_eq!(phases(1_000, &times, 3_030), "placed 10ms, accepted 20ms, running 2.0s");
        (times.storing_ms, times.ended_ms) = (Some(1_530), Some(1_531));
        assert_eq!(phases(1_000, &times, 9_999), "placed 10ms, accepted 20ms, running 500ms, storing 1ms");
    }

    #[test]
    fn a_long_message_is_broken_into_rows_without_loss() {
        let message = "word ".repeat(60);
        let rows = pieces(message.trim_end());
        assert!(rows.len() > 1 && rows.iter().all(|(_, row)| row.chars().count() <= 76));
        let whole: Vec<_> = rows.iter().map(|(_, row)| row.as_str()).collect();
        assert_eq!(whole.join(" "), message.trim_end());
    }
}
