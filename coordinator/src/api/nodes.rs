//! Nodes: listing them, closing them to new work and opening them again.

use flowyard_model::{Command, Name, Rejection, Scheduling};
use flowyard_proto::api::{self, ChangeNodeRequest, ChangeNodeResponse, ListNodesResponse};
use flowyard_proto::view;
use tonic::Status;

use crate::coordinator::Shared;

pub(super) fn list(shared: &Shared) -> ListNodesResponse {
    let view = shared.feed.view();
    let nodes = view.nodes().map(|(id, node)| view::node(id, node, shared.directory.find(id).is_some()));
    ListNodesResponse { nodes: nodes.collect() }
}

/// Closes a node to new work, or opens it again.
pub(super) async fn change(shared: &Shared, request: &ChangeNodeRequest) -> Result<ChangeNodeResponse, Status> {
    let scheduling = match request.scheduling() {
        api::Scheduling::Open => Scheduling::Open,
        api::Scheduling::Drained => Scheduling::Drained,
        api::Scheduling::Unspecified => return Err(Status::invalid_argument("scheduling: missing")),
    };
    let view = shared.feed.view();
    let found = request.name.parse::<Name>().ok().and_then(|name| view.node_named(&name).map(|(node, _)| node));
    let unknown = || flowyard_proto::status::rejected(&Rejection::UnknownNode { node: request.name.clone() });
    let node = found.ok_or_else(unknown)?;
    shared.propose(&Command::SetNodeScheduling { node, scheduling }).await?;
    Ok(ChangeNodeResponse { running: shared.feed.view().live_members(node).count() as u64 })
}
