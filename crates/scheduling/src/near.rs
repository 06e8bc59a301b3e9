//! How near to each other the members of a gang have to be, and how much room there is so near.

use flowyard_model::{Name, Policy, StepSpec, TaskKey};
use flowyard_placement::{Fleet, Near};
use flowyard_state::State;

use crate::beside;
use crate::keeping;
use crate::nodes::{self, Classes, When};
use crate::shapes;
use crate::why::own_of;
use crate::words::Words;

/// What a step asks for, in placement's words (what is spread is near only above what it is spread over); `None` if it needs a level that is not declared (any more), so that it cannot be
/// placed. A level that it only prefers is passed over then.
pub(crate) fn of(spec: &StepSpec, policy: &Policy) -> Option<Near> {
    let Some(near) = spec.placing.near.as_ref().filter(|_| spec.size > 1) else { return Some(lowest(spec, policy)) };
    match policy.depth(&near.level) {
        Some(depth) if near.need => Some(Near::Need(depth as u32)),
        Some(depth) => Some(Near::Prefer(depth as u32)),
        None => (!near.need).then(|| lowest(spec, policy)),
    }
}

fn lowest(spec: &StepSpec, policy: &Policy) -> Near {
    let over = spec.placing.spread.as_ref().filter(|spread| !spread.is_by_host());
    let above = |over: &flowyard_model::Spread| policy.depth(&over.over).map_or(0, |depth| depth as u32 - 1);
    over.map_or(Near::Lowest, |over| Near::Prefer(above(over)))
}

/// Where a gang stands that has to be in one domain of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearRoom {
    /// The level.
    pub level: Name,
    /// Its domains that may be used; a node without the label is one by itself. 0 if the level is not declared.
    pub domains: usize,
    /// The domain that holds most now, by its labels from the top (empty for a node that is one by itself), and how many
    /// members that is.
    pub most: Option<(Vec<String>, u64)>,
    /// The most members that one of them would hold if nothing ran.
    pub most_when_empty: u64,
}

/// Where a task stands whose members have to be in one domain of a level: how much room there is now for members of it,
/// beside what is promised to others. `None` for a step that needs nothing of that kind. Looks at every node that takes
/// work. Nothing is promised to the task itself in this state.
pub(crate) fn near_room(state: &State, task: TaskKey, spec: &StepSpec) -> Option<NearRoom> {
    let near = spec.placing.near.as_ref().filter(|near| near.need && spec.size > 1)?;
    let policy = state.policy();
    let mut told = NearRoom { level: near.level.clone(), domains: 0, most: None, most_when_empty: 0 };
    let Some(depth) = policy.depth(&near.level) else { return Some(told) };
    let (mut fleet, mut classes, mut words) = (Fleet::new(0), Classes::none(), Words::of(state.policy()));
    fleet.bound_starting(policy.throttle.per_node);
    // The tokens of the step are numbered first, so that a node without them is found to have none.
    words.needs(&spec.resources);
    let kept = keeping::kept(state);
    for (id, node) in state.nodes().filter(|(_, node)| nodes::is_usable(node)) {
        let (class, new) = classes.of(&node.inventory);
        if new {
            fleet.put_class(class, &words.domain(policy, &node.inventory));
        }
        // What will have ended before somebody starts who waits for others to end may have that room until then.
        let when = if state.may_go_before(task, id) { When::Before } else { When::Now };
        let mut used = nodes::used(state, id, node, when);
        kept.on.get(&id).into_iter().for_each(|kept| nodes::count(&mut used, kept, true));
        let at = nodes::index(id);
        fleet.put_node(at, nodes::facts(node, &used, when.kept(state, id), class, &mut words));
        fleet.put_marks(at, beside::marks(state, id, when, &mut words));
        fleet.put_starting(at, state.starting_on(id));
    }
    let mut facts = shapes::facts(spec, policy, classes.examples(), &mut words);
    facts.beside = beside::of(state, (spec, &own_of(state, task)), classes.examples(), &mut words);
    let room = fleet.near_room(&facts);
    told.domains = room.domains;
    told.most_when_empty = room.most_when_empty;
    told.most = room.most.map(|(at, members)| {
        let node = state.node(nodes::id(flowyard_placement::NodeIndex(at as u32)));
        let domain = node.map_or(Vec::new(), |node| policy.domain(&node.inventory));
        let labels = if domain.len() < depth { &[] } else { &domain[..depth] };
        (labels.iter().map(|label| (*label).to_owned()).collect(), members)
    });
    Some(told)
}
