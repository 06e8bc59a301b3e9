//! Whether a step could ever be placed, whatever runs now.

use flowyard_model::StepSpec;
use flowyard_placement::{Fleet, ShapeFacts};
use flowyard_state::State;

use crate::beside;
use crate::nodes::{self, Classes};
use crate::shapes;
use crate::words::Words;

/// Whether the nodes that are known, whatever their health and load, could ever run a task of this step.
pub fn could_ever_run(state: &State, spec: &StepSpec) -> bool {
    let spec = &spec.of_size(spec.least_size());
    let (mut fleet, mut classes, mut words) = (Fleet::new(0), Classes::none(), Words::of(state.policy()));
    // The tokens of the step are numbered first, so that a node without them is found to have none.
    words.needs(&spec.resources);
    // Looked at again whenever the nodes have doubled: most steps fit on the first.
    let mut next = 1;
    for (at, (id, node)) in state.nodes().enumerate() {
        if at == next {
            next *= 2;
            if fleet.could_ever_fit(&facts(state, spec, &classes, &mut words)) {
                return true;
            }
        }
        let (class, new) = classes.of(&node.inventory);
        if new {
            fleet.put_class(class, &words.domain(state.policy(), &node.inventory));
        }
        fleet.put_node(nodes::index(id), nodes::facts(node, &node.used, [None; 2], class, &mut words));
    }
    fleet.could_ever_fit(&facts(state, spec, &classes, &mut words))
}

fn facts(state: &State, spec: &StepSpec, classes: &Classes, words: &mut Words) -> ShapeFacts {
    let beside = beside::of_spec(state, spec, classes.examples(), words);
    ShapeFacts { beside, ..shapes::facts(spec, state.policy(), classes.examples(), words) }
}
