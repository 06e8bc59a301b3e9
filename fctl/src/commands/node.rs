//! `fctl node`: closing a node to new work, and opening it again.

use std::process::ExitCode;
use std::time::Duration;

use flowyard_model::Name;
use flowyard_proto::api::{ChangeNodeRequest, ListNodesRequest, Scheduling};
use flowyard_sdk::client::Client;
use serde_json::json;

use super::Outcome;
use crate::asking::asking;
use crate::cli::Global;
use crate::cli::fleet::Node;
use crate::failure::{Failure, codes};
use crate::signals::Stops;
use crate::{output, text};

/// How often a node that is drained is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn run(global: &Global, command: Node) -> Outcome {
    match command {
        Node::Cordon(one) => {
            let running = change(global, &one.name, Scheduling::Drained).await?;
            said(&one.name, "cordoned", running, "is closed to new work");
            Ok(ExitCode::SUCCESS)
        }
        Node::Uncordon(one) => {
            let running = change(global, &one.name, Scheduling::Open).await?;
            said(&one.name, "open", running, "takes new work");
            Ok(ExitCode::SUCCESS)
        }
        Node::Drain(drain) => {
            let running = change(global, &drain.name, Scheduling::Drained).await?;
            if drain.no_wait {
                said(&drain.name, "cordoned", running, "is closed to new work");
                return Ok(ExitCode::SUCCESS);
            }
            wait(global, &drain.name).await
        }
    }
}

async fn change(global: &Global, name: &Name, scheduling: Scheduling) -> Result<u64, Failure> {
    let request = ChangeNodeRequest { name: name.to_string(), scheduling: scheduling.into() };
    Ok(asking(global, async |client| Ok(client.change_node(request).await?)).await?.running)
}

fn said(name: &Name, state: &str, running: u64, words: &str) {
    if output::is_json() {
        return output::json(&json!({ "node": name, "state": state, "running": running }));
    }
    let runs = if running == 0 { String::new() } else { format!("; {} still there", text::count(running, "task")) };
    output::line(format!("node {name} {words}{runs}"));
}

/// Waits until nothing runs on the node. Whoever stops waiting leaves it closed.
async fn wait(global: &Global, name: &Name) -> Outcome {
    let mut stops = Stops::hear()?;
    let mut told = None;
    loop {
        let running = asking(global, async |client| running(client, name).await).await?;
        if running == 0 {
            said(name, "drained", 0, "is drained: nothing runs there, and nothing new will");
            return Ok(ExitCode::SUCCESS);
        }
        if told != Some(running) {
            output::note(format!("waiting for {} on {name}", text::count(running, "task")));
            told = Some(running);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stops.next() => {
                output::note(format!("node {name} stays closed to new work; open it with `fctl node uncordon {name}`"));
                return Ok(ExitCode::from(codes::DETACHED));
            }
        }
    }
}

async fn running(client: &mut Client, name: &Name) -> Result<u64, Failure> {
    let nodes = client.list_nodes(ListNodesRequest {}).await?.nodes;
    let found = nodes.iter().find(|node| node.name == name.as_str());
    Ok(found.and_then(|node| node.used.as_ref()).map_or(0, |used| u64::from(used.members)))
}
