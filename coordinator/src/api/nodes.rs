//! Nodes.

use flowyard_proto::api::ListNodesResponse;
use flowyard_proto::view;

use crate::coordinator::Shared;

pub(super) fn list(shared: &Shared) -> ListNodesResponse {
    let view = shared.feed.view();
    let nodes = view.nodes().map(|(id, node)| view::node(id, node, shared.directory.find(id).is_some()));
    ListNodesResponse { nodes: nodes.collect() }
}
