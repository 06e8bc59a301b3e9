//! Room that is kept for wide work that waits, and what may use it until then, against the real state: its `apply` takes every plan whole.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::evictions::{MIN_RUN, World};
use super::*;

/// Work of one CPU that has a bound.
fn small(tasks: u32, timeout_s: u64) -> StepSpec {
    StepSpec { timeout_ms: Some(timeout_s * 1_000), ..step(tasks) }
}

/// A gang whose members need so many CPUs.
fn gang(size: u32, cpus: u64, timeout_s: Option<u64>) -> StepSpec {
    let mut gang = StepSpec { size, timeout_ms: timeout_s.map(|it| it * 1_000), ..step(1) };
    gang.resources.cpu_milli = cpus * 1_000;
    gang
}

impl World {
    /// The only reservation: by when it starts, and for how many it waits.
    fn reservation(&self) -> Option<(Option<u64>, usize)> {
        let mut claims = self.state.claims().filter(|(_, claim)| claim.is_reservation());
        let (_, claim) = claims.next()?;
        assert_eq!(claims.next(), None, "there is one");
        Some((claim.starts_at.map(|at| at.0), claim.awaits.len()))
    }

    /// Whoever has been placed for as long as it may run ends; those without a bound after a time of their own.
    fn end_what_is_over(&mut self, longest: u64) {
        let (now, state) = (self.now, self.state.clone());
        let is_over = move |key: &MemberKey, attempt: &Attempt| {
            let spec = state.step_spec(key.task.job, key.task.step).unwrap();
            let own = 1_000 + (key.task.job.0 * 7_919 + u64::from(key.task.task.0) * 104_729) % longest;
            now >= attempt.placed_at.0 + spec.timeout_ms.map_or(own, |bound| bound.min(own.max(bound / 2)))
        };
        self.end_members(is_over);
    }
}

#[test]
fn a_gang_starts_among_an_endless_stream_of_small_work() {
    let mut world = World::new(&[(4, 0), (4, 0)]);
    let stream = world.submit("other", step(500));
    world.rest();
    assert_eq!(world.running(stream), 8);
    world.now += 1_000;
    let wide = world.submit("lab", gang(2, 4, None));
    world.rest();
    assert_eq!(world.reservation(), Some((None, 8)), "it waits for all, and none has a bound");
    for turn in 1..=8 {
        world.now += 1_000;
        // The one that has lived longest ends, one after the other.
        world.finish(|_, at| at == 0);
        world.rest();
        let (small, gang) = (world.running(stream), world.running(wide));
        if turn < 8 {
            assert_eq!((small, gang), (8 - turn, 0), "nobody takes their place");
        } else {
            assert_eq!((small, gang), (0, 2));
        }
    }
    world.finish(|_, _| true);
    world.rest();
    assert_eq!((world.running(stream), world.state.claims().count()), (8, 0), "then the stream goes on");
}

#[test]
fn what_ends_for_certain_before_may_use_the_room_until_then() {
    let mut world = World::new(&[(2, 0)]);
    world.submit("other", small(1, 100));
    world.submit("other", small(1, 1_000));
    world.rest();
    let began = world.now;
    let wide = world.submit("lab", gang(1, 2, None));
    world.rest();
    assert_eq!(world.reservation(), Some((Some(began + 1_000_000), 2)));
    world.now += 100_000;
    world.finish(|_, at| at == 0);
    let (endless, long, short) =
        (world.submit("other", step(1)), world.submit("other", small(1, 901)), world.submit("other", small(5, 290)));
    world.rest();
    assert_eq!([endless, long, short].map(|job| world.running(job)), [0, 0, 1], "only what ends before");
    assert_eq!(world.reservation(), Some((Some(began + 1_000_000), 2)), "and it is waited for, too");
    for _ in 0..2 {
        world.now += 290_000;
        world.finish(|_, at| at == 1);
        world.rest();
        assert_eq!([endless, long].map(|job| world.running(job)), [0, 0]);
    }
    assert_eq!(world.running(short), 1, "as long as there is time");
    world.now = began + 1_000_000;
    world.finish(|_, _| true);
    world.rest();
    assert_eq!((world.running(wide), world.running(short)), (1, 0));
}

/// What had to end late ends early: then only what is left is waited for, and no more is let in than ends before that.
#[test]
fn a_start_comes_nearer_when_others_end_sooner_than_they_had_to() {
    let mut world = World::new(&[(2, 0)]);
    world.submit("other", small(1, 10_000));
    world.submit("other", small(1, 500));
    world.rest();
    let began = world.now;
    let wide = world.submit("lab", gang(1, 2, None));
    let stream = world.submit("other", small(1_000, 400));
    world.rest();
    assert_eq!(world.reservation(), Some((Some(began + 10_000_000), 2)));
    world.finish(|_, at| at == 0);
    world.now += 10_000;
    world.rest();
    assert_eq!(world.running(stream), 1, "it ends before the other one does");
    assert_eq!(world.reservation(), Some((Some(began + 500_000), 2)));
    for _ in 0..3 {
        world.now += 100_000;
        world.rest();
    }
    world.now = began + 500_000;
    world.finish(|_, _| true);
    world.rest();
    assert_eq!(world.running(wide), 1);
}

/// Those in whose place it starts may not be evicted at first. Their ends are waited for no longer than that.
#[test]
fn a_reservation_is_given_up_for_a_claim_once_others_may_be_evicted() {
    for (path, promised, min_size) in [("other", 2, None), ("lab", 0, None), ("other", 2, Some(1)), ("lab", 0, Some(1))]
    {
        let mut world = World::new(&[(4, 0)]);
        world.promise("lab", promised);
        let low = world.submit(path, small(4, 10_000));
        world.rest();
        let began = world.now;
        world.now += 1_000;
        let mut wants = StepSpec { priority: 1, ..gang(min_size.map_or(1, |_| 2), 2, None) };
        wants.placing.min_size = min_size;
        let wide = world.submit("lab", wants);
        assert_eq!(world.rest(), [], "nobody goes before its time");
        assert_eq!(world.reservation(), Some((Some(began + 10_000_000), 2)));
        assert_eq!(world.wake_at, Some(began + MIN_RUN));
        world.now = began + MIN_RUN;
        assert_eq!(World::victims(&world.rest()), [low.0; 2], "by promise or by priority");
        assert_eq!(world.reservation(), None);
        world.leave();
        world.rest();
        assert_eq!((world.running(wide), world.running(low)), (1, 2));
    }
}

#[test]
fn a_gang_starts_elsewhere_if_there_is_room_sooner() {
    let mut world = World::new(&[(2, 0), (2, 0)]);
    world.submit("other", small(2, 100));
    world.submit("other", small(2, 1_000));
    world.rest();
    let wide = world.submit("lab", gang(1, 2, None));
    world.rest();
    let place = |world: &World| world.state.claims().next().map(|(_, claim)| claim.members[0].node);
    let kept = place(&world).unwrap();
    let elsewhere = world.state.nodes().map(|(id, _)| id).find(|id| *id != kept).unwrap();
    let there = world.state.live_members(elsewhere).map(|(key, ..)| key).collect::<BTreeSet<_>>();
    world.end_members(move |key, _| there.contains(key));
    world.rest();
    assert_eq!((world.running(wide), place(&world)), (1, None));
}

#[test]
fn who_waits_starts_where_others_of_its_step_have_made_room_for_it() {
    let mut world = World::new(&[(4, 0), (4, 0), (4, 0), (4, 0)]);
    let mut filling = small(2, 1_000);
    filling.resources.cpu_milli = 4_000;
    world.submit("other", filling);
    let mut twice = StepSpec { fan_out: FanOut::Range { start: 0, count: 2 }, ..gang(2, 4, Some(5_000)) };
    twice.placing.unique_host = true;
    let wide = world.submit("lab", twice);
    world.rest();
    assert_eq!((world.running(wide), world.state.claims().count()), (2, 1), "one of two waits for the smaller work");
    world.end_members(move |key, _| key.task.job == wide);
    world.rest();
    assert_eq!((world.running(wide), world.state.claims().count()), (2, 0));
}

/// Each of its nodes is full of small tasks.
#[test]
fn a_gang_that_waits_for_thousands_of_attempts_has_room_kept_for_it() {
    let mut world = World::new(&[(70, 0); 30]);
    world.submit("other", small(2_100, 600));
    world.rest();
    let wide = world.submit("lab", gang(30, 70, None));
    world.rest();
    assert_eq!(world.reservation().map(|(_, awaited)| awaited), Some(2_100));
    world.submit("other", small(2_100, 600));
    world.now += 1_000;
    world.finish(|_, _| true);
    world.rest();
    assert_eq!(world.running(wide), 30);
}

#[test]
fn only_wide_work_gets_a_reservation_and_one_in_each_part_of_the_tree() {
    let mut world = World::new(&[(4, 0)]);
    world.submit("other", small(4, 100));
    world.rest();
    world.submit("lab", gang(1, 1, None));
    world.rest();
    assert_eq!(world.state.claims().count(), 0, "a quarter of the node is not much");
    world.submit("lab", gang(1, 2, None));
    world.submit("lab/one", gang(1, 2, None));
    world.submit("heavy", gang(1, 2, None));
    world.rest();
    let queues = world.state.claims().map(|(key, _)| world.state.job(key.job).unwrap().spec.queue.to_string());
    let queues: BTreeSet<_> = queues.map(|path| path.split('/').next().unwrap().to_owned()).collect();
    assert_eq!((queues.len(), world.state.claims().count()), (2, 2), "one of the lab, one of the other: {queues:?}");
}

/// Who is promised what others hold has them evicted, wherever room is kept for somebody else.
#[test]
fn a_reservation_yields_to_whom_others_leave_for() {
    let mut world = World::new(&[(2, 0)]);
    world.promise("lab", 2);
    world.submit("other", step(2));
    world.rest();
    world.now += 1_000;
    world.submit("heavy", gang(1, 2, None));
    world.rest();
    assert_eq!(world.reservation(), Some((None, 2)));
    world.now += MIN_RUN;
    let owner = world.submit("lab", gang(1, 2, None));
    let claims = world.rest();
    assert_eq!(claims.len(), 1, "those who borrow go");
    world.leave();
    world.rest();
    assert_eq!(world.running(owner), 1);
}

/// A queue may hold four CPUs: small work of it would keep its gang out for ever, on whichever node.
#[test]
fn a_bound_of_its_queue_does_not_starve_a_gang_either() {
    let mut world = World::new(&[(4, 0), (4, 0)]);
    let limit = QueueAmounts { cpu_milli: Some(4_000), ..QueueAmounts::default() };
    world.put(Queue { limit, ..queue("lab") });
    let stream = world.submit("lab", step(500));
    world.rest();
    assert_eq!(world.running(stream), 4);
    world.now += 1_000;
    let wide = world.submit("lab", gang(1, 4, None));
    world.rest();
    assert_eq!(world.reservation(), Some((None, 4)));
    for turn in 1..=4 {
        world.finish(|_, at| at == 0);
        world.rest();
        let expected = if turn < 4 { (4 - turn, 0) } else { (0, 1) };
        assert_eq!((world.running(stream), world.running(wide)), expected);
    }
}

/// One that starts with three at least, has room kept for three, and starts with all that there is room for then: of the cluster, of its
/// queue, and beside what is kept for others.
#[test]
fn a_gang_of_no_fixed_size_that_waited_starts_with_as_many_as_there_is_room_for() {
    let amounts = |cpus: u64| QueueAmounts { cpu_milli: Some(cpus * 1_000), ..QueueAmounts::default() };
    let placing = Placing { min_size: Some(3), ..Placing::default() };
    let elastic = StepSpec { placing, ..gang(8, 1, None) };
    let bounded = Queue { limit: amounts(5), ..queue("lab") };
    let keeping = Queue { reserve: amounts(2), lend: amounts(0), ..queue("heavy") };
    for (other, size) in [(queue("lab"), 8), (bounded, 5), (keeping, 6)] {
        let mut world = World::new(&[(4, 0), (4, 0)]);
        let stream = world.submit("other", step(8));
        world.rest();
        assert_eq!(world.running(stream), 8);
        world.put(other);
        let wide = world.submit("lab", elastic.clone());
        world.rest();
        assert_eq!(world.reservation(), Some((None, 3)));
        world.finish(|_, at| at < 2);
        world.rest();
        assert_eq!(world.running(wide), 0);
        world.finish(|_, _| true);
        world.rest();
        assert_eq!(world.running(wide), size);
    }
}

/// Who has a reservation finds room elsewhere in a round in which others of its queue are placed as well, and what ends early before
/// another reservation starts: all of it counts in the bound of their queue.
#[test]
fn what_is_placed_in_one_round_counts_in_a_bound_however_it_is_placed() {
    let mut world = World::new(&[(8, 0), (8, 0), (8, 0)]);
    world.submit("other", small(24, 1_000));
    world.rest();
    let limit = QueueAmounts { cpu_milli: Some(6_000), ..QueueAmounts::default() };
    world.put(Queue { limit, ..queue("lab") });
    let wide = world.submit("lab", gang(1, 4, None));
    world.submit("heavy", gang(1, 8, None));
    world.rest();
    assert_eq!(world.state.claims().count(), 2);
    let stream = world.submit("lab", small(500, 100));
    let reserved: BTreeSet<NodeId> =
        world.state.claims().flat_map(|(_, claim)| claim.members.iter().map(|seat| seat.node)).collect();
    let elsewhere = world.state.nodes().map(|(id, _)| id).find(|id| !reserved.contains(id)).unwrap();
    let there = world.state.live_members(elsewhere).map(|(key, ..)| key).collect::<BTreeSet<_>>();
    let one_of = |node: &NodeId| world.state.live_members(*node).map(|(key, ..)| key).next().unwrap();
    let beside: BTreeSet<MemberKey> = reserved.iter().map(one_of).collect();
    world.end_members(move |key, _| there.contains(key) || beside.contains(key));
    world.rest();
    assert_eq!((world.running(wide), world.running(stream)), (1, 2));
}

/// Two members of a job may be starting: those that are placed where a reservation starts later are among them.
#[test]
fn what_goes_before_a_reservation_starts_no_more_together_than_its_job_may() {
    let mut world = World::new(&[(4, 0), (4, 0)]);
    world.submit("other", small(8, 1_000));
    world.rest();
    world.submit("heavy", gang(1, 4, None));
    world.rest();
    assert_eq!(world.state.claims().count(), 1);
    let of_node = |id| world.state.live_members(id).map(|(key, ..)| key).take(2).collect::<Vec<_>>();
    let over: BTreeSet<MemberKey> = world.state.nodes().flat_map(|(id, _)| of_node(id)).collect();
    world.end_members(move |key, _| over.contains(key));
    let throttle = Throttle { per_job: Some(3), per_node: None };
    world.perform(Command::PutPolicy(Policy { throttle, ..Policy::clone(world.state.policy()) }.into()));
    let steps = vec![small(500, 100), StepSpec { name: "b".parse().unwrap(), ..small(500, 99) }];
    let stream = world.submit_spec(JobSpec { steps, ..fixture::spec("lab", step(1)) });
    world.rest();
    assert_eq!(world.running(stream), 3);
}

/// All are half of a node, and one has a reservation: when it starts, it counts in the bound of its queue at once.
#[test]
fn who_starts_from_a_reservation_counts_in_the_bounds_of_its_queue() {
    let mut world = World::new(&[(2, 0), (2, 0)]);
    let limit = QueueAmounts { cpu_milli: Some(2_000), ..QueueAmounts::default() };
    world.put(Queue { limit, ..queue("lab") });
    let stream = world.submit("lab", step(500));
    for _ in 0..5 {
        world.rest();
        assert_eq!(world.running(stream), 2);
        world.finish(|_, at| at == 0);
    }
}

/// Of neither is it declared how long it takes; of one it is known from earlier runs.
#[test]
fn what_earlier_runs_took_tells_a_start_and_what_may_go_before_it() {
    let mut world = World::new(&[(2, 0)]);
    for minutes in [10, 10, 11, 9, 10] {
        world.submit("other", step(1));
        world.rest();
        world.now += minutes * 60_000;
        world.finish(|_, _| true);
    }
    let (minute, began) = (60_000, world.now);
    world.submit("other", step(2));
    world.rest();
    let wide = world.submit("lab", gang(1, 2, None));
    world.rest();
    let (starts_at, awaited) = world.reservation().unwrap();
    let lasts = starts_at.unwrap() - began;
    assert!((11 * minute..17 * minute).contains(&lasts) && awaited == 2, "{lasts} {awaited}");
    world.now += minute;
    world.finish(|_, at| at == 0);
    let short =
        world.submit("other", StepSpec { expected_ms: Some(minute), name: "short".parse().unwrap(), ..step(1) });
    let long =
        world.submit("other", StepSpec { expected_ms: Some(20 * minute), name: "long".parse().unwrap(), ..step(1) });
    let unknown = world.submit("other", StepSpec { name: "unknown".parse().unwrap(), ..step(1) });
    world.rest();
    assert_eq!([short, long, unknown].map(|job| world.running(job)), [1, 0, 0]);
    world.now += 30 * minute;
    world.submit("other", StepSpec { expected_ms: Some(1), name: "short".parse().unwrap(), ..step(1) });
    world.finish(|_, at| at == 1);
    world.rest();
    assert_eq!(
        world.reservation().map(|it| it.1),
        Some(1),
        "who overstays keeps it waiting, and nobody is let in any more"
    );
    world.finish(|_, _| true);
    world.rest();
    assert_eq!(world.running(wide), 1);
}

/// Members of so many CPUs, on nodes of so many, of which work of one CPU holds some with so many seconds left each.
type Full = (Vec<Vec<u64>>, u32, u64);

fn full() -> impl Strategy<Value = Full> {
    (prop::collection::vec(prop::collection::vec(1u64..40, 1..5), 1..5), 1u32..4, 1u64..5)
}

/// What is submitted of a queue: the size that it starts with at least, CPUs, bound, and how many more members it may have.
type Wide = (usize, u32, u64, Option<u64>, u32);

const QUEUES: [&str; 4] = ["lab", "lab/one", "other", "heavy"];
const LONGEST_S: u64 = 200;

fn wide() -> impl Strategy<Value = Wide> {
    let more = prop_oneof![2 => Just(0), 1 => 1u32..6];
    (0usize..QUEUES.len(), 1u32..4, 1u64..5, prop::option::of(1u64..LONGEST_S), more)
}

fn gang_of((_, least, cpus, bound, more): &Wide) -> StepSpec {
    let placing = Placing { min_size: (*more > 0).then_some(*least), ..Placing::default() };
    StepSpec { placing, ..gang(*least + *more, *cpus, *bound) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// The start that is told is the first time at which the gang fits on nodes of which all that has to end by then is gone.
    #[test]
    fn a_start_is_the_first_that_there_can_be((nodes, size, cpus) in full()) {
        let sizes: Vec<_> = nodes.iter().map(|ends| (ends.len() as u64, 0)).collect();
        let mut world = World::new(&sizes);
        let mut ends = Vec::new();
        // Each is placed where there is room: they are read back from where they are.
        for end in nodes.iter().flatten() {
            world.submit("other", small(1, *end));
        }
        world.rest();
        for (id, node) in world.state.nodes() {
            let of = world.state.live_members(id).map(|(key, ..)| world.state.has_to_end_by(key.task).unwrap().0);
            ends.push((node.inventory.cpu_milli / 1_000, of.collect::<Vec<_>>()));
        }
        world.submit("lab", gang(size, cpus, None));
        world.rest();
        let fits = |at: u64| {
            let on = |(all, ends): &(u64, Vec<u64>)| (all - ends.iter().filter(|end| **end > at).count() as u64) / cpus;
            ends.iter().map(on).sum::<u64>() >= u64::from(size)
        };
        let times: BTreeSet<u64> = ends.iter().flat_map(|(_, ends)| ends).copied().collect();
        let first = times.into_iter().find(|at| fits(*at));
        let is_wide = size > 1 || ends.iter().all(|(all, _)| 2 * cpus >= *all);
        let told = world.reservation().map(|(starts_at, _)| starts_at.unwrap());
        prop_assert_eq!(told, first.filter(|_| is_wide));
    }

    /// Whatever is wide and can run at all starts within a bound, under an endless stream of small work with and without bounds; what was
    /// told to start by a time has started by then; and a scheduler that remembers proposes what a new one would.
    #[test]
    fn whatever_can_run_starts_in_the_end(
        nodes in prop::collection::vec(3u64..7, 1..4),
        wides in prop::collection::vec(wide(), 1..5),
        stream in (1u64..LONGEST_S, any::<bool>()),
        limit in prop::option::of(4u64..12),
    ) {
        let sizes: Vec<_> = nodes.iter().map(|cpus| (*cpus, 0)).collect();
        let mut world = World::new(&sizes);
        let amounts = QueueAmounts { cpu_milli: limit.map(|cpus| cpus * 1_000), ..QueueAmounts::default() };
        world.put(Queue { limit: amounts, ..queue("lab") });
        let streams = ["other", "lab"].map(|queue| {
            let bound = if stream.1 { small(20_000, stream.0) } else { step(20_000) };
            world.submit(queue, bound);
            world.submit(queue, small(20_000, 5))
        });
        world.rest();
        let is_within = |(queue, size, cpus, ..): &&Wide| {
            limit.is_none_or(|most| u64::from(*size) * cpus <= most) || !QUEUES[*queue].starts_with("lab")
        };
        let able = |(_, size, cpus, ..): &&Wide| nodes.iter().map(|all| all / cpus).sum::<u64>() >= u64::from(*size);
        let is_wide = |(_, size, cpus, ..): &&Wide| *size > 1 || nodes.iter().all(|all| 2 * cpus >= *all);
        let wides: Vec<_> = wides.iter().filter(able).filter(is_wide).filter(is_within).cloned().collect();
        let mut waiting: BTreeSet<JobId> =
            wides.iter().map(|wide| world.submit(QUEUES[wide.0], gang_of(wide))).collect();
        let (began, step_ms) = (world.now, 2_000);
        let bound_ms = (3 * wides.len() as u64 + 1) * (LONGEST_S + 5) * 1_000;
        while !waiting.is_empty() {
            world.now += step_ms;
            world.end_what_is_over(LONGEST_S * 1_000);
            world.rest();
            waiting.retain(|job| world.running(*job) == 0 && world.state.job(*job).unwrap().ended.is_none());
            prop_assert!(world.now < began + bound_ms, "{waiting:?} starve");
            for (key, claim) in world.state.claims() {
                // Whoever has no bound may overstay what was known of it.
                let bound = |it: &Awaited| world.state.ends_by(it.task).is_none() || world.state.has_to_end_by(it.task).is_some();
                let is_late = claim.starts_at.is_some_and(|at| at.0 + step_ms < world.now);
                let late = is_late && claim.awaits.iter().all(bound);
                prop_assert!(!late, "{key:?} was to start by {:?}, and it is {}", claim.starts_at, world.now);
            }
        }
        let _ = streams;
    }
}
