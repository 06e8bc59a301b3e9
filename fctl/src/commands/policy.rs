//! `fctl policy`: what holds for all of the cluster.

use std::path::Path;
use std::process::ExitCode;

use flowyard_model::{Policy, Throttle};
use flowyard_proto::api;
use flowyard_sdk::policy_file;
use serde_json::{Map, Value, json};

use super::Outcome;
use crate::asking::{asking, asking_anybody};
use crate::cli::Global;
use crate::cli::policy::Policy as Command;
use crate::failure::Failure;
use crate::home::Home;
use crate::output;
use crate::table::{Table, cell};

pub(super) async fn run(global: &Global, command: Command) -> Outcome {
    match command {
        Command::Put(put) => self::put(global, &put.file).await,
        Command::Show(read) => show(global, read.stale).await,
    }
}

fn levels(policy: &Policy) -> Vec<&str> {
    policy.topology.iter().map(flowyard_model::Name::as_str).collect()
}

/// The levels for people.
fn listed(policy: &Policy) -> String {
    let levels = levels(policy);
    if levels.is_empty() { "none".to_owned() } else { levels.join(" > ") }
}

/// The policy for people, in a line.
fn said(policy: &Policy) -> String {
    let throttle = throttle(policy).map_or_else(String::new, |throttle| format!("; throttle {throttle}"));
    let tokens: Vec<_> = policy.tokens.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let tokens = if tokens.is_empty() { String::new() } else { format!("; tokens {}", tokens.join(", ")) };
    format!("topology {}{throttle}{tokens}", listed(policy))
}

/// The throttle for people; nothing if there is none.
fn throttle(policy: &Policy) -> Option<String> {
    let Throttle { per_job, per_node } = policy.throttle;
    let job = per_job.map(|most| format!("{most} per job"));
    let node = per_node.map(|most| format!("{most} per node"));
    let parts: Vec<_> = job.into_iter().chain(node).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

async fn put(global: &Global, file: &Path) -> Outcome {
    let policy = policy_file::load(file)?;
    if global.local {
        // It may be the first thing that a home keeps.
        Home::find()?.prepare()?;
    }
    let request = api::PutPolicyRequest { policy: Some((&policy).into()) };
    let answer = asking(global, async |client| Ok(client.put_policy(request).await?)).await?;
    let before = read(answer.before)?;
    let change = if before == policy { "unchanged" } else { "changed" };
    match output::is_json() {
        true => output::json(&json!({ "change": change, "before": as_json(&before), "after": as_json(&policy) })),
        false if before == policy => output::line(format!("{}, unchanged", said(&policy))),
        false => output::line(format!("{} -> {}", said(&before), said(&policy).trim_start_matches("topology "))),
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(global: &Global, stale: bool) -> Outcome {
    let ask = async |client: &mut flowyard_sdk::client::Client| Ok(client.get_policy(api::GetPolicyRequest {}).await?);
    let answer = asking_anybody(global, stale, ask).await?;
    let policy = read(answer.policy)?;
    if output::is_json() {
        let levels = policy.topology.iter().zip(&answer.levels);
        let levels = levels
            .map(|(level, count)| json!({ "level": level.as_str(), "domains": count.domains, "nodes": count.nodes }));
        let mut shown = as_json(&policy);
        shown["levels"] = levels.collect();
        let held = answer.tokens.iter().map(|it| (it.name.clone(), it.held.into()));
        shown["tokens_held"] = Value::Object(held.collect());
        output::json(&shown);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(throttle) = throttle(&policy) {
        output::line(format!("throttle {throttle}: members that are placed and do not run yet, at one time"));
    }
    if !answer.tokens.is_empty() {
        let mut table = Table::new(["TOKEN", "HELD"]);
        for token in &answer.tokens {
            table.row([cell(token.name.clone()), cell(format!("{}/{}", token.held, token.all))]);
        }
        table.print();
    }
    if policy.topology.is_empty() {
        output::note("no topology is declared; `fctl policy put FILE` does it");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["LEVEL", "DOMAINS", "NODES"]);
    for (level, count) in policy.topology.iter().zip(&answer.levels) {
        table.row([cell(level.as_str()), cell(count.domains.to_string()), cell(count.nodes.to_string())]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

fn as_json(policy: &Policy) -> serde_json::Value {
    let Throttle { per_job, per_node } = policy.throttle;
    let tokens = policy.tokens.iter().map(|(name, count)| (name.to_string(), (*count).into()));
    let tokens = tokens.collect::<Map<String, Value>>();
    json!({ "topology": levels(policy), "throttle": { "per_job": per_job, "per_node": per_node }, "tokens": tokens })
}

fn read(policy: Option<api::Policy>) -> Result<Policy, Failure> {
    Policy::try_from(policy.unwrap_or_default())
        .map_err(|error| Failure::Internal(format!("what the cluster told of the policy: {error}")))
}
