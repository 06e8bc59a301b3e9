//! `fctl node`: closing a machine to new work, emptying it, opening it again, forgetting it.

use std::process::ExitCode;
use std::time::Duration;

use flowyard_proto::api::{ChangeNodeRequest, ListNodesRequest, Node, NodeChange, Scheduling};
use flowyard_sdk::client::{Client, ClientError};
use flowyard_sdk::shown::nearest;
use serde_json::json;

use super::{Outcome, nodes};
use crate::asking::{asking, same_cluster};
use crate::cli::Global;
use crate::cli::node::{self, NodeDrain};
use crate::connect::Connection;
use crate::embedded::Parts;
use crate::failure::{Failure, codes};
use crate::signals::Stops;
use crate::text::{count, harmless};
use crate::{output, text};

/// How often a drain that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Names that a message lists at most.
const LISTED: usize = 12;

pub(super) async fn run(global: &Global, command: node::Node) -> Outcome {
    let (request, wait) = match &command {
        node::Node::Show(name) => return show(global, &name.node).await,
        node::Node::Forgive(name) => (request(&name.node, NodeChange::Forgive, None, String::new()), false),
        node::Node::Drain(drain) => (drain_request(drain), drain.wait),
        node::Node::Cordon(cordon) => {
            let change = if cordon.gpu.is_some() { NodeChange::DeviceOut } else { NodeChange::Cordon };
            let request = request(&cordon.name.node, change, None, cordon.reason.clone());
            (of_device(request, cordon.gpu.as_ref()), false)
        }
        node::Node::Uncordon(uncordon) => {
            let change = if uncordon.gpu.is_some() { NodeChange::DeviceBack } else { NodeChange::Uncordon };
            let request = request(&uncordon.name.node, change, None, String::new());
            (of_device(request, uncordon.gpu.as_ref()), false)
        }
        node::Node::Remove(name) => (request(&name.node, NodeChange::Remove, None, String::new()), false),
    };
    // While it is waited for, what runs in an embedded cluster goes on.
    let parts = if wait { Parts::All } else { Parts::Coordinator };
    let mut connection = Connection::open(global, parts).await?;
    let outcome = change(global, &mut connection, request, wait).await;
    connection.close().await;
    outcome
}

async fn show(global: &Global, name: &str) -> Outcome {
    let nodes = asking(global, async |client| Ok(client.list_nodes(ListNodesRequest {}).await?.nodes)).await?;
    let node = find(nodes, name)?;
    match output::is_json() {
        true => output::json(&nodes::as_json(&node)),
        false => nodes::print(std::slice::from_ref(&node)),
    }
    Ok(ExitCode::SUCCESS)
}

fn drain_request(drain: &NodeDrain) -> ChangeNodeRequest {
    request(&drain.name.node, NodeChange::Drain, drain.deadline, drain.reason.clone())
}

fn request(name: &str, change: NodeChange, deadline_ms: Option<u64>, reason: String) -> ChangeNodeRequest {
    ChangeNodeRequest { name: name.to_owned(), change: change.into(), deadline_ms, reason, device: String::new() }
}

fn of_device(request: ChangeNodeRequest, device: Option<&String>) -> ChangeNodeRequest {
    ChangeNodeRequest { device: device.cloned().unwrap_or_default(), ..request }
}

/// The id of a device that is named by its id, or by its number in the list.
fn device_id(node: &Node, named: &str) -> Result<String, Failure> {
    let gpus = node.inventory.as_ref().map_or(&[][..], |inventory| &inventory.gpus);
    let numbered = named.parse().ok().and_then(|at: usize| gpus.get(at));
    if let Some(gpu) = gpus.iter().find(|gpu| gpu.id == named).or(numbered) {
        return Ok(gpu.id.clone());
    }
    let ids: Vec<_> = gpus.iter().take(LISTED).map(|gpu| harmless(&gpu.id)).collect();
    let known = if ids.is_empty() { "it has none".to_owned() } else { format!("it has {}", ids.join(", ")) };
    let (name, named) = (harmless(&node.name), flowyard_sdk::shown::shown(named));
    Err(ClientError::NotFound(format!("node {name} has no GPU `{named}`; {known}")).into())
}

async fn change(global: &Global, connection: &mut Connection, mut request: ChangeNodeRequest, wait: bool) -> Outcome {
    let before = connection.persist(async |client| list(client).await).await?;
    let before = find(before, &request.name)?;
    if !request.device.is_empty() {
        request.device = device_id(&before, &request.device)?;
    }
    let answer = connection.persist(async |client| client.change_node(request.clone()).await).await?;
    let Some(node) = answer.node else {
        removed(&before);
        return Ok(ExitCode::SUCCESS);
    };
    if !request.device.is_empty() && !output::is_json() {
        let (name, device) = (harmless(&node.name), harmless(&request.device));
        let line = match request.change() {
            NodeChange::DeviceOut => format!("GPU {device} of node {name} is given to nobody new; what holds it stays"),
            _ => format!("GPU {device} of node {name} is given out again, if it is well"),
        };
        output::line(line);
        return Ok(ExitCode::SUCCESS);
    }
    if !wait {
        tell(global, &node);
        return Ok(ExitCode::SUCCESS);
    }
    until_drained(global, connection, node).await
}

async fn list(client: &mut Client) -> Result<Vec<Node>, ClientError> {
    Ok(client.list_nodes(ListNodesRequest {}).await?.nodes)
}

/// The node of this name, or the nearest and all there are.
fn find(nodes: Vec<Node>, name: &str) -> Result<Node, Failure> {
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    if let Some(found) = nodes.into_iter().find(|node| node.name == name) {
        return Ok(found);
    }
    let name = flowyard_sdk::shown::shown(name);
    if names.is_empty() {
        let none = format!("there is no node `{name}`: no node has ever registered, or all were removed");
        return Err(ClientError::NotFound(none).into());
    }
    let meant = nearest(&name, names.iter().map(String::as_str));
    let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    let mut listed = names.iter().take(LISTED).map(|name| harmless(name)).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        listed.push_str(", ...");
    }
    let there = count(names.len() as u64, "node");
    Err(ClientError::NotFound(format!("there is no node `{name}`{meant}; the {there}: {listed}")).into())
}

/// What has become of the node.
fn tell(global: &Global, node: &Node) {
    if output::is_json() {
        output::json(&nodes::as_json(node));
        return;
    }
    let name = harmless(&node.name);
    let members = node.used.as_ref().map_or(0, |used| used.members);
    let runs = count(u64::from(members), "allocation");
    let line = match node.scheduling() {
        Scheduling::Cordoned if members > 0 => format!("node {name} is cordoned; {runs} on it stay"),
        Scheduling::Cordoned => format!("node {name} is cordoned; nothing runs there"),
        Scheduling::Drained => format!("node {name} is drained; nothing runs there"),
        Scheduling::Draining => {
            format!("node {name} is draining{}; {runs} left; see `fctl nodes{}`", until(node), same_cluster(global))
        }
        Scheduling::Open | Scheduling::Unspecified => format!("node {name} takes work"),
    };
    output::line(line);
}

/// When what is left is stopped.
fn until(node: &Node) -> String {
    let left = nodes::deadline_in(node);
    left.map_or_else(String::new, |left_ms| format!(", what is left is stopped in {}", text::duration(left_ms)))
}

fn removed(before: &Node) {
    if output::is_json() {
        output::json(&json!({ "node": before.node, "name": before.name, "removed": true }));
        return;
    }
    let name = harmless(&before.name);
    output::line(format!("node {name} is forgotten"));
    if before.connected {
        output::note(format!(
            "its agent still runs; stop it there, or it registers as a new node {name} and takes work"
        ));
    }
}

/// Waits until nothing runs there. Whoever interrupts leaves the drain going.
async fn until_drained(global: &Global, connection: &mut Connection, mut node: Node) -> Outcome {
    let mut stops = Stops::hear()?;
    let mut left = None;
    loop {
        let members = node.used.as_ref().map_or(0, |used| used.members);
        match node.scheduling() {
            Scheduling::Drained => {
                tell(global, &node);
                return Ok(ExitCode::SUCCESS);
            }
            Scheduling::Draining => {}
            other => {
                let now = text::word(other.as_str_name(), "SCHEDULING_");
                let name = harmless(&node.name);
                let said = format!("the drain of node {name} was ended by somebody: it is {now} now");
                return Err(ClientError::Refused(said).into());
            }
        }
        if left.replace(members) != Some(members) {
            let runs = count(u64::from(members), "allocation");
            output::note(format!("node {}: {runs} left{}", harmless(&node.name), until(&node)));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stops.next() => {
                let cluster = same_cluster(global);
                output::note(format!("the drain goes on; see `fctl nodes{cluster}`, end it with `fctl node uncordon`"));
                return Ok(ExitCode::from(codes::DETACHED));
            }
        }
        let now = connection.persist(async |client| list(client).await).await?;
        node = find(now, &node.name)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_its_number_or_its_id() {
        let gpu = |id: &str| flowyard_proto::api::Gpu { id: id.to_owned(), ..Default::default() };
        let inventory = flowyard_proto::api::Inventory { gpus: vec![gpu("GPU-a"), gpu("GPU-b")], ..Default::default() };
        let node = Node { name: "n1".to_owned(), inventory: Some(inventory), ..Node::default() };
        assert_eq!(device_id(&node, "1").unwrap(), "GPU-b");
        assert_eq!(device_id(&node, "GPU-a").unwrap(), "GPU-a");
        let said = device_id(&node, "2").unwrap_err().to_string();
        assert!(said.contains("no GPU `2`; it has GPU-a, GPU-b"), "{said}");
    }

    #[test]
    fn an_unknown_node_is_answered_with_the_nearest_and_all() {
        let node = |name: &str| Node { name: name.to_owned(), ..Node::default() };
        let nodes = || vec![node("rack-1"), node("rack-2"), node("gpu")];
        assert_eq!(find(nodes(), "gpu").unwrap().name, "gpu");
        let error = find(nodes(), "rakc-1").unwrap_err();
        let said = error.to_string();
        assert!(said.contains("did you mean rack-1?") && said.contains("rack-1, rack-2, gpu"), "{said}");
        assert_eq!(error.code(), codes::NOT_FOUND);
    }
}
