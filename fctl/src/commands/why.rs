//! `fctl why`.

use std::process::ExitCode;

use flowyard_model::Reference;
use flowyard_proto::api;
use serde_json::{Value, json};

use super::Outcome;
use crate::asking::{asking, same_cluster};
use crate::cli::Global;
use crate::table::{paint, tone_of};
use crate::text::harmless;
use crate::{output, target};

pub(super) async fn run(global: &Global, reference: &Reference) -> Outcome {
    let api::WhyResponse { findings, revision } = asking(global, async |client| {
        let target = target::find(client, reference).await?;
        let request = api::WhyRequest { job: reference.job.0, step: target.step, task: target.task };
        Ok(client.why(request).await?)
    })
    .await?;
    if output::is_json() {
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        output::json(&json!({ "findings": findings, "revision": revision }));
        return Ok(ExitCode::SUCCESS);
    }
    for finding in &findings {
        for line in lines(finding, &same_cluster(global)) {
            output::line(line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For programs.
pub(super) fn as_json(finding: &api::Finding) -> Value {
    json!({
        "subject": finding.subject,
        "state": finding.state,
        "reason": finding.reason,
        "details": finding.details,
        "advice": finding.advice,
        "explanation": finding.explanation.as_ref().map(explanation),
    })
}

fn explanation(told: &api::Explanation) -> Value {
    let ahead = |group: &api::LineGroup| {
        let api::LineGroup { queue, owner, priority, tasks } = group;
        json!({ "queue": queue, "owner": owner, "priority": priority, "tasks": tasks })
    };
    let position = told.position.as_ref().map(|at| {
        let groups: Vec<_> = at.ahead.iter().map(ahead).collect();
        json!({ "before": at.before, "exact": at.exact, "ahead": groups, "text": at.text })
    });
    let start = told.start.as_ref().map(|start| {
        json!({
            "kind": start.kind,
            "at_ms": start.at_ms,
            "joined": start.joined,
            "ends": start.ends,
            "unknown_followers": start.unknown_followers,
            "runs": start.runs,
            "learned": start.learned,
            "expected": start.expected,
            "throttled": start.throttled,
            "starting": start.starting,
            "overdue": start.overdue,
            "endless": start.endless,
            "endless_all": start.endless_all,
            "text": start.text,
        })
    });
    json!({
        "nodes": told.nodes,
        "placed_of_step": told.placed_of_step,
        "alternative": told.alternative,
        "bounds": told.bounds.iter().map(bound).collect::<Vec<_>>(),
        "kept": told.kept.iter().map(kept).collect::<Vec<_>>(),
        "rejections": told.rejections.iter().map(rejection).collect::<Vec<_>>(),
        "nodes_all": told.nodes_all,
        "nodes_closed": told.nodes_closed,
        "nodes_fitting": told.nodes_fitting,
        "seats": told.seats,
        "position": position,
        "start": start,
        "fixes": told.fixes.iter().map(fix).collect::<Vec<_>>(),
        "rounds": told.rounds,
        "cut": told.cut,
    })
}

fn bound(bound: &api::QueueBound) -> Value {
    let holder = |it: &api::BoundHolder| json!({ "queue": it.queue, "owner": it.owner, "held": it.held });
    json!({
        "alternative": bound.alternative,
        "queue": known(&bound.queue),
        "on": bound.on,
        "resource": known(&bound.resource),
        "held": bound.held,
        "need": bound.need,
        "most": bound.most,
        "holders": bound.holders.iter().map(holder).collect::<Vec<_>>(),
        "held_by_others": bound.held_by_others,
        "kept": bound.kept,
        "kept_for": bound.kept_for.iter().map(holder).collect::<Vec<_>>(),
    })
}

fn kept(kept: &api::KeptFree) -> Value {
    let keeper = |it: &api::BoundHolder| json!({ "queue": it.queue, "kept": it.held });
    json!({
        "resource": kept.resource,
        "need": kept.need,
        "free": kept.free,
        "kept": kept.kept,
        "keepers": kept.keepers.iter().map(keeper).collect::<Vec<_>>(),
    })
}

fn rejection(it: &api::NodeRejection) -> Value {
    json!({ "kind": it.kind, "nodes": it.nodes, "example": it.example, "text": it.text })
}

fn fix(fix: &api::StartFix) -> Value {
    let change = |it: &api::StartChange| {
        json!({
            "what": it.what,
            "alternative": it.alternative,
            "queue": known(&it.queue),
            "resource": known(&it.resource),
            "from": it.from,
            "to": it.to,
            "value": known(&it.value),
            "text": it.text,
        })
    };
    let changes: Vec<_> = fix.changes.iter().map(change).collect();
    json!({ "changes": changes, "nodes": fix.nodes, "smallest": fix.smallest, "text": fix.text })
}

/// What does not apply is null.
fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What is so, why, and what to do.
pub(super) fn lines(finding: &api::Finding, cluster: &str) -> Vec<String> {
    let state = harmless(&finding.state);
    let mut lines = vec![
        format!("{}  {}", harmless(&finding.subject), paint(&state, tone_of(&state))),
        format!("  {}", harmless(&finding.reason)),
    ];
    lines.extend(finding.details.iter().map(|detail| format!("    - {}", harmless(detail))));
    lines.extend(finding.explanation.iter().flat_map(explained));
    // Advice that is a command of ours must reach the same cluster.
    let command = |advice: &str| if advice.starts_with("fctl ") { cluster.to_owned() } else { String::new() };
    lines.extend(finding.advice.iter().map(|advice| format!("  try: {}{}", harmless(advice), command(advice))));
    lines
}

/// Its place in the line, when it would start, and what would let it start now.
fn explained(told: &api::Explanation) -> Vec<String> {
    let starts = !told.nodes.is_empty();
    let mut lines = Vec::new();
    if starts {
        let mut nodes = told.nodes.clone();
        nodes.dedup();
        lines.push(format!("  it starts on {}", harmless(&nodes.join(", "))));
        return lines;
    }
    lines.extend(told.position.iter().map(|at| format!("  place in line: {}", harmless(&at.text))));
    lines.extend(told.start.iter().map(|start| format!("  starts: {}", harmless(&start.text))));
    lines.extend(told.fixes.iter().map(|fix| format!("  would start now with: {}", harmless(&fix.text))));
    if told.fixes.is_empty() && !told.cut {
        lines.push("  no single change that was tried would let it start now".to_owned());
    }
    if told.cut {
        lines.push("  this is not all: looking further would have cost more than one question may".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_what_why_and_what_to_do() {
        let finding = api::Finding {
            subject: "17/train/3".to_owned(),
            state: "ready".to_owned(),
            reason: "no node has room".to_owned(),
            details: vec!["2 nodes: memory\u{1b}[2J".to_owned()],
            advice: vec!["ask for less memory".to_owned(), "fctl nodes".to_owned()],
            explanation: None,
        };
        let expected = [
            "17/train/3  ready",
            "  no node has room",
            "    - 2 nodes: memory\\u{1b}[2J",
            "  try: ask for less memory",
            "  try: fctl nodes --local",
        ];
        assert_eq!(lines(&finding, " --local"), expected);
    }

    #[test]
    fn an_explanation_says_place_start_and_each_fix_and_that_it_is_not_all() {
        let text = |text: &str| text.to_owned();
        let mut told = api::Explanation {
            position: Some(api::LinePosition { text: text("it is first in line"), ..api::LinePosition::default() }),
            start: Some(api::StartEstimate { text: text("in 5m"), ..api::StartEstimate::default() }),
            fixes: vec![api::StartFix { text: text("2 GPUs fewer"), ..api::StartFix::default() }],
            cut: true,
            ..api::Explanation::default()
        };
        let expected = [
            "  place in line: it is first in line",
            "  starts: in 5m",
            "  would start now with: 2 GPUs fewer",
            "  this is not all: looking further would have cost more than one question may",
        ];
        assert_eq!(explained(&told), expected);
        told.nodes = vec![text("n1"), text("n1")];
        assert_eq!(explained(&told), ["  it starts on n1"]);
    }
}
