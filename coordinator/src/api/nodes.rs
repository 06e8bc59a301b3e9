//! Nodes: what they are, and what an operator wants of them.

use flowyard_model::{
    ChangeDevice, ChangeNode, Command, MemberKey, Node, NodeChange, NodeId, Rejection, StuckPhase, TaskKey, TimeMs,
};
use flowyard_proto::api::{self, ChangeNodeRequest, ChangeNodeResponse, ListNodesResponse};
use flowyard_proto::request::NodeWish;
use flowyard_proto::{status, view};
use flowyard_state::{View, points_at};
use tonic::Status;

use super::reference;
use crate::access::{Action, Caller, allow};
use crate::coordinator::Shared;

pub(super) fn list(shared: &Shared, caller: &Caller) -> ListNodesResponse {
    let view = shared.feed.view();
    let now = shared.stamps.now();
    let nodes = view.nodes().map(|(id, node)| shown((shared, caller), &view, id, node, now));
    ListNodesResponse { nodes: nodes.collect() }
}

fn shown((shared, caller): (&Shared, &Caller), view: &View, id: NodeId, node: &Node, now: TimeMs) -> api::Node {
    // What others run is not named to who may not look at their queue.
    let looks = |key: TaskKey| {
        let job = view.job(key.job);
        job.is_some_and(|job| allow(caller, Action::LookAtQueue { queue: &job.spec.queue }).is_ok())
    };
    let reference =
        |key: TaskKey| if looks(key) { reference(view, key) } else { "(of a queue not shown to you)".to_owned() };
    let undying = view.live_members(id).filter(|(.., member)| member.stuck == Some(StuckPhase::Stopping));
    let undying = undying.map(|(key, ..)| format!("{}#{}", reference(key.task), key.attempt)).collect();
    let attempt = |key: MemberKey| format!("{}#{}", reference(key.task), key.attempt);
    let discredit = node.discredit.as_deref();
    let discredit = discredit.map(|it| view::discredit(it, points_at(it, now.max(view.time())), attempt));
    api::Node { undying, discredit, ..view::node(id, node, shared.directory.find(id).is_some()) }
}

/// Closes a node to new work, empties it, opens it again, or forgets it.
pub(super) async fn change(
    shared: &Shared,
    caller: &Caller,
    request: ChangeNodeRequest,
) -> Result<ChangeNodeResponse, Status> {
    let now = shared.stamps.now();
    let (name, wish, reason) = flowyard_proto::request::change_node(request, now)?;
    let found = shared.fresh_view().await?.node_named(&name).map(|(id, _)| id);
    let unknown = || status::rejected(&Rejection::UnknownNode { node: name.to_string() });
    let node = found.ok_or_else(unknown)?;
    shared.grow().await?;
    let by = caller.principal();
    tracing::info!(%name, ?wish, by = caller.principal(), "a node is changed");
    let removes = wish == NodeWish::Node(NodeChange::Remove);
    let command = match wish {
        NodeWish::Node(change) => Command::ChangeNode(ChangeNode { node, change, by, reason }),
        NodeWish::Device { device, out } => Command::ChangeDevice(ChangeDevice { node, device, out, by, reason }),
    };
    shared.propose(&command).await?;
    let view = shared.fresh_view().await?;
    let shown = view.node(node).map(|record| shown((shared, caller), &view, node, record, now));
    Ok(ChangeNodeResponse { node: shown.filter(|_| !removes) })
}
