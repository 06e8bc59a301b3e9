//! Nothing starves: whatever could start if it were alone starts within a bound as long as others end, whatever queues promise and
//! bound, whatever is more urgent, spread, kept apart, licensed or a gang, and beside a stream of small work that never ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::evictions::World;
use super::*;
use crate::passed::PASSED_OVER_MS;

const QUEUES: [&str; 4] = ["lab", "lab/one", "other", "devices"];
const LONGEST_MS: u64 = 60_000;
const STEP_MS: u64 = 5_000;

/// Work that is small enough for whatever room falls free, or in between, or so wide that room is kept for it.
#[derive(Debug, Clone)]
struct Wish {
    queue: usize,
    owner: usize,
    priority: i32,
    tasks: u32,
    size: u32,
    cpus: u64,
    gpus: u32,
    licences: u32,
    beside: u8,
    tagged: bool,
    rack: Option<usize>,
    timeout: bool,
    most: Option<u32>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let whose = (0..QUEUES.len(), 0..3_usize, prop_oneof![3 => Just(0), 1 => -1..3_i32], 1..3_u32);
    let what = (prop_oneof![2 => Just(1_u32), 1 => 2..4_u32], 1..5_u64, 0..4_u32, 0..3_u32);
    let how = (prop_oneof![2 => Just(0_u8), 1 => 1..6_u8], prop::bool::weighted(0.3), prop::option::of(0..2_usize));
    (whose, what, how, any::<bool>(), prop::option::weighted(0.2, Just(1))).prop_map(
        |((queue, owner, priority, tasks), (size, cpus, gpus, licences), (beside, tagged, rack), timeout, most)| Wish {
            queue,
            owner,
            priority,
            tasks,
            size,
            cpus,
            gpus,
            licences,
            beside,
            tagged,
            rack,
            timeout,
            most,
        },
    )
}

fn placing(way: u8) -> Placing {
    let spread = |over: &str, at_most| Placing {
        spread: Some(Spread { over: over.parse().unwrap(), at_most }),
        ..Placing::default()
    };
    match way {
        1 => spread("host", Some(1)),
        2 => spread("rack", Some(2)),
        3 => Placing { unique_host: true, ..Placing::default() },
        4 => Placing { apart: ["loud".to_owned()].into(), ..Placing::default() },
        5 => Placing { near: Some(Near { level: "rack".parse().unwrap(), need: true }), ..Placing::default() },
        _ => Placing::default(),
    }
}

impl Wish {
    fn spec(&self) -> JobSpec {
        let mut step = StepSpec { size: self.size, max_parallel: self.most, ..step(self.tasks) };
        step.resources.cpu_milli = self.cpus * 1_000;
        step.timeout_ms = self.timeout.then_some(LONGEST_MS);
        if self.gpus > 0 {
            step.resources.gpus = vec![devices(self.gpus)];
        }
        if self.licences > 0 {
            step.resources.tokens = [("matlab".parse().unwrap(), self.licences)].into();
        }
        step.constraints = self.rack.into_iter().map(in_rack).collect();
        // To be near to each other is for gangs.
        step.placing = if self.beside == 5 && self.size == 1 { Placing::default() } else { placing(self.beside) };
        let tags = if self.tagged { ["loud".to_owned()].into() } else { BTreeSet::new() };
        JobSpec { priority: self.priority, tags, ..fixture::spec(QUEUES[self.queue], step) }
    }
}

fn devices(count: u32) -> GpuRequest {
    let (model, min_memory_bytes, memory_bytes) = (None, 0, 0);
    let (same_link_group, link, share_milli) = (false, None, 1_000);
    GpuRequest { count, model, min_memory_bytes, same_link_group, link, share_milli, memory_bytes }
}

/// Work of one CPU that never ends, and of one device if it is of those.
fn stream(world: &mut World, with_devices: bool) {
    let mut small = step(20_000);
    small.resources.gpus = if with_devices { vec![devices(1)] } else { Vec::new() };
    world.submit("heavy", small);
    world.rest();
}

fn in_rack(rack: usize) -> Constraint {
    let values = vec![format!("r{rack}")];
    Constraint { label: "rack".parse().unwrap(), operator: ConstraintOperator::In, values }
}

/// What a queue may and is promised: weight, most active, CPUs of its limit, reserve, and what it lends.
type Bounds = (u32, Option<u32>, Option<u64>, Option<u64>, Option<u64>);

fn bounds() -> impl Strategy<Value = Vec<(usize, Bounds)>> {
    let few = |most: u64| prop_oneof![2 => Just(None), 1 => (1..=most).prop_map(Some)];
    let lends = prop_oneof![2 => Just(None), 1 => (0..3_u64).prop_map(Some)];
    let bounds = (1..4_u32, prop_oneof![2 => Just(None), 1 => (1..4_u32).prop_map(Some)], few(8), few(3), lends);
    prop::collection::vec((0..QUEUES.len(), bounds), 0..4)
}

fn machine(world: &mut World, at: usize, (cpus, gpus, rack): (u64, usize, usize)) {
    let gpu = |at: usize| Gpu {
        id: format!("g{at}"),
        model: "A100".to_owned(),
        memory_bytes: 1,
        numa_node: None,
        pcie_group: None,
        link_group: None,
        healthy: true,
        fake: true,
        part: None,
    };
    let labels = [("rack".parse().unwrap(), format!("r{rack}"))].into();
    let inventory = Inventory { gpus: (0..gpus).map(gpu).collect(), labels, ..inventory(cpus) };
    let wish = RegisterNode { name: format!("m{at}").parse().unwrap(), inventory: Arc::new(inventory), previous: None };
    world.perform(Command::RegisterNode(wish));
}

/// A cluster with nothing in it.
fn empty(nodes: &[(u64, usize, usize)], queues: &[(usize, Bounds)], licences: u64, per_job: Option<u32>) -> World {
    let mut world = World::new(&[]);
    nodes.iter().enumerate().for_each(|(at, node)| machine(&mut world, at, *node));
    let policy = Policy {
        topology: vec!["rack".parse().unwrap()],
        tokens: [("matlab".parse().unwrap(), licences)].into(),
        throttle: Throttle { per_job, per_node: None },
    };
    world.perform(Command::PutPolicy(policy.into()));
    for (at, (weight, max_active, limit, reserve, lend)) in queues {
        let cpus = |cpus: Option<u64>| QueueAmounts { cpu_milli: cpus.map(|it| it * 1_000), ..QueueAmounts::default() };
        let contract = Some(Contract { min_run_ms: 20_000, notice_ms: 1_000, kill_within_ms: 1_000 });
        let (limit, reserve, lend) = (cpus(*limit), cpus(*reserve), cpus(*lend));
        let (weight, max_active) = (*weight, *max_active);
        // Those that contradict each other are not put.
        world.perform(Command::PutQueue(
            Queue { weight, max_active, limit, reserve, lend, contract, ..queue(QUEUES[*at]) }.into(),
        ));
    }
    world
}

fn send(world: &mut World, owner: usize, spec: JobSpec) -> Option<JobId> {
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    let owner = format!("u{owner}");
    match world.perform(Command::SubmitJob(SubmitJob { spec: Arc::new(spec), spec_digest, owner, key: None })) {
        Reply::Submitted { job, .. } => Some(job),
        _ => None,
    }
}

/// Ends whatever has lived as long as it does, by its number, and whoever was asked to leave.
fn pass(world: &mut World) {
    world.now += STEP_MS;
    let now = world.now;
    world.end_members(|key, attempt| {
        let own = STEP_MS + (key.task.job.0 * 7_919 + u64::from(key.task.task.0) * 104_729) % (LONGEST_MS - STEP_MS);
        attempt.preempted.is_none() && now >= attempt.placed_at.0 + own
    });
    world.leave();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_could_start_alone_starts_within_a_bound_while_others_end(
        nodes in prop::collection::vec((1..6_u64, 0..5_usize, 0..2_usize), 1..4),
        queues in bounds(),
        (licences, per_job) in (0..4_u64, prop::option::weighted(0.2, 1..4_u32)),
        wishes in prop::collection::vec(wish(), 1..7),
        streams in prop::option::of(any::<bool>()),
    ) {
        let alone = |wish: &&Wish| {
            let mut world = empty(&nodes, &queues, licences, per_job);
            let job = send(&mut world, wish.owner, wish.spec());
            world.rest();
            job.is_some_and(|job| world.running(job) > 0)
        };
        let wishes: Vec<_> = wishes.iter().filter(alone).cloned().collect();
        let mut world = empty(&nodes, &queues, licences, per_job);
        streams.into_iter().for_each(|with_devices| stream(&mut world, with_devices));
        let mut left = BTreeMap::new();
        for wish in &wishes {
            let job = send(&mut world, wish.owner, wish.spec()).expect("it was taken alone");
            left.insert(job, wish);
            world.rest();
        }
        let tasks: u64 = wishes.iter().map(|wish| u64::from(wish.tasks)).sum();
        // Each waits until it was passed over for long, for what is there, for room, and for those before it; who is evicted begins anew.
        let bound = world.now + PASSED_OVER_MS + (6 * tasks + 6) * (LONGEST_MS + 2 * STEP_MS);
        while !left.is_empty() {
            pass(&mut world);
            world.rest();
            let token = "matlab".parse().unwrap();
            prop_assert!(world.state.shared_held(&token) <= licences);
            left.retain(|job, _| world.state.job(*job).is_some_and(|job| job.ended.is_none()));
            prop_assert!(world.now < bound, "they starve: {left:?}");
        }
    }
}

/// How long a task with so many devices waits beside a stream of tasks with one each, of which one ends each second: that which runs longest.
fn wait_beside_a_stream(nodes: &[(u64, usize, usize)], count: u32) -> u64 {
    let mut world = empty(nodes, &[], 0, None);
    stream(&mut world, true);
    let mut wants = step(1);
    wants.resources.gpus = vec![devices(count)];
    let since = world.now;
    let job = world.submit("other", wants);
    world.rest();
    while world.running(job) == 0 && world.now < since + 2 * PASSED_OVER_MS {
        world.now += 1_000;
        let live = world.state.nodes().flat_map(|(id, _)| world.state.live_members(id));
        let oldest = live.map(|(key, attempt, _)| (attempt.placed_at, key)).min().map(|(_, key)| key);
        world.end_members(|key, _| Some(*key) == oldest);
        world.rest();
    }
    world.now - since
}

#[test]
fn a_few_devices_of_a_node_are_found_beside_a_stream_of_single_ones() {
    let most = PASSED_OVER_MS + 20_000;
    for count in [2, 3] {
        let waited = wait_beside_a_stream(&[(99, 8, 0), (99, 8, 1)], count);
        assert!(waited <= most, "{count}: {waited}");
    }
}

/// Half of most nodes is less than half of the largest.
#[test]
fn a_large_node_takes_no_right_from_what_is_half_of_the_others() {
    let waited = wait_beside_a_stream(&[(99, 8, 0), (99, 8, 0), (99, 16, 1)], 4);
    assert!(waited <= PASSED_OVER_MS + 40_000, "{waited}");
}

/// One CPU is kept free for a queue that lends no more, and the next of the stream is wide on its node: it always has room kept for it.
#[test]
fn what_is_kept_free_for_others_does_not_starve_who_would_leave_it_free() {
    let promised = (1, None, None, Some(2), Some(1));
    let mut world = empty(&[(5, 1, 0)], &[(2, promised)], 0, None);
    stream(&mut world, true);
    let mut wants = step(1);
    wants.resources.cpu_milli = 4_000;
    let since = world.now;
    let job = world.submit("lab", wants);
    world.rest();
    while world.running(job) == 0 && world.now < since + 10 * LONGEST_MS {
        pass(&mut world);
        world.rest();
    }
    assert!(world.now <= since + 3 * LONGEST_MS, "{} ms", world.now - since);
}
