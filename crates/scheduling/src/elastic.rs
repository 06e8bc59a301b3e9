//! Gangs of no fixed size: at the beginning of each round each asks for as many members as it would find room for then, within what its
//! step says, the bounds of its queue, and what is not kept for others.
//!
//! What others take in that round may leave it less; then it asks for less in the next one. What is blocked has room kept for its least
//! (see `reserving`), and starts with as many as there is room for once its turn has come.

use std::collections::BTreeMap;

use flowyard_model::{QueuePath, StepSpec};
use flowyard_placement::{Seated, ShapeIndex};
use flowyard_state::ReadyGroup;

use crate::scheduler::Known;
use crate::shapes;
use crate::why::need;

impl Known {
    /// Says how many members each asks for now.
    pub(crate) fn size_gangs(&mut self) {
        let groups: Vec<ReadyGroup> = self.elastic.iter().cloned().collect();
        let mut sizes: BTreeMap<ShapeIndex, u32> = BTreeMap::new();
        for group in &groups {
            let keys = self.groups.get(group).cloned().unwrap_or_default();
            for key in keys {
                // Of those that are alike, the one with the narrowest bounds says it.
                let size = self.fitting(&group.queue, key.shape);
                sizes.entry(key.shape).and_modify(|known| *known = size.min(*known)).or_insert(size);
            }
        }
        self.resize_all(sizes, &groups);
    }

    /// Each asks for its least from now on: that is what room is kept for.
    pub(crate) fn least_gangs(&mut self) {
        let groups: Vec<ReadyGroup> = self.elastic.iter().cloned().collect();
        let keys = groups.iter().filter_map(|group| self.groups.get(group)).flatten();
        let least = |at: ShapeIndex| (at, self.shapes.get(at).spec().least_size());
        let sizes = keys.map(|key| least(key.shape)).collect();
        self.resize_all(sizes, &groups);
    }

    fn resize_all(&mut self, sizes: BTreeMap<ShapeIndex, u32>, groups: &[ReadyGroup]) {
        let mut changed = false;
        for (at, size) in sizes {
            changed |= self.resize(at, size);
        }
        groups.iter().filter(|_| changed).for_each(|group| self.tell_group(group));
    }

    /// Where one with a reservation would be seated with as many members as there is room for. What waits asks for as much as before
    /// afterwards, and nothing is given out.
    pub(crate) fn seat_as_many(&mut self, queue: &QueuePath, at: ShapeIndex, steps: u64) -> Option<Seated> {
        let before = self.shapes.told(at).size;
        let is_elastic = self.shapes.get(at).spec().placing.min_size.is_some();
        if is_elastic {
            let size = self.fitting(queue, at);
            self.resize(at, size);
        }
        let (mut steps, mut out) = (steps, Vec::new());
        self.fleet.seat(at, 1, None, &mut steps, &mut out);
        out.iter().for_each(|seated| self.fleet.give_back(at, seated));
        if is_elastic {
            self.resize(at, before);
        }
        out.pop()
    }

    /// The most members that have room now, and the least if there are not as many.
    fn fitting(&mut self, queue: &QueuePath, at: ShapeIndex) -> u32 {
        let spec = self.shapes.get(at).spec().clone();
        let policy = self.state.policy().clone();
        let facts = shapes::facts(&spec, &policy, self.classes.examples(), &mut self.words);
        let facts = self.shapes.beside(at, facts);
        let seats = u32::try_from(self.fleet.explain(&facts).seats).unwrap_or(u32::MAX);
        let (mut least, mut most) = (spec.least_size(), seats.min(spec.size).max(spec.least_size()));
        while least < most {
            let middle = least + (most - least).div_ceil(2);
            let spec = spec.of_size(middle);
            if self.is_within_bounds(queue, &spec) && !self.is_kept(queue, &spec) {
                least = middle
            } else {
                most = middle - 1
            }
        }
        least
    }

    fn is_within_bounds(&self, queue: &QueuePath, spec: &StepSpec) -> bool {
        let by = |alternative: usize| {
            let need = need(spec, &spec.resources, alternative as u32);
            self.ahead.bound_reached(queue, &need, spec.preemptible).is_none()
        };
        (0..spec.resources.gpus.len().max(1)).any(by)
    }

    /// Whether so much is kept for others.
    fn is_kept(&mut self, queue: &QueuePath, spec: &StepSpec) -> bool {
        let needs = self.words.task_needs(spec);
        self.tree.number(queue.as_str()).is_some_and(|queue| self.queues.is_kept_from(queue, &needs))
    }

    /// Whether that is another size than before.
    pub(crate) fn resize(&mut self, at: ShapeIndex, size: u32) -> bool {
        let spec = self.shapes.get(at).spec().of_size(size);
        let (policy, known) = (self.state.policy().clone(), &self.classes);
        let mut facts = shapes::facts(&spec, &policy, known.examples(), &mut self.words);
        // What a gang needs of its nodes it needs also where only one member of it starts.
        let whole = self.shapes.get(at).spec().clone();
        facts.eligible = shapes::facts(&whole, &policy, known.examples(), &mut self.words).eligible;
        let needs = self.words.task_needs(&spec).into();
        let changed = self.shapes.put_facts(at, facts, needs);
        if changed {
            self.fleet.put_shape(at, self.shapes.told(at).clone());
        }
        changed
    }
}
