//! What nodes lack: every number is counted again from the records, on nodes with devices of two models, tokens, and
//! little disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::*;
use flowyard_scheduling::why::{ClosedAs, Gpus, Lack, Nearness, Short, Unable, reasons};
use proptest::prelude::*;

use crate::there::{Columns, counted, device};
use crate::world::{World, asking, gpus, key, label, machine, step};

const MODELS: [&str; 2] = ["h100", "l4"];
const DONGLE: &str = "dongle";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of every node, everything that it lacks is counted under its kind; the first of each kind is the example, with
    /// its numbers.
    #[test]
    fn every_lack_of_every_node_has_the_numbers_that_the_records_give(park in parks()) {
        let Some((world, task)) = park.cook() else { return Ok(()) };
        let told = reasons(&world.state, task).unwrap().nodes;
        let mut expected: BTreeMap<&str, (u64, NodeId, Lack)> = BTreeMap::new();
        let mut fitting = 0;
        for (id, node) in world.state.nodes() {
            let lacks = lacks(&world, task, id, node);
            fitting += u64::from(lacks.is_empty());
            let kinds: BTreeSet<&str> = lacks.iter().map(|(kind, _)| *kind).collect();
            for (kind, lack) in lacks {
                expected.entry(kind).or_insert((0, id, lack));
            }
            kinds.iter().for_each(|kind| expected.get_mut(kind).unwrap().0 += 1);
        }
        let rejections = told.rejections.into_iter().map(|it| (it.kind, (it.nodes, it.example, it.lack)));
        prop_assert_eq!(rejections.collect::<BTreeMap<_, _>>(), expected);
        prop_assert_eq!((told.all, told.fitting), (world.state.nodes().count() as u64, fitting));
    }
}

/// Everything that a node lacks for one member.
fn lacks(world: &World, task: TaskKey, id: NodeId, node: &Arc<Node>) -> Vec<(&'static str, Lack)> {
    let spec = world.state.step_spec(task.job, task.step).unwrap();
    let is_empty = world.state.live_members(id).next().is_none();
    match (node.health, node.scheduling, &node.closure) {
        (Health::Down, ..) => return vec![("down", Lack::Down)],
        (Health::Suspect, ..) => return vec![("silent", Lack::Silent)],
        (_, Scheduling::Drained, Some(closure)) if closure.drain.is_some() => {
            return vec![match is_empty {
                true => ("drained", Lack::Closed(ClosedAs::Drained)),
                false => ("draining", Lack::Closed(ClosedAs::Draining)),
            }];
        }
        (_, Scheduling::Drained, _) => return vec![("cordoned", Lack::Closed(ClosedAs::Cordoned))],
        _ => {}
    }
    let able = &node.inventory.abilities;
    let unable = match spec.isolation {
        Isolation::Process => (!able.process_isolation).then_some(Unable::Process),
        Isolation::Container if !able.containers => Some(Unable::Containers),
        Isolation::Container => (!able.host_image).then_some(Unable::HostImage),
    };
    if let Some(unable) = unable.or((spec.size > 1 && node.inventory.rendezvous.is_none()).then_some(Unable::Gangs)) {
        return vec![("unable", Lack::Unable(unable))];
    }
    for constraint in &spec.constraints {
        let has = node.inventory.labels.get(&constraint.label).cloned();
        if !has.as_ref().is_some_and(|has| constraint.values.contains(has)) {
            return vec![("labels", Lack::Label { constraint: constraint.clone(), has })];
        }
    }
    let used = counted(world, task, id);
    amounts(spec, node, &used).into_iter().chain(devices(&spec.resources.gpus, &node.inventory.gpus, &used)).collect()
}

fn amounts(spec: &StepSpec, node: &Node, used: &Columns) -> Vec<(&'static str, Lack)> {
    let (has, wants) = (&node.inventory, &spec.resources);
    let mut found = Vec::new();
    let mut look = |column: &str, wanted: u64, all: u64, of: &dyn Fn(Short) -> (&'static str, Lack)| {
        let free = all - used.get(column).copied().unwrap_or(0);
        if wanted > free {
            found.push(of(Short { free, all, never: wanted > all }));
        }
    };
    let kind = |short: Short, never, now| if short.never { never } else { now };
    look("cpu", wants.cpu_milli, has.cpu_milli, &|it| (kind(it, "too_few_cpus", "cpus_taken"), Lack::Cpu(it)));
    look("memory", wants.memory_bytes, has.memory_bytes, &|it| {
        (kind(it, "too_little_memory", "memory_taken"), Lack::Memory(it))
    });
    look("disk", wants.disk_bytes, has.disk_bytes, &|it| (kind(it, "too_little_disk", "disk_taken"), Lack::Disk(it)));
    for (name, wanted) in &wants.tokens {
        let all = u64::from(has.tokens.get(name).copied().unwrap_or(0));
        look(name.as_str(), u64::from(*wanted), all, &|it| ("tokens", Lack::Token(name.clone(), it)));
    }
    found
}

fn devices(wants: &[GpuRequest], has: &[Gpu], used: &Columns) -> Option<(&'static str, Lack)> {
    let suiting = |request: &GpuRequest| -> Vec<usize> {
        let of_model = |gpu: &Gpu| request.model.as_ref().is_none_or(|model| *model == gpu.model);
        let suits = |at: &usize| of_model(&has[*at]) && has[*at].memory_bytes >= request.min_memory_bytes;
        (0..has.len()).filter(suits).collect()
    };
    let free = |request: &GpuRequest| -> Vec<usize> {
        let share = u64::from(request.share_milli);
        let has_room = |at: &usize| used.get(&device(*at)).copied().unwrap_or(0) + share <= 1_000;
        suiting(request).into_iter().filter(|at| has[*at].healthy && has_room(at)).collect()
    };
    // Two each are below one switch.
    let most_near = |of: &[usize]| {
        let pair = |at: &usize| of.iter().filter(|other| *other / 2 == at / 2).count();
        of.iter().map(pair).max().unwrap_or(0) as u32
    };
    let links = |request: &GpuRequest| request.link.filter(|_| request.count > 1);
    let enough = |request: &GpuRequest, of: &[usize]| match links(request) {
        None => of.len() as u32 >= request.count,
        Some(_) => most_near(of) >= request.count,
    };
    // Enough of them, but too far from each other.
    let scattered = |request: &GpuRequest, of: &[usize]| {
        let link = links(request).filter(|_| of.len() as u32 >= request.count)?;
        Some(Nearness { link, wanted: request.count, most: most_near(of) })
    };
    if wants.is_empty() || wants.iter().any(|request| enough(request, &free(request))) {
        return None;
    }
    let told = |alternative: usize| {
        let request = &wants[alternative];
        Gpus {
            alternative: alternative as u32,
            model: request.model.clone(),
            wanted: request.count,
            share_milli: request.share_milli,
            memory_bytes: 0,
            free: free(request).len() as u64,
            suiting: suiting(request).len() as u64,
            all: has.len() as u64,
        }
    };
    let ever: Vec<usize> = (0..wants.len()).filter(|at| enough(&wants[*at], &suiting(&wants[*at]))).collect();
    let Some(first) = ever.first() else {
        let far = wants.iter().find_map(|request| scattered(request, &suiting(request)));
        return Some(far.map_or(("no_such_gpus", Lack::Devices(told(0))), |near| ("no_such_link", Lack::Near(near))));
    };
    let far = ever.iter().find_map(|at| scattered(&wants[*at], &free(&wants[*at])));
    Some(far.map_or(("gpus_taken", Lack::FreeDevices(told(*first))), |near| ("link_taken", Lack::FreeNear(near))))
}

/// What a cluster is made of.
#[derive(Debug, Clone)]
struct Park {
    nodes: Vec<Machine>,
    running: Vec<Wish>,
    asked: Wish,
    container: bool,
    gang: bool,
    rack: Option<usize>,
}

#[derive(Debug, Clone)]
struct Machine {
    amounts: (u64, u64, u64, u32),
    gpus: (u32, u32, Option<usize>),
    rack: usize,
    abilities: (bool, bool, bool, bool),
    becomes: u8,
}

#[derive(Debug, Clone)]
struct Wish {
    amounts: (u64, u64, u64, u32),
    gpus: Vec<(Option<usize>, u32, bool, u32, bool)>,
    tasks: u32,
    timeout: Option<u64>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let amounts = (1..5_u64, 1..5_u64, 0..5_u64, prop_oneof![3 => Just(0), 1 => 1..3_u32]);
    let model = prop_oneof![Just(None), (0..MODELS.len()).prop_map(Some)];
    let share = prop_oneof![3 => Just(1_000_u32), 1 => Just(500), 1 => Just(250)];
    let request = (model, 1..4_u32, prop::bool::weighted(0.3), share, prop::bool::weighted(0.2));
    let gpus = prop_oneof![1 => Just(vec![]), 3 => prop::collection::vec(request, 1..3)];
    let timeout = prop_oneof![1 => Just(None), 2 => (1..9_u64).prop_map(|of| Some(of * 600_000))];
    (amounts, gpus, 1..4_u32, timeout).prop_map(|(amounts, gpus, tasks, timeout)| Wish {
        amounts,
        gpus,
        tasks,
        timeout,
    })
}

fn parks() -> impl Strategy<Value = Park> {
    let often = || prop::bool::weighted(0.9);
    let broken = prop_oneof![3 => Just(None), 1 => (0..6_usize).prop_map(Some)];
    let becomes = prop_oneof![6 => Just(0), 4 => 1..5_u8];
    let amounts = (1..9_u64, 1..9_u64, 0..7_u64, 0..3_u32);
    let machine = (amounts, (0..5_u32, 0..4_u32, broken), 0..2_usize, (often(), often(), often(), often()), becomes);
    let machine = machine.prop_map(|(amounts, gpus, rack, abilities, becomes)| Machine {
        amounts,
        gpus,
        rack,
        abilities,
        becomes,
    });
    let rack = prop_oneof![2 => Just(None), 1 => (0..2_usize).prop_map(Some)];
    let some = prop::bool::weighted(0.2);
    (prop::collection::vec(machine, 1..5), prop::collection::vec(wish(), 0..5), wish(), some, any::<bool>(), rack)
        .prop_map(|(nodes, running, asked, container, gang, rack)| Park {
            nodes,
            running,
            asked,
            container,
            gang: gang && container,
            rack,
        })
}

impl Park {
    /// The cluster, and a task that waits in it, unless nobody could be told of it.
    fn cook(&self) -> Option<(World, TaskKey)> {
        let mut world = World::new();
        let ids: Vec<_> =
            self.nodes.iter().zip(0..).map(|(it, at)| world.node(&format!("n{at}"), it.inventory())).collect();
        for wish in &self.running {
            world.submit("default", "ada", 0, wish.step());
        }
        world.settle();
        for (machine, node) in self.nodes.iter().zip(ids) {
            let drain = ChangeNode {
                node,
                change: NodeChange::Drain { deadline: None },
                by: "ada".to_owned(),
                reason: String::new(),
            };
            let health = |health| Command::SetNodeHealth { node, incarnation: Incarnation(1), health };
            match machine.becomes {
                1 => drop(world.perform(Command::SetNodeScheduling { node, scheduling: Scheduling::Drained })),
                2 => drop(world.perform(Command::ChangeNode(drain))),
                3 => drop(world.perform(health(Health::Down))),
                4 => drop(world.perform(health(Health::Suspect))),
                _ => {}
            }
        }
        let mut asked = self.asked.step();
        if self.container {
            asked.isolation = Isolation::Container;
        }
        if self.gang {
            asked.size = 2;
        }
        asked.constraints = self.rack.map(|rack| label("rack", &format!("r{rack}"))).into_iter().collect();
        let job = world.submit("default", "bob", 0, asked);
        (world.state.task_state(key(job, 0)) == Some(TaskState::Ready)).then(|| (world, key(job, 0)))
    }
}

impl Machine {
    fn inventory(&self) -> Inventory {
        let (cpus, gib, disk, dongles) = self.amounts;
        let mut inventory = Inventory { disk_bytes: disk << 30, ..machine(cpus, gib) };
        let (first, second, broken) = self.gpus;
        inventory.gpus = [gpus(MODELS[0], first), gpus(MODELS[1], second)].concat();
        for (at, gpu) in inventory.gpus.iter_mut().enumerate() {
            gpu.pcie_group = Some(at as u32 / 2);
            gpu.memory_bytes = if gpu.model == MODELS[0] { 80 << 30 } else { 24 << 30 };
            gpu.healthy = Some(at) != broken;
        }
        inventory.labels.insert("rack".parse().unwrap(), format!("r{}", self.rack));
        if dongles > 0 {
            inventory.tokens.insert(DONGLE.parse().unwrap(), dongles);
        }
        let able = &mut inventory.abilities;
        (able.process_isolation, able.containers, able.host_image) =
            (self.abilities.0, self.abilities.1, self.abilities.2);
        inventory.rendezvous = inventory.rendezvous.filter(|_| self.abilities.3);
        inventory
    }
}

impl Wish {
    fn step(&self) -> StepSpec {
        let (cpus, gib, disk, dongles) = self.amounts;
        let mut step = step(self.tasks);
        step.resources.cpu_milli = cpus * 1_000;
        step.resources.memory_bytes = gib << 30;
        step.resources.disk_bytes = disk << 30;
        if dongles > 0 {
            step.resources.tokens.insert(DONGLE.parse().unwrap(), dongles);
        }
        let request = |(model, count, near, share_milli, large): &(Option<usize>, u32, bool, u32, bool)| GpuRequest {
            link: near.then_some(GpuLink::Pcie),
            share_milli: *share_milli,
            min_memory_bytes: if *large { 40 << 30 } else { 0 },
            ..asking(model.map(|at| MODELS[at]), *count)
        };
        step.resources.gpus = self.gpus.iter().map(request).collect();
        step.resources.gpus.dedup();
        step.timeout_ms = self.timeout;
        step
    }
}
