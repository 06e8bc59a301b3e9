//! What keeps apart and what is spread, against counting and trying everything: whatever was seated, given back and told before, no rule is
//! broken, and where no task is seated none could be.

use std::collections::BTreeMap;

use flowyard_placement::*;
use proptest::prelude::*;

/// A node: its domain, if it has one, its rack, if it has one, and CPUs that are free.
type Place = (Option<u32>, Option<u32>, u64);

/// Shapes, each with its marks: those that it avoids, and those that it leaves.
const MARKS: [(&[u32], &[u32]); 4] = [(&[1], &[0]), (&[0], &[1]), (&[], &[]), (&[2], &[2])];

#[derive(Debug, Clone)]
enum Event {
    Seat(u32, u32),
    End(usize),
    /// The facts are told again, as they are.
    Tell(u32),
}

#[derive(Debug, Clone)]
struct Problem {
    places: Vec<Place>,
    sizes: [u32; 4],
    needs: [u64; 4],
    spreads: [Option<(Option<u32>, bool)>; 4],
    near: Near,
}

fn problem() -> impl Strategy<Value = Problem> {
    let place = (prop::option::weighted(0.8, 0u32..3), prop::option::weighted(0.8, 0u32..2), 0u64..6);
    let near = prop_oneof![
        3 => Just(Near::Lowest),
        1 => (0u32..2).prop_map(Near::Prefer),
        1 => Just(Near::Need(1)),
    ];
    let spread = || prop::option::of((prop::option::of(1u32..4), any::<bool>()));
    (
        prop::collection::vec(place, 1..8),
        prop::array::uniform4(prop_oneof![3 => Just(1u32), 2 => 2u32..5]),
        prop::array::uniform4(1u64..3),
        [spread(), spread(), spread(), spread()],
        near,
    )
        .prop_map(|(places, sizes, needs, spreads, near)| Problem { places, sizes, needs, spreads, near })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        5 => (0u32..4, 1u32..5).prop_map(|(shape, most)| Event::Seat(shape, most)),
        2 => (0usize..9).prop_map(Event::End),
        1 => (0u32..4).prop_map(Event::Tell),
    ];
    prop::collection::vec(event, 1..14)
}

/// What runs, and where.
struct World {
    problem: Problem,
    running: Vec<(u32, Seated)>,
}

impl World {
    fn domain(&self, node: usize) -> Domain {
        self.problem.places[node].0.map_or(Domain::Node(NodeIndex(node as u32)), Domain::Of)
    }

    fn members(&self, shape: u32) -> impl Iterator<Item = usize> + '_ {
        let of = self.running.iter().filter(move |(other, _)| *other == shape);
        of.flat_map(|(_, seated)| seated.seats.iter().map(|seat| seat.node.0 as usize))
    }

    fn free(&self, node: usize) -> u64 {
        let used = (0..4).map(|shape| {
            let there = self.members(shape).filter(|at| *at == node).count() as u64;
            there * self.problem.needs[shape as usize]
        });
        self.problem.places[node].2 - used.sum::<u64>()
    }

    fn marks(&self, node: usize) -> Vec<u32> {
        let left = |shape: u32| self.members(shape).filter(|at| *at == node).flat_map(move |_| MARKS[shape as usize].1);
        (0..4).flat_map(left).copied().collect()
    }

    fn facts(&self, shape: u32) -> ShapeFacts {
        let at = shape as usize;
        let (avoids, leaves) = MARKS[at];
        let spread = self.problem.spreads[at].map(|(at_most, one_per_node)| {
            let mut there = BTreeMap::new();
            self.members(shape).for_each(|node| *there.entry(self.domain(node)).or_insert(0) += 1);
            let domains = self.problem.places.iter().map(|(domain, ..)| *domain).collect();
            let on = self.members(shape).filter(|_| one_per_node).map(|node| NodeIndex(node as u32)).collect();
            Spread { domains, at_most, one_per_node, there, on }
        });
        ShapeFacts {
            needs: Amounts { cpu_milli: self.problem.needs[at], ..Amounts::NONE },
            wishes: vec![],
            size: self.problem.sizes[at],
            eligible: Bits::all(self.problem.places.len()),
            near: self.problem.near,
            prefer: vec![],
            beside: Beside { avoids: avoids.to_vec(), leaves: leaves.to_vec(), pack: false, spread },
        }
    }

    fn fresh(&self) -> Fleet {
        let mut fleet = Fleet::new(3);
        for (at, (_, rack, cpus)) in (0u32..).zip(&self.problem.places) {
            fleet.put_class(at, rack.as_slice());
            let all = Amounts { cpu_milli: *cpus, ..Amounts::NONE };
            let free = Amounts { cpu_milli: self.free(at as usize), ..Amounts::NONE };
            fleet.put_node(NodeIndex(at), NodeFacts { class: at, all, free, devices: vec![], avoided: false });
            fleet.put_marks(NodeIndex(at), self.marks(at as usize));
        }
        (0..4).for_each(|shape| fleet.put_shape(ShapeIndex(shape), self.facts(shape)));
        fleet
    }

    /// Members of a task that a node could hold.
    fn holds(&self, shape: u32, node: usize) -> u64 {
        let (avoids, leaves) = MARKS[shape as usize];
        let is_avoided = self.marks(node).iter().any(|mark| avoids.contains(mark));
        let one_per_node = self.problem.spreads[shape as usize].is_some_and(|(_, one)| one);
        let is_taken = one_per_node && self.members(shape).any(|at| at == node);
        let is_alone = one_per_node || avoids.iter().any(|mark| leaves.contains(mark));
        let held = self.free(node) / self.problem.needs[shape as usize];
        match (is_avoided || is_taken, is_alone) {
            (true, _) => 0,
            (false, true) => held.min(1),
            (false, false) => held,
        }
    }

    fn room(&self, shape: u32, domain: Domain) -> u64 {
        let there = self.members(shape).filter(|node| self.domain(*node) == domain).count() as u64;
        let most = self.problem.spreads[shape as usize].and_then(|(most, _)| most);
        most.map_or(u64::MAX, |most| u64::from(most).saturating_sub(there))
    }

    /// Whether one more task fits: domains do not overlap, so that what they hold adds up.
    fn fits(&self, shape: u32) -> bool {
        let size = u64::from(self.problem.sizes[shape as usize]);
        let mut areas: BTreeMap<(u32, Option<usize>), BTreeMap<Domain, u64>> = BTreeMap::new();
        for (node, (_, rack, _)) in self.problem.places.iter().enumerate() {
            let area = match (self.problem.near, rack) {
                (Near::Need(_), Some(rack)) if size > 1 => (*rack, None),
                (Near::Need(_), None) if size > 1 => (0, Some(node)),
                _ => (0, None),
            };
            *areas.entry(area).or_default().entry(self.domain(node)).or_insert(0) += self.holds(shape, node);
        }
        let is_spread = self.problem.spreads[shape as usize].is_some();
        let room = |domain: Domain| if is_spread { self.room(shape, domain) } else { u64::MAX };
        let held = |of: &BTreeMap<Domain, u64>| of.iter().map(|(at, held)| room(*at).min(*held)).sum::<u64>();
        areas.values().any(|area| held(area) >= size)
    }

    /// Whether all that runs keeps all rules.
    fn check(&self) -> Result<(), TestCaseError> {
        for node in 0..self.problem.places.len() {
            let on = |shape: u32| self.members(shape).filter(|at| *at == node).count();
            prop_assert!(on(0) == 0 || on(1) == 0, "these two keep apart from each other");
            prop_assert!(on(3) <= 1, "this one keeps apart from itself");
            for shape in 0..4 {
                let one = self.problem.spreads[shape as usize].is_some_and(|(_, one)| one);
                prop_assert!(!one || on(shape) <= 1, "a node has one of it");
            }
        }
        for shape in 0..4 {
            let Some((Some(most), _)) = self.problem.spreads[shape as usize] else { continue };
            let mut there: BTreeMap<Domain, u32> = BTreeMap::new();
            self.members(shape).for_each(|node| *there.entry(self.domain(node)).or_insert(0) += 1);
            prop_assert!(there.values().all(|there| *there <= most), "at most {} in one: {:?}", most, there);
        }
        Ok(())
    }

    fn check_even(&self, shape: u32, seated: &Seated) -> Result<(), TestCaseError> {
        if self.problem.spreads[shape as usize].is_none() || self.problem.sizes[shape as usize] > 1 {
            return Ok(());
        }
        let there = |domain: Domain| self.members(shape).filter(|node| self.domain(*node) == domain).count();
        let chosen = there(self.domain(seated.seats[0].node.0 as usize));
        for node in (0..self.problem.places.len()).filter(|node| self.holds(shape, *node) > 0) {
            let domain = self.domain(node);
            prop_assert!(self.room(shape, domain) == 0 || there(domain) >= chosen, "{:?} has fewer", domain);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_rule_is_broken_and_what_could_be_seated_is(problem in problem(), events in events()) {
        let mut world = World { problem, running: vec![] };
        let mut fleet = world.fresh();
        for event in &events {
            match event {
                Event::Seat(shape, most) => {
                    let (mut seated, mut expected) = (Vec::new(), Vec::new());
                    let ended = fleet.seat(ShapeIndex(*shape), *most, None, &mut { u64::MAX }, &mut seated);
                    world.fresh().seat(ShapeIndex(*shape), *most, None, &mut { u64::MAX }, &mut expected);
                    prop_assert_eq!(&seated, &expected, "a fleet that is kept seats as a new one");
                    for task in seated {
                        prop_assert!(world.fits(*shape));
                        world.check_even(*shape, &task)?;
                        world.running.push((*shape, task));
                        world.check()?;
                    }
                    match ended {
                        Ended::Enough => prop_assert_eq!(expected.len(), *most as usize),
                        _ => prop_assert!(!world.fits(*shape), "there is room for one more of {}", shape),
                    }
                }
                Event::End(which) if !world.running.is_empty() => {
                    let at = which % world.running.len();
                    let (shape, task) = world.running.swap_remove(at);
                    fleet.give_back(ShapeIndex(shape), &task);
                }
                Event::Tell(shape) => fleet.put_shape(ShapeIndex(*shape), world.facts(*shape)),
                Event::End(_) => {}
            }
        }
    }

    #[test]
    fn an_explanation_counts_what_is_beside(problem in problem(), events in events(), shape in 0u32..4) {
        let mut world = World { problem, running: vec![] };
        for event in &events {
            if let Event::Seat(shape, most) = event {
                let mut seated = Vec::new();
                world.fresh().seat(ShapeIndex(*shape), *most, None, &mut { u64::MAX }, &mut seated);
                world.running.extend(seated.into_iter().map(|task| (*shape, task)));
            }
        }
        let (fleet, facts) = (world.fresh(), world.facts(shape));
        let told = fleet.explain(&facts);
        prop_assert_eq!(told.seats >= u64::from(facts.size), world.fits(shape));
        world.running.clear();
        prop_assert_eq!(fleet.could_ever_fit(&facts), world.fits(shape));
    }
}

#[test]
fn members_of_a_gang_are_as_even_as_there_is_room_and_in_few_nodes_of_each() {
    let places =
        vec![(Some(0), None, 4), (Some(0), None, 2), (Some(1), None, 1), (Some(2), None, 3), (Some(2), None, 2)];
    let spreads = [Some((None, false)), None, None, None];
    let problem = Problem { places, sizes: [7, 1, 1, 1], needs: [1; 4], spreads, near: Near::Lowest };
    let world = World { problem, running: vec![] };
    let mut seated = Vec::new();
    world.fresh().seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut seated);
    let mut nodes: Vec<u32> = seated[0].seats.iter().map(|seat| seat.node.0).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [0, 0, 0, 2, 3, 3, 3], "three, one, for which there is room, and three");
}

#[test]
fn packed_work_goes_to_the_fullest_node_and_other_work_to_the_emptiest() {
    let mut fleet = Fleet::new(0);
    for (at, free) in (0u32..).zip([4, 2, 3]) {
        let amounts = |cpu_milli| Amounts { cpu_milli, ..Amounts::NONE };
        fleet.put_node(
            NodeIndex(at),
            NodeFacts { class: 0, all: amounts(4), free: amounts(free), devices: vec![], avoided: false },
        );
    }
    for (shape, pack) in [(0, false), (1, true)] {
        let beside = Beside { pack, ..Beside::default() };
        let needs = Amounts { cpu_milli: 1, ..Amounts::NONE };
        let facts = ShapeFacts {
            needs,
            wishes: vec![],
            size: 1,
            eligible: Bits::all(1),
            near: Near::Lowest,
            prefer: vec![],
            beside,
        };
        fleet.put_shape(ShapeIndex(shape), facts);
    }
    let mut first = |shape: u32, most: u32| {
        let mut seated = Vec::new();
        fleet.seat(ShapeIndex(shape), most, None, &mut { u64::MAX }, &mut seated);
        seated.iter().for_each(|task| fleet.give_back(ShapeIndex(shape), task));
        seated.iter().map(|task| task.seats[0].node.0).collect::<Vec<_>>()
    };
    assert_eq!(first(0, 3), [0, 0, 2]);
    assert_eq!(first(1, 4), [1, 1, 2, 2], "one node after the other");
}
