//! `fctl why`.

use std::process::ExitCode;

use flowyard_model::Reference;
use flowyard_proto::api;
use serde_json::json;

use super::Outcome;
use crate::asking::{asking, same_cluster};
use crate::cli::Global;
use crate::table::{paint, tone_of};
use crate::text::harmless;
use crate::{output, target};

pub(super) async fn run(global: &Global, reference: &Reference) -> Outcome {
    let findings = asking(global, async |client| {
        let target = target::find(client, reference).await?;
        let request = api::WhyRequest { job: reference.job.0, step: target.step, task: target.task };
        Ok(client.why(request).await?.findings)
    })
    .await?;
    if output::is_json() {
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        output::json(&json!({ "findings": findings }));
        return Ok(ExitCode::SUCCESS);
    }
    for finding in &findings {
        for line in lines(finding, &same_cluster(global)) {
            output::line(line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(finding: &api::Finding) -> serde_json::Value {
    json!({
        "subject": finding.subject,
        "state": finding.state,
        "reason": finding.reason,
        "details": finding.details,
        "advice": finding.advice,
    })
}

/// What is so, why, and what to do.
fn lines(finding: &api::Finding, cluster: &str) -> Vec<String> {
    let state = harmless(&finding.state);
    let mut lines = vec![
        format!("{}  {}", harmless(&finding.subject), paint(&state, tone_of(&state))),
        format!("  {}", harmless(&finding.reason)),
    ];
    lines.extend(finding.details.iter().map(|detail| format!("    - {}", harmless(detail))));
    // Advice that is a command of ours must reach the same cluster.
    let command = |advice: &str| if advice.starts_with("fctl ") { cluster.to_owned() } else { String::new() };
    lines.extend(finding.advice.iter().map(|advice| format!("  try: {}{}", harmless(advice), command(advice))));
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
}
