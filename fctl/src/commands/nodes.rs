//! `fctl nodes`: the machines, what they offer and what of it is taken.

use std::process::ExitCode;

use flowyard_proto::api;
use serde_json::{Value, json};

use super::{Outcome, gpu_groups};
use crate::asking::asking;
use crate::cli::Global;
use crate::table::{Cell, Table, Tone, cell, state, toned};
use crate::text::{harmless, word};
use crate::{output, record, text};

pub(super) async fn run(global: &Global) -> Outcome {
    let answer = asking(global, async |client| Ok(client.list_nodes(api::ListNodesRequest {}).await?)).await?;
    if output::is_json() {
        let nodes: Vec<_> = answer.nodes.iter().map(as_json).collect();
        output::json(&json!({ "nodes": nodes }));
        return Ok(ExitCode::SUCCESS);
    }
    if answer.nodes.is_empty() {
        output::note("no node has ever registered");
        return Ok(ExitCode::SUCCESS);
    }
    print(&answer.nodes);
    Ok(ExitCode::SUCCESS)
}

/// A table of nodes, and below it what does not fit into it.
pub(super) fn print(nodes: &[api::Node]) {
    let mut table = Table::new(["NODE", "HEALTH", "SCHEDULING", "CPU", "MEMORY", "GPU", "TASKS", "LABELS"]);
    for node in nodes {
        table.row(row(node));
    }
    table.print();
    for node in nodes {
        for line in details(node) {
            output::line(line);
        }
    }
}

fn row(node: &api::Node) -> [Cell; 8] {
    let inventory = node.inventory.clone().unwrap_or_default();
    let used = node.used.clone().unwrap_or_default();
    let health = word(node.health().as_str_name(), "HEALTH_");
    let health = match node.connected {
        true => state(&health),
        // What is known of it is what it was when it was heard of last.
        false => toned(format!("{health}, away"), Tone::Faint),
    };
    let labels: Vec<_> = inventory.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    [
        cell(&node.name),
        health,
        scheduling(node),
        cell(format!("{}/{}", text::cpu(used.cpu_milli), text::cpu(inventory.cpu_milli))),
        cell(format!("{}/{}", text::size(used.memory_bytes), text::size(inventory.memory_bytes))),
        cell(gpus(&inventory, &used)),
        cell(used.members.to_string()),
        cell(labels.join(",")),
    ]
}

/// Devices taken, in part or whole, of those there are; fake ones are called so.
fn gpus(inventory: &api::Inventory, used: &api::Used) -> String {
    if inventory.gpus.is_empty() {
        return "-".to_owned();
    }
    let taken = used.gpu_milli.iter().filter(|milli| **milli > 0).count();
    let mut kinds: Vec<String> = inventory.gpus.iter().map(kind).collect();
    kinds.sort();
    kinds.dedup();
    let sick = inventory.gpus.iter().filter(|gpu| !gpu.healthy).count();
    let sick = if sick > 0 { format!(", {sick} unhealthy") } else { String::new() };
    format!("{taken}/{} {}{sick}", inventory.gpus.len(), kinds.join(" + "))
}

fn kind(gpu: &api::Gpu) -> String {
    match gpu.fake && !gpu.model.contains("fake") {
        true => format!("{} (fake)", gpu.model),
        false => gpu.model.clone(),
    }
}

/// What does not fit into a column: how limits are held, and what cannot be run there.
fn details(node: &api::Node) -> Vec<String> {
    let abilities = node.inventory.clone().unwrap_or_default().abilities.unwrap_or_default();
    let mut lines = vec![String::new(), harmless(&node.name)];
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("  {name:<10} {}", harmless(value)));
        }
    };
    fact(&scheduling_word(node), &closed(node));
    fact("undying", &undying(node));
    for (word, said) in held_against(node).into_iter().chain(devices(node)) {
        fact(&word, &said);
    }
    fact("gpus near", &gpu_groups::in_words(node.inventory.as_ref().map_or(&[][..], |inventory| &inventory.gpus)));
    fact("system", &abilities.system);
    fact("agent", &abilities.agent_version);
    fact("limits", &abilities.enforcement);
    fact("tasks", &abilities.separation);
    let runs = [
        ("containers", abilities.containers),
        ("image host", abilities.host_image),
        ("processes", abilities.process_isolation),
        ("network private", abilities.private_networks),
    ];
    let (can, cannot): (Vec<_>, Vec<_>) = runs.into_iter().partition(|(_, able)| *able);
    let names = |list: Vec<(&'static str, bool)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    fact("runs", &names(can));
    fact("runs not", &names(cannot));
    lines
}

/// How long what runs on a draining node may still go on.
pub(super) fn deadline_in(node: &api::Node) -> Option<u64> {
    let deadline_ms = node.closure.as_ref()?.deadline_ms?;
    (node.scheduling() == api::Scheduling::Draining).then(|| deadline_ms.saturating_sub(flowyard_clock::wall_ms()))
}

/// Whether it takes new work.
fn scheduling(node: &api::Node) -> Cell {
    let word = scheduling_word(node);
    match deadline_in(node) {
        Some(0) => toned(format!("{word}, stopping"), Tone::Live),
        Some(left_ms) => toned(format!("{word}, {} left", text::duration(left_ms)), Tone::Live),
        None => match standing(node).as_deref() {
            // Where it is closed, that it is avoided says nothing.
            Some(standing) if word == "open" => toned(format!("{word}, {standing}"), Tone::Live),
            _ => state(&word),
        },
    }
}

/// How far it is trusted with new work, unless that is as any other.
fn standing(node: &api::Node) -> Option<String> {
    let standing = node.discredit.as_ref()?.standing();
    (standing > api::Standing::Trusted).then(|| word(standing.as_str_name(), "STANDING_"))
}

/// What is held against it, and for how long what follows.
fn held_against(node: &api::Node) -> Vec<(String, String)> {
    let Some(discredit) = &node.discredit else { return Vec::new() };
    let hundredths = discredit.points_milli / 10;
    let points = format!("{}.{:02} points against it", hundredths / 100, hundredths % 100);
    let left = text::duration(discredit.until_ms.saturating_sub(flowyard_clock::wall_ms()));
    let first = match standing(node) {
        Some(standing) => (standing, format!("for {left}: {points}; `fctl node forgive {}` ends it", node.name)),
        None => ("trusted".to_owned(), format!("with {points}")),
    };
    let charge = |charge: &api::Charge| {
        let reason = word(charge.reason().as_str_name(), "REASON_");
        let blame = word(charge.blame().as_str_name(), "BLAME_");
        let what = if charge.attempt.is_empty() { "the node" } else { &charge.attempt };
        (String::new(), format!("{}: {what} ended: {reason} ({blame})", text::ago(charge.at_ms)))
    };
    std::iter::once(first).chain(discredit.recent.iter().rev().map(charge)).collect()
}

fn scheduling_word(node: &api::Node) -> String {
    word(node.scheduling().as_str_name(), "SCHEDULING_")
}

/// What was killed there and is still there.
fn undying(node: &api::Node) -> String {
    if node.undying.is_empty() {
        return String::new();
    }
    format!("{}: killed, and still there; the room is held until they are gone", node.undying.join(", "))
}

/// Who closed it to new work, when and why.
fn closed(node: &api::Node) -> String {
    let Some(closure) = &node.closure else { return String::new() };
    let by = format!("by {}, {}", closure.by, text::ago(closure.at_ms));
    if closure.reason.is_empty() { by } else { format!("{by}: {}", closure.reason) }
}

/// The devices of which there is something to say.
fn devices(node: &api::Node) -> Vec<(String, String)> {
    let gpus = node.inventory.as_ref().map_or(&[][..], |inventory| &inventory.gpus);
    let condition = |known: &api::Condition| {
        let place = match gpus.iter().position(|gpu| gpu.id == known.device) {
            Some(at) => format!("GPU {at} ({})", known.device),
            None => format!("{} (not there)", known.device),
        };
        let state = word(known.state().as_str_name(), "DEVICE_STATE_");
        let why = if known.reason.is_empty() { String::new() } else { format!(": {}", known.reason) };
        let out = known.out.as_ref().map_or_else(String::new, |out| {
            let reason = if out.reason.is_empty() { String::new() } else { format!(": {}", out.reason) };
            format!("; cordoned by {}, {}{reason}", out.by, text::ago(out.at_ms))
        });
        ("device".to_owned(), format!("{place} {state} since {}{why}{out}", text::moment(known.since_ms)))
    };
    node.devices.iter().map(condition).collect()
}

pub(super) fn as_json(node: &api::Node) -> Value {
    let inventory = node.inventory.clone().unwrap_or_default();
    let used = node.used.clone().unwrap_or_default();
    let abilities = inventory.abilities.clone().unwrap_or_default();
    let gpus = inventory.gpus.iter().enumerate().map(|(at, gpu)| {
        let mut shown = serde_json::to_value(record::gpu(gpu)).unwrap_or_default();
        shown["used_milli"] = json!(used.gpu_milli.get(at).copied().unwrap_or(0));
        let known = node.devices.iter().find(|known| known.device == gpu.id);
        shown["state"] =
            json!(known.map_or("healthy".to_owned(), |it| word(it.state().as_str_name(), "DEVICE_STATE_")));
        shown["reason"] = json!(known.map(|it| &it.reason).filter(|reason| !reason.is_empty()));
        shown["out"] = json!(known.and_then(|it| it.out.as_ref()).map(|out| json!({
            "by": out.by, "reason": out.reason, "at_ms": out.at_ms,
        })));
        shown
    });
    json!({
        "node": node.node,
        "name": node.name,
        "incarnation": node.incarnation,
        "health": word(node.health().as_str_name(), "HEALTH_"),
        "scheduling": scheduling_word(node),
        "closed": node.closure.as_ref().map(|closure| json!({
            "by": closure.by,
            "reason": closure.reason,
            "at_ms": closure.at_ms,
            "deadline_ms": closure.deadline_ms,
        })),
        "discredit": node.discredit.as_ref().map(|discredit| json!({
            "points_milli": discredit.points_milli,
            "standing": word(discredit.standing().as_str_name(), "STANDING_"),
            "until_ms": discredit.until_ms,
            "recent": discredit.recent.iter().map(|charge| json!({
                "at_ms": charge.at_ms,
                "reason": word(charge.reason().as_str_name(), "REASON_"),
                "blame": word(charge.blame().as_str_name(), "BLAME_"),
                "attempt": (!charge.attempt.is_empty()).then_some(&charge.attempt),
            })).collect::<Vec<_>>(),
        })),
        "undying": node.undying,
        "connected": node.connected,
        "registered_ms": node.registered_ms,
        "offered": {
            "cpu_milli": inventory.cpu_milli,
            "memory_bytes": inventory.memory_bytes,
            "disk_bytes": inventory.disk_bytes,
        },
        "used": {
            "cpu_milli": used.cpu_milli,
            "memory_bytes": used.memory_bytes,
            "disk_bytes": used.disk_bytes,
            "members": used.members,
        },
        "gpus": gpus.collect::<Vec<_>>(),
        "labels": inventory.labels,
        "abilities": {
            "containers": abilities.containers,
            "process_isolation": abilities.process_isolation,
            "host_image": abilities.host_image,
            "private_networks": abilities.private_networks,
            "separation": abilities.separation,
            "enforcement": abilities.enforcement,
            "agent_version": abilities.agent_version,
            "system": abilities.system,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_against_a_node_is_told_with_attempts_the_latest_first() {
        let charge = |attempt: &str, reason: api::Reason, blame: api::Blame| api::Charge {
            at_ms: flowyard_clock::wall_ms().saturating_sub(60_000),
            reason: reason.into(),
            blame: blame.into(),
            attempt: attempt.to_owned(),
        };
        let recent = vec![
            charge("17/train/3#2", api::Reason::Device, api::Blame::Hardware),
            charge("", api::Reason::NodeLost, api::Blame::Platform),
        ];
        let standing = api::Standing::Avoided.into();
        let until_ms = flowyard_clock::wall_ms() + 90_500;
        let discredit = Some(api::Discredit { points_milli: 4_250, standing, until_ms, recent });
        let node = api::Node { name: "n1".to_owned(), discredit, ..api::Node::default() };
        let told = held_against(&node);
        assert_eq!(told[0].0, "avoided");
        assert!(told[0].1.contains("4.25 points against it; `fctl node forgive n1`"), "{told:?}");
        assert!(told[1].1.ends_with("the node ended: node_lost (platform)"), "{told:?}");
        assert!(told[2].1.ends_with("17/train/3#2 ended: device (hardware)"), "{told:?}");
        assert_eq!(as_json(&node)["discredit"]["recent"][1]["attempt"], Value::Null);
        assert_eq!(held_against(&api::Node::default()), []);
    }

    #[test]
    fn taken_devices_are_counted_and_fake_ones_called_so() {
        let gpu =
            |model: &str, fake: bool| api::Gpu { model: model.to_owned(), healthy: !fake, fake, ..api::Gpu::default() };
        let inventory =
            api::Inventory { gpus: vec![gpu("A100", false), gpu("pretend", true)], ..api::Inventory::default() };
        let used = api::Used { gpu_milli: vec![500, 0], ..api::Used::default() };
        assert_eq!(gpus(&inventory, &used), "1/2 A100 + pretend (fake), 1 unhealthy");
        assert_eq!(gpus(&api::Inventory::default(), &used), "-");
    }
}
