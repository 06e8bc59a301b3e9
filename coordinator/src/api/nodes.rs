//! Nodes: what they are, and what an operator wants of them.

use flowyard_model::{ChangeNode, ClusterVersion, Command, NodeChange, Rejection};
use flowyard_proto::api::{ChangeNodeRequest, ChangeNodeResponse, ListNodesResponse};
use flowyard_proto::{status, view};
use tonic::Status;

use crate::access::Caller;
use crate::coordinator::Shared;

pub(super) fn list(shared: &Shared) -> ListNodesResponse {
    let view = shared.feed.view();
    let nodes = view.nodes().map(|(id, node)| view::node(id, node, shared.directory.find(id).is_some()));
    ListNodesResponse { nodes: nodes.collect() }
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
    grow(shared).await?;
    let by = caller.principal();
    shared.propose(&Command::ChangeNode(ChangeNode { node, change, by, reason })).await?;
    tracing::info!(%name, ?change, by = caller.principal(), "a node was changed");
    let now = shared.fresh_view().await?;
    let shown = now.node(node).map(|record| view::node(node, record, shared.directory.find(node).is_some()));
    Ok(ChangeNodeResponse { node: shown.filter(|_| change != NodeChange::Remove) })
}

/// An embedded cluster has one member, which waits for nobody's upgrade.
pub(super) async fn grow(shared: &Shared) -> Result<(), Status> {
    let version = ClusterVersion::ACCESS;
    if shared.config.embedded && shared.feed.view().version() < version {
        shared.propose(&Command::RaiseVersion { version }).await?;
    }
    Ok(())
}
