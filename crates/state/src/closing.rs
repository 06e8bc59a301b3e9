//! Closing nodes to new work, emptying them, opening them again, forgetting them.
//!
//! Invariant: a node has a closure only while it is closed, and is in `draining` exactly while its drain has a deadline that has
//! not passed. A registration changes neither, so an agent that comes back finds its node as the operator left it.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    AttemptDesired, ChangeNode, Changed, Closure, Drain, Health, Leaving, Member, MemberKey, Node, NodeChange, NodeId,
    Phase, Rejection, Reply, Scheduling, TaskKey, TimeMs, limits,
};

use crate::job::ask_to_end;
use crate::node::unknown;
use crate::state::State;
use crate::surgery;
use crate::{claims, discredit};

/// Applies `SetNodeScheduling`, which says neither who nor why.
pub(crate) fn set_scheduling(state: &mut State, changed: &mut Changed, id: NodeId, scheduling: Scheduling) -> Reply {
    if state.node(id).is_none() {
        return unknown(id);
    }
    close(state, changed, id, scheduling, None);
    Reply::Done
}

/// Applies `ChangeNode`.
pub(crate) fn change(state: &mut State, changed: &mut Changed, wish: ChangeNode) -> Reply {
    let ChangeNode { node: id, change, by, reason } = wish;
    let Some(node) = state.node(id) else { return unknown(id) };
    if let Err((path, message)) = check(state.time(), change, &by, &reason) {
        return Reply::Rejected(Rejection::Invalid { path: path.to_owned(), message });
    }
    let drain = match change {
        NodeChange::Uncordon => {
            close(state, changed, id, Scheduling::Open, None);
            return Reply::Done;
        }
        NodeChange::Remove => {
            let removable = removable(node);
            return removable.map_or_else(Reply::Rejected, |()| remove(state, changed, id));
        }
        NodeChange::Forgive => {
            discredit::forgive(state, changed, id);
            return Reply::Done;
        }
        NodeChange::Cordon => None,
        NodeChange::Drain { deadline: None } => Some(Drain::Unhurried),
        NodeChange::Drain { deadline: Some(deadline) } => Some(Drain::Until(deadline)),
    };
    let closure = Closure { drain, by, reason, at: state.meta.time };
    close(state, changed, id, Scheduling::Drained, Some(closure));
    Reply::Done
}

fn check(now: TimeMs, change: NodeChange, by: &str, reason: &str) -> Result<(), (&'static str, String)> {
    for (path, text) in [("node.by", by), ("node.reason", reason)] {
        if text.len() > limits::TEXT_BYTES {
            return Err((path, format!("at most {} bytes", limits::TEXT_BYTES)));
        }
    }
    match change {
        NodeChange::Drain { deadline: Some(deadline) } if deadline > now.after(limits::DURATION_MS) => {
            Err(("node.deadline", "a drain takes at most ten years".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Opens or closes it. What an earlier drain has asked to stop does so all the same.
fn close(state: &mut State, changed: &mut Changed, id: NodeId, scheduling: Scheduling, closure: Option<Closure>) {
    let node = state.nodes.get(&id).expect("the caller looked it up");
    let closure = closure.map(Arc::new);
    if node.scheduling == scheduling && node.closure == closure {
        return;
    }
    if let Some(until) = deadline(node) {
        state.indexes.draining.remove(&(until, id));
    }
    if scheduling != Scheduling::Open {
        claims::fall_on(state, changed, id);
    }
    let node = Arc::make_mut(state.nodes.get_mut(&id).expect("it was just looked at"));
    node.scheduling = scheduling;
    node.closure = closure;
    if let Some(until) = deadline(node) {
        state.indexes.draining.insert((until, id));
    }
    changed.nodes.insert(id);
    changed.placement |= scheduling == Scheduling::Open;
    discredit::openness_changed(state, changed, id);
}

/// When what runs on the node will be asked to stop.
pub(crate) fn deadline(node: &Node) -> Option<TimeMs> {
    match node.closure.as_ref()?.drain? {
        Drain::Until(until) => Some(until),
        Drain::Unhurried | Drain::Stopping(_) => None,
    }
}

/// Asks what still runs on the node whose time was up first to stop; whether there was one. Its tasks are placed again
/// elsewhere, and nobody's retry is spent: they make room, as when preempted.
pub(crate) fn stop_drained(state: &mut State, changed: &mut Changed) -> bool {
    let now = state.meta.time;
    let due = state.indexes.draining.get_min().filter(|(until, _)| *until <= now).copied();
    let Some((until, id)) = due else { return false };
    state.indexes.draining.remove(&(until, id));
    let node = Arc::make_mut(state.nodes.get_mut(&id).expect("a draining node exists"));
    let closure = node.closure.as_mut().expect("a draining node has a closure");
    Arc::make_mut(closure).drain = Some(Drain::Stopping(until));
    changed.nodes.insert(id);
    let members: Vec<_> = state.live_keys(id).collect();
    let mut tasks: BTreeSet<TaskKey> = members.iter().map(|key| key.task).collect();
    tasks.retain(|task| !goes_on_elsewhere(state, changed, id, *task, &members));
    for key in tasks {
        let attempt = state.task(key).and_then(|task| task.attempts.last()).expect("a live member has an attempt");
        if attempt.desired == AttemptDesired::Run {
            ask_to_end(state, changed, key, AttemptDesired::Preempt);
            changed.jobs.insert(key.job);
        }
    }
    true
}

/// Whether a task goes on without its members on a node, which are asked to stop then.
fn goes_on_elsewhere(
    state: &mut State,
    changed: &mut Changed,
    id: NodeId,
    task: TaskKey,
    members: &[MemberKey],
) -> bool {
    let here: Vec<_> = members.iter().filter(|key| key.task == task).copied().collect();
    let stays = |member: &Member| member.phase != Phase::Ended && member.leaving.is_none() && member.node != id;
    let attempt = state.task(task).and_then(|task| task.attempts.last());
    attempt.is_some_and(|attempt| attempt.members.iter().any(stays))
        && here.into_iter().all(|key| surgery::let_go(state, changed, id, key, Leaving::Drained))
}

/// Whether nothing is lost with it.
fn removable(node: &Node) -> Result<(), Rejection> {
    if node.used.members > 0 {
        return Err(Rejection::NodeInUse { node: node.name.clone(), members: node.used.members });
    }
    if node.health == Health::Up && node.scheduling == Scheduling::Open {
        return Err(Rejection::NodeOpen { node: node.name.clone() });
    }
    Ok(())
}

/// Its id is never given again, so attempts of the past still name it and nothing else.
fn remove(state: &mut State, changed: &mut Changed, id: NodeId) -> Reply {
    claims::fall_on(state, changed, id);
    discredit::forgive(state, changed, id);
    let node = state.nodes.remove(&id).expect("the caller looked it up");
    discredit::openness_changed(state, changed, id);
    state.indexes.node_names.remove(&node.name);
    if let Some(until) = deadline(&node) {
        state.indexes.draining.remove(&(until, id));
    }
    changed.nodes.insert(id);
    Reply::Done
}
