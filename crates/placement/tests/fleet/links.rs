//! How near to each other devices are: by everything that can be tried on one node.

use flowyard_placement::*;
use proptest::prelude::*;

use crate::policy;

fn asking(count: u32, link: Option<Link>) -> ShapeFacts {
    let mut shape = policy::shape(1, count);
    shape.wishes[0].link = link;
    shape
}

/// A node with devices in these groups, of which those may be given out that say so.
fn node(devices: &[([Option<u32>; 3], bool)]) -> NodeFacts {
    let mut node = policy::node(99, devices.len());
    for (device, (groups, free)) in node.devices.iter_mut().zip(devices) {
        (device.groups, device.free_milli) = (*groups, if *free { 1_000 } else { 0 });
    }
    node
}

/// The devices of each member of one task, if it is seated.
fn seated(node: &NodeFacts, shape: ShapeFacts) -> Option<Vec<Vec<usize>>> {
    let mut out = Vec::new();
    policy::fleet(0, vec![node.clone()], shape).seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
    let members = |task: &Seated| task.seats.iter().map(|seat| seat.devices.iter().collect()).collect();
    out.first().map(members)
}

/// Those that may be given out.
fn free(node: &NodeFacts) -> Vec<usize> {
    (0..node.devices.len()).filter(|at| node.devices[*at].free_milli == 1_000).collect()
}

/// Whether devices are in one group of a level.
fn are_near(node: &NodeFacts, devices: &[usize], link: Link) -> bool {
    let group = |at: &usize| node.devices[*at].groups[link as usize];
    devices.len() == 1 || group(&devices[0]).is_some() && devices.iter().all(|at| group(at) == group(&devices[0]))
}

/// All sets of so many of these.
fn sets(of: &[usize], count: usize) -> Vec<Vec<usize>> {
    let chosen = (0..1_u32 << of.len()).filter(|set| set.count_ones() as usize == count);
    chosen.map(|set| (0..of.len()).filter(|at| set >> at & 1 == 1).map(|at| of[at]).collect()).collect()
}

/// How many members find their devices beside each other at most, by trying all.
fn most_members(node: &NodeFacts, of: &[usize], count: usize, link: Link) -> usize {
    let rest = |set: &[usize]| of.iter().copied().filter(|at| !set.contains(at)).collect::<Vec<_>>();
    let near = sets(of, count).into_iter().filter(|set| are_near(node, set, link));
    near.map(|set| 1 + most_members(node, &rest(&set), count, link)).max().unwrap_or(0)
}

fn nodes(most: usize) -> impl Strategy<Value = NodeFacts> {
    let group = || prop_oneof![1 => Just(None), 5 => (0u32..3).prop_map(Some)];
    let device = (prop::array::uniform3(group()), prop::bool::weighted(0.8));
    prop::collection::vec(device, 0..=most).prop_map(|devices| node(&devices))
}

fn links() -> impl Strategy<Value = Link> {
    prop::sample::select(Link::ALL.to_vec())
}

proptest! {
    /// A task is seated exactly if there is a set of devices within one group, and then on such a set, of a group that has no more free
    /// ones than another that would do.
    #[test]
    fn a_task_is_seated_exactly_if_one_group_has_its_devices(node in nodes(8), link in links(), count in 1u32..6) {
        let found = sets(&free(&node), count as usize).iter().any(|set| are_near(&node, set, link));
        let seated = seated(&node, asking(count, Some(link)));
        prop_assert_eq!(seated.is_some(), found);
        let Some(devices) = seated.map(|members| members[0].clone()) else { return Ok(()) };
        prop_assert_eq!(devices.len(), count as usize);
        prop_assert!(devices.iter().all(|at| free(&node).contains(at)));
        prop_assert!(are_near(&node, &devices, link), "{:?}", devices);
        if count > 1 {
            let left = |group: Option<u32>| {
                free(&node).iter().filter(|at| node.devices[**at].groups[link as usize] == group).count()
            };
            let taken_of = left(node.devices[devices[0]].groups[link as usize]);
            let others = (0..3).map(|group| left(Some(group))).filter(|left| *left >= count as usize);
            prop_assert!(others.into_iter().all(|left| taken_of <= left));
        }
    }

    /// Of a gang each member has its devices in one group, and as many members are seated as can be.
    #[test]
    fn members_are_seated_beside_each_other_as_often_as_can_be(
        node in nodes(6),
        link in links(),
        count in 1u32..4,
        size in 1u32..5,
    ) {
        let most = most_members(&node, &free(&node), count as usize, link);
        let seated = seated(&node, ShapeFacts { size, ..asking(count, Some(link)) });
        prop_assert_eq!(seated.is_some(), most >= size as usize, "{} members are possible", most);
        let Some(members) = seated else { return Ok(()) };
        prop_assert_eq!(members.len(), size as usize);
        prop_assert!(members.iter().all(|devices| are_near(&node, devices, link)));
        let mut all = members.concat();
        all.sort_unstable();
        all.dedup();
        prop_assert_eq!(all.len(), (size * count) as usize, "no device is given twice");
    }

    /// Who does not ask is seated wherever there are enough.
    #[test]
    fn who_does_not_ask_is_kept_from_nothing(node in nodes(8), count in 1u32..6) {
        prop_assert_eq!(seated(&node, asking(count, None)).is_some(), free(&node).len() >= count as usize);
    }
}

/// Eight devices linked by a switch of their own, on two NUMA nodes with two PCIe switches each; some are taken.
fn eight(taken: &[usize]) -> NodeFacts {
    let device = |at: usize| ([Some(0), Some(at as u32 / 2), Some(at as u32 / 4)], !taken.contains(&at));
    node(&(0..8).map(device).collect::<Vec<_>>())
}

#[test]
fn what_is_near_is_left_whole_on_every_level() {
    let chosen =
        |node: &NodeFacts, count: u32, link: Option<Link>| seated(node, asking(count, link)).map(|it| it[0].clone());
    assert_eq!(chosen(&eight(&[2]), 1, None), Some(vec![3]), "whose neighbour below the switch is taken");
    assert_eq!(chosen(&eight(&[0, 1]), 1, None), Some(vec![2]), "of the NUMA node that is broken already");
    assert_eq!(chosen(&eight(&[0, 1]), 2, None), Some(vec![2, 3]));
    assert_eq!(
        chosen(&eight(&[6, 7]), 2, Some(Link::Pcie)),
        Some(vec![4, 5]),
        "of equal switches one of the broken NUMA node"
    );
    assert_eq!(chosen(&eight(&[6, 7]), 2, Some(Link::Nvlink)), Some(vec![4, 5]));
    assert_eq!(chosen(&eight(&[4]), 3, Some(Link::Numa)), Some(vec![5, 6, 7]));
    assert_eq!(chosen(&eight(&[0, 4]), 4, Some(Link::Numa)), None);
    assert_eq!(chosen(&eight(&[0, 4]), 4, Some(Link::Nvlink)).map(|it| it.len()), Some(4));
    // Where nothing is linked, neighbours that do not lie side by side.
    let across = |taken: &[usize]| {
        let device = |at: usize| ([None, Some(at as u32 % 2), Some(0)], !taken.contains(&at));
        node(&(0..6).map(device).collect::<Vec<_>>())
    };
    assert_eq!(chosen(&across(&[]), 3, None), Some(vec![0, 2, 4]), "one group is used up");
    assert_eq!(chosen(&across(&[0]), 2, None), Some(vec![2, 4]));
    assert_eq!(chosen(&across(&[1]), 1, None), Some(vec![3]));
}

#[test]
fn members_that_did_not_ask_are_kept_on_one_numa_node_where_nothing_is_linked() {
    let device = |at: usize| ([None, Some(at as u32 / 2), Some(at as u32 / 4)], at != 0);
    let node = node(&(0..8).map(device).collect::<Vec<_>>());
    let devices = |size: u32| {
        let members = seated(&node, ShapeFacts { size, ..asking(1, None) }).unwrap();
        let mut devices = members.concat();
        devices.sort_unstable();
        devices
    };
    assert_eq!(devices(3), [1, 2, 3], "the node that they fill");
    assert_eq!(devices(4), [4, 5, 6, 7]);
}
