//! What each node lacks for one member of a task, counted by kind, with an example each.

use std::collections::BTreeMap;

use flowyard_model::{
    Constraint, Domain, Gpu, GpuLink, GpuRequest, Health, Image, Isolation, JobId, Name, Node, NodeId, Policy,
    Resources, Scheduling, Standing, StepSpec, TaskKey, Throttle,
};
use flowyard_state::State;

use super::promised;
use crate::keeping;

/// Something that a node lacks, with the figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// Nothing was heard of it for long.
    Down,
    /// Nothing was heard of it for seconds.
    Silent,
    /// It takes no new work; who closed it and why is in its record.
    Closed(ClosedAs),
    /// It is given nothing for a while: too much failed there.
    Shunned,
    /// Its agent cannot or may not run such a step.
    Unable(Unable),
    /// A constraint does not hold.
    Label {
        /// Which.
        constraint: Constraint,
        /// The value of the label there, if it has one.
        has: Option<String>,
    },
    /// CPUs, in thousandths.
    Cpu(Short),
    /// Bytes of memory.
    Memory(Short),
    /// Bytes of scratch space.
    Disk(Short),
    /// Tokens of a kind.
    Token(Name, Short),
    /// It has not enough such devices, however free.
    Devices(Gpus),
    /// It has enough of them, but not free and well.
    FreeDevices(Gpus),
    /// It has enough of them, but however free not so many as near to each other as they have to be.
    Near(Nearness),
    /// There are enough of them free and well, but not so many as near to each other as they have to be.
    FreeNear(Nearness),
    /// Something is there that it keeps apart from, or that keeps apart from it.
    Apart {
        /// From which tag.
        tag: String,
        /// A job that is there.
        job: JobId,
        /// Whether that job has the tag; else the task's own has it.
        there: bool,
    },
    /// As many are placed there and do not run yet as may be.
    Starting {
        /// How many are.
        held: u32,
        /// How many may be.
        most: u32,
    },
    /// There are as many of its step as may be.
    Full {
        /// Over what its step is spread.
        over: Name,
        /// How many are there.
        held: u32,
        /// How many may be.
        most: u32,
    },
}

/// How a node was closed to new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedAs {
    /// What runs there stays.
    Cordoned,
    /// It becomes empty.
    Draining,
    /// It is empty.
    Drained,
}

/// What an agent cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unable {
    /// Run without a container.
    Process,
    /// Make containers.
    Containers,
    /// Use the host's system as image.
    HostImage,
    /// Run images.
    Images,
    /// Give a network of its own.
    Network,
    /// Its agent is of a release without gangs.
    Gangs,
}

/// Of something that is counted there is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// How much is free.
    pub free: u64,
    /// How much there is.
    pub all: u64,
    /// Whether even all of it would be too little.
    pub never: bool,
}

/// Devices of a node that a member could have by one of its alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpus {
    /// By which alternative: the first that is not ruled out for good, or else the first.
    pub alternative: u32,
    /// Of which model they have to be, if that is said.
    pub model: Option<String>,
    /// How many a member needs.
    pub wanted: u32,
    /// How much of each, in thousandths.
    pub share_milli: u32,
    /// How much of the memory of each, where that is said; else as large a part as of the device.
    pub memory_bytes: u64,
    /// How many are well and have so much free.
    pub free: u64,
    /// How many would do if they were.
    pub suiting: u64,
    /// How many there are in all.
    pub all: u64,
}

/// How many devices are near to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nearness {
    /// On which level.
    pub link: GpuLink,
    /// How many have to be in one group.
    pub wanted: u32,
    /// How many of those that are meant are in one group at most.
    pub most: u32,
}

/// Nodes that lack the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The kind of lack, in one word: `cpus_taken`, `labels`, ...
    pub kind: &'static str,
    /// How many nodes lack it.
    pub nodes: u64,
    /// The first of them.
    pub example: NodeId,
    /// What it lacks.
    pub lack: Lack,
}

/// Where a task stands on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Nodes in all.
    pub all: u64,
    /// Of these, nodes that an operator closed to new work.
    pub closed: u64,
    /// Nodes that have room for one member now.
    pub fitting: u64,
    /// Nodes by what they lack, by kind; one may lack several things.
    pub rejections: Vec<Rejection>,
}

impl Nodes {
    /// Of these, nodes that are given nothing for a while because too much failed there.
    pub fn shunned(&self) -> u64 {
        self.rejections.iter().filter(|it| it.lack == Lack::Shunned).map(|it| it.nodes).sum()
    }
}

impl Lack {
    /// The kind in one word.
    pub fn kind(&self) -> &'static str {
        let short = |short: &Short, never: &'static str, now: &'static str| if short.never { never } else { now };
        match self {
            Self::Down => "down",
            Self::Silent => "silent",
            Self::Closed(ClosedAs::Cordoned) => "cordoned",
            Self::Closed(ClosedAs::Draining) => "draining",
            Self::Closed(ClosedAs::Drained) => "drained",
            Self::Shunned => "shunned",
            Self::Unable(_) => "unable",
            Self::Label { .. } => "labels",
            Self::Cpu(cpu) => short(cpu, "too_few_cpus", "cpus_taken"),
            Self::Memory(memory) => short(memory, "too_little_memory", "memory_taken"),
            Self::Disk(disk) => short(disk, "too_little_disk", "disk_taken"),
            Self::Token(..) => "tokens",
            Self::Devices(_) => "no_such_gpus",
            Self::FreeDevices(_) => "gpus_taken",
            Self::Near(_) => "no_such_link",
            Self::FreeNear(_) => "link_taken",
            Self::Apart { .. } => "apart",
            Self::Full { .. } => "spread",
            Self::Starting { .. } => "starting",
        }
    }
}

/// Looks at every node for one member of a task of the step, as it is now.
pub(crate) fn rejections(state: &State, task: TaskKey, spec: &StepSpec) -> Nodes {
    let mut nodes = Nodes { all: 0, closed: 0, fitting: 0, rejections: Vec::new() };
    let mut found: BTreeMap<&'static str, Rejection> = BTreeMap::new();
    let (own, kept) = (Own::of(state, task, spec), keeping::kept(state));
    for (id, node) in state.nodes() {
        let (mut lacks, is_looked_at) =
            lacks(state.policy(), spec, &promised::with(state, task, (id, &**node), kept.on.get(&id)));
        if is_looked_at {
            lacks.extend(own.lacks(id, node));
        }
        nodes.all += 1;
        nodes.closed += u64::from(node.scheduling != Scheduling::Open);
        nodes.fitting += u64::from(lacks.is_empty());
        let mut counted: Vec<&'static str> = Vec::new();
        for lack in lacks {
            let kind = lack.kind();
            let first = || Rejection { kind, nodes: 0, example: id, lack };
            let entry = found.entry(kind).or_insert_with(first);
            entry.nodes += u64::from(!counted.contains(&kind));
            counted.push(kind);
        }
    }
    nodes.rejections = found.into_values().collect();
    nodes
}

/// Everything that a node lacks for one member, and whether it was looked at whole. A node that is shut, unable or of other labels is not
/// looked at further.
fn lacks(policy: &Policy, spec: &StepSpec, node: &Node) -> (Vec<Lack>, bool) {
    match (node.health, node.scheduling) {
        (Health::Down, _) => return (vec![Lack::Down], false),
        (Health::Suspect, _) => return (vec![Lack::Silent], false),
        (Health::Up, Scheduling::Drained) => return (vec![Lack::Closed(closed_as(node))], false),
        (Health::Up, Scheduling::Open) if node.standing() == Standing::Shunned => return (vec![Lack::Shunned], false),
        (Health::Up, Scheduling::Open) => {}
    }
    if let Some(unable) = unable(spec, node) {
        return (vec![Lack::Unable(unable)], false);
    }
    if let Some(constraint) = spec.constraints.iter().find(|constraint| !constraint.holds(&node.inventory)) {
        let has = node.inventory.labels.get(&constraint.label).cloned();
        return (vec![Lack::Label { constraint: constraint.clone(), has }], false);
    }
    let mut lacks = amounts(policy, &spec.resources, node);
    lacks.extend(devices(&spec.resources.gpus, node));
    (lacks, true)
}

/// Where those of a step are that run already.
struct Own<'a> {
    state: &'a State,
    task: TaskKey,
    spec: &'a StepSpec,
    by_node: BTreeMap<NodeId, u32>,
    by_domain: BTreeMap<Domain<'a>, u32>,
}

impl<'a> Own<'a> {
    fn of(state: &'a State, task: TaskKey, spec: &'a StepSpec) -> Self {
        let by_node = if spec.placing.counts_its_own() { state.own_of((task.job, task.step)) } else { BTreeMap::new() };
        let mut by_domain = BTreeMap::new();
        for (id, count) in &by_node {
            let (Some(spread), Some(node)) = (&spec.placing.spread, state.node(*id)) else { continue };
            *by_domain.entry(spread.domain(state.policy(), *id, &node.inventory)).or_insert(0) += count;
        }
        Self { state, task, spec, by_node, by_domain }
    }

    /// What keeps a node from having one more that is there already.
    fn lacks(&self, id: NodeId, node: &Node) -> Vec<Lack> {
        let on_node = self.by_node.get(&id).copied().filter(|held| *held > 0 && self.spec.placing.unique_host);
        let unique = on_node.and_then(|held| Some(Lack::Full { over: Policy::HOST.parse().ok()?, held, most: 1 }));
        let full = || {
            let spread = self.spec.placing.spread.as_ref()?;
            let most = spread.at_most?;
            let held = *self.by_domain.get(&spread.domain(self.state.policy(), id, &node.inventory))?;
            (held >= most).then(|| Lack::Full { over: spread.over.clone(), held, most })
        };
        let starting = self.state.policy().throttle.per_node.and_then(|most| {
            let held = self.state.starting_on(id);
            (Throttle::room(Some(most), held) == 0).then_some(Lack::Starting { held, most })
        });
        unique.or_else(full).into_iter().chain(self.apart(id)).chain(starting).collect()
    }

    fn apart(&self, id: NodeId) -> Option<Lack> {
        self.state.shunned_tags().next()?;
        let own = self.state.job(self.task.job)?;
        let tags = &own.spec.tags;
        let apart = &self.spec.placing.apart;
        self.state.beside(id).into_iter().filter(|other| *other != self.task).find_map(|other| {
            let (job, spec) = (self.state.job(other.job)?, self.state.step_spec(other.job, other.step)?);
            let is_own = job.spec.queue.tenant() == own.spec.queue.tenant();
            let shuns = apart.intersection(&job.spec.tags).next().filter(|_| is_own);
            let shunned = || spec.placing.apart.intersection(tags).next().filter(|_| is_own);
            let (tag, there) = shuns.map(|tag| (tag, true)).or_else(|| Some((shunned()?, false)))?;
            Some(Lack::Apart { tag: tag.clone(), job: other.job, there })
        })
    }
}

fn closed_as(node: &Node) -> ClosedAs {
    match node.closure.as_ref().and_then(|closure| closure.drain) {
        None => ClosedAs::Cordoned,
        Some(_) if node.used.members == 0 => ClosedAs::Drained,
        Some(_) => ClosedAs::Draining,
    }
}

fn unable(spec: &StepSpec, node: &Node) -> Option<Unable> {
    let able = &node.inventory.abilities;
    if able.suffice(spec.isolation, &spec.image) {
        if spec.size > 1 && node.inventory.rendezvous.is_none() {
            return Some(Unable::Gangs);
        }
        return (!able.connect(spec.isolation, spec.network)).then_some(Unable::Network);
    }
    Some(match (spec.isolation, &spec.image) {
        (Isolation::Process, _) => Unable::Process,
        (Isolation::Container, _) if !able.containers => Unable::Containers,
        (Isolation::Container, Image::Host) => Unable::HostImage,
        (Isolation::Container, Image::Stored { .. }) => Unable::Images,
    })
}

fn amounts(policy: &Policy, wants: &Resources, node: &Node) -> Vec<Lack> {
    let (has, used) = (&node.inventory, &node.used);
    let short = |wanted: u64, all: u64, used: u64| {
        let free = all.saturating_sub(used);
        (wanted > free).then_some(Short { free, all, never: wanted > all })
    };
    let cpu = short(wants.cpu_milli, has.cpu_milli, used.cpu_milli).map(Lack::Cpu);
    let memory = short(wants.memory_bytes, has.memory_bytes, used.memory_bytes).map(Lack::Memory);
    let disk = short(wants.disk_bytes, has.disk_bytes, used.disk_bytes).map(Lack::Disk);
    let count = |counts: &BTreeMap<Name, u32>, name| u64::from(counts.get(name).copied().unwrap_or(0));
    let own = wants.tokens.iter().filter(|(name, _)| !policy.is_shared(name));
    let tokens = own.filter_map(|(name, wanted)| {
        let missing = short(u64::from(*wanted), count(&has.tokens, name), count(&used.tokens, name))?;
        Some(Lack::Token(name.clone(), missing))
    });
    cpu.into_iter().chain(memory).chain(disk).chain(tokens).collect()
}

fn devices(wants: &[GpuRequest], node: &Node) -> Option<Lack> {
    let devices = &node.inventory.gpus;
    let held = |at: usize| node.used.gpu_milli.get(at).copied().unwrap_or(0);
    let memory = |at: usize, request: &GpuRequest| {
        let all = devices[at].memory_bytes;
        let wanted = match request.memory_bytes {
            0 => u128::from(request.share_milli) * u128::from(all),
            declared => u128::from(declared) * 1_000,
        };
        wanted <= node.used.free_memory(at, all)
    };
    let free = |at: usize, request: &GpuRequest| {
        devices[at].healthy && held(at) + request.share_milli <= 1_000 && memory(at, request)
    };
    if wants.is_empty() || wants.iter().any(|request| are_found(request, devices, |at| free(at, request))) {
        return None;
    }
    let count = |(alternative, request): (u32, &GpuRequest)| Gpus {
        alternative,
        model: request.model.clone(),
        wanted: request.count,
        share_milli: request.share_milli,
        memory_bytes: request.memory_bytes,
        free: acceptable(request, devices, |at| free(at, request)).len() as u64,
        suiting: acceptable(request, devices, |_| true).len() as u64,
        all: devices.len() as u64,
    };
    let found = |request: &&GpuRequest| are_found(request, devices, |_| true);
    if let Some(first) = (0..).zip(wants).find(|(_, request)| found(request)) {
        let scattered = wants.iter().filter(found).find_map(|it| nearness(it, devices, |at| free(at, it)));
        return Some(scattered.map_or_else(|| Lack::FreeDevices(count(first)), Lack::FreeNear));
    }
    let scattered = wants.iter().find_map(|request| nearness(request, devices, |_| true));
    Some(scattered.map_or_else(|| Lack::Devices(count((0, &wants[0]))), Lack::Near))
}

/// Whether there are enough acceptable devices that may be taken, as near to each other as they have to be.
fn are_found(request: &GpuRequest, devices: &[Gpu], may_take: impl Fn(usize) -> bool) -> bool {
    let good = acceptable(request, devices, may_take);
    request.near().map_or(good.len(), |link| most_near(link, &good)) >= request.count as usize
}

/// How near to each other those are that may be taken, where they are enough but not near enough.
fn nearness(request: &GpuRequest, devices: &[Gpu], may_take: impl Fn(usize) -> bool) -> Option<Nearness> {
    let good = acceptable(request, devices, may_take);
    let link = request.near().filter(|_| good.len() >= request.count as usize)?;
    Some(Nearness { link, wanted: request.count, most: most_near(link, &good) as u32 })
}

fn acceptable<'a>(request: &GpuRequest, devices: &'a [Gpu], may_take: impl Fn(usize) -> bool) -> Vec<&'a Gpu> {
    let good = devices.iter().enumerate().filter(|(at, gpu)| request.accepts(gpu) && may_take(*at));
    good.map(|(_, gpu)| gpu).collect()
}

/// How many are in one group of a level at most.
fn most_near(link: GpuLink, devices: &[&Gpu]) -> usize {
    let mut groups: BTreeMap<u32, usize> = BTreeMap::new();
    devices.iter().filter_map(|gpu| gpu.group(link)).for_each(|group| *groups.entry(group).or_insert(0) += 1);
    groups.into_values().max().unwrap_or(0)
}
