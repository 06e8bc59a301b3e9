//! Shapes with a number each, for as long as work of them waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{Inventory, JobSpec, Policy, StepIndex, StepSpec};
use flowyard_placement::{Bits, Need, ShapeFacts, ShapeIndex};

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
}

impl Shape {
    fn spec(&self) -> &StepSpec {
        &self.job.steps[self.step.0 as usize]
    }
}

/// What placement is told of the shape of a step.
pub(crate) fn facts(spec: &StepSpec, policy: &Policy, classes: &[Arc<Inventory>], words: &mut Words) -> ShapeFacts {
    let mut eligible = Bits::none(classes.len());
    let (near, suited) = (near::of(spec, policy), (0..classes.len()).filter(|class| suits(spec, &classes[*class])));
    suited.filter(|_| near.is_some()).for_each(|class| eligible.insert(class));
    let prefer = classes.iter().map(|class| spec.placing.score(class)).collect();
    let (needs, wishes) = (words.needs(&spec.resources), words.wishes(&spec.resources));
    ShapeFacts { needs, wishes, size: spec.size, eligible, near: near.unwrap_or_default(), prefer }
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

    /// The shape of a number that is in use.
    pub(crate) fn get(&self, at: ShapeIndex) -> &Shape {
        self.list[at.0 as usize].as_ref().expect("a group has a shape")
    }

    /// There is a new class of nodes, of which this inventory is: what is to be told of the shapes that suit it.
    pub(crate) fn let_in(
        &mut self,
        class: u32,
        inventory: &Inventory,
        policy: &Policy,
    ) -> Vec<(ShapeIndex, ShapeFacts)> {
        let mut changed = Vec::new();
        for (at, shape) in self.list.iter_mut().enumerate().filter_map(|(at, shape)| Some((at, shape.as_mut()?))) {
            if near::of(shape.spec(), policy).is_some() && suits(shape.spec(), inventory) {
                shape.facts.eligible.put(class as usize);
                shape.facts.prefer.resize(class as usize + 1, 0);
                shape.facts.prefer[class as usize] = shape.spec().placing.score(inventory);
                changed.push((ShapeIndex(at as u32), shape.facts.clone()));
            }
        }
        changed
    }

    /// The number of a step's shape, if work of it waits.
    pub(crate) fn find(&self, fingerprint: u64, spec: &StepSpec) -> Option<ShapeIndex> {
        let alike = self.by_fingerprint.get(&fingerprint)?.iter().copied();
        // More than one only if fingerprints collide.
        alike.into_iter().find(|at| self.get(*at).spec().shape() == spec.shape())
    }

    /// One more group has the shape of this step; its number, and what is to be told of it if it is new.
    pub(crate) fn join(
        &mut self,
        fingerprint: u64,
        (job, step): (&Arc<JobSpec>, StepIndex),
        (classes, policy): (&Classes, &Policy),
        words: &mut Words,
    ) -> (ShapeIndex, Option<ShapeFacts>) {
        let spec = &job.steps[step.0 as usize];
        if let Some(at) = self.find(fingerprint, spec) {
            self.list[at.0 as usize].as_mut().expect("it was found").groups += 1;
            return (at, None);
        }
        let (needs, facts) = (words.task_needs(spec).into(), facts(spec, policy, classes.examples(), words));
        let shape = Shape { job: job.clone(), step, facts: facts.clone(), needs, groups: 1, fingerprint };
        let at = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            self.list.len() as u32 - 1
        });
        self.list[at as usize] = Some(shape);
        self.by_fingerprint.entry(fingerprint).or_default().push(ShapeIndex(at));
        (ShapeIndex(at), Some(facts))
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
