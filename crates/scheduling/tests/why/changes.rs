//! One scene for every kind of change, and for how much it is exactly.

use flowyard_model::*;
use flowyard_scheduling::why::{Change, Fix, Resource, Rule, Start};

use crate::world::{World, asking, gpus, key, machine, queue, wide};

/// The fix of a task whose changes are all of a kind; it is carried out.
fn fix(world: &World, task: TaskKey, is_it: impl Fn(&Change) -> bool) -> Fix {
    let told = world.explain(task);
    let fix = told.fixes.iter().find(|fix| fix.changes.iter().all(&is_it));
    let fix = fix.unwrap_or_else(|| panic!("{:?} {:?}", told.fixes, told.reasons)).clone();
    let mut then = world.clone();
    let task = then.carry_out(task, &fix.changes).unwrap();
    assert!(then.is_placed_next(task), "{fix:?}");
    fix
}

fn limit(cpus: u64) -> QueueAmounts {
    QueueAmounts { cpu_milli: Some(cpus * 1_000), ..QueueAmounts::default() }
}

fn racks() -> World {
    let mut world = World::new();
    for (name, rack) in [("a", "r1"), ("b", "r1"), ("c", "r2"), ("d", "r2")] {
        let mut inventory = machine(1, 8);
        inventory.labels.insert("rack".parse().unwrap(), rack.to_owned());
        world.node(name, inventory);
    }
    let topology = vec!["rack".parse().unwrap()];
    assert_eq!(world.perform(Command::PutPolicy(Policy { topology, ..Policy::default() }.into())), Reply::Done);
    world
}

#[test]
fn a_limit_is_raised_by_what_those_need_who_go_first_and_no_more() {
    let mut world = World::new();
    world.node("n", machine(16, 16));
    world.put(Queue { limit: limit(4), ..queue("lab") });
    world.submit("lab", "ada", 0, wide(4));
    world.settle();
    world.submit("lab", "ada", 0, wide(1));
    let job = world.submit("lab", "ada", 0, wide(3));
    let raised = fix(&world, key(job, 0), |change| matches!(change, Change::Limit { .. }));
    let (lab, resource) = ("lab".parse().unwrap(), Resource::Cpu);
    assert_eq!(raised.changes, [Change::Limit { queue: lab, resource, from: 4_000, to: 8_000 }]);
    assert!(raised.smallest);
}

#[test]
fn a_priority_that_is_the_same_as_those_before_may_do() {
    let mut world = World::new();
    world.node("n", machine(2, 8));
    // Ada has much already, so that Eve goes before her among equals.
    world.submit("default", "ada", 0, wide(1));
    world.settle();
    world.submit("default", "ada", 5, wide(1));
    let job = world.submit("default", "eve", 0, wide(1));
    let raised = fix(&world, key(job, 0), |change| matches!(change, Change::Priority { .. }));
    assert_eq!((&raised.changes[..], raised.smallest), (&[Change::Priority { from: 0, to: 5 }][..], true));
}

#[test]
fn a_gang_that_needs_one_rack_is_told_that_it_would_start_in_several_or_with_fewer_members() {
    let mut world = racks();
    let level: Name = "rack".parse().unwrap();
    let near = Some(Near { level: level.clone(), need: true });
    let gang = StepSpec { size: 3, placing: Placing { near, ..Placing::default() }, ..wide(1) };
    let job = world.submit("default", "ada", 0, gang);
    let apart = fix(&world, key(job, 0), |change| matches!(change, Change::NotNear(_)));
    assert_eq!(apart.changes, [Change::NotNear(level)]);
    assert_eq!(apart.nodes.len(), 3);
    let fewer = fix(&world, key(job, 0), |change| matches!(change, Change::Members { .. }));
    assert_eq!(fewer.changes, [Change::Members { from: 3, to: 2, is_least: false }]);
    assert!(fewer.smallest);
}

#[test]
fn a_gang_of_no_fixed_size_is_told_that_it_would_start_with_fewer_at_least() {
    let mut world = racks();
    let placing = Placing { min_size: Some(6), ..Placing::default() };
    let job = world.submit("default", "ada", 0, StepSpec { size: 8, placing, ..wide(1) });
    let fewer = fix(&world, key(job, 0), |change| matches!(change, Change::Members { .. }));
    assert_eq!(fewer.changes, [Change::Members { from: 6, to: 4, is_least: true }]);
    assert!(fewer.smallest);
}

#[test]
fn fewer_licences_and_none_at_all_are_tried() {
    let mut world = World::new();
    world.node("n", machine(8, 8));
    let licence: Name = "matlab".parse().unwrap();
    let tokens = [(licence.clone(), 5)].into();
    world.perform(Command::PutPolicy(Policy { tokens, ..Policy::default() }.into()));
    let asking = |count: u32| {
        let mut step = wide(1);
        step.resources.tokens = [(licence.clone(), count)].into();
        step
    };
    world.submit("default", "ada", 0, asking(3));
    world.settle();
    let job = world.submit("default", "eve", 0, asking(4));
    let fewer = fix(&world, key(job, 0), |change| matches!(change, Change::Tokens { .. }));
    assert_eq!(fewer.changes, [Change::Tokens { name: licence.clone(), from: 4, to: 2 }]);
    assert!(fewer.smallest);
    world.submit("default", "bob", 9, asking(2));
    world.settle();
    let none = fix(&world, key(job, 0), |change| matches!(change, Change::Tokens { .. }));
    assert_eq!(none.changes, [Change::Tokens { name: licence, from: 4, to: 0 }]);
}

#[test]
fn a_smaller_part_of_a_device_and_less_of_its_memory_are_tried() {
    let mut world = World::new();
    world.node("n", Inventory { gpus: gpus("h100", 1), ..machine(8, 8) });
    let part = |share_milli: u32, gib: u64| {
        let mut step = wide(1);
        step.resources.gpus = vec![GpuRequest { share_milli, memory_bytes: gib << 30, ..asking(None, 1) }];
        step
    };
    world.submit("default", "ada", 0, part(600, 0));
    world.settle();
    let job = world.submit("default", "eve", 0, part(500, 0));
    let smaller = fix(&world, key(job, 0), |change| matches!(change, Change::Share { .. }));
    assert_eq!(smaller.changes, [Change::Share { alternative: 0, from: 500, to: 400 }]);
    assert!(smaller.smallest);
    // Of 80 GiB, 48 go with the 600 thousandths.
    let job = world.submit("default", "eve", 9, part(200, 40));
    let less = fix(&world, key(job, 0), |change| matches!(change, Change::ShareMemory { .. }));
    assert_eq!(less.changes, [Change::ShareMemory { alternative: 0, from: 40 << 30, to: 32 << 30 }]);
    assert!(less.smallest);
    let mut large = wide(1);
    large.resources.gpus = vec![GpuRequest { min_memory_bytes: 100 << 30, ..asking(None, 1) }];
    let mut world = World::new();
    world.node("n", Inventory { gpus: gpus("h100", 1), ..machine(8, 8) });
    let job = world.submit("default", "eve", 0, large);
    let less = fix(&world, key(job, 0), |change| matches!(change, Change::GpuMemory { .. }));
    assert_eq!(less.changes, [Change::GpuMemory { alternative: 0, from: 100 << 30, to: 80 << 30 }]);
}

#[test]
fn who_keeps_the_room_is_told_how_much_more_they_would_have_to_lend() {
    let mut world = World::new();
    world.node("n", machine(8, 8));
    world.put(Queue { reserve: limit(6), lend: limit(1), ..queue("lab") });
    let job = world.submit("default", "ada", 0, wide(4));
    assert_eq!(world.first(job).reasons.rule, Some(Rule::Kept));
    let lent = fix(&world, key(job, 0), |change| matches!(change, Change::Lend { .. }));
    let (lab, resource) = ("lab".parse().unwrap(), Resource::Cpu);
    assert_eq!(lent.changes, [Change::Lend { queue: lab, resource, from: 1_000, to: 2_000 }]);
    assert!(lent.smallest);
}

#[test]
fn what_rests_on_earlier_runs_and_what_on_what_is_expected_is_told_apart() {
    let mut world = World::new();
    world.node("n", machine(2, 8));
    let ran = StepSpec { name: "ran".parse().unwrap(), ..wide(1) };
    for _ in 0..8 {
        world.submit("default", "ada", 0, ran.clone());
        world.settle();
        world.now += 60_000;
        world.live().into_iter().for_each(|(node, member)| world.end(node, member));
    }
    world.submit("default", "ada", 0, ran);
    world.submit("default", "ada", 0, StepSpec { expected_ms: Some(30_000), ..wide(1) });
    world.settle();
    let job = world.submit("default", "eve", 0, wide(2));
    let Start::At { ends, learned, runs, expected, .. } = world.first(job).start else {
        panic!("{:?}", world.first(job).start)
    };
    assert_eq!((ends, learned, expected), (2, 1, 1));
    assert!(runs.is_some_and(|runs| runs > 0), "what was learned is not hidden by what was only declared");
}
