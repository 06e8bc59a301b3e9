//! The line that what waits stands in: who would be placed before whom if there were room for all, and what is kept free for whom.
//!
//! It is the solver's own order, made by the solver's own round; only the fleet is replaced by one that always has room, and no queue
//! has bounds.

use std::collections::BTreeMap;

use flowyard_model::{QueuePath, StepSpec, TaskKey};
use flowyard_placement::{Ask, Bound, Ended, Fit, GroupKey, Kept, Named, QueueFacts, Room, ShapeIndex, round};
use flowyard_state::{ReadyGroup, ReadyStep, State};

use super::Known;
use crate::beside::Whose;
use crate::waiting::{self, Counted};
use crate::why::{KeptFree, Resource};

/// Tasks of a group that are counted, so that a place behind as many is found.
const COUNTED: u32 = 20_000;

/// A fleet that has room for everything, and devices of no model.
struct Endless;

impl Room for Endless {
    type Seated = ();

    fn seat(&mut self, _: &Ask<'_>, most: u32, steps: &mut u64, out: &mut Vec<()>) -> Ended {
        let seated = most.min(u32::try_from(*steps).unwrap_or(u32::MAX));
        *steps -= u64::from(seated);
        out.extend((0..seated).map(|_| ()));
        if seated == most { Ended::Enough } else { Ended::Budget }
    }

    fn give_back(&mut self, _: ShapeIndex, (): &()) {}

    fn models_of(&self, _: ShapeIndex, (): &()) -> Vec<(u32, u64)> {
        Vec::new()
    }
}

/// Where a task stands in the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The groups of which something is before it, and how many tasks of each.
    pub(crate) before: Vec<(ReadyGroup, u64)>,
    /// Whether its place was found; otherwise the bound was met, and it is further back.
    pub(crate) found: bool,
}

/// What waits, with the order in which it would be placed.
pub(crate) struct Line {
    known: Known,
}

impl Line {
    /// What waits in this state.
    pub(crate) fn of(state: &State) -> Self {
        Self { known: Known::of(state, (0, Fit::Fragmentation), Counted::up_to(COUNTED)) }
    }

    /// What is kept free of a resource from a queue that wants so much of it; nothing if it may have it.
    pub(crate) fn kept_from(&mut self, queue: &QueuePath, resource: &Resource, need: u64) -> Option<KeptFree> {
        let number = self.known.tree.number(queue.as_str())?;
        let column = self.known.words.column(resource.column());
        let Kept { free, kept, keepers } = self.known.queues.kept_from(number, column, need)?;
        let path = |(queue, kept)| Some((self.known.tree.path(queue)?, kept));
        let keepers = keepers.into_iter().filter_map(path).collect();
        Some(KeptFree { resource: resource.clone(), need, free, kept, keepers })
    }

    /// Where a task stands in it; nothing if it does not wait to be placed.
    pub(crate) fn standing(mut self, ready: &ReadyStep, task: TaskKey, bound: Bound) -> Option<Standing> {
        let (group, own) = (ready.group(), self.key_of(ready)?);
        let spec: &StepSpec = self.known.state.step_spec(ready.job, ready.step)?;
        let shape = self.known.shapes.find(ready.shape, spec, &self.whose(ready)?)?;
        let most = usize::try_from(bound.tasks).unwrap_or(usize::MAX);
        let tasks = {
            let known = &self.known;
            waiting::first_tasks(&known.state, &group, &known.claimed, (&known.shapes, shape), most)
        };
        // A step that may have fewer tasks at a time than are ready has the others wait outside the line.
        let rank = tasks.iter().position(|(key, _)| *key == task);
        let Known { tree, state, words, queues, .. } = &mut self.known;
        tree.tell_as(state, words, queues, without_bounds);
        queues.set_most(Named::default());
        let placed = round(queues, &mut Endless, bound).placed;
        let mut seen = 0;
        let last = placed.iter().position(|(key, ())| {
            seen += usize::from(*key == own);
            *key == own && rank.is_some_and(|rank| seen == rank + 1)
        });
        let mut counts = BTreeMap::<GroupKey, u64>::new();
        placed[..last.unwrap_or(placed.len())].iter().for_each(|(key, ())| *counts.entry(*key).or_default() += 1);
        let before = counts.into_iter().filter_map(|(key, count)| Some((self.known.by_key.get(&key)?.clone(), count)));
        Some(Standing { before: before.collect(), found: last.is_some() })
    }

    fn whose(&self, ready: &ReadyStep) -> Option<Whose> {
        let state = &self.known.state;
        Some(Whose::of(state, &state.job(ready.job)?.spec, (ready.job, ready.step)))
    }

    fn key_of(&mut self, ready: &ReadyStep) -> Option<GroupKey> {
        let spec = self.known.state.step_spec(ready.job, ready.step)?;
        let shape = self.known.shapes.find(ready.shape, spec, &self.whose(ready)?)?;
        let queue = self.known.tree.number(ready.queue.as_str())?;
        Some(GroupKey { queue, priority: ready.priority.0, user: self.known.words.user(&ready.owner), shape })
    }
}

fn without_bounds(facts: QueueFacts) -> QueueFacts {
    let none = Named::default;
    QueueFacts { most_active: None, limit: none(), borrow: none(), lend: none(), ..facts }
}
