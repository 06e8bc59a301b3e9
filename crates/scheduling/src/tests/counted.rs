//! Where more waits than is counted: rounds end where one of the others might be next, and together they are the one round that counts all.

use proptest::prelude::*;

use super::*;
use crate::waiting::Counted;

/// Rounds until one is complete: the jobs of what they placed, in their order, and how many rounds it took.
fn rounds(scheduler: &mut Scheduler, state: &mut State) -> (Vec<u64>, usize) {
    let mut placed = Vec::new();
    for number in 1.. {
        let proposal = scheduler.round(state, state.time(), BOUND);
        for plan in proposal.plans {
            placed.extend(plan.placements.iter().map(|placement| placement.task.job.0));
            let taken = Reply::PlanCommitted { refused: vec![], refused_claims: vec![] };
            assert_eq!(perform(state, Command::CommitPlan(plan)), taken);
        }
        if proposal.complete {
            return (placed, number);
        }
        assert!(proposal.counted_out, "nothing else cuts it");
        assert!(number < 1_000, "it never comes to an end");
    }
    unreachable!("there is no last number")
}

#[test]
fn of_many_urgent_jobs_all_go_before_one_that_is_not() {
    let mut state = cluster(700);
    submit(&mut state, "default", step(1_000));
    for _ in 0..800 {
        submit(&mut state, "default", StepSpec { priority: 1, ..step(1) });
    }
    let (placed, rounds) = rounds(&mut Scheduler::new(0), &mut state);
    assert_eq!(placed, (2..=701).collect::<Vec<_>>(), "the oldest of the urgent, and nothing else");
    assert!(rounds > 1, "not all of them were counted at once");
}

#[test]
fn a_job_that_may_have_no_more_hides_none_behind_it() {
    let mut state = cluster(3);
    for _ in 0..4 {
        submit(&mut state, "default", StepSpec { max_parallel: Some(1), ..step(9) });
    }
    let mut scheduler = Scheduler::counting(0, Counted { tasks: 4, steps: 1 });
    assert_eq!(rounds(&mut scheduler, &mut state).0, [1, 2, 3]);
}

proptest! {
    #[test]
    fn however_few_are_counted_the_same_are_placed_in_the_same_order(
        cpus in 1_u64..30,
        weights in prop::array::uniform2(1_u32..4),
        limit in prop::option::of(1_u64..12),
        jobs in prop::collection::vec((0_usize..2, 0_usize..3, -1_i32..2, 1_u32..6, prop::option::of(1_u32..3)), 1..25),
        (tasks, steps) in (1_u32..4, 1_usize..4),
    ) {
        let mut state = cluster(cpus);
        for (path, weight) in ["a", "b"].into_iter().zip(weights) {
            let cpu_milli = limit.filter(|_| path == "a").map(|cpus| cpus * 1_000);
            put(&mut state, Queue { weight, limit: QueueAmounts { cpu_milli, ..QueueAmounts::default() }, ..queue(path) });
        }
        for (path, owner, priority, count, max_parallel) in jobs {
            let spec = StepSpec { priority, max_parallel, ..step(count) };
            submit_for(&mut state, ["a", "b"][path], ["ada", "bob", "eve"][owner], spec);
        }
        let (all, _) = rounds(&mut Scheduler::new(0), &mut state.clone());
        let (few, _) = rounds(&mut Scheduler::counting(0, Counted { tasks, steps }), &mut state);
        prop_assert_eq!(all, few);
    }
}
