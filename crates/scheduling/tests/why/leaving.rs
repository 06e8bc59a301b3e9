//! Who may have to leave for a task: held against what rounds of the scheduler do once they may, and against the
//! records.

use std::collections::BTreeSet;

use flowyard_model::*;
use flowyard_scheduling::{MayLeave, Scheduler, may_leave};
use proptest::prelude::*;

use crate::random::QUEUES;
use crate::slow::held_of;
use crate::world::{BOUND, World, asking, gpus, job, key, machine, queue, step, wide, wish};

/// By then everybody may be evicted who ever may.
const LATER_MS: u64 = 3_600_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever a later round asks to leave for a task was told before as one who may have to.
    #[test]
    fn whoever_is_asked_to_leave_for_a_task_was_told_as_one_who_may_have_to(crowd in crowds()) {
        let world = crowd.cook();
        let plans = Scheduler::new(0).round(&world.state, TimeMs(world.now + LATER_MS), BOUND).plans;
        // The first of them is asked for in the state as it is.
        let first = plans.iter().flat_map(|plan| &plan.claims).find(|wish| !wish.evictions.is_empty());
        let Some(claim) = first.filter(|_| plans.iter().all(|plan| plan.placements.is_empty())) else { return Ok(()) };
        let told = may_leave(&world.state, claim.task, TimeMs(world.now));
        let asked = claim.evictions.iter().map(|it| it.task);
        let all_told = told.as_ref().is_some_and(|told| asked.into_iter().all(|task| told.whose.contains(&task)));
        prop_assert!(all_told, "{:?} of {:?}", claim.evictions, told);
    }

    /// If some may be asked by now, the next round asks somebody; if later, it comes again by then. And those who are
    /// told are all to whom the task has a right.
    #[test]
    fn the_next_round_asks_or_comes_again_when_the_first_may_be_asked(crowd in crowds(), ran in 0..2_u64) {
        let world = crowd.cook();
        let now = TimeMs(world.now + ran * 200_000);
        let proposal = Scheduler::new(0).round(&world.state, now, BOUND);
        let does_nothing = proposal.plans.iter().all(|plan| plan.placements.is_empty() && plan.claims.is_empty());
        for task in waiting(&world) {
            let Some(MayLeave { whose, already, first }) = may_leave(&world.state, task, now) else { continue };
            let times = whose.iter().map(|it| world.state.evictable_at(*it).unwrap());
            let to_come: Vec<TimeMs> = times.filter(|at| *at > now).collect();
            prop_assert_eq!(first, to_come.iter().min().copied());
            prop_assert_eq!(already, (whose.len() - to_come.len()) as u64);
            let all: BTreeSet<TaskKey> = whose.iter().copied().collect();
            // Who is asked to leave by now counts as gone, and who comes then as there.
            if world.state.claims().all(|(_, claim)| claim.is_reservation()) {
                prop_assert_eq!(all, rights(&world, task));
            }
            if does_nothing {
                let comes_again = first.zip(proposal.wake_at).is_some_and(|(first, wake)| wake <= first);
                prop_assert!(comes_again, "{:?} {:?}", first, proposal.wake_at);
            }
        }
    }
}

/// Queues that are promised this and limited to that; what runs; and what waits.
#[derive(Debug, Clone)]
struct Crowd {
    nodes: Vec<(u64, u32)>,
    queues: Vec<(usize, Amounts, Amounts)>,
    before: Vec<Wish>,
    after: Vec<Wish>,
}

/// CPUs, GiB, and GPUs.
type Amounts = [Option<u64>; 3];
/// In which queue, of what priority, so many tasks with so many CPUs, GiB and GPUs, and whether it may be evicted.
type Wish = (usize, i32, u32, [u64; 3], bool);

fn crowds() -> impl Strategy<Value = Crowd> {
    let some = |most: u64| prop_oneof![1 => Just(None), 1 => (1..=most).prop_map(Some)];
    let amounts = move || [some(8).boxed(), some(8).boxed(), some(4).boxed()];
    let rarely = [some(8).boxed(), Just(None).boxed(), Just(None).boxed()];
    let limit = prop_oneof![3 => Just([None; 3]), 1 => rarely];
    let wish = || {
        let gpus = prop_oneof![1 => Just(0), 1 => 1..3_u64];
        let amounts = (1..4_u64, 1..4_u64, gpus).prop_map(|(cpus, gib, gpus)| [cpus, gib, gpus]);
        (0..QUEUES.len(), 0..2_i32, 1..4_u32, amounts, prop::bool::weighted(0.9))
    };
    let nodes = prop::collection::vec((3..9_u64, 0..5_u32), 1..3);
    let queues = prop::collection::vec((0..QUEUES.len(), amounts(), limit), 1..5);
    (nodes, queues, prop::collection::vec(wish(), 2..6), prop::collection::vec(wish(), 1..5))
        .prop_map(|(nodes, queues, before, after)| Crowd { nodes, queues, before, after })
}

impl Crowd {
    /// The cluster, once all has been placed that can be.
    fn cook(&self) -> World {
        let mut world = World::new();
        for ((cpus, count), at) in self.nodes.iter().zip(0..) {
            world.node(&format!("n{at}"), Inventory { gpus: gpus("h100", *count), ..machine(*cpus, *cpus) });
        }
        QUEUES.iter().for_each(|path| drop(world.put(queue(path))));
        let amounts = |[cpus, gib, gpus]: &Amounts| QueueAmounts {
            cpu_milli: cpus.map(|cpus| cpus * 1_000),
            memory_bytes: gib.map(|gib| gib << 30),
            gpu_milli: gpus.map(|gpus| (GpuClass::Any, gpus * 1_000)).into_iter().collect(),
            ..QueueAmounts::default()
        };
        for wishes in [&self.before, &self.after] {
            for (at, priority, tasks, [cpus, gib, count], preemptible) in wishes {
                let mut step = StepSpec { preemptible: *preemptible, ..step(*tasks) };
                (step.resources.cpu_milli, step.resources.memory_bytes) = (cpus * 1_000, gib << 30);
                step.resources.gpus = (*count > 0).then(|| asking(None, *count as u32)).into_iter().collect();
                let spec = JobSpec { priority: *priority, ..job(QUEUES[*at], vec![step]) };
                // What must not be evicted is refused where nothing is kept for that.
                world.perform(Command::SubmitJob(wish("ada", spec)));
            }
            world.settle();
            // What is promised now others hold already.
            for (at, reserve, limit) in &self.queues {
                let [reserve, limit] = [reserve, limit].map(amounts);
                // Some of these contradict each other: those are not put.
                world.put(Queue { reserve, limit, ..queue(QUEUES[*at]) });
            }
        }
        world.settle();
        world
    }
}

fn waiting(world: &World) -> Vec<TaskKey> {
    let of = |id: JobId| world.state.ready_tasks(id, StepIndex(0)).map(move |(task, _)| key(id, task.0));
    world.state.outlines().flat_map(|(id, _)| of(id).collect::<Vec<_>>()).collect()
}

const COLUMNS: [Column<'_>; 3] = [Column::Cpu, Column::Memory, Column::GPUS];

/// All that run to whom a task has a right, by the letter of it: a lower priority in the queue; or what the task's
/// queue, or the one above it where the ways part, is promised of all that it needs, as far as the other's hold more
/// than they are promised of it.
fn rights(world: &World, task: TaskKey) -> BTreeSet<TaskKey> {
    let live: BTreeSet<TaskKey> = world.live().into_iter().map(|(_, member)| member.task).collect();
    let needs = needs(world, task);
    live.into_iter().filter(|victim| needs.iter().any(|need| has_right(world, (task, need), *victim))).collect()
}

fn has_right(world: &World, (task, need): (TaskKey, &[u64; 3]), victim: TaskKey) -> bool {
    let state = &world.state;
    let of = |key: TaskKey| {
        let (job, spec) = (state.job(key.job).unwrap(), state.step_spec(key.job, key.step).unwrap());
        (job.spec.queue.clone(), job.spec.priority + spec.priority)
    };
    let ((own, priority), (other, less)) = (of(task), of(victim));
    if state.evictable_at(victim).is_none() {
        return false;
    }
    if own == other {
        return less < priority;
    }
    let apart = |of: &QueuePath, from: &QueuePath| -> Vec<QueuePath> {
        let levels = of.levels().map(|level| level.parse::<QueuePath>().unwrap());
        levels.filter(|level| !level.covers(from)).collect()
    };
    let held = held(world, victim);
    let is_owed = |mine: &QueuePath| {
        let promised: Vec<usize> = (0..3).filter(|at| need[*at] > 0 && entitled(world, mine, *at) > 0).collect();
        let has_not_all = |at: &usize| held_of(state, mine, COLUMNS[*at]) + need[*at] <= entitled(world, mine, *at);
        promised.iter().all(has_not_all) && promised.iter().any(|at| held[*at] > 0)
    };
    let of_use = apart(&own, &other).iter().any(is_owed);
    let is_over = |at: usize| {
        let levels = apart(&other, &own);
        levels.iter().all(|level| held_of(state, level, COLUMNS[at]) > entitled(world, level, at))
    };
    of_use && (0..3).filter(|at| need[*at] > 0 && held[*at] > 0).all(is_over)
}

/// What a task needs with all its members, by each alternative.
fn needs(world: &World, task: TaskKey) -> Vec<[u64; 3]> {
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    let (wants, size) = (&spec.resources, u64::from(spec.size));
    let with = |milli: u64| [wants.cpu_milli, wants.memory_bytes, milli].map(|each| each * size);
    match wants.gpus.is_empty() {
        true => vec![with(0)],
        false => wants.gpus.iter().map(|it| with(u64::from(it.count) * u64::from(it.share_milli))).collect(),
    }
}

/// What the live members of a task hold.
fn held(world: &World, task: TaskKey) -> [u64; 3] {
    let mut held = Held::NONE;
    let wanted = &world.state.step_spec(task.job, task.step).unwrap().resources;
    let attempt = world.state.task(task).unwrap().attempts.last().unwrap();
    for member in attempt.members.iter().filter(|member| member.phase != Phase::Ended) {
        let inventory = &world.state.node(member.node).unwrap().inventory;
        held.add(&Held::by_member(wanted, member.gpu_alternative, inventory, &member.gpus));
    }
    COLUMNS.map(|column| held.get(column))
}

/// What a queue is promised, and no more than its limit: its reserve, or where it names none what those directly below it are promised.
fn promise(world: &World, path: &QueuePath, at: usize) -> u64 {
    let queue = world.state.queue(path);
    let named = queue.map_or(0, |queue| queue.reserve.promised(COLUMNS[at]));
    let below = |other: &&QueuePath| other.as_str().rsplit_once('/').is_some_and(|(above, _)| above == path.as_str());
    let paths: Vec<QueuePath> = world.state.queues().map(|queue| queue.path.clone()).collect();
    let reserve = match named {
        0 => paths.iter().filter(below).map(|below| promise(world, below, at)).sum(),
        named => named,
    };
    reserve.min(queue.and_then(|queue| queue.limit.get(COLUMNS[at])).unwrap_or(reserve))
}

/// What a queue may count on. One that names no reserve itself counts on nothing.
fn entitled(world: &World, queue: &QueuePath, at: usize) -> u64 {
    let named = world.state.queue(queue).is_some_and(|queue| queue.reserve.promised(COLUMNS[at]) > 0);
    if named { part(world, queue, at) } else { 0 }
}

/// What it and those below it are promised, and no more than its limit, as a part of what there is for all beside it.
fn part(world: &World, queue: &QueuePath, at: usize) -> u64 {
    let promise = |path: &QueuePath| promise(world, path, at);
    let above: Option<QueuePath> = queue.as_str().rsplit_once('/').map(|(above, _)| above.parse().unwrap());
    let there_is = match &above {
        Some(above) => part(world, above, at),
        None => capacity(world, at),
    };
    let all = world.state.queues().map(|queue| queue.path.clone());
    let beside =
        all.filter(|other| other.as_str().rsplit_once('/').map(|it| it.0) == above.as_ref().map(QueuePath::as_str));
    let sum: u64 = beside.map(|other| promise(&other)).sum();
    let own = promise(queue);
    let scaled = || (u128::from(own) * u128::from(there_is) / u128::from(sum)) as u64;
    match own {
        // Nothing of it is cut out of what there is.
        0 => there_is,
        own if sum <= there_is => own,
        _ => scaled(),
    }
}

fn capacity(world: &World, at: usize) -> u64 {
    let of = |node: &Node| {
        let has = &node.inventory;
        [has.cpu_milli, has.memory_bytes, 1_000 * has.gpus.len() as u64][at]
    };
    world.state.nodes().map(|(_, node)| of(node)).sum()
}

fn told(world: &World, task: TaskKey) -> Option<MayLeave> {
    may_leave(&world.state, task, TimeMs(world.now))
}

#[test]
fn who_borrows_only_what_is_not_promised_need_not_leave() {
    let mut world = World::new();
    world.node("n", Inventory { gpus: gpus("h100", 2), ..machine(8, 8) });
    let devices = QueueAmounts { gpu_milli: [(GpuClass::Any, 2_000)].into(), ..QueueAmounts::default() };
    world.put(Queue { reserve: devices, ..queue("lab") });
    world.put(queue("ops"));
    world.submit("ops", "eve", 0, step(8));
    world.settle();
    let mut wanted = step(1);
    wanted.resources.gpus = vec![asking(None, 1)];
    let task = key(world.submit("lab", "ada", 0, wanted.clone()), 0);
    assert_eq!(told(&world, task), None, "they hold CPUs, of which lab is promised none");
    // Once they hold what it is promised, they may have to.
    let mut world = World::new();
    world.node("n", Inventory { gpus: gpus("h100", 2), ..machine(8, 8) });
    let devices = QueueAmounts { gpu_milli: [(GpuClass::Any, 2_000)].into(), ..QueueAmounts::default() };
    world.put(Queue { reserve: devices, ..queue("lab") });
    world.put(queue("ops"));
    let borrowed = world.submit("ops", "eve", 0, StepSpec { resources: wanted.resources.clone(), ..step(2) });
    world.settle();
    let task = key(world.submit("lab", "ada", 0, wanted), 0);
    let told = told(&world, task).unwrap();
    assert_eq!((told.whose, told.already), (vec![key(borrowed, 0), key(borrowed, 1)], 0));
}

#[test]
fn where_nobody_who_leaves_would_help_nobody_is_told_to() {
    let mut world = World::new();
    world.node("n", machine(4, 8));
    world.submit("default", "eve", 0, wide(4));
    world.settle();
    let urgent = key(world.submit("default", "ada", 5, wide(4)), 0);
    assert_eq!(told(&world, urgent).unwrap().whose.len(), 1);
    let too_large = key(world.submit("default", "ada", 5, wide(5)), 0);
    assert_eq!(told(&world, too_large), None, "there is no node for it");
    let one_by_one = StepSpec { max_parallel: Some(1), ..step(2) };
    let narrow = world.submit("default", "ada", 6, one_by_one);
    assert_eq!(told(&world, key(narrow, 0)).unwrap().whose.len(), 1);
    assert_eq!(told(&world, key(narrow, 1)), None, "its own step keeps it out");
}
