//! Random clusters in which something waits.

use flowyard_model::*;
use proptest::prelude::*;

use crate::world::{World, asking, gpus, job, key, label, machine, queue, step};

pub(crate) const QUEUES: [&str; 5] = ["default", "lab", "lab/one", "lab/two", "ops"];
const OWNERS: [&str; 3] = ["ada", "bob", "eve"];
const MODELS: [&str; 2] = ["h100", "l4"];

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    nodes: Vec<(u64, u64, u32, usize, usize)>,
    queues: Vec<QueueRecipe>,
    before: Vec<Wish>,
    ended: Vec<prop::sample::Index>,
    after: Vec<Wish>,
    asked: prop::sample::Index,
    policy: (u64, Option<u32>, Option<u32>),
    closed: Option<prop::sample::Index>,
}

type Amounts = (Option<u64>, Option<u64>);
/// Which, its cap, what it is promised, limited to, may borrow and lend, whether it has a quota of what must not be evicted, and to how many
/// devices of which model it is limited.
type QueueRecipe = (usize, Option<u32>, Amounts, Amounts, Amounts, Amounts, bool, Option<(usize, u64)>);

#[derive(Debug, Clone)]
struct Wish {
    queue: usize,
    owner: usize,
    priority: i32,
    tasks: u32,
    cpus: u64,
    gib: u64,
    gpus: Vec<(Option<usize>, u32, bool)>,
    size: u32,
    most: Option<u32>,
    rack: Option<usize>,
    timeout: Option<u64>,
    beside: u8,
    tagged: bool,
    licences: u32,
    for_good: bool,
}

const TAG: &str = "loud";
pub(crate) const LICENCE: &str = "matlab";

/// One way to say what may be beside it; none for 0.
fn beside(way: u8) -> Placing {
    let spread = |over: &str, at_most| Placing {
        spread: Some(Spread { over: over.parse().unwrap(), at_most }),
        ..Placing::default()
    };
    match way {
        1 => spread("host", Some(1)),
        2 => spread("rack", Some(2)),
        3 => spread("rack", None),
        4 => Placing { unique_host: true, ..Placing::default() },
        5 => Placing { apart: [TAG.to_owned()].into(), ..Placing::default() },
        _ => Placing::default(),
    }
}

fn amounts() -> impl Strategy<Value = Amounts> {
    let few = |most: u64| prop_oneof![2 => Just(None), 1 => (0..=most).prop_map(Some)];
    (few(8), few(4))
}

fn wishes(most: usize) -> impl Strategy<Value = Vec<Wish>> {
    let of_whom = (0..QUEUES.len(), 0..OWNERS.len(), prop_oneof![3 => Just(0), 1 => -1..3]);
    let model = prop_oneof![Just(None), (0..MODELS.len()).prop_map(Some)];
    let devices =
        prop_oneof![2 => Just(vec![]), 2 => prop::collection::vec((model, 1..4_u32, prop::bool::weighted(0.4)), 1..3)];
    let what = (1..4_u32, 1..7_u64, 1..5_u64, devices, prop_oneof![4 => Just(1), 1 => 2..4_u32]);
    let most_of_step = prop_oneof![4 => Just(None), 1 => (1..3_u32).prop_map(Some)];
    let rack = prop_oneof![3 => Just(None), 1 => (0..2_usize).prop_map(Some)];
    let timeout = prop_oneof![1 => Just(None), 3 => (1..9_u64).prop_map(|of| Some(of * 600_000))];
    let beside = (prop_oneof![4 => Just(0), 1 => 1..6_u8], prop::bool::weighted(0.2));
    let else_ = (prop_oneof![4 => Just(0), 1 => 1..3_u32], prop::bool::weighted(0.15));
    let wish = (of_whom, what, most_of_step, rack, timeout, beside, else_).prop_map(
        |(whose, (tasks, cpus, gib, gpus, size), most, rack, timeout, (beside, tagged), (licences, for_good))| Wish {
            queue: whose.0,
            owner: whose.1,
            priority: whose.2,
            tasks,
            cpus,
            gib,
            gpus,
            size,
            most,
            rack,
            timeout,
            beside,
            tagged,
            licences,
            for_good,
        },
    );
    prop::collection::vec(wish, 1..most)
}

pub(crate) fn recipes() -> impl Strategy<Value = Recipe> {
    let node = (1..9_u64, 1..9_u64, 0..5_u32, 0..MODELS.len(), 0..2_usize);
    let most = prop_oneof![2 => Just(None), 1 => (1..5_u32).prop_map(Some)];
    let keeps = any::<bool>();
    let of_model = prop_oneof![2 => Just(None), 1 => (0..MODELS.len(), 0..3_u64).prop_map(Some)];
    let queue = (0..QUEUES.len(), most, amounts(), amounts(), amounts(), amounts(), keeps, of_model);
    let throttle = || prop_oneof![4 => Just(None), 1 => (1..4_u32).prop_map(Some)];
    (
        prop::collection::vec(node, 1..4),
        prop::collection::vec(queue, 0..4),
        wishes(6),
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        wishes(5),
        any::<prop::sample::Index>(),
        (0..4_u64, throttle(), throttle()),
        prop_oneof![4 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)],
    )
        .prop_map(|(nodes, queues, before, ended, after, asked, policy, closed)| Recipe {
            nodes,
            queues,
            before,
            ended,
            after,
            asked,
            policy,
            closed,
        })
}

impl Recipe {
    /// The cluster, with a task that waits in it, if any does.
    pub(crate) fn cook(&self) -> Option<(World, TaskKey)> {
        let mut world = World::new();
        for (at, (cpus, gib, count, model, rack)) in self.nodes.iter().enumerate() {
            let mut inventory = machine(*cpus, *gib);
            inventory.gpus = gpus(MODELS[*model], *count);
            inventory.labels.insert("rack".parse().unwrap(), format!("r{rack}"));
            world.node(&format!("n{at}"), inventory);
        }
        let (licences, per_job, per_node) = self.policy;
        let policy = Policy {
            tokens: [(LICENCE.parse().unwrap(), licences)].into(),
            throttle: Throttle { per_job, per_node },
            ..Policy::default()
        };
        world.perform(Command::PutPolicy(policy.into()));
        QUEUES.iter().for_each(|path| drop(world.put(queue(path))));
        for (at, max_active, limit, reserve, borrow, lend, keeps, of_model) in &self.queues {
            let amounts = |(cpus, devices): &Amounts| QueueAmounts {
                cpu_milli: cpus.map(|cpus| cpus * 1_000),
                gpu_milli: devices.map(|devices| (GpuClass::Any, devices * 1_000)).into_iter().collect(),
                ..QueueAmounts::default()
            };
            let [mut limit, reserve, borrow, lend] = [limit, reserve, borrow, lend].map(amounts);
            let of_model = of_model.map(|(model, devices)| (GpuClass::model(MODELS[model]), devices * 1_000));
            limit.gpu_milli.extend(of_model);
            // What must not be evicted may hold all that is promised, and the rest of what it needs if that is little.
            let mut reserve = reserve;
            let mut no_preempt = QueueAmounts::default();
            if *keeps && reserve.cpu_milli.is_some() {
                reserve.memory_bytes = Some(8 << 30);
                no_preempt = QueueAmounts { gpu_milli: [].into(), ..reserve.clone() };
            }
            // What cannot be put is not: some of these contradict each other.
            world.put(Queue {
                max_active: *max_active,
                limit,
                reserve,
                borrow,
                lend,
                no_preempt,
                ..queue(QUEUES[*at])
            });
        }
        self.before.iter().for_each(|wish| wish.submit(&mut world));
        world.settle();
        for ended in &self.ended {
            let live = world.live();
            if !live.is_empty() {
                let (node, member) = live[ended.index(live.len())];
                world.end(node, member);
            }
        }
        if let Some(closed) = &self.closed {
            let nodes: Vec<_> = world.state.nodes().map(|(id, _)| id).collect();
            let node = nodes[closed.index(nodes.len())];
            world.perform(Command::SetNodeScheduling { node, scheduling: Scheduling::Drained });
        }
        self.after.iter().for_each(|wish| wish.submit(&mut world));
        let ready = |id: JobId| {
            let tasks: Vec<_> = world.state.ready_tasks(id, StepIndex(0)).collect();
            tasks.into_iter().map(move |(task, _)| key(id, task.0)).collect::<Vec<_>>()
        };
        let waiting: Vec<_> = world.state.outlines().map(|(id, _)| id).flat_map(ready).collect();
        let task = *waiting.get(self.asked.index(waiting.len().max(1)))?;
        Some((world, task))
    }
}

impl Wish {
    fn submit(&self, world: &mut World) {
        let mut step = step(self.tasks);
        step.resources.cpu_milli = self.cpus * 1_000;
        step.resources.memory_bytes = self.gib << 30;
        let asking = |(model, count, below_a_switch): &(Option<usize>, u32, bool)| GpuRequest {
            link: below_a_switch.then_some(GpuLink::Pcie),
            ..asking(model.map(|at| MODELS[at]), *count)
        };
        step.resources.gpus = self.gpus.iter().map(asking).collect();
        step.resources.gpus.dedup();
        step.size = self.size;
        step.max_parallel = self.most;
        step.timeout_ms = self.timeout;
        step.constraints = self.rack.map(|rack| label("rack", &format!("r{rack}"))).into_iter().collect();
        step.placing = beside(self.beside);
        step.preemptible = !self.for_good;
        if self.licences > 0 {
            step.resources.tokens = [(LICENCE.parse().unwrap(), self.licences)].into();
        }
        let tags = if self.tagged { [TAG.to_owned()].into() } else { Default::default() };
        let spec = JobSpec { priority: self.priority, tags, ..job(QUEUES[self.queue], vec![step]) };
        // Some must not be evicted where nothing is kept for that, or ask for more licences than there are: they are refused.
        world.perform(Command::SubmitJob(crate::world::wish(OWNERS[self.owner], spec)));
    }
}
