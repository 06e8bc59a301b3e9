//! Closing nodes to new work.

use flowyard_model as model;
use flowyard_model::{Drain, NodeChange, NodeId, TimeMs};

use crate::decode::{DecodeError, Decoded, Problem, Under};
use crate::{api, peer};

impl From<&model::ChangeNode> for peer::ChangeNode {
    fn from(wish: &model::ChangeNode) -> Self {
        let (change, deadline) = match wish.change {
            NodeChange::Cordon => (peer::NodeChange::Cordon, None),
            NodeChange::Drain { deadline } => (peer::NodeChange::Drain, deadline),
            NodeChange::Uncordon => (peer::NodeChange::Uncordon, None),
            NodeChange::Remove => (peer::NodeChange::Remove, None),
            NodeChange::Forgive => (peer::NodeChange::Forgive, None),
        };
        Self {
            node: wish.node.0,
            change: change.into(),
            deadline_ms: deadline.map(|deadline| deadline.0),
            by: wish.by.clone(),
            reason: wish.reason.clone(),
        }
    }
}

impl TryFrom<peer::ChangeNode> for model::ChangeNode {
    type Error = DecodeError;

    fn try_from(wish: peer::ChangeNode) -> Decoded<Self> {
        let number = wish.change;
        let change =
            peer::NodeChange::try_from(number).map_err(|_| Problem::UnknownValue { number }).under("change")?;
        let drains = change == peer::NodeChange::Drain;
        only_of_a_drain(drains, wish.deadline_ms)?;
        let change = match change {
            peer::NodeChange::Unspecified => return Err(Problem::Missing).under("change"),
            peer::NodeChange::Cordon => NodeChange::Cordon,
            peer::NodeChange::Drain => NodeChange::Drain { deadline: wish.deadline_ms.map(TimeMs) },
            peer::NodeChange::Uncordon => NodeChange::Uncordon,
            peer::NodeChange::Remove => NodeChange::Remove,
            peer::NodeChange::Forgive => NodeChange::Forgive,
        };
        Ok(Self { node: NodeId(wish.node), change, by: wish.by, reason: wish.reason })
    }
}

/// A deadline says when a drain stops what runs; nothing else has one.
pub(crate) fn only_of_a_drain(drains: bool, deadline_ms: Option<u64>) -> Decoded<()> {
    match deadline_ms {
        Some(_) if !drains => Err(Problem::Contradiction("only a drain has a deadline")).under("deadline_ms"),
        _ => Ok(()),
    }
}

pub(super) fn from_closure(closure: &model::Closure) -> peer::Closure {
    let (deadline, stopping) = match closure.drain {
        None | Some(Drain::Unhurried) => (None, false),
        Some(Drain::Until(until)) => (Some(until), false),
        Some(Drain::Stopping(until)) => (Some(until), true),
    };
    peer::Closure {
        drains: closure.drain.is_some(),
        deadline_ms: deadline.map(|deadline| deadline.0),
        stopping,
        by: closure.by.clone(),
        reason: closure.reason.clone(),
        at_ms: closure.at.0,
    }
}

pub(super) fn to_closure(wire: peer::Closure) -> Decoded<model::Closure> {
    only_of_a_drain(wire.drains, wire.deadline_ms)?;
    let drain = match (wire.drains, wire.deadline_ms.map(TimeMs), wire.stopping) {
        (_, None, true) => return Err(Problem::Missing).under("deadline_ms"),
        (_, Some(until), true) => Some(Drain::Stopping(until)),
        (_, Some(until), false) => Some(Drain::Until(until)),
        (true, None, false) => Some(Drain::Unhurried),
        (false, None, false) => None,
    };
    Ok(model::Closure { drain, by: wire.by, reason: wire.reason, at: TimeMs(wire.at_ms) })
}

/// How a closure is shown.
pub(crate) fn shown_closure(closure: &model::Closure) -> api::Closure {
    let deadline = match closure.drain {
        None | Some(Drain::Unhurried) => None,
        Some(Drain::Until(until) | Drain::Stopping(until)) => Some(until),
    };
    api::Closure {
        by: closure.by.clone(),
        reason: closure.reason.clone(),
        at_ms: closure.at.0,
        deadline_ms: deadline.map(|deadline| deadline.0),
    }
}
