//! The policy, one sentence per test.

use std::collections::BTreeMap;

use flowyard_placement::*;

fn node(cpu_milli: u64, devices: usize) -> Node {
    let all = Amounts { cpu_milli, memory_bytes: 1_000, disk_bytes: 0, tokens: vec![] };
    let device = Device { model: 0, memory_bytes: 1, link_group: Some(0), healthy: true, free_milli: 1_000 };
    Node { free: all.clone(), all, devices: vec![device; devices] }
}

fn shape(cpu_milli: u64, gpus: u32, count: u32) -> Shape {
    let wish = Wish { count: gpus, model: None, min_memory_bytes: 0, same_link_group: false, share_milli: 1_000 };
    let needs = Amounts { cpu_milli, ..Amounts::NONE };
    let wishes = if gpus > 0 { vec![wish] } else { vec![] };
    Shape { needs, wishes, size: 1, eligible: 0, quota: None, count }
}

fn problem(nodes: Vec<Node>, shapes: Vec<Shape>) -> Problem {
    let eligible = vec![Bits::all(nodes.len())];
    Problem { nodes, shapes, eligible, quotas: vec![], costs: BTreeMap::new() }
}

fn nodes_of(plan: &Plan) -> Vec<Vec<usize>> {
    plan.placed.iter().map(|placed| placed.seats.iter().map(|seat| seat.node).collect()).collect()
}

const ENOUGH: Budget = Budget { steps: 1_000_000 };

#[test]
fn plain_work_is_spread_and_keeps_off_nodes_with_devices() {
    let problem = problem(vec![node(4, 2), node(4, 0), node(4, 0)], vec![shape(1, 0, 9)]);
    let nodes: Vec<_> = nodes_of(&solve(&problem, ENOUGH, 0)).concat();
    assert_eq!(nodes, [1, 2, 1, 2, 1, 2, 1, 2, 0]);
}

#[test]
fn work_with_devices_is_packed() {
    let problem = problem(vec![node(9, 4), node(9, 2)], vec![shape(1, 1, 3)]);
    assert_eq!(nodes_of(&solve(&problem, ENOUGH, 0)).concat(), [1, 1, 0]);
}

#[test]
fn what_does_not_fit_holds_nobody_up() {
    let problem = problem(vec![node(2, 0)], vec![shape(1, 8, 5), shape(1, 0, 5)]);
    let plan = solve(&problem, ENOUGH, 0);
    assert_eq!(plan.placed.iter().map(|placed| placed.shape).collect::<Vec<_>>(), [1, 1]);
    assert!(plan.complete);
}

#[test]
fn a_gang_is_whole_and_on_few_nodes() {
    let gang = |size| Shape { size, ..shape(1, 0, 1) };
    let nodes = vec![node(1, 0), node(3, 0), node(1, 0)];
    assert_eq!(nodes_of(&solve(&problem(nodes.clone(), vec![gang(4)]), ENOUGH, 0)), [[1, 1, 1, 0]]);
    assert_eq!(nodes_of(&solve(&problem(nodes.clone(), vec![gang(6)]), ENOUGH, 0)), Vec::<Vec<usize>>::new());
    let both = problem(nodes, vec![gang(6), shape(1, 0, 9)]);
    assert_eq!(solve(&both, ENOUGH, 0).placed.len(), 5, "a gang without room leaves its room to others");
}

#[test]
fn a_later_alternative_is_taken_only_where_no_earlier_one_fits() {
    let mut two = shape(1, 2, 3);
    two.wishes.push(Wish { count: 1, ..two.wishes[0].clone() });
    let problem = problem(vec![node(9, 1), node(9, 3)], vec![two]);
    let plan = solve(&problem, ENOUGH, 0);
    let taken: Vec<_> = plan.placed.iter().map(|placed| (placed.seats[0].node, placed.seats[0].alternative)).collect();
    assert_eq!(taken, [(1, 0), (1, 1), (0, 1)]);
}

#[test]
fn cheaper_nodes_come_first_and_the_seed_decides_among_equals() {
    let mut problem = problem(vec![node(2, 0), node(2, 0), node(2, 0)], vec![shape(1, 0, 1)]);
    assert_eq!(nodes_of(&solve(&problem, ENOUGH, 0)), [[0]]);
    assert_eq!(nodes_of(&solve(&problem, ENOUGH, 4)), [[1]]);
    problem.costs.extend([((0, 0), 2), ((0, 1), 2), ((0, 2), 1)]);
    assert_eq!(nodes_of(&solve(&problem, ENOUGH, 0)), [[2]]);
}

#[test]
fn work_does_not_depend_on_how_much_waits() {
    let few = solve(&problem(vec![node(64, 0)], vec![shape(1, 0, 64)]), ENOUGH, 0);
    let many = solve(&problem(vec![node(64, 0)], vec![shape(1, 0, 10_000_000)]), ENOUGH, 0);
    assert_eq!((few.steps, few.placed.len()), (many.steps, many.placed.len()));
}

#[test]
fn an_explanation_counts_lacks_and_names_the_nearest_node() {
    let mut sick = node(9, 1);
    sick.devices[0].healthy = false;
    let mut problem = problem(vec![node(1, 0), node(9, 0), sick], vec![shape(2, 1, 1)]);
    problem.eligible[0] = Bits::none(3);
    [0, 2].into_iter().for_each(|at| problem.eligible[0].insert(at));
    let told = explain(&problem, 0);
    assert_eq!(told.lacks[&Lack::Eligible], (1, 1));
    assert_eq!(told.lacks[&Lack::Cpu], (1, 0));
    assert_eq!(told.lacks[&Lack::Devices], (1, 0));
    assert_eq!(told.nearest, Some((2, vec![Lack::FreeDevices])));
    assert!(could_ever_fit(&problem, 0), "the device may get well");
    problem.shapes[0].size = 2;
    assert!(!could_ever_fit(&problem, 0));
}
