//! What it costs: only what changed is looked at again, and no test of a node allocates.

use flowyard_placement::*;

use crate::policy::{fleet, node, shape};

const NODES: u32 = 1_000;

/// Steps that seating one more task costs, and how it ended.
fn ask(fleet: &mut Fleet, at: u32, most: u32) -> (u64, Ended) {
    let mut left = u64::MAX;
    let ended = fleet.seat(ShapeIndex(at), most, None, &mut left, &mut Vec::new());
    (u64::MAX - left, ended)
}

#[test]
fn a_blocked_shape_that_is_asked_again_costs_only_what_changed() {
    for blocked in [shape(5, 1), shape(5, 0), ShapeFacts { size: 3, ..shape(5, 1) }] {
        let mut fleet = fleet(0, vec![node(4, 8); NODES as usize], blocked);
        let (first, ended) = ask(&mut fleet, 0, 9);
        assert!(ended == Ended::NoRoom && first >= u64::from(NODES));
        assert_eq!(ask(&mut fleet, 0, 9), (0, Ended::NoRoom));
        for at in [7, 70, 700] {
            fleet.put_node(NodeIndex(at), node(3, 8));
        }
        let (again, ended) = ask(&mut fleet, 0, 9);
        assert!(ended == Ended::NoRoom && (3..=6).contains(&again), "{again} steps for three nodes");
        fleet.put_node(NodeIndex(8), node(20, 8));
        let (seats, ended) = ask(&mut fleet, 0, 1);
        assert!(ended == Ended::Enough && seats <= 8, "{seats} steps for one node with room");
    }
}

#[test]
fn shapes_that_accept_the_same_devices_share_an_order() {
    let mut fleet = fleet(0, vec![node(40, 8); NODES as usize], shape(1, 1));
    for at in 1..50 {
        let mut eligible = Bits::none(at as usize * 9);
        eligible.insert(0);
        fleet.put_shape(ShapeIndex(at), ShapeFacts { eligible, ..shape(u64::from(at % 9), at % 4 + 1) });
    }
    let mut steps = (0..50).map(|at| ask(&mut fleet, at, 1).0);
    assert!(steps.next().is_some_and(|first| first >= u64::from(NODES)), "the first has to look at all nodes");
    assert!(steps.all(|steps| steps < 20), "the others find the order made");
}

#[test]
fn equal_facts_change_nothing() {
    let mut fleet = fleet(0, vec![node(4, 8); NODES as usize], shape(5, 1));
    ask(&mut fleet, 0, 1);
    (0..NODES).for_each(|at| fleet.put_node(NodeIndex(at), node(4, 8)));
    fleet.put_shape(ShapeIndex(0), shape(5, 1));
    assert_eq!(ask(&mut fleet, 0, 1), (0, Ended::NoRoom));
}

#[test]
fn a_spent_budget_goes_on_where_it_ended() {
    let mut fleet = fleet(0, vec![node(4, 8); NODES as usize], shape(5, 1));
    let mut calls = 0;
    let spent = |fleet: &mut Fleet| fleet.seat(ShapeIndex(0), 1, None, &mut { 100 }, &mut Vec::new());
    while spent(&mut fleet) == Ended::Budget {
        calls += 1;
    }
    assert_eq!(calls, 10, "one call for the order, then 100 nodes a call");
    assert_eq!(fleet.seat(ShapeIndex(0), 1, None, &mut 0, &mut Vec::new()), Ended::Budget);
}

#[test]
fn a_shape_that_passed_few_nodes_starts_again_when_many_change() {
    // One node is too small, so that it is passed; then all others are filled a little, and emptied again.
    let mut nodes = vec![node(40, 0); NODES as usize];
    nodes[0] = node(1, 0);
    let mut fleet = fleet(0, nodes, shape(2, 0));
    ask(&mut fleet, 0, NODES);
    fleet.put_shape(ShapeIndex(1), shape(3, 0));
    ask(&mut fleet, 1, NODES);
    (1..100).for_each(|at| fleet.put_node(NodeIndex(at), node(39, 0)));
    ask(&mut fleet, 1, 1);
    let (steps, ended) = ask(&mut fleet, 0, 1);
    assert!(ended == Ended::Enough && steps < 9, "{steps} steps for one task, although 99 nodes changed");
}

#[test]
fn orders_out_of_use_are_kept_a_while_and_those_in_use_always() {
    let mut fleet = fleet(0, vec![node(40, 0); NODES as usize], shape(1, 0));
    let elsewhere = |class: usize| {
        let mut eligible = Bits::none(class + 1);
        eligible.insert(class);
        ShapeFacts { eligible, ..shape(1, 0) }
    };
    ask(&mut fleet, 0, 1);
    fleet.drop_shape(ShapeIndex(0));
    fleet.put_shape(ShapeIndex(0), shape(1, 0));
    let (steps, _) = ask(&mut fleet, 0, 1);
    assert!(steps < 9, "{steps} steps: the order was still there");
    for class in 1..100 {
        fleet.put_shape(ShapeIndex(1), elsewhere(class));
        assert_eq!(ask(&mut fleet, 1, 1).1, Ended::NoRoom, "there is no node of the class");
    }
    let (steps, ended) = ask(&mut fleet, 0, 1);
    assert!(ended == Ended::Enough && steps < 9, "{steps} steps: it is the same order");
}
