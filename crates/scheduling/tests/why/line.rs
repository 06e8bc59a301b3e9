//! The place in the line, held against the order in which a real round places what it has room for.

use flowyard_model::*;
use flowyard_scheduling::Scheduler;
use proptest::prelude::*;

use crate::world::{BOUND, World, key, machine, queue, step, wide};

const QUEUES: [(&str, u32); 4] = [("default", 1), ("lab/one", 1), ("lab/two", 3), ("ops", 2)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where there is room for all and nothing has bounds, what stands before a task is what the plan has before it.
    #[test]
    fn what_is_before_a_task_is_what_a_plan_with_room_for_all_has_before_it(
        jobs in prop::collection::vec((0..4_usize, 0..3_usize, -1..2_i32, 1..5_u32, 1..4_u64), 1..7),
        asked in any::<prop::sample::Index>(),
        running in 0..5_usize,
    ) {
        let mut world = World::new();
        for at in 0..4 {
            world.node(&format!("n{at}"), machine(64, 64));
        }
        for (path, weight) in QUEUES {
            world.put(Queue { weight, ..queue(path) });
        }
        for at in 0..running {
            world.submit(QUEUES[at % 4].0, "ada", 0, wide(2));
        }
        world.settle();
        for (at, owner, priority, tasks, cpus) in &jobs {
            let mut step = step(*tasks);
            step.resources.cpu_milli = cpus * 1_000;
            world.submit(QUEUES[*at].0, ["ada", "bob", "eve"][*owner], *priority, step);
        }
        let plans = Scheduler::new(0).round(&world.state, world.state.time(), BOUND).plans;
        let placed: Vec<TaskKey> = plans.iter().flat_map(|plan| &plan.placements).map(|it| it.task).collect();
        let at = asked.index(placed.len());
        let told = world.explain(placed[at]);
        let position = told.position.unwrap();
        prop_assert!(position.exact);
        prop_assert_eq!(position.before, at as u64, "{:?}", placed);
        for group in &position.ahead {
            let of_group = |task: &&TaskKey| {
                let job = world.state.job(task.job).unwrap();
                (&job.spec.queue, &job.owner, i64::from(job.spec.priority)) == (&group.queue, &group.owner, group.priority)
            };
            prop_assert_eq!(group.tasks, placed[..at].iter().filter(of_group).count() as u64);
        }
        prop_assert!(told.placed.is_some());
    }
}

#[test]
fn the_line_goes_on_behind_what_has_no_room_and_behind_bounds() {
    let mut world = World::new();
    world.node("n", machine(1, 1));
    world.put(Queue { max_active: Some(1), ..queue("small") });
    let large = world.submit("small", "ada", 0, step(50));
    let own = world.submit("small", "ada", 0, wide(3));
    let told = world.first(own);
    let position = told.position.unwrap();
    assert_eq!((position.before, position.exact), (50, true), "{position:?}");
    let last = world.explain(key(large, 49)).position.unwrap();
    assert_eq!((last.before, last.exact), (49, true), "{last:?}");
}
