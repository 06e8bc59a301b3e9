//! What holds for any fleet and any history of it. The policy is in `policy.rs`, the old solver as a witness in `witness.rs`.

mod beside;
mod fragments;
mod links;
mod mirror;
mod near;
mod occupied;
mod policy;
mod random;
mod steps;

use flowyard_placement::*;
use mirror::Mirror;
use proptest::prelude::*;
use random::Event;

/// A fleet that is kept, and what it should know.
struct Run {
    seed: u64,
    fleet: Fleet,
    mirror: Mirror,
    /// Tasks that run: the shape's index, its facts when it was seated, the task.
    seated: Vec<(u32, ShapeFacts, Seated)>,
}

impl Run {
    fn new(seed: u64, fit: Fit) -> Self {
        let mirror = Mirror { fit: Some(fit), ..Mirror::default() };
        Self { seed, fleet: Fleet::with_fit(seed, fit), mirror, seated: Vec::new() }
    }

    fn happens(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::PutNode(at, facts) => {
                self.forget(*at);
                self.fleet.put_node(NodeIndex(*at), facts.clone());
                self.mirror.nodes.insert(*at, facts.clone());
            }
            Event::PutClass(class, labels) => {
                self.fleet.put_class(*class, labels);
                self.mirror.classes.insert(*class, labels.clone());
            }
            Event::RemoveNode(at) => {
                self.forget(*at);
                self.fleet.remove_node(NodeIndex(*at));
                self.mirror.nodes.remove(at);
            }
            Event::Free(at, free) => {
                if let Some(facts) = self.mirror.nodes.get(at).cloned() {
                    let free = mirror::least(free, &facts.all);
                    self.happens(&Event::PutNode(*at, NodeFacts { free, ..facts }))?;
                }
            }
            Event::Repeat(at) => {
                if let Some(facts) = self.mirror.nodes.get(at) {
                    self.fleet.put_node(NodeIndex(*at), facts.clone());
                }
            }
            Event::PutShape(at, facts) => {
                self.fleet.put_shape(ShapeIndex(*at), facts.clone());
                self.mirror.shapes.insert(*at, facts.clone());
            }
            Event::DropShape(at) => {
                self.fleet.drop_shape(ShapeIndex(*at));
                self.mirror.shapes.remove(at);
            }
            Event::Seat(shape, most, models, steps) => self.seat(*shape, *most, models.as_ref(), *steps)?,
            Event::Mix(mix) => {
                self.fleet.set_mix(mix);
                self.mirror.mix = Some(mix.clone());
            }
            Event::End(which) => self.end(*which),
        }
        Ok(())
    }

    /// What runs on a node that is replaced is the new node's business.
    fn forget(&mut self, node: u32) {
        self.seated.retain(|(_, _, task)| task.seats.iter().all(|seat| seat.node.0 != node));
    }

    fn end(&mut self, which: usize) {
        if !self.seated.is_empty() {
            let (at, facts, task) = self.seated.swap_remove(which % self.seated.len());
            if self.mirror.shapes.get(&at) == Some(&facts) {
                self.fleet.give_back(ShapeIndex(at), &task);
                self.mirror.give_back(&facts, &task);
            }
        }
    }

    /// Seats in calls of so many steps each, and checks what comes of it against all laws.
    fn seat(&mut self, at: u32, most: u32, models: Option<&Bits>, steps: u64) -> Result<(), TestCaseError> {
        let mut expected = Vec::new();
        let by_fresh =
            self.mirror.fresh(self.seed).seat(ShapeIndex(at), most, models, &mut { u64::MAX }, &mut expected);
        let mut seated = Vec::new();
        let ended = loop {
            let left = most - seated.len() as u32;
            let mut budget = steps;
            match self.fleet.seat(ShapeIndex(at), left, models, &mut budget, &mut seated) {
                Ended::Budget => prop_assert!(budget < 4, "{budget} steps were left"),
                ended => break ended,
            }
        };
        prop_assert_eq!(&seated, &expected, "kept and fresh give the same seats");
        prop_assert_eq!(ended, by_fresh);
        let Some(shape) = self.mirror.shapes.get(&at).cloned() else {
            prop_assert!(seated.is_empty());
            return Ok(());
        };
        for task in seated {
            let best = self.mirror.is_on_the_best(&shape, models, &task);
            prop_assert!(best, "a better node had room for {:?}", task);
            prop_assert!(self.mirror.avoids(&shape, models, &task), "{:?} is on avoided nodes", task);
            prop_assert_eq!(self.mirror.take(&shape, models, &task), Ok(()));
            self.seated.push((at, shape.clone(), task));
        }
        match ended {
            Ended::Enough => prop_assert_eq!(expected.len(), most as usize),
            Ended::NoRoom => prop_assert!(!self.mirror.fits(&shape, models), "there is room for one more"),
            Ended::Budget => prop_assert!(false, "the steps never end"),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_seats_are_right_and_those_of_a_fresh_fleet(
        history in random::history(),
        seed in 0u64..9,
        fit in prop::sample::select(vec![Fit::Fragmentation, Fit::Fragmentation, Fit::Best, Fit::First]),
    ) {
        let mut run = Run::new(seed, fit);
        for event in &history {
            run.happens(event)?;
        }
    }

    #[test]
    fn an_explanation_agrees_with_trying_everything(
        history in random::history(),
        shape in random::shape(),
    ) {
        let mut run = Run::new(0, Fit::Fragmentation);
        for event in &history {
            run.happens(event)?;
        }
        let told = run.fleet.explain(&shape);
        prop_assert_eq!(told.nodes, run.mirror.nodes.len());
        prop_assert_eq!(told.fitting > 0 && !told.lacks.contains_key(&Lack::Gang), run.mirror.fits(&shape, None));
        if run.mirror.nodes.values().all(|node| node.devices.len() < 8) {
            prop_assert_eq!(run.fleet.could_ever_fit(&shape), run.mirror.emptied().fits(&shape, None));
        }
    }
}
