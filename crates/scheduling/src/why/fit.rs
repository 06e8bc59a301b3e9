//! Whether a step could be placed now if nobody else waited: what has to be so for a change to help, found without a round.

use flowyard_model::{QueuePath, StepSpec};
use flowyard_placement::{Fleet, ShapeFacts};
use flowyard_state::State;

use super::bounds::{alternatives, kept, met};
use crate::beside::{self, Own};
use crate::keeping;
use crate::nodes::{self, Classes, When};
use crate::scheduler::Line;
use crate::shapes;
use crate::words::Words;

/// The nodes that take work, to be asked many times.
pub(crate) struct Fit {
    fleet: Fleet,
    classes: Classes,
    words: Words,
    state: State,
    own: Own,
}

impl Fit {
    /// The nodes as they are, for whose step this is, and for steps that ask for no tokens but those of this one.
    pub(crate) fn of(state: &State, spec: &StepSpec, own: Own) -> Self {
        let (mut fleet, mut classes, mut words) = (Fleet::new(0), Classes::none(), Words::of(state.policy()));
        // Numbered first, so that a node without them is found to have none.
        words.needs(&spec.resources);
        let kept = keeping::kept(state);
        for (id, node) in state.nodes().filter(|(_, node)| nodes::is_usable(node)) {
            let (class, new) = classes.of(&node.inventory);
            if new {
                fleet.put_class(class, &words.domain(state.policy(), &node.inventory));
            }
            let facts = nodes::facts_now(state, (id, &**node), kept.on.get(&id), class, &mut words);
            fleet.put_node(nodes::index(id), facts);
            fleet.put_marks(nodes::index(id), beside::marks(state, id, When::Now, &mut words));
        }
        Self { fleet, classes, words, state: state.clone(), own }
    }

    /// How many members of one task find room at the same time, at most all.
    pub(crate) fn seats(&mut self, spec: &StepSpec) -> u64 {
        let (state, classes, words) = (&self.state, self.classes.examples(), &mut self.words);
        let beside = beside::of(state, (spec, &self.own), classes, words);
        self.fleet.explain(&ShapeFacts { beside, ..shapes::facts(spec, state.policy(), classes, words) }).seats
    }

    /// Whether a task of the step has room, is within all bounds, and takes nothing that is kept for others, by one of its
    /// alternatives. If not, no round places it. What is kept is as in the line; it is not looked at without one.
    pub(crate) fn is_possible(
        &mut self,
        state: &State,
        queue: &QueuePath,
        spec: &StepSpec,
        mut line: Option<&mut Line>,
    ) -> bool {
        alternatives(spec).any(|alternative| {
            let request = spec.resources.gpus.get(alternative as usize).cloned();
            let mut alone = spec.clone();
            alone.resources.gpus = request.into_iter().collect();
            let is_kept = |line: &mut &mut Line| !kept(line, queue, spec, alternative).is_empty();
            met(state, queue, spec, alternative).is_empty()
                && !line.as_mut().is_some_and(is_kept)
                && self.seats(&alone) == u64::from(spec.size.max(1))
        })
    }
}
