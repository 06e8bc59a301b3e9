//! Nodes: what they are, and what an operator wants of them.

use flowyard_model::{ChangeNode, Command, Node, NodeChange, NodeId, Rejection, StuckPhase};
use flowyard_proto::api::{self, ChangeNodeRequest, ChangeNodeResponse, ListNodesResponse};
use flowyard_proto::{status, view};
use flowyard_state::View;
use tonic::Status;

use super::reference;
use crate::access::Caller;
use crate::coordinator::Shared;

pub(super) fn list(shared: &Shared) -> ListNodesResponse {
    let view = shared.feed.view();
    let nodes = view.nodes().map(|(id, node)| shown(shared, &view, id, node));
    ListNodesResponse { nodes: nodes.collect() }
}

fn shown(shared: &Shared, view: &View, id: NodeId, node: &Node) -> api::Node {
    let undying = view.live_members(id).filter(|(.., member)| member.stuck == Some(StuckPhase::Stopping));
    let undying = undying.map(|(key, ..)| format!("{}#{}", reference(view, key.task), key.attempt)).collect();
    api::Node { undying, ..view::node(id, node, shared.directory.find(id).is_some()) }
}

/// Closes a node to new work, empties it, opens it again, or forgets it.
pub(super) async fn change(
    shared: &Shared,
    caller: &Caller,
    request: ChangeNodeRequest,
) -> Result<ChangeNodeResponse, Status> {
    let now = shared.stamps.now();
    let (name, change, reason) = flowyard_proto::request::change_node(request, now)?;
    let found = shared.fresh_view().await?.node_named(&name).map(|(id, _)| id);
    let unknown = || status::rejected(&Rejection::UnknownNode { node: name.to_string() });
    let node = found.ok_or_else(unknown)?;
    shared.grow().await?;
    let by = caller.principal();
    shared.propose(&Command::ChangeNode(ChangeNode { node, change, by, reason })).await?;
    tracing::info!(%name, ?change, by = caller.principal(), "a node was changed");
    let now = shared.fresh_view().await?;
    let shown = now.node(node).map(|record| shown(shared, &now, node, record));
    Ok(ChangeNodeResponse { node: shown.filter(|_| change != NodeChange::Remove) })
}
