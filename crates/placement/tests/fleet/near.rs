//! Gangs in a topology, against trying everything: in which domain, in how many parts of it, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_placement::*;
use proptest::prelude::*;

use crate::random;

/// Levels that are declared; below them there are nodes.
const LEVELS: usize = 2;

/// Nodes by their index: their labels from the top, and members that they hold.
type Yard = Vec<(Vec<u32>, u64)>;

/// A domain: labels, or those of a node and the node itself where it is a domain of its own.
type Place = (Vec<u32>, Option<usize>);

fn place(yard: &Yard, node: usize, depth: usize) -> Place {
    let labels = &yard[node].0;
    let own = depth > labels.len();
    (labels[..depth.min(labels.len())].to_vec(), own.then_some(node))
}

/// The domains of a depth, with the nodes in them.
fn places(yard: &Yard, nodes: &[usize], depth: usize) -> BTreeMap<Place, Vec<usize>> {
    let mut places: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
    nodes.iter().for_each(|node| places.entry(place(yard, *node, depth)).or_default().push(*node));
    places
}

fn holds(yard: &Yard, nodes: &[usize]) -> u64 {
    nodes.iter().map(|node| yard[*node].1).sum()
}

/// The fewest parts that hold so many members, by trying all sets of them.
fn fewest(parts: &[u64], members: u64) -> Option<u32> {
    let sets = 0u32..1 << parts.len();
    let sum = |set: u32| (0..parts.len()).filter(|at| set & (1 << at) != 0).map(|at| parts[at]).sum::<u64>();
    sets.filter(|set| sum(*set) >= members).map(u32::count_ones).min()
}

fn parts(yard: &Yard, nodes: &[usize], depth: usize) -> Vec<u64> {
    places(yard, nodes, depth + 1).values().map(|nodes| holds(yard, nodes)).collect()
}

fn seat(yard: &Yard, size: u32, near: Near, seed: u64) -> Option<Vec<usize>> {
    let mut fleet = Fleet::new(seed);
    for (at, (labels, members)) in (0u32..).zip(yard) {
        let all = Amounts { cpu_milli: *members, ..Amounts::NONE };
        fleet.put_class(at, labels);
        fleet.put_node(NodeIndex(at), NodeFacts { class: at, free: all.clone(), all, devices: vec![], avoided: false });
    }
    let needs = Amounts { cpu_milli: 1, ..Amounts::NONE };
    let eligible = Bits::all(yard.len());
    fleet.put_shape(
        ShapeIndex(0),
        ShapeFacts { needs, wishes: vec![], size, eligible, near, prefer: vec![], beside: Beside::default() },
    );
    let mut seated = Vec::new();
    fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut seated);
    seated.pop().map(|task| task.seats.iter().map(|seat| seat.node.0 as usize).collect())
}

/// The depth of the domain in which a gang has to be seated; `None` if nowhere.
fn depth_of(yard: &Yard, size: u64, near: Near) -> Option<usize> {
    let all: Vec<usize> = (0..yard.len()).collect();
    let fits = |depth: &usize| places(yard, &all, *depth).values().any(|nodes| holds(yard, nodes) >= size);
    match near {
        Near::Need(depth) => Some(depth as usize).filter(fits),
        Near::Prefer(depth) => (0..=depth as usize).rev().find(fits),
        Near::Lowest => (0..=LEVELS + 1).rev().find(fits),
    }
}

/// In each domain that is used, no fewer parts would have held the members that it was given.
fn check_parts(yard: &Yard, seats: &[usize], depth: usize) -> Result<(), TestCaseError> {
    let all: Vec<usize> = (0..yard.len()).collect();
    for (domain, seats) in places(yard, seats, depth) {
        let nodes = &places(yard, &all, depth)[&domain];
        let used = places(yard, &seats, depth + 1);
        let needed = fewest(&parts(yard, nodes, depth), seats.len() as u64);
        prop_assert_eq!(Some(used.len() as u32), needed, "parts of {:?} at depth {}", domain, depth);
    }
    if depth < LEVELS { check_parts(yard, seats, depth + 1) } else { Ok(()) }
}

fn yard() -> impl Strategy<Value = Yard> {
    prop::collection::vec((random::labels(), 0u64..5), 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_gang_is_in_the_lowest_domain_that_holds_it_and_in_as_few_parts_of_it_as_can_be(
        yard in yard(), size in 2u32..9, near in random::near(), seed in 0u64..9,
    ) {
        let members = u64::from(size);
        let seats = seat(&yard, size, near, seed);
        let depth = depth_of(&yard, members, near);
        prop_assert_eq!(seats.is_some(), depth.is_some());
        let (Some(seats), Some(depth)) = (seats, depth) else { return Ok(()) };
        prop_assert_eq!(seats.len(), size as usize);
        let all: Vec<usize> = (0..yard.len()).collect();
        let domains = places(&yard, &seats, depth);
        prop_assert_eq!(domains.len(), 1, "all are in one domain of the depth {}", depth);
        if depth > LEVELS {
            return Ok(());
        }
        // Of all domains of that depth that hold it, none would have taken fewer parts.
        let needed = places(&yard, &all, depth).into_values().filter_map(|nodes| fewest(&parts(&yard, &nodes, depth), members));
        prop_assert_eq!(Some(places(&yard, &seats, depth + 1).len() as u32), needed.min());
        check_parts(&yard, &seats, depth)?;
    }

    #[test]
    fn ranks_go_through_one_domain_after_the_other_and_begin_in_the_largest(
        yard in yard(), size in 2u32..9, near in random::near(),
    ) {
        let Some(seats) = seat(&yard, size, near, 0) else { return Ok(()) };
        for depth in 1..=LEVELS + 1 {
            let mut runs: Vec<(Place, usize)> = Vec::new();
            for node in &seats {
                let at = place(&yard, *node, depth);
                match runs.last_mut() {
                    Some((last, ranks)) if *last == at => *ranks += 1,
                    _ => runs.push((at, 1)),
                }
            }
            let distinct: BTreeSet<_> = runs.iter().map(|(at, _)| at).collect();
            prop_assert_eq!(distinct.len(), runs.len(), "nobody comes back to a domain: {:?}", seats);
            if depth == 1 {
                prop_assert_eq!(runs.iter().map(|(_, ranks)| *ranks).max(), Some(runs[0].1), "{:?}", seats);
            }
        }
    }
}

#[test]
fn a_gang_leaves_whole_racks_to_those_that_need_them() {
    let rack = |rack: u32, members: u64| (vec![0, rack], members);
    let yard = vec![rack(0, 4), rack(0, 4), rack(1, 4), rack(1, 2), rack(2, 3), rack(2, 3), rack(2, 3)];
    assert_eq!(seat(&yard, 6, Near::Lowest, 0), Some(vec![2, 2, 2, 2, 3, 3]), "the rack that it fills best");
    assert_eq!(seat(&yard, 4, Near::Lowest, 1), Some(vec![1, 1, 1, 1]), "any of the nodes that it fills");
    assert_eq!(seat(&yard, 9, Near::Need(2), 0), Some(vec![4, 4, 4, 5, 5, 5, 6, 6, 6]));
    assert_eq!(seat(&yard, 10, Near::Need(2), 0), None, "no rack holds ten");
    assert_eq!(seat(&yard, 10, Near::Prefer(2), 0).map(|seats| seats.len()), Some(10), "but the block does");
}

#[test]
fn members_on_one_node_share_as_few_groups_of_linked_devices_as_can_be() {
    let device = |group: u32, free_milli: u32| Device {
        model: 0,
        memory_bytes: 1,
        groups: [Some(group), None, None],
        healthy: true,
        free_milli,
        free_memory: None,
        part: false,
    };
    let free = |group: u32, count: usize| vec![device(group, 1_000); count];
    let wish = Wish { count: 1, model: None, min_memory_bytes: 0, link: None, share_milli: 1_000, memory_bytes: 0 };
    let chosen = |devices: Vec<Device>, size: u32| -> BTreeSet<u32> {
        let groups: Vec<_> = devices.iter().map(|device| device.groups[0].unwrap()).collect();
        let mut fleet = Fleet::new(0);
        let all = Amounts { cpu_milli: 99, ..Amounts::NONE };
        fleet.put_node(NodeIndex(0), NodeFacts { class: 0, free: all.clone(), all, devices, avoided: false });
        let needs = Amounts { cpu_milli: 1, ..Amounts::NONE };
        let (wishes, eligible) = (vec![wish.clone()], Bits::all(1));
        fleet.put_shape(
            ShapeIndex(0),
            ShapeFacts { needs, wishes, size, eligible, near: Near::Lowest, prefer: vec![], beside: Beside::default() },
        );
        let mut seated = Vec::new();
        fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut seated);
        seated[0].seats.iter().flat_map(|seat| seat.devices.iter()).map(|at| groups[at]).collect()
    };
    let broken = |group: u32| [free(group, 2), vec![device(group, 0); 2]].concat();
    let node = || [broken(0), free(1, 4), free(2, 3)].concat();
    assert_eq!(chosen(node(), 4), BTreeSet::from([1]), "one group holds all four");
    assert_eq!(chosen(node(), 3), BTreeSet::from([2]), "and this one exactly three");
    assert_eq!(chosen(node(), 2), BTreeSet::from([0]));
    assert_eq!(chosen(node(), 7), BTreeSet::from([1, 2]), "two groups hold seven");
    assert_eq!(chosen(node(), 9), BTreeSet::from([0, 1, 2]));
}
