//! The policy, one sentence per test.

use flowyard_placement::*;

pub(crate) fn node(cpu_milli: u64, devices: usize) -> NodeFacts {
    let all = Amounts { cpu_milli, memory_bytes: 1_000, disk_bytes: 0, tokens: vec![] };
    let device = Device {
        model: 0,
        memory_bytes: 1,
        groups: [Some(0), None, None],
        healthy: true,
        free_milli: 1_000,
        free_memory: None,
        part: false,
    };
    NodeFacts { class: 0, free: all.clone(), all, devices: vec![device; devices], avoided: false }
}

pub(crate) fn shape(cpu_milli: u64, gpus: u32) -> ShapeFacts {
    let wish = Wish { count: gpus, model: None, min_memory_bytes: 0, link: None, share_milli: 1_000, memory_bytes: 0 };
    let needs = Amounts { cpu_milli, ..Amounts::NONE };
    ShapeFacts {
        needs,
        wishes: if gpus > 0 { vec![wish] } else { vec![] },
        size: 1,
        eligible: Bits::all(1),
        near: Near::Lowest,
        prefer: vec![],
        beside: Beside::default(),
    }
}

pub(crate) fn fleet(seed: u64, nodes: Vec<NodeFacts>, shape: ShapeFacts) -> Fleet {
    let mut fleet = Fleet::new(seed);
    (0..).zip(nodes).for_each(|(at, node)| fleet.put_node(NodeIndex(at), node));
    fleet.put_shape(ShapeIndex(0), shape);
    fleet
}

fn seat(fleet: &mut Fleet, most: u32) -> (Ended, Vec<Vec<u32>>) {
    let mut out = Vec::new();
    let ended = fleet.seat(ShapeIndex(0), most, None, &mut { u64::MAX }, &mut out);
    (ended, out.iter().map(|task| task.seats.iter().map(|seat| seat.node.0).collect()).collect())
}

#[test]
fn plain_work_is_spread_and_keeps_off_nodes_with_devices() {
    let mut fleet = fleet(0, vec![node(4, 2), node(4, 0), node(4, 0)], shape(1, 0));
    assert_eq!(seat(&mut fleet, 9).1.concat(), [1, 2, 1, 2, 1, 2, 1, 2, 0]);
}

#[test]
fn work_with_devices_is_packed() {
    let mut fleet = fleet(0, vec![node(9, 4), node(9, 2)], shape(1, 1));
    assert_eq!(seat(&mut fleet, 3).1.concat(), [1, 1, 0]);
    assert_eq!(seat(&mut fleet, 9), (Ended::NoRoom, vec![vec![0]; 3]));
}

#[test]
fn a_gang_is_whole_and_on_few_nodes() {
    let gang = |size| ShapeFacts { size, ..shape(1, 0) };
    let nodes = vec![node(1, 0), node(3, 0), node(1, 0)];
    let mut four = fleet(0, nodes.clone(), gang(4));
    assert_eq!(seat(&mut four, 1).1, [[1, 1, 1, 0]]);
    let mut six = fleet(0, nodes, gang(6));
    assert_eq!(seat(&mut six, 1), (Ended::NoRoom, vec![]));
    six.put_shape(ShapeIndex(0), shape(1, 0));
    assert_eq!(seat(&mut six, 9).1.len(), 5, "a gang without room leaves its room to others");
}

#[test]
fn what_is_left_of_a_gang_goes_where_it_leaves_the_least() {
    let nodes = vec![node(9, 8), node(9, 8), node(9, 2), node(9, 1)];
    let mut fleet = fleet(0, nodes, ShapeFacts { size: 10, ..shape(1, 1) });
    assert_eq!(seat(&mut fleet, 1).1, [[0, 0, 0, 0, 0, 0, 0, 0, 2, 2]]);
}

#[test]
fn all_members_of_a_gang_take_the_same_alternative() {
    let mut both = shape(1, 2);
    both.wishes.push(Wish { count: 1, ..both.wishes[0].clone() });
    both.size = 2;
    let mut fleet = fleet(0, vec![node(9, 1), node(9, 3)], both);
    let mut out = Vec::new();
    fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
    assert_eq!((out[0].alternative, out[0].seats.len()), (1, 2), "two pairs are not to be had");
}

#[test]
fn a_later_alternative_is_taken_only_where_no_earlier_one_fits() {
    let mut two = shape(1, 2);
    two.wishes.push(Wish { count: 1, ..two.wishes[0].clone() });
    let mut fleet = fleet(0, vec![node(9, 1), node(9, 3)], two);
    let mut out = Vec::new();
    fleet.seat(ShapeIndex(0), 3, None, &mut { u64::MAX }, &mut out);
    let taken: Vec<_> = out.iter().map(|task| (task.seats[0].node.0, task.alternative)).collect();
    assert_eq!(taken, [(1, 0), (1, 1), (0, 1)]);
}

#[test]
fn the_seed_decides_among_equals() {
    let first = |seed: u64| seat(&mut fleet(seed, vec![node(2, 0); 4], shape(1, 0)), 1).1.concat()[0];
    assert_eq!([0, 1, 2, 3].map(first), [0, 1, 2, 3]);
    assert_eq!(first(0xffff_ffff_ffff_fffe), 2);
}

#[test]
fn only_devices_of_the_models_asked_for_are_taken() {
    let mut mixed = node(9, 3);
    mixed.devices[0].model = 1;
    let mut fleet = fleet(0, vec![mixed], shape(1, 1));
    let mut ones = Bits::none(2);
    ones.insert(1);
    let mut devices = |models: Option<&Bits>| {
        let mut out = Vec::new();
        let ended = fleet.seat(ShapeIndex(0), 2, models, &mut { u64::MAX }, &mut out);
        let devices: Vec<_> = out.iter().flat_map(|task| task.seats[0].devices.iter()).collect();
        (ended, devices)
    };
    assert_eq!(devices(Some(&Bits::none(0))), (Ended::NoRoom, vec![]));
    assert_eq!(devices(Some(&ones)), (Ended::NoRoom, vec![0]));
    assert_eq!(devices(None), (Ended::Enough, vec![1, 2]));
}

#[test]
fn devices_come_from_the_most_broken_group() {
    let mut pairs = node(9, 5);
    let groups = [Some(0), Some(0), Some(1), Some(1), Some(1)];
    pairs.devices.iter_mut().zip(groups).for_each(|(device, group)| device.groups[0] = group);
    pairs.devices[0].free_milli = 0;
    let linked = |count| ShapeFacts {
        wishes: vec![Wish { link: Some(Link::Nvlink), ..shape(1, count).wishes.remove(0) }],
        ..shape(1, count)
    };
    let devices = |shape: ShapeFacts| {
        let mut out = Vec::new();
        fleet(0, vec![pairs.clone()], shape).seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
        out.first().map(|task| task.seats[0].devices.iter().collect::<Vec<_>>())
    };
    assert_eq!(devices(linked(1)), Some(vec![1]), "one that has no partner");
    assert_eq!(devices(linked(2)), Some(vec![2, 3]));
    assert_eq!(devices(linked(4)), None);
    assert_eq!(devices(shape(1, 4)), Some(vec![1, 2, 3, 4]));
}

#[test]
fn a_share_goes_where_the_least_is_left_and_several_where_most_is() {
    let mut broken = node(9, 3);
    broken.devices.iter_mut().zip([1_000, 400, 300]).for_each(|(device, free)| device.free_milli = free);
    let devices = |count: u32, share_milli: u32| {
        let mut shares = shape(1, count);
        shares.wishes[0].share_milli = share_milli;
        let mut out = Vec::new();
        fleet(0, vec![broken.clone()], shares).seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
        out[0].seats[0].devices.iter().collect::<Vec<_>>()
    };
    assert_eq!(devices(1, 400), [1]);
    assert_eq!(devices(2, 300), [0, 1]);
}

/// Two members want two shares each, with memory of which only one device has enough for both.
#[test]
fn members_that_share_several_devices_leave_each_other_those_that_both_need() {
    let mut mixed = node(4, 3);
    for (device, memory_bytes) in mixed.devices.iter_mut().zip([1, 2, 1]) {
        device.memory_bytes = memory_bytes;
    }
    let mut pairs = ShapeFacts { size: 2, ..shape(1, 2) };
    (pairs.wishes[0].share_milli, pairs.wishes[0].memory_bytes) = (500, 1);
    assert_eq!(seat(&mut fleet(0, vec![mixed], pairs), 1), (Ended::Enough, vec![vec![0, 0]]));
}

#[test]
fn what_is_given_back_is_never_more_than_there_is() {
    let mut fleet = fleet(0, vec![node(2, 2)], shape(1, 1));
    let mut out = Vec::new();
    fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
    fleet.put_node(NodeIndex(0), node(2, 1));
    fleet.give_back(ShapeIndex(0), &out[0]);
    fleet.give_back(ShapeIndex(7), &out[0]);
    assert_eq!(seat(&mut fleet, 5), (Ended::NoRoom, vec![vec![0]]));
    fleet.remove_node(NodeIndex(0));
    fleet.give_back(ShapeIndex(0), &out[0]);
    assert_eq!(seat(&mut fleet, 5), (Ended::NoRoom, vec![]));
}

#[test]
fn an_explanation_counts_lacks_and_names_the_nearest_node() {
    let mut sick = node(9, 1);
    sick.devices[0].healthy = false;
    let elsewhere = NodeFacts { class: 1, ..node(9, 0) };
    let asked = shape(2, 1);
    let fleet = fleet(0, vec![node(1, 0), elsewhere, sick], asked.clone());
    let told = fleet.explain(&asked);
    assert_eq!((told.nodes, told.fitting), (3, 0));
    assert_eq!(told.lacks[&Lack::Eligible], (1, 1));
    assert_eq!(told.lacks[&Lack::Cpu], (1, 0));
    assert_eq!(told.lacks[&Lack::Devices], (1, 0));
    assert_eq!(told.nearest, Some((2, vec![Lack::FreeDevices])));
    assert!(fleet.could_ever_fit(&asked), "the device may get well");
    assert!(!fleet.could_ever_fit(&ShapeFacts { size: 2, ..asked }));
}
