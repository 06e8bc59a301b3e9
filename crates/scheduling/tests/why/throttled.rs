//! When a task starts in a cluster in which only so much may be starting at a time: a throttle goes away as soon as something runs.

use flowyard_model::*;
use flowyard_scheduling::Scheduler;
use flowyard_scheduling::why::Start;
use proptest::prelude::*;

use crate::laws::next_ends;
use crate::random::recipes;
use crate::world::{BOUND, World, key, machine, step};

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// The start is what comes of letting everything run at once that is placed, and of ending everything at its time.
    #[test]
    fn the_start_is_when_the_cluster_comes_to_it_if_what_is_placed_runs_at_once(
        recipe in recipes(),
        per_job in 1..3_u32,
    ) {
        let Some((mut world, task)) = recipe.cook() else { return Ok(()) };
        let throttle = match world.state.policy().throttle {
            Throttle { per_job: None, per_node: None } => Throttle { per_job: Some(per_job), per_node: None },
            known => known,
        };
        let policy = Policy { throttle, ..Policy::clone(world.state.policy()) };
        world.perform(Command::PutPolicy(policy.into()));
        if world.state.task_state(task) != Some(TaskState::Ready) {
            return Ok(());
        }
        match world.explain(task).start {
            Start::Now => prop_assert!(world.is_placed_next(task)),
            Start::OnceRunning { starting } => {
                prop_assert!(!world.is_placed_next(task));
                let live = world.live().len() as u64;
                prop_assert_eq!(starting, live, "nothing of these worlds runs yet");
                prop_assert_eq!(lived(&world, task), Some(TimeMs(world.now)));
            }
            Start::At { at, joined: false, throttled, .. } => {
                prop_assert!(throttled);
                prop_assert_eq!(lived(&world, task), Some(at));
            }
            Start::NoTimeout { .. } | Start::NotEvenThen => prop_assert_eq!(lived(&world, task), None),
            Start::At { joined: true, .. } | Start::Beyond(_) | Start::StopsBefore(_) => {}
        }
    }
}

/// When a task is placed if all that is placed runs at once, and everything ends when it has to or is evicted; `None` if nothing has to end
/// any more before.
fn lived(world: &World, task: TaskKey) -> Option<TimeMs> {
    let mut then = World { stands_still: true, ..world.clone() };
    // A round is made before anything more runs, as it is made now.
    then.round();
    loop {
        run_all(&mut then);
        then.state = then.state.as_learned_in(&world.state);
        while then.round() > 0 {
            run_all(&mut then);
        }
        if then.state.task_state(task) == Some(TaskState::Active) {
            return Some(TimeMs(then.now));
        }
        let ends = next_ends(&then);
        let wake = Scheduler::new(0).round(&then.state, TimeMs(then.now), BOUND).wake_at;
        if let Some(wake) = wake.filter(|wake| ends.as_ref().is_none_or(|(at, _)| wake < at)) {
            then.now = wake.0;
            continue;
        }
        let (at, over) = ends?;
        then.now = at.0;
        over.into_iter().for_each(|(node, member)| then.end(node, member));
    }
}

/// All that is placed runs; when it began is as if it had at its placement.
fn run_all(world: &mut World) {
    for (node, member) in world.live() {
        let incarnation = world.state.node(node).unwrap().incarnation;
        let report = AttemptReport {
            member,
            phase: Phase::Running,
            times: PhaseTimes::NONE,
            end: None,
            checkpoint: None,
            stuck: None,
            saved_at: None,
        };
        world.perform(Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
    }
}

#[test]
fn a_task_that_waits_for_its_siblings_to_begin_starts_once_they_run_and_not_once_they_end() {
    let mut world = World::new();
    world.node("n", machine(100, 100));
    let throttle = Throttle { per_job: Some(4), per_node: None };
    world.perform(Command::PutPolicy(Policy { throttle, ..Policy::default() }.into()));
    for timeout_ms in [None, Some(36_000_000)] {
        let job = world.submit("default", "ada", 0, StepSpec { timeout_ms, ..step(100) });
        world.settle();
        let told = world.explain(key(job, 4));
        let throttled = told.reasons.throttled.unwrap();
        assert_eq!((throttled.starting, throttled.most), (4, 4));
        let live = world.live().len() as u64;
        assert_eq!(told.start, Start::OnceRunning { starting: live });
        run_all(&mut world);
        assert!(world.is_placed_next(key(job, 4)));
        world.perform(Command::CancelJob { job });
        world.live().into_iter().for_each(|(node, member)| world.end(node, member));
    }
}

#[test]
fn what_waits_for_room_beside_a_throttle_is_told_when_there_is_some_and_that_beginning_takes_time() {
    let mut world = World::new();
    world.node("n", machine(2, 100));
    let throttle = Throttle { per_job: Some(1), per_node: None };
    world.perform(Command::PutPolicy(Policy { throttle, ..Policy::default() }.into()));
    let job = world.submit("default", "ada", 0, StepSpec { timeout_ms: Some(600_000), ..step(4) });
    world.settle();
    let Start::At { at, ends, throttled, .. } = world.explain(key(job, 2)).start else { panic!() };
    // The second runs at once beside the first.
    assert_eq!((at, ends, throttled), (lived(&world, key(job, 2)).unwrap(), 2, true));
}
