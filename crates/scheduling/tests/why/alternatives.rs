//! Of several alternatives of GPUs each is told by itself, and the one that is taken is told.

use flowyard_model::*;
use flowyard_scheduling::why::{Alternative, Explanation, by_alternative};

use crate::world::{World, asking, gpus, key, machine, queue, step};

/// A machine with two H100 and one with four L4.
fn world() -> World {
    let mut world = World::new();
    for (name, model, count) in [("n1", "h100", 2), ("n2", "l4", 4)] {
        let mut inventory = machine(8, 8);
        inventory.gpus = gpus(model, count);
        world.node(name, inventory);
    }
    world
}

fn either(first: (&str, u32), second: (&str, u32)) -> StepSpec {
    let mut either = step(1);
    either.resources.gpus = [first, second].map(|(model, count)| asking(Some(model), count)).into();
    either
}

/// Which one a plan takes, and which one is said.
fn taken(world: &World, job: JobId) -> (Option<u32>, Option<u32>) {
    let Explanation { alternative, .. } = world.first(job);
    let mut then = world.clone();
    then.round();
    let attempts = then.state.task(key(job, 0)).map(|task| task.attempts.clone()).unwrap_or_default();
    (alternative, attempts.last().map(|attempt| attempt.members[0].gpu_alternative))
}

#[test]
fn the_one_that_is_taken_is_told_and_it_is_the_first_that_has_room() {
    let mut world = world();
    let first = world.submit("default", "ada", 0, either(("h100", 2), ("l4", 4)));
    assert_eq!(taken(&world, first), (Some(0), Some(0)));
    world.settle();
    let second = world.submit("default", "ada", 0, either(("h100", 2), ("l4", 4)));
    assert_eq!(taken(&world, second), (Some(1), Some(1)));
    world.settle();
    let third = world.submit("default", "ada", 0, either(("h100", 2), ("l4", 4)));
    assert_eq!(taken(&world, third), (None, None));
}

#[test]
fn what_keeps_a_task_from_each_is_told_of_each() {
    let mut world = world();
    let limit = QueueAmounts { gpu_milli: [(GpuClass::model("h100"), 1_000)].into(), ..QueueAmounts::default() };
    world.put(Queue { limit, ..queue("default") });
    let job = world.submit("default", "ada", 0, either(("h100", 2), ("l4", 5)));
    let told = by_alternative(&world.state, key(job, 0));
    let said = |it: &Alternative| {
        let kinds: Vec<_> = it.nodes.rejections.iter().map(|lack| (lack.kind, lack.nodes)).collect();
        (it.at, it.bounds.len(), it.nodes.fitting, kinds)
    };
    let said: Vec<_> = told.iter().map(said).collect();
    // Of the first there are enough, and the queue may not hold them; of the second there are too few.
    assert_eq!(said, [(0, 1, 1, vec![("no_such_gpus", 1)]), (1, 0, 0, vec![("no_such_gpus", 2)])]);
    assert!(told[0].bounds.iter().all(|bound| bound.most == 1_000 && bound.need == 2_000), "{told:?}");
    let only = world.submit("default", "ada", 0, {
        let mut only = step(1);
        only.resources.gpus = vec![asking(Some("l4"), 1)];
        only
    });
    assert!(by_alternative(&world.state, key(only, 0)).is_empty(), "there is nothing to choose");
}
