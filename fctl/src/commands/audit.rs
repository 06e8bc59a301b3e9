//! `fctl audit`: who did what, from where, and what came of it.

use std::process::ExitCode;

use flowyard_proto::cluster::read_audit_response::Said;
use flowyard_proto::cluster::{AuditEntry, ReadAuditRequest};
use serde_json::{Value, json};

use super::Outcome;
use crate::asking::asking;
use crate::cli::Global;
use crate::cli::audit::Audit;
use crate::{output, text};

pub(super) async fn run(global: &Global, asked: &Audit) -> Outcome {
    let since_ms = asked.since.map_or(0, |ago| flowyard_clock::wall_ms().saturating_sub(ago));
    let request = ReadAuditRequest { since_ms, follow: asked.follow };
    let json = asked.json || output::is_json();
    asking(global, async |client| {
        let mut said = client.read_audit(request).await?;
        while let Some(answer) = said.message().await.map_err(|status| client.sorted(status))? {
            match answer.said {
                Some(Said::Entry(entry)) => print(&entry, json),
                Some(Said::SilentCoordinator(replica)) => {
                    output::note(format!("coordinator {replica} does not answer; what it wrote down is missing"));
                }
                None => {}
            }
        }
        Ok(())
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// An entry for programs.
pub(super) fn as_json(entry: &AuditEntry) -> Value {
    let AuditEntry { at_ms, caller, role, address, action, object, result, coordinator } = entry;
    json!({
        "at_ms": at_ms, "caller": caller, "role": role, "address": address, "action": action, "object": object,
        "result": result, "coordinator": coordinator,
    })
}

fn print(entry: &AuditEntry, json: bool) {
    if json {
        output::json(&as_json(entry));
        return;
    }
    let part = |text: &str| if text.is_empty() { String::new() } else { format!("  {}", text::harmless(text)) };
    output::line(format!(
        "{}  {} ({}) from {}  {}{}{}",
        text::moment(entry.at_ms),
        text::harmless(&entry.caller),
        entry.role,
        text::harmless(&entry.address),
        text::harmless(&entry.action),
        part(&entry.object),
        part(&entry.result),
    ));
}
