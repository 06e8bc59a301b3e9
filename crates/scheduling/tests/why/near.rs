//! How much room there is for a gang in one domain of a level: counted again from the records, domain by domain, and
//! tried with `apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::*;
use flowyard_scheduling::why::reasons;
use proptest::prelude::*;

use crate::laws::{clashes, there};
use crate::there::{Columns, counted, device};
use crate::world::{World, asking, gpus, job, key, machine, step, wish};

const LEVELS: [&str; 2] = ["block", "rack"];
const TAG: &str = "loud";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The room that is told is the most that is counted in any domain, what is kept for the task itself is no
    /// hindrance, and there is room for all exactly where `apply` takes the gang.
    #[test]
    fn the_room_for_a_gang_is_counted_from_the_records_and_is_where_apply_takes_it(yard in yards()) {
        let Some((world, task)) = yard.cook() else { return Ok(()) };
        let spec = world.state.step_spec(task.job, task.step).unwrap().clone();
        let told = reasons(&world.state, task).unwrap().near.unwrap();
        let level = LEVELS.iter().position(|level| *level == told.level.as_str()).unwrap();
        let domains = domains(&world, level);
        prop_assert_eq!(told.domains, domains.len());
        let held: BTreeMap<_, u64> = domains.iter().map(|(at, nodes)| (at, room(&world, task, nodes, true))).collect();
        let most = held.values().copied().max().unwrap_or(0);
        let (named, members) = told.most.clone().unwrap_or_default();
        prop_assert_eq!(members, most, "{:?} {:?}", held, told);
        if members > 0 {
            let is_named = |at: &Place| match at {
                Place::Domain(labels) => *labels == named,
                Place::Alone(_) => named.is_empty(),
            };
            let here = held.iter().any(|(at, members)| is_named(at) && *members == most);
            prop_assert!(here, "{:?} is not where {} are", named, most);
        }
        let empty = domains.values().map(|nodes| room(&world, task, nodes, false)).max().unwrap_or(0);
        prop_assert_eq!(told.most_when_empty, empty);
        let takes = domains.values().any(|nodes| is_taken(&world, task, nodes));
        prop_assert_eq!(most >= u64::from(spec.size), takes, "{:?}", held);
    }
}

/// A domain of a level by its labels from the top, or a node without one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Domain(Vec<String>),
    Alone(NodeId),
}

/// The nodes that take work, by domain of a level.
fn domains(world: &World, level: usize) -> BTreeMap<Place, Vec<NodeId>> {
    let mut domains: BTreeMap<Place, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in world.state.nodes().filter(|(_, node)| node.scheduling == Scheduling::Open) {
        let labels = LEVELS[..=level].iter().map(|level| value(node, level));
        let place = labels.collect::<Option<Vec<_>>>().map_or(Place::Alone(id), Place::Domain);
        domains.entry(place).or_default().push(id);
    }
    domains
}

fn value(node: &Node, label: &str) -> Option<String> {
    node.inventory.labels.get(&label.parse::<Name>().unwrap()).cloned()
}

/// Members that nodes hold together, beside what is there or if nothing is.
fn room(world: &World, task: TaskKey, nodes: &[NodeId], is_now: bool) -> u64 {
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    let placing = &spec.placing;
    let own = own(world, task);
    // Members of a job that keeps apart from its own tag are no neighbours.
    let is_apart = !placing.apart.is_disjoint(&world.state.job(task.job).unwrap().spec.tags);
    let by_host = |spread: &Spread| spread.is_by_host() && spread.at_most == Some(1);
    let alone = is_apart || placing.unique_host || placing.spread.as_ref().is_some_and(by_host);
    let on_node = |id: NodeId| {
        let node = world.state.node(id).unwrap();
        let used = if is_now { counted(world, task, id) } else { Columns::new() };
        let starting = world.state.live_members(id).count() as u64;
        let most_starting = world.state.policy().throttle.per_node.filter(|_| is_now && starting > 0);
        let starts = most_starting.map_or(u64::MAX, |most| u64::from(most).saturating_sub(starting));
        let is_shut = is_now && (clashes(world, task, id) || (placing.unique_host && own.contains(&id)));
        let most = if alone { 1 } else { u64::from(spec.size) };
        if is_shut { 0 } else { fitting(spec, node, &used).min(most).min(starts) }
    };
    let Some((over, at_most)) =
        placing.spread.as_ref().and_then(|it| Some((it.over.to_string(), u64::from(it.at_most?))))
    else {
        return nodes.iter().map(|id| on_node(*id)).sum();
    };
    // Each part over which it is spread holds only so many, with those of the step that are there.
    let part = |id: NodeId| match over.as_str() {
        Policy::HOST => Err(id),
        _ => spread_over(world, id),
    };
    let mut parts: BTreeMap<Result<Vec<String>, NodeId>, u64> = BTreeMap::new();
    nodes.iter().for_each(|id| *parts.entry(part(*id)).or_insert(0) += on_node(*id));
    let within = |(at, members): (Result<Vec<String>, NodeId>, u64)| {
        let there = own.iter().filter(|_| is_now).filter(|id| part(**id) == at).count() as u64;
        members.min(at_most.saturating_sub(there))
    };
    parts.into_iter().map(within).sum()
}

/// The rack of a node with all above it; itself if it is in none.
fn spread_over(world: &World, id: NodeId) -> Result<Vec<String>, NodeId> {
    let node = world.state.node(id).unwrap();
    LEVELS.iter().map(|level| value(node, level)).collect::<Option<Vec<_>>>().ok_or(id)
}

/// The nodes on which members of the step are, or will be, beside the task.
fn own(world: &World, task: TaskKey) -> Vec<NodeId> {
    let there = there(world, task).into_iter();
    there.filter(|(_, other)| (other.job, other.step) == (task.job, task.step)).map(|(id, _)| id).collect()
}

fn fitting(spec: &StepSpec, node: &Arc<Node>, used: &Columns) -> u64 {
    let (has, wants) = (&node.inventory, &spec.resources);
    let of = |column: &str, all: u64, wanted: u64| {
        (all - used.get(column).copied().unwrap_or(0)).checked_div(wanted).unwrap_or(u64::MAX)
    };
    let free = (0..has.gpus.len()).filter(|at| used.get(&device(*at)).copied().unwrap_or(0) == 0).count() as u64;
    let by_gpus = wants.gpus.first().map_or(u64::MAX, |request| free / u64::from(request.count));
    of("cpu", has.cpu_milli, wants.cpu_milli).min(of("memory", has.memory_bytes, wants.memory_bytes)).min(by_gpus)
}

/// Whether `apply` takes the task with all its members on some of these nodes.
fn is_taken(world: &World, task: TaskKey, nodes: &[NodeId]) -> bool {
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    let wanted = spec.resources.gpus.first().map_or(0, |request| request.count as usize);
    let all = nodes.len().pow(spec.size);
    let mut tried = BTreeSet::new();
    (0..all).any(|number| {
        // Which of them has the first member, the second, and so on; in what order is of no matter.
        let mut chosen: Vec<_> =
            (0..spec.size).map(|rank| nodes[number / nodes.len().pow(rank) % nodes.len()]).collect();
        chosen.sort_unstable();
        tried.insert(chosen.clone()) && commits(world, task, &chosen, wanted)
    })
}

fn commits(world: &World, task: TaskKey, chosen: &[NodeId], wanted: usize) -> bool {
    let mut free: BTreeMap<NodeId, Vec<GpuIndex>> = BTreeMap::new();
    let mut members = Vec::new();
    for node in chosen {
        let record = world.state.node(*node).unwrap();
        let used = counted(world, task, *node);
        let is_free = |at: &usize| used.get(&device(*at)).copied().unwrap_or(0) == 0;
        let of_node = || (0..record.inventory.gpus.len()).filter(is_free).map(|at| GpuIndex(at as u32)).collect();
        let left = free.entry(*node).or_insert_with(of_node);
        let gpus = left.drain(..wanted.min(left.len())).collect();
        members.push(Seat { node: *node, incarnation: record.incarnation, gpus, gpu_alternative: 0 });
    }
    let attempt = AttemptNumber(world.state.task(task).map_or(0, |task| task.attempts.len() as u32) + 1);
    let plan = Plan {
        based_on: world.state.revision(),
        seed: 0,
        budget: 0,
        placer_version: 0,
        accept_ms: None,
        claims: vec![],
        drops: vec![],
        at: None,
        made_from: None,
        repairs: Vec::new(),
        placements: vec![Placement { task, attempt, members }],
    };
    // Time stands still, so that it ends no later than was counted.
    let mut tried = World { stands_still: true, ..world.clone() };
    tried.perform(Command::CommitPlan(plan)) == Reply::PlanCommitted { refused: vec![], refused_claims: vec![] }
}

/// What a cluster is made of: nodes with CPUs, GPUs, block and rack; what runs; and the gang.
#[derive(Debug, Clone)]
struct Yard {
    nodes: Vec<(u64, u32, Option<usize>, Option<usize>)>,
    running: Vec<Wish>,
    closed: Option<prop::sample::Index>,
    gang: Wish,
    size: u32,
    level: usize,
    settles: bool,
    per_node: Option<u32>,
    after: Vec<Wish>,
}

#[derive(Debug, Clone)]
struct Wish {
    tasks: u32,
    cpus: u64,
    gpus: u32,
    size: u32,
    timeout: Option<u64>,
    beside: u8,
    tagged: bool,
}

fn wishes() -> impl Strategy<Value = Wish> {
    let few = prop_oneof![2 => Just(0), 1 => 1..3_u32];
    let timeout = prop_oneof![1 => Just(None), 2 => (1..9_u64).prop_map(|of| Some(of * 600_000))];
    let beside = prop_oneof![5 => Just(0), 3 => 1..5_u8];
    (1..4_u32, 1..4_u64, few, 1..3_u32, timeout, beside, prop::bool::weighted(0.3)).prop_map(
        |(tasks, cpus, gpus, size, timeout, beside, tagged)| Wish { tasks, cpus, gpus, size, timeout, beside, tagged },
    )
}

fn yards() -> impl Strategy<Value = Yard> {
    let mostly = || prop_oneof![5 => (0..2_usize).prop_map(Some), 1 => Just(None)];
    let node = (1..7_u64, 0..4_u32, mostly(), mostly());
    let closed = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let per_node = prop_oneof![4 => Just(None), 1 => (1..4_u32).prop_map(Some)];
    (
        (prop::collection::vec(node, 2..6), prop::collection::vec(wishes(), 0..4), closed, wishes()),
        (2..5_u32, 0..LEVELS.len(), any::<bool>(), per_node, prop::collection::vec(wishes(), 0..2)),
    )
        .prop_map(|((nodes, running, closed, gang), (size, level, settles, per_node, after))| Yard {
            nodes,
            running,
            closed,
            gang,
            size,
            level,
            settles,
            per_node,
            after,
        })
}

impl Yard {
    /// The cluster, and a task of the gang's step that waits in it, if one does.
    fn cook(&self) -> Option<(World, TaskKey)> {
        let mut world = World::new();
        for ((cpus, count, block, rack), at) in self.nodes.iter().zip(0..) {
            let mut inventory = machine(*cpus, 64);
            inventory.gpus = gpus("h100", *count);
            let labels = LEVELS.iter().zip([block, rack]);
            let labels = labels.filter_map(|(name, value)| Some((name.parse().unwrap(), format!("{}", (*value)?))));
            inventory.labels = labels.collect();
            world.node(&format!("n{at}"), inventory);
        }
        let topology = LEVELS.iter().map(|level| level.parse().unwrap()).collect();
        let throttle = Throttle { per_job: None, per_node: self.per_node };
        world.perform(Command::PutPolicy(Policy { topology, throttle, ..Policy::default() }.into()));
        for wish in &self.running {
            wish.submit(&mut world, wish.step());
        }
        world.settle();
        if let Some(closed) = &self.closed {
            let nodes: Vec<_> = world.state.nodes().map(|(id, _)| id).collect();
            let node = nodes[closed.index(nodes.len())];
            world.perform(Command::SetNodeScheduling { node, scheduling: Scheduling::Drained });
        }
        let mut gang = self.gang.step();
        gang.size = self.size;
        gang.placing.near = Some(Near { level: LEVELS[self.level].parse().unwrap(), need: true });
        let id = self.gang.submit(&mut world, gang)?;
        // Some have a place by now, and one has room kept for it.
        if self.settles {
            world.settle();
        }
        for wish in &self.after {
            wish.submit(&mut world, wish.step());
        }
        let task = world.state.ready_tasks(id, StepIndex(0)).next()?.0;
        Some((world, key(id, task.0)))
    }
}

impl Wish {
    fn step(&self) -> StepSpec {
        let mut step = step(self.tasks);
        step.resources.cpu_milli = self.cpus * 1_000;
        step.resources.gpus = (self.gpus > 0).then(|| asking(None, self.gpus)).into_iter().collect();
        (step.size, step.timeout_ms) = (self.size, self.timeout);
        let spread = |over: &str, at_most| Some(Spread { over: over.parse().unwrap(), at_most });
        match self.beside {
            1 => step.placing.spread = spread("host", Some(1)),
            2 => step.placing.spread = spread("rack", Some(2)),
            3 => step.placing.unique_host = true,
            4 => step.placing.apart = [TAG.to_owned()].into(),
            _ => {}
        }
        step
    }

    /// Its job, unless what it asks for contradicts itself.
    fn submit(&self, world: &mut World, step: StepSpec) -> Option<JobId> {
        let tags = if self.tagged { [TAG.to_owned()].into() } else { BTreeSet::new() };
        let spec = JobSpec { tags, ..job("default", vec![step]) };
        match world.perform(Command::SubmitJob(wish("ada", spec))) {
            Reply::Submitted { job, .. } => Some(job),
            _ => None,
        }
    }
}
