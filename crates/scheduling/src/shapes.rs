//! Shapes with a number each, for as long as work of them waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{Inventory, JobSpec, Policy, StepIndex, StepSpec};
use flowyard_placement::{Beside, Bits, Need, ShapeFacts, ShapeIndex};
use flowyard_state::State;

use crate::beside::{self, Whose};
use crate::near;
use crate::nodes::Classes;
use crate::words::Words;

/// A step that has the shape, kept as its example.
#[derive(Debug)]
pub(crate) struct Shape {
    job: Arc<JobSpec>,
    step: StepIndex,
    /// What placement was told of it.
    facts: ShapeFacts,
    /// What a task of it holds, by each alternative.
    pub(crate) needs: Arc<[Need]>,
    /// Groups of waiting work that have it.
    groups: usize,
    fingerprint: u64,
    whose: Whose,
}

impl Shape {
    /// The step that is its example.
    pub(crate) fn spec(&self) -> &StepSpec {
        &self.job.steps[self.step.0 as usize]
    }
}

/// What placement is told of the shape of a step, but for what is beside it.
pub(crate) fn facts(spec: &StepSpec, policy: &Policy, classes: &[Arc<Inventory>], words: &mut Words) -> ShapeFacts {
    let mut eligible = Bits::none(classes.len());
    let (near, suited) = (near::of(spec, policy), (0..classes.len()).filter(|class| suits(spec, &classes[*class])));
    suited.filter(|_| near.is_some()).for_each(|class| eligible.insert(class));
    let prefer = classes.iter().map(|class| spec.placing.score(class)).collect();
    let (needs, wishes) = (words.needs(&spec.resources), words.wishes(&spec.resources));
    ShapeFacts {
        needs,
        wishes,
        size: spec.size,
        eligible,
        near: near.unwrap_or_default(),
        prefer,
        beside: Beside::default(),
    }
}

fn suits(spec: &StepSpec, inventory: &Inventory) -> bool {
    spec.allows(inventory) && spec.connects(inventory)
}

/// All shapes of which work waits.
#[derive(Debug)]
pub(crate) struct Shapes {
    /// By number; a number of which nothing waits is free.
    list: Vec<Option<Shape>>,
    free: Vec<u32>,
    by_fingerprint: BTreeMap<u64, Vec<ShapeIndex>>,
}

impl Shapes {
    pub(crate) fn none() -> Self {
        Self { list: Vec::new(), free: Vec::new(), by_fingerprint: BTreeMap::new() }
    }

    /// Says anew what placement is told of a shape, but for what is beside it; whether that is something else.
    pub(crate) fn put_facts(&mut self, at: ShapeIndex, facts: ShapeFacts, needs: Arc<[Need]>) -> bool {
        let facts = self.beside(at, facts);
        let shape = self.list[at.0 as usize].as_mut().expect("a group has a shape");
        let changed = (&shape.facts, &shape.needs) != (&facts, &needs);
        (shape.facts, shape.needs) = (facts, needs);
        changed
    }

    /// These facts, beside what is told of a shape.
    pub(crate) fn beside(&self, at: ShapeIndex, facts: ShapeFacts) -> ShapeFacts {
        ShapeFacts { beside: self.get(at).facts.beside.clone(), ..facts }
    }

    /// What placement is told of a shape.
    pub(crate) fn told(&self, at: ShapeIndex) -> &ShapeFacts {
        &self.get(at).facts
    }

    /// A number that no shape has.
    pub(crate) fn next(&self) -> ShapeIndex {
        ShapeIndex(self.list.len() as u32)
    }

    /// The shape of a number that is in use.
    pub(crate) fn get(&self, at: ShapeIndex) -> &Shape {
        self.list[at.0 as usize].as_ref().expect("a group has a shape")
    }

    /// There is a new class of nodes, of which this inventory is: what is to be told of the shapes that suit it.
    pub(crate) fn let_in(
        &mut self,
        class: u32,
        inventory: &Inventory,
        state: &State,
        words: &mut Words,
    ) -> Vec<(ShapeIndex, ShapeFacts)> {
        let policy = state.policy();
        let mut changed = Vec::new();
        for (at, shape) in self.list.iter_mut().enumerate().filter_map(|(at, shape)| Some((at, shape.as_mut()?))) {
            if near::of(shape.spec(), policy).is_some() && suits(shape.spec(), inventory) {
                shape.facts.eligible.put(class as usize);
                shape.facts.prefer.resize(class as usize + 1, 0);
                shape.facts.prefer[class as usize] = shape.spec().placing.score(inventory);
                if let (Some(told), Some(spread)) =
                    (&mut shape.facts.beside.spread, &shape.job.steps[shape.step.0 as usize].placing.spread)
                {
                    told.domains.resize(class as usize + 1, None);
                    told.domains[class as usize] = beside::domain(state, spread, inventory, words);
                }
                changed.push((ShapeIndex(at as u32), shape.facts.clone()));
            }
        }
        changed
    }

    /// The number of a step's shape, if work of it waits.
    pub(crate) fn find(&self, fingerprint: u64, spec: &StepSpec, whose: &Whose) -> Option<ShapeIndex> {
        let alike = self.by_fingerprint.get(&fingerprint)?.iter().copied();
        // More than one only if fingerprints collide, or if there are tags from which others keep apart.
        alike.into_iter().find(|at| self.get(*at).spec().shape() == spec.shape() && self.get(*at).whose == *whose)
    }

    /// One more group has the shape of this step; its number, and whether it is new.
    pub(crate) fn join(
        &mut self,
        fingerprint: u64,
        (job, step, whose): (&Arc<JobSpec>, StepIndex, &Whose),
        (classes, policy): (&Classes, &Policy),
        words: &mut Words,
    ) -> (ShapeIndex, bool) {
        let spec = &job.steps[step.0 as usize];
        if let Some(at) = self.find(fingerprint, spec, whose) {
            self.list[at.0 as usize].as_mut().expect("it was found").groups += 1;
            return (at, false);
        }
        let (needs, facts) = (words.task_needs(spec).into(), facts(spec, policy, classes.examples(), words));
        let shape = Shape { job: job.clone(), step, facts, needs, groups: 1, fingerprint, whose: whose.clone() };
        let at = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            self.list.len() as u32 - 1
        });
        self.list[at as usize] = Some(shape);
        self.by_fingerprint.entry(fingerprint).or_default().push(ShapeIndex(at));
        (ShapeIndex(at), true)
    }

    /// What is to be told of a shape beside which there is this now.
    pub(crate) fn say(&mut self, at: ShapeIndex, beside: Beside) -> ShapeFacts {
        let shape = self.list[at.0 as usize].as_mut().expect("a group has a shape");
        shape.facts.beside = beside;
        shape.facts.clone()
    }

    /// Whether it matters to a shape where its own members are.
    pub(crate) fn counts_its_own(&self, at: ShapeIndex) -> bool {
        self.get(at).spec().placing.counts_its_own()
    }

    /// One group less has this shape; whether nothing of it waits any more.
    pub(crate) fn leave(&mut self, at: ShapeIndex) -> bool {
        let shape = self.list[at.0 as usize].as_mut().expect("a group has a shape");
        shape.groups -= 1;
        if shape.groups > 0 {
            return false;
        }
        let fingerprint = shape.fingerprint;
        self.list[at.0 as usize] = None;
        self.free.push(at.0);
        let alike = self.by_fingerprint.get_mut(&fingerprint).expect("it was entered");
        alike.retain(|other| *other != at);
        if alike.is_empty() {
            self.by_fingerprint.remove(&fingerprint);
        }
        true
    }
}
