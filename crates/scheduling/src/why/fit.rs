//! Whether a step could be placed now if nobody else waited: what has to be so for a change to help, found without a round.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{Node, QueuePath, Resources, StepSpec};
use flowyard_placement::{Fleet, ShapeFacts};
use flowyard_state::State;

use super::bounds::{Reckon, alternatives, way};
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
    asked: Resources,
    /// The same without devices of some models.
    without: BTreeMap<BTreeSet<String>, Fit>,
}

impl Fit {
    /// The nodes as they are, for whose step this is, and for steps that ask for no tokens but those of this one.
    pub(crate) fn of(state: &State, spec: &StepSpec, own: Own) -> Self {
        Self::of_some(state, &spec.resources, own, &BTreeSet::new())
    }

    /// As [`Fit::of`], where devices of some models are as if they were not well.
    fn of_some(state: &State, asked: &Resources, own: Own, hidden: &BTreeSet<String>) -> Self {
        let (mut fleet, mut classes, mut words) = (Fleet::new(0), Classes::none(), Words::of(state.policy()));
        // Numbered first, so that a node without them is found to have none.
        words.needs(asked);
        let kept = keeping::kept(state);
        for (id, node) in state.nodes().filter(|(_, node)| nodes::is_usable(node)) {
            let (class, new) = classes.of(&node.inventory);
            if new {
                fleet.put_class(class, &words.domain(state.policy(), &node.inventory));
            }
            let node = without(node, hidden);
            let facts = nodes::facts_now(state, (id, &node), kept.on.get(&id), class, &mut words);
            fleet.put_node(nodes::index(id), facts);
            fleet.put_marks(nodes::index(id), beside::marks(state, id, When::Now, &mut words));
        }
        let (state, asked, without) = (state.clone(), asked.clone(), BTreeMap::new());
        Self { fleet, classes, words, state, own, asked, without }
    }

    /// As [`Fit::seats`], without devices of some models.
    pub(crate) fn seats_without(&mut self, spec: &StepSpec, hidden: &BTreeSet<String>) -> u64 {
        if hidden.is_empty() {
            return self.seats(spec);
        }
        if !self.without.contains_key(hidden) {
            let fit = Self::of_some(&self.state, &self.asked, self.own.clone(), hidden);
            self.without.insert(hidden.clone(), fit);
        }
        self.without.get_mut(hidden).map_or(0, |fit| fit.seats(spec))
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
            let way = way(state, queue, (spec, alternative), Reckon::Now, line.as_deref_mut());
            let size = u64::from(spec.size.max(1));
            !way.is_closed() && self.seats_without(&by(spec, alternative), &way.hidden) == size
        })
    }
}

/// The step with one alternative only.
pub(crate) fn by(spec: &StepSpec, alternative: u32) -> StepSpec {
    let mut alone = spec.clone();
    alone.resources.gpus = spec.resources.gpus.get(alternative as usize).cloned().into_iter().collect();
    alone
}

/// A node whose devices of some models are as if they were not well.
fn without<'a>(node: &'a Node, hidden: &BTreeSet<String>) -> Cow<'a, Node> {
    let is_hidden = |model: &str| !hidden.is_empty() && hidden.contains(&model.to_ascii_lowercase());
    if !node.inventory.gpus.iter().any(|gpu| is_hidden(&gpu.model)) {
        return Cow::Borrowed(node);
    }
    let mut node = node.clone();
    for gpu in &mut Arc::make_mut(&mut node.inventory).gpus {
        gpu.healthy &= !is_hidden(&gpu.model);
    }
    Cow::Owned(node)
}
