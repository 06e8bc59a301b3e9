//! Fragmentation: the score against its definition, and that nodes are chosen by it.

use flowyard_placement::*;
use proptest::prelude::*;

use crate::mirror::{Mirror, usable_sets};
use crate::random;

/// The definition: over the kinds, thousandths that are free of devices which are in no set that the kind could take.
fn useless(nodes: &[NodeFacts], mix: &[(Wish, u64)]) -> u64 {
    let sum: u64 = mix.iter().map(|(_, weight)| weight).sum();
    let of = |node: &NodeFacts, wish: &Wish| -> u64 {
        let sets = usable_sets(wish, None, &node.devices);
        let of_use = |at: usize| sets.iter().any(|set| set.contains(&at));
        let free = node.devices.iter().enumerate().filter(|(at, device)| device.healthy && !of_use(*at));
        free.map(|(_, device)| u64::from(device.free_milli)).sum()
    };
    let all =
        nodes.iter().flat_map(|node| mix.iter().map(move |(wish, weight)| of(node, wish) * (weight * 65_536 / sum)));
    all.sum::<u64>()
}

fn mix() -> impl Strategy<Value = Vec<(Wish, u64)>> {
    prop::collection::vec((random::wish(), 1u64..9), 1..5).prop_map(|mut mix| {
        mix.sort();
        mix.dedup_by(|one, other| one.0 == other.0);
        mix
    })
}

fn nodes() -> impl Strategy<Value = Vec<NodeFacts>> {
    let few = |node: &NodeFacts| node.devices.len() < 8;
    prop::collection::vec(random::node().prop_filter("all sets are tried", few), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_score_is_what_its_definition_says(nodes in nodes(), mix in mix()) {
        let mut fleet = Fleet::new(0);
        (0..).zip(&nodes).for_each(|(at, node)| fleet.put_node(NodeIndex(at), node.clone()));
        let told = fleet.fragments_for(&mix);
        prop_assert_eq!(told.useless_milli, useless(&nodes, &mix) / 65_536);
        let free = nodes.iter().flat_map(|node| &node.devices).filter(|device| device.healthy);
        prop_assert_eq!(told.free_milli, free.map(|device| u64::from(device.free_milli)).sum::<u64>());
        fleet.set_mix(&mix);
        prop_assert_eq!(fleet.fragments(), told);
    }

    #[test]
    fn a_task_goes_to_a_node_where_it_makes_the_least_useless(
        nodes in nodes(),
        mix in mix(),
        shape in random::shape()
            .prop_filter("one member with devices", |shape| shape.size == 1 && shape.wishes.len() == 1)
            .prop_map(|mut shape| {
                shape.wishes[0].memory_bytes = 0;
                ShapeFacts { prefer: vec![], ..shape }
            }),
    ) {
        // What is avoided comes last whatever it makes useless, and declared memory is not looked at where that is reckoned.
        let mut nodes = nodes;
        for node in &mut nodes {
            node.avoided = false;
            node.devices.iter_mut().for_each(|device| device.free_memory = None);
        }
        let mut mirror = Mirror { shapes: [(0, shape.clone())].into(), ..Mirror::default() };
        // What it does to each node by itself.
        let mut alone = Vec::new();
        for (at, node) in (0u32..).zip(&nodes) {
            mirror.nodes = [(at, node.clone())].into();
            let mut fleet = mirror.fresh(0);
            let mut out = Vec::new();
            fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
            if let Some(seated) = out.pop() {
                mirror.take(&shape, None, &seated).map_err(TestCaseError::fail)?;
                let after: Vec<_> = mirror.nodes.values().cloned().collect();
                alone.push((useless(&after, &mix) as i64 - useless(std::slice::from_ref(node), &mix) as i64, at));
            }
        }
        mirror.nodes = (0..).zip(nodes).collect();
        let mut fleet = mirror.fresh(0);
        fleet.set_mix(&mix);
        let mut out = Vec::new();
        fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
        let least = alone.iter().min().map(|(least, _)| *least);
        let chosen = out.first().map(|seated| seated.seats[0].node.0);
        let by_chosen = chosen.and_then(|chosen| alone.iter().find(|(_, at)| *at == chosen)).map(|(more, _)| *more);
        prop_assert_eq!(by_chosen, least, "{:?} chose {:?}", alone, chosen);
    }
}

fn gpu_node(free: &[u32]) -> NodeFacts {
    let all = Amounts { cpu_milli: 64, memory_bytes: 64, disk_bytes: 0, tokens: vec![] };
    let device = |free: &u32| Device {
        model: 0,
        memory_bytes: 1,
        groups: [None; 3],
        healthy: true,
        free_milli: *free,
        free_memory: None,
        part: false,
    };
    NodeFacts { class: 0, free: all.clone(), all, devices: free.iter().map(device).collect(), avoided: false }
}

fn first_node(fit: Fit, mix: &[(Wish, u64)], nodes: &[NodeFacts], wish: &Wish) -> u32 {
    let mut fleet = Fleet::with_fit(0, fit);
    (0..).zip(nodes).for_each(|(at, node)| fleet.put_node(NodeIndex(at), node.clone()));
    let needs = Amounts { cpu_milli: 1, ..Amounts::NONE };
    fleet.put_shape(
        ShapeIndex(0),
        ShapeFacts {
            needs,
            wishes: vec![wish.clone()],
            size: 1,
            eligible: Bits::all(1),
            near: Near::default(),
            prefer: vec![],
            beside: Beside::default(),
        },
    );
    fleet.set_mix(mix);
    let mut out = Vec::new();
    fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
    out[0].seats[0].node.0
}

fn wish(count: u32, share_milli: u32) -> Wish {
    Wish { count, model: None, min_memory_bytes: 0, link: None, share_milli, memory_bytes: 0 }
}

#[test]
fn rules_differ_where_best_fit_would_break_a_pair() {
    // A pair that is free, three of which one is left over anyway, and the first node, that is empty.
    let nodes = [gpu_node(&[1_000; 4]), gpu_node(&[1_000, 1_000, 0, 0]), gpu_node(&[1_000, 1_000, 1_000, 0])];
    let pairs = [(wish(2, 1_000), 3), (wish(1, 1_000), 1)];
    let chosen = |fit: Fit| first_node(fit, &pairs, &nodes, &wish(1, 1_000));
    assert_eq!([Fit::First, Fit::Best, Fit::Fragmentation].map(chosen), [0, 1, 2], "ours keeps both pairs");
    // With four asked for, only the empty node is of use, and both others are of none.
    let fours = [(wish(4, 1_000), 1)];
    assert_eq!(first_node(Fit::Fragmentation, &fours, &nodes, &wish(1, 1_000)), 1);
    // A half goes beside a half, although a device with less free fits it as well and best fit would take the smallest node.
    let nodes = [gpu_node(&[700, 700]), gpu_node(&[1_000, 500])];
    let halves = [(wish(1, 500), 1)];
    assert_eq!(first_node(Fit::Best, &halves, &nodes, &wish(1, 500)), 0);
    assert_eq!(
        first_node(Fit::Fragmentation, &halves, &nodes, &wish(1, 500)),
        1,
        "200 left over are of no use to anybody"
    );
}

#[test]
fn another_mix_is_followed_at_once() {
    let nodes = [gpu_node(&[700]), gpu_node(&[500])];
    let chosen = |mixes: &[(Wish, u64)], fleet: &mut Fleet| {
        fleet.set_mix(mixes);
        let mut out = Vec::new();
        fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
        let node = out[0].seats[0].node.0;
        fleet.give_back(ShapeIndex(0), &out[0]);
        node
    };
    let mut fleet = Fleet::with_fit(0, Fit::Fragmentation);
    (0..).zip(nodes).for_each(|(at, node)| fleet.put_node(NodeIndex(at), node));
    let needs = Amounts { cpu_milli: 1, ..Amounts::NONE };
    let shape = ShapeFacts {
        needs,
        wishes: vec![wish(1, 400)],
        size: 1,
        eligible: Bits::all(1),
        near: Near::default(),
        prefer: vec![],
        beside: Beside::default(),
    };
    fleet.put_shape(ShapeIndex(0), shape);
    // 300 or 100 are left: to those that take 300, the first is still of use.
    assert_eq!(chosen(&[(wish(1, 300), 1)], &mut fleet), 0);
    // To those that take 500, both are of none afterwards, and the second is the smaller loss.
    assert_eq!(chosen(&[(wish(1, 500), 1)], &mut fleet), 1);
    assert_eq!(chosen(&[(wish(1, 300), 1)], &mut fleet), 0);
}
