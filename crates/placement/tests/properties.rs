//! What holds for any problem: room is never exceeded, the same question has the same answer, and on small problems the
//! solver finds room exactly when there is some.

use std::collections::BTreeMap;

use flowyard_placement::*;
use proptest::prelude::*;

fn device() -> impl Strategy<Value = Device> {
    let free = prop_oneof![3 => Just(1_000u32), 1 => Just(500u32), 1 => Just(0u32)];
    (0u32..2, 1u64..3, prop::option::of(0u32..2), prop::bool::weighted(0.9), free).prop_map(
        |(model, memory_bytes, link_group, healthy, free_milli)| Device {
            model,
            memory_bytes,
            link_group,
            healthy,
            free_milli,
        },
    )
}

fn amounts(most: u64) -> impl Strategy<Value = Amounts> {
    (0..=most, 0..=most, 0..=most, 0..=most as u32).prop_map(|(cpu, memory, disk, token)| Amounts {
        cpu_milli: cpu,
        memory_bytes: memory,
        disk_bytes: disk,
        tokens: vec![token],
    })
}

fn node() -> impl Strategy<Value = Node> {
    (amounts(6), amounts(6), prop::collection::vec(device(), 0..5)).prop_map(|(free, more, devices)| {
        let all = Amounts {
            cpu_milli: free.cpu_milli + more.cpu_milli,
            memory_bytes: free.memory_bytes + more.memory_bytes,
            disk_bytes: free.disk_bytes + more.disk_bytes,
            tokens: vec![free.tokens[0] + more.tokens[0]],
        };
        Node { all, free, devices }
    })
}

fn wish() -> impl Strategy<Value = Wish> {
    let share = prop_oneof![3 => Just(1_000u32), 1 => Just(500u32)];
    (1u32..4, prop::option::of(0u32..2), 0u64..3, any::<bool>(), share).prop_map(
        |(count, model, min_memory_bytes, same_link_group, share_milli)| Wish {
            count,
            model,
            min_memory_bytes,
            same_link_group,
            share_milli,
        },
    )
}

fn shape() -> impl Strategy<Value = Shape> {
    (amounts(3), prop::collection::vec(wish(), 0..3), 1u32..4, 0usize..2, prop::option::of(0usize..2), 1u32..5)
        .prop_map(|(mut needs, wishes, size, eligible, quota, count)| {
            needs.cpu_milli = needs.cpu_milli.max(1);
            Shape { needs, wishes, size, eligible, quota, count }
        })
}

fn problem() -> impl Strategy<Value = Problem> {
    let costs = prop::collection::btree_map((0usize..4, 0usize..4), 0u64..3, 0..4);
    (prop::collection::vec(node(), 0..4), prop::collection::vec(shape(), 0..4), costs, any::<u8>()).prop_map(
        |(nodes, shapes, costs, some)| {
            let mut few = Bits::none(nodes.len());
            (0..nodes.len()).filter(|at| some & (1 << at) != 0).for_each(|at| few.insert(at));
            let eligible = vec![Bits::all(nodes.len()), few];
            Problem { nodes, shapes, eligible, quotas: vec![u32::from(some % 4), 100], costs }
        },
    )
}

/// Takes one member's needs from a node, checking every rule on its own.
fn check_seat(problem: &Problem, nodes: &mut [Node], shape: &Shape, seat: &Seat) -> Result<(), TestCaseError> {
    prop_assert!(problem.eligible[shape.eligible].contains(seat.node));
    let node = &mut nodes[seat.node];
    let take = |free: &mut u64, need: u64| free.checked_sub(need).map(|left| *free = left);
    prop_assert!(take(&mut node.free.cpu_milli, shape.needs.cpu_milli).is_some());
    prop_assert!(take(&mut node.free.memory_bytes, shape.needs.memory_bytes).is_some());
    prop_assert!(take(&mut node.free.disk_bytes, shape.needs.disk_bytes).is_some());
    let left = node.free.tokens[0].checked_sub(shape.needs.tokens[0]);
    prop_assert!(left.is_some());
    node.free.tokens[0] = left.unwrap();
    let Some(wish) = shape.wishes.get(seat.alternative as usize) else {
        prop_assert!(shape.wishes.is_empty() && seat.devices.is_empty() && seat.alternative == 0);
        return Ok(());
    };
    prop_assert_eq!(seat.devices.len(), wish.count as usize);
    let first = node.devices[seat.devices[0] as usize].link_group;
    for (at, device) in seat.devices.iter().enumerate() {
        prop_assert!(!seat.devices[..at].contains(device));
        let device = &mut node.devices[*device as usize];
        prop_assert!(device.healthy && wish.accepts(device));
        let linked = first.is_some() && device.link_group == first;
        prop_assert!(!wish.same_link_group || wish.count == 1 || linked);
        prop_assert!(device.free_milli >= wish.share_milli);
        device.free_milli -= wish.share_milli;
    }
    Ok(())
}

/// Whether `left` members of the shape can be seated with this alternative, by trying everything.
fn brute(nodes: &mut Vec<Node>, problem: &Problem, shape: &Shape, wish: Option<&Wish>, left: u32) -> bool {
    if left == 0 {
        return true;
    }
    for at in problem.eligible[shape.eligible].iter() {
        let enough = |need: u64, free: u64| need <= free;
        let (needs, free) = (&shape.needs, &nodes[at].free);
        let fits = enough(needs.cpu_milli, free.cpu_milli)
            && enough(needs.memory_bytes, free.memory_bytes)
            && enough(needs.disk_bytes, free.disk_bytes)
            && needs.tokens[0] <= free.tokens[0];
        if !fits {
            continue;
        }
        for devices in choices(wish, &nodes[at].devices) {
            let before = nodes[at].clone();
            let node = &mut nodes[at];
            node.free.cpu_milli -= shape.needs.cpu_milli;
            node.free.memory_bytes -= shape.needs.memory_bytes;
            node.free.disk_bytes -= shape.needs.disk_bytes;
            node.free.tokens[0] -= shape.needs.tokens[0];
            devices.iter().for_each(|device| node.devices[*device].free_milli -= wish.unwrap().share_milli);
            let found = brute(nodes, problem, shape, wish, left - 1);
            nodes[at] = before;
            if found {
                return true;
            }
        }
    }
    false
}

/// All sets of devices that satisfy the wish.
fn choices(wish: Option<&Wish>, devices: &[Device]) -> Vec<Vec<usize>> {
    let Some(wish) = wish else { return vec![vec![]] };
    let sets = (0u32..1 << devices.len()).filter(|set| set.count_ones() == wish.count);
    let members = |set: u32| (0..devices.len()).filter(|at| set & (1 << at) != 0).collect::<Vec<_>>();
    sets.map(members)
        .filter(|set| {
            let first = devices[set[0]].link_group;
            let linked = first.is_some() && set.iter().all(|at| devices[*at].link_group == first);
            let free = |at: &usize| {
                let device = &devices[*at];
                device.healthy && device.free_milli >= wish.share_milli && wish.accepts(device)
            };
            set.iter().all(free) && (linked || !wish.same_link_group || wish.count == 1)
        })
        .collect()
}

const ENOUGH: Budget = Budget { steps: 1_000_000 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn room_is_never_exceeded(problem in problem(), seed: u64, steps in prop_oneof![Just(1_000_000u64), 0u64..30]) {
        let plan = solve(&problem, Budget { steps }, seed);
        prop_assert!(plan.steps <= steps);
        prop_assert!(plan.complete || steps < 1_000_000);
        let (mut nodes, mut quotas) = (problem.nodes.clone(), problem.quotas.clone());
        let mut counts = vec![0; problem.shapes.len()];
        for placed in &plan.placed {
            let shape = &problem.shapes[placed.shape];
            prop_assert_eq!(placed.seats.len(), shape.size as usize);
            counts[placed.shape] += 1;
            prop_assert!(counts[placed.shape] <= shape.count);
            if let Some(quota) = shape.quota {
                prop_assert!(quotas[quota] > 0);
                quotas[quota] -= 1;
            }
            for seat in &placed.seats {
                check_seat(&problem, &mut nodes, shape, seat)?;
            }
        }
        for (at, shape) in problem.shapes.iter().enumerate() {
            prop_assert!(u64::from(counts[at]) <= bound(&problem, shape));
        }
        let order: Vec<_> = plan.placed.iter().map(|placed| placed.shape).collect();
        prop_assert!(order.is_sorted(), "the more urgent come first");
    }

    #[test]
    fn the_same_question_has_the_same_answer(problem in problem(), seed: u64) {
        prop_assert_eq!(solve(&problem, ENOUGH, seed), solve(&problem, ENOUGH, seed));
    }

    #[test]
    fn something_is_placed_exactly_when_something_fits(problem in problem(), seed: u64) {
        for at in 0..problem.shapes.len() {
            let shape = Shape { count: 1, quota: None, ..problem.shapes[at].clone() };
            let alone = Problem { shapes: vec![shape.clone()], costs: BTreeMap::new(), ..problem.clone() };
            let placed = !solve(&alone, ENOUGH, seed).placed.is_empty();
            let wishes: Vec<_> =
                if shape.wishes.is_empty() { vec![None] } else { shape.wishes.iter().map(Some).collect() };
            let mut nodes = problem.nodes.clone();
            let fits = wishes.iter().any(|wish| brute(&mut nodes, &problem, &shape, *wish, shape.size));
            prop_assert_eq!(placed, fits, "{:?}", shape);
            let told = explain(&alone, 0);
            prop_assert_eq!(told.fitting > 0 && !told.lacks.contains_key(&Lack::Gang), fits);
            prop_assert!(!fits || could_ever_fit(&problem, at));
        }
    }

    #[test]
    fn nothing_that_fits_is_left_out(problem in problem(), seed: u64) {
        // What is left after the plan has no room for one more task of any shape that still waits.
        let plan = solve(&problem, ENOUGH, seed);
        let (mut left, mut quotas) = (problem.clone(), problem.quotas.clone());
        for placed in &plan.placed {
            let shape = &problem.shapes[placed.shape];
            left.shapes[placed.shape].count -= 1;
            if let Some(quota) = shape.quota {
                quotas[quota] -= 1;
            }
            for seat in &placed.seats {
                check_seat(&problem, &mut left.nodes, shape, seat)?;
            }
        }
        left.quotas = quotas;
        prop_assert_eq!(solve(&left, ENOUGH, seed).placed, vec![]);
    }
}
