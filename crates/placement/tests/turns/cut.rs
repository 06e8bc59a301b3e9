//! Rounds that are cut by their steps: called again, they get on.

use std::sync::Arc;

use flowyard_placement::*;

const NODES: u32 = 20;
const BLOCKED: u32 = 200;
const SMALL: Bound = Bound { tasks: 1_000, steps: 60 };

fn shape(cpu_milli: u64) -> ShapeFacts {
    let needs = Amounts { cpu_milli, ..Amounts::NONE };
    ShapeFacts {
        needs,
        wishes: vec![],
        size: 1,
        eligible: Bits::all(1),
        near: Near::Lowest,
        prefer: vec![],
        beside: Beside::default(),
    }
}

fn key(at: u32) -> GroupKey {
    GroupKey { queue: QueueIndex(at % 3), priority: 0, user: UserIndex(0), shape: ShapeIndex(at) }
}

fn put(fleet: &mut Fleet, queues: &mut Queues, at: u32, cpu: u64) {
    fleet.put_shape(ShapeIndex(at), shape(cpu));
    let needs: Arc<[Need]> = [Need { held: Held::NONE.with(Column::Cpu, cpu), any_model: false }].into();
    queues.put_group(key(at), &GroupFacts { oldest: (at.into(), 0), count: 1, more: false, needs });
}

/// Many shapes for which there is no room, each with a task, and a younger one for which there is.
fn blocked() -> (Fleet, Queues) {
    let mut fleet = Fleet::new(0);
    let all = Amounts { cpu_milli: 4, ..Amounts::NONE };
    let node = NodeFacts { class: 0, free: all.clone(), all, devices: vec![], avoided: false };
    (0..NODES).for_each(|at| fleet.put_node(NodeIndex(at), node.clone()));
    let mut queues = Queues::new(Held::NONE.with(Column::Cpu, 4 * u64::from(NODES)));
    (0..BLOCKED).for_each(|at| put(&mut fleet, &mut queues, at, 5 + u64::from(at)));
    put(&mut fleet, &mut queues, BLOCKED, 1);
    (fleet, queues)
}

/// Each call looks at what the last one did not get to, though all others are asked again.
#[test]
fn a_round_that_was_cut_gets_further_when_it_is_called_again() {
    let (mut fleet, mut queues) = blocked();
    let mut calls = 0;
    let last = loop {
        let round = round(&mut queues, &mut fleet, SMALL);
        assert!(round.steps <= SMALL.steps);
        calls += 1;
        if round.complete || !round.placed.is_empty() {
            break round;
        }
        assert!(calls < 2 * u64::from(BLOCKED), "it never gets to what there is room for");
    };
    assert_eq!(last.placed.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(BLOCKED)]);
    assert!(calls > 9, "{calls} calls: it was hardly cut");
}

/// It comes to an end, and what is complete stays so.
#[test]
fn a_round_that_has_nothing_left_to_do_says_so() {
    let (mut fleet, mut queues) = blocked();
    let is_cut = |round: &Round<Seated>| !round.complete || !round.placed.is_empty();
    let calls = (0..1_000).map(|_| round(&mut queues, &mut fleet, SMALL)).take_while(is_cut).count();
    assert!(calls < 500, "it never comes to an end");
    let again = round(&mut queues, &mut fleet, SMALL);
    assert_eq!((again.complete, again.placed.len(), again.steps), (true, 0, 0));
}
