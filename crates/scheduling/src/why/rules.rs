//! What the rules of queues leave open to a task: their bounds, and what they keep free for others; and whether that is what it waits for.

use flowyard_model::{QueuePath, StepSpec};
use flowyard_state::State;

use super::Rule;
use super::bounds::{BoundReached, KeptFree, Reckon, Way, alternatives, way};
use super::fit::{Fit, by};
use crate::scheduler::Line;

/// What they say of a task.
pub(crate) struct Rules {
    pub(crate) bounds: Vec<BoundReached>,
    pub(crate) kept: Vec<KeptFree>,
    pub(crate) within_bounds: bool,
    pub(crate) rule: Option<Rule>,
}

/// What they say of a task of a step.
pub(crate) fn of(state: &State, queue: &QueuePath, spec: &StepSpec, fit: &mut Fit) -> Rules {
    // Where everybody lends all they have, nothing is kept, and it need not be asked.
    let mut line = state.queues().any(|queue| !queue.lend.is_empty()).then(|| Line::of(state));
    let size = u64::from(spec.size.max(1));
    let ways = alternatives(spec).map(|at| {
        let way = way(state, queue, (spec, at), Reckon::Kept, line.as_mut()).with_holders(state);
        let alone = by(spec, at);
        let has_room = fit.seats(&alone) >= size;
        let is_open = has_room && !way.is_closed() && fit.seats_without(&alone, &way.hidden) >= size;
        (way, has_room, is_open)
    });
    let mut ways: Vec<(Way, bool, bool)> = ways.collect();
    let is_open = ways.iter().any(|(.., is_open)| *is_open);
    // Those first by which it would have room.
    ways.sort_by_key(|(_, has_room, _)| !has_room);
    let within_bounds = ways.iter().any(|(way, ..)| !way.is_beyond);
    let is_kept = ways.iter().filter(|(way, ..)| !way.is_beyond).all(|(way, ..)| way.is_kept);
    let shut = ways.iter().find(|(_, has_room, _)| *has_room && !is_open).map(|(way, ..)| way);
    let rule = match (within_bounds, shut) {
        (false, _) => Some(Rule::Bounds),
        (true, Some(way)) if !way.bounds.is_empty() => Some(Rule::Bounds),
        (true, Some(_)) => Some(Rule::Kept),
        (true, None) if is_kept => Some(Rule::Kept),
        (true, None) => None,
    };
    let kept = ways.iter().find(|(way, ..)| !way.is_beyond && !way.kept.is_empty());
    let kept = kept.filter(|_| rule == Some(Rule::Kept)).map(|(way, ..)| way.kept.clone());
    let mut bounds: Vec<BoundReached> = Vec::new();
    for bound in ways.into_iter().flat_map(|(way, ..)| way.bounds).flatten() {
        let key = |bound: &BoundReached| (bound.alternative, bound.queue.clone(), bound.on.clone());
        if !bounds.iter().any(|known| key(known) == key(&bound)) {
            bounds.push(bound);
        }
    }
    Rules { bounds, kept: kept.unwrap_or_default(), within_bounds, rule }
}
