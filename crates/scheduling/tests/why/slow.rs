//! The same numbers, counted again from what lives, the slow way.

use flowyard_model::*;
use flowyard_scheduling::why::{BoundOn, Change};
use flowyard_state::State;

use crate::world::World;

/// How much there is of something, by queue and owner.
type Amounts = Vec<((QueuePath, String), u64)>;

/// What a queue and all below it hold of what a bound counts, by owner and queue.
pub(crate) fn held(state: &State, queue: &QueuePath, on: &BoundOn) -> Amounts {
    let mut found = std::collections::BTreeMap::new();
    for (id, node) in state.nodes() {
        for (key, _, member) in state.live_members(id) {
            let job = state.job(key.task.job).unwrap();
            let wanted = &job.spec.steps[key.task.step.0 as usize].resources;
            let held = Held::by_member(wanted, member.gpu_alternative, &node.inventory, &member.gpus);
            let amount = match on {
                // A task counts once, with its first member that lives.
                BoundOn::Tasks => u64::from(first_live(state, key) == key.rank),
                BoundOn::Limit(resource) | BoundOn::Borrow(resource) => held.get(resource.column()),
                BoundOn::NoPreempt(resource) => {
                    let is_kept = !job.spec.steps[key.task.step.0 as usize].preemptible;
                    if is_kept { held.get(resource.column()) } else { 0 }
                }
                BoundOn::Cluster(resource) => held.get(resource.column()),
                BoundOn::NoQuota(_) => 0,
            };
            let counts = queue.covers(&job.spec.queue) || matches!(on, BoundOn::Cluster(_));
            if counts && amount > 0 {
                *found.entry((job.spec.queue.clone(), job.owner.clone())).or_insert(0) += amount;
            }
        }
    }
    found.into_iter().collect()
}

fn first_live(state: &State, key: MemberKey) -> Rank {
    let attempt = state.attempt(key.task, key.attempt).unwrap();
    let at = attempt.members.iter().position(|member| member.phase != Phase::Ended).unwrap();
    Rank(at as u32)
}

/// How much a task needs of what a bound counts; of any model, for a bound on one, all of its devices.
pub(crate) fn needed(spec: &StepSpec, alternative: u32, on: &BoundOn) -> u64 {
    let resource = match on {
        BoundOn::Tasks => return 1,
        BoundOn::Limit(resource)
        | BoundOn::Borrow(resource)
        | BoundOn::NoPreempt(resource)
        | BoundOn::NoQuota(resource)
        | BoundOn::Cluster(resource) => resource,
    };
    let (wants, size) = (&spec.resources, u64::from(spec.size));
    let request = wants.gpus.get(alternative as usize);
    let devices = request.map_or(0, |request| u64::from(request.count) * u64::from(request.share_milli));
    let each = match resource.column() {
        Column::Cpu => wants.cpu_milli,
        Column::Memory => wants.memory_bytes,
        Column::Disk => wants.disk_bytes,
        Column::Token(name) => u64::from(wants.tokens.get(name).copied().unwrap_or(0)),
        Column::Gpu(GpuClass::Any) => devices,
        Column::Gpu(GpuClass::Model(model)) => {
            let asked = request.and_then(|request| request.model.as_ref());
            if asked.is_none_or(|asked| asked.to_ascii_lowercase() == *model) { devices } else { 0 }
        }
    };
    each * size
}

/// Whether `apply` takes a task of one member on a node, by any alternative and any devices, in a cluster without bounds of queues.
pub(crate) fn would_take(world: &World, task: TaskKey, node: NodeId) -> bool {
    let mut open = world.clone();
    for queue in world.state.queues() {
        open.put(Queue {
            max_active: None,
            limit: Default::default(),
            borrow: Default::default(),
            ..Queue::clone(queue)
        });
    }
    let policy = world.state.policy();
    let enough = policy.tokens.keys().map(|name| (name.clone(), 1_000_000)).collect();
    let throttle = Throttle { per_job: None, ..policy.throttle };
    open.perform(Command::PutPolicy(Policy { tokens: enough, throttle, ..Policy::clone(policy) }.into()));
    let record = open.state.node(node).unwrap().clone();
    let spec = open.state.step_spec(task.job, task.step).unwrap().clone();
    let attempt = AttemptNumber(open.state.task(task).map_or(0, |task| task.attempts.len() as u32) + 1);
    let sets = subsets(record.inventory.gpus.len());
    (0..spec.resources.gpus.len().max(1) as u32).any(|gpu_alternative| {
        sets.iter().any(|gpus| {
            let incarnation = record.incarnation;
            let seat = Seat { node, incarnation, gpus: gpus.clone(), gpu_alternative };
            let mut tried = open.clone();
            let plan = Plan {
                based_on: tried.state.revision(),
                seed: 0,
                budget: 0,
                placer_version: 0,
                accept_ms: None,
                claims: vec![],
                drops: vec![],
                at: None,
                made_from: None,
                repairs: Vec::new(),
                placements: vec![Placement { task, attempt, members: vec![seat] }],
            };
            tried.perform(Command::CommitPlan(plan)) == Reply::PlanCommitted { refused: vec![], refused_claims: vec![] }
        })
    })
}

fn subsets(count: usize) -> Vec<Vec<GpuIndex>> {
    let set = |bits: u32| (0..count as u32).filter(|at| bits & (1 << at) != 0).map(GpuIndex).collect();
    (0..1 << count).map(set).collect()
}

/// The change that is one less than this one, where it is of an amount.
pub(crate) fn one_less(change: &Change) -> Option<Change> {
    let mut less = change.clone();
    let is_one = match &mut less {
        Change::Gpus { from, to, .. }
        | Change::Members { from, to, .. }
        | Change::Tokens { from, to, .. }
        | Change::Share { from, to, .. } => {
            *to += 1;
            to < from
        }
        Change::Cpu { from, to }
        | Change::Memory { from, to }
        | Change::Disk { from, to }
        | Change::ShareMemory { from, to, .. }
        | Change::GpuMemory { from, to, .. } => {
            *to += 1;
            to < from
        }
        Change::MaxActive { from, to, .. } | Change::MaxParallel { from, to } => {
            *to -= 1;
            to > from
        }
        Change::Limit { from, to, .. } | Change::Borrow { from, to, .. } | Change::Lend { from, to, .. } => {
            *to -= 1;
            to > from
        }
        Change::Priority { from, to } => {
            *to -= 1;
            to > from
        }
        _ => false,
    };
    is_one.then_some(less)
}

/// What counts as held of a node for a task that has no place yet.
pub(crate) struct Counted {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) devices: std::collections::BTreeSet<usize>,
}

/// What is held now, or will be once whoever was asked to leave has left and is followed by whom they leave for, or once all have ended
/// in addition that somebody waits for and those have started, unless the task will have ended by then: the most of them.
pub(crate) fn counted(world: &World, task: TaskKey, node: NodeId) -> Counted {
    let state = &world.state;
    let claims: Vec<_> = state.claims().filter(|(key, _)| **key != task).collect();
    let here = |claim: &Claim| claim.members.iter().any(|seat| seat.node == node);
    let reserved: Vec<_> = claims.iter().filter(|(_, claim)| claim.is_reservation() && here(claim)).collect();
    let timeout = state.step_spec(task.job, task.step).unwrap().timeout_ms;
    let ends = timeout.map(|timeout| state.time().after(timeout));
    let goes_before = reserved.iter().all(|(_, it)| ends.zip(it.starts_at).is_some_and(|(ends, at)| ends <= at));
    let (mut now, mut left, mut then) = ([0, 0], [0, 0], [0, 0]);
    let mut devices = std::collections::BTreeSet::new();
    let add = |sum: &mut [u64; 2], key: TaskKey| {
        let wants = &state.step_spec(key.job, key.step).unwrap().resources;
        *sum = [sum[0] + wants.cpu_milli, sum[1] + wants.memory_bytes];
    };
    for (key, attempt, member) in state.live_members(node) {
        let leaves = attempt.preempted.is_some();
        let is_awaited = claims.iter().any(|(_, claim)| claim.awaits.iter().any(|it| it.task == key.task));
        add(&mut now, key.task);
        (!leaves).then(|| add(&mut left, key.task));
        (!leaves && !is_awaited).then(|| add(&mut then, key.task));
        devices.extend(member.gpus.iter().map(|gpu| gpu.0 as usize));
    }
    for (key, claim) in claims {
        for seat in claim.members.iter().filter(|seat| seat.node == node) {
            (!claim.is_reservation()).then(|| add(&mut left, *key));
            add(&mut then, *key);
            if !claim.is_reservation() || !goes_before {
                devices.extend(seat.gpus.iter().map(|gpu| gpu.0 as usize));
            }
        }
    }
    let then = if goes_before { [0, 0] } else { then };
    let most = |at: usize| now[at].max(left[at]).max(then[at]);
    Counted { cpu: most(0), memory: most(1), devices }
}

/// What is free of a resource on nodes that take work, where nothing is promised to anybody.
pub(crate) fn free(state: &State, column: Column<'_>) -> u64 {
    let of_node = |(id, node): (NodeId, &std::sync::Arc<Node>)| {
        let mut held = Held::NONE;
        for (key, _, member) in state.live_members(id) {
            let wanted = &state.step_spec(key.task.job, key.task.step).unwrap().resources;
            held.add(&Held::by_member(wanted, member.gpu_alternative, &node.inventory, &member.gpus));
        }
        let all = match column {
            Column::Cpu => node.inventory.cpu_milli,
            Column::Memory => node.inventory.memory_bytes,
            Column::Disk => node.inventory.disk_bytes,
            Column::Gpu(class) => {
                let is_of = |gpu: &&Gpu| match class {
                    GpuClass::Any => true,
                    GpuClass::Model(model) => gpu.model.to_ascii_lowercase() == *model,
                };
                1_000 * node.inventory.gpus.iter().filter(is_of).count() as u64
            }
            Column::Token(_) => 0,
        };
        all - held.get(column)
    };
    state.nodes().filter(|(_, node)| node.scheduling == Scheduling::Open).map(of_node).sum()
}

/// What a queue and all below it hold of a resource.
pub(crate) fn held_of(state: &State, queue: &QueuePath, column: Column<'_>) -> u64 {
    let on = BoundOn::Limit(flowyard_scheduling::why::Resource::of(column));
    held(state, queue, &on).iter().map(|(_, held)| held).sum()
}

/// How much more of what a bound counts there will be once those have started who have a place, and who those are.
pub(crate) fn kept(state: &State, queue: &QueuePath, on: &BoundOn) -> (u64, Amounts) {
    let amount = |key: TaskKey, held: &Held| match on {
        BoundOn::NoQuota(_) => 0,
        BoundOn::Tasks => 1,
        BoundOn::NoPreempt(_) if state.step_spec(key.job, key.step).unwrap().preemptible => 0,
        BoundOn::Limit(resource)
        | BoundOn::Borrow(resource)
        | BoundOn::Cluster(resource)
        | BoundOn::NoPreempt(resource) => held.get(resource.column()),
    };
    let counts =
        |key: TaskKey| matches!(on, BoundOn::Cluster(_)) || queue.covers(&state.job(key.job).unwrap().spec.queue);
    let holds = |key: TaskKey, alternative: u32, node: NodeId, gpus: &[GpuIndex]| {
        let wanted = &state.step_spec(key.job, key.step).unwrap().resources;
        Held::by_member(wanted, alternative, &state.node(node).unwrap().inventory, gpus)
    };
    let (mut now, mut leaving, mut awaited) = (0, 0, 0);
    for (id, _) in state.nodes() {
        for (key, attempt, member) in state.live_members(id).filter(|(key, ..)| counts(key.task)) {
            if matches!(on, BoundOn::Tasks) && first_live(state, key) != key.rank {
                continue;
            }
            let amount = amount(key.task, &holds(key.task, member.gpu_alternative, id, &member.gpus));
            let is_awaited = state.claims().any(|(_, claim)| claim.awaits.iter().any(|it| it.task == key.task));
            now += amount;
            match attempt.preempted.is_some() {
                true => leaving += amount,
                false if is_awaited => awaited += amount,
                false => {}
            }
        }
    }
    let (mut claimed, mut reserved, mut whose) = (0, 0, std::collections::BTreeMap::new());
    for (key, claim) in state.claims().filter(|(key, _)| counts(**key)) {
        let mut held = Held::NONE;
        let seats = claim.members.iter();
        seats.for_each(|seat| held.add(&holds(*key, seat.gpu_alternative, seat.node, &seat.gpus)));
        let amount = amount(*key, &held);
        *(if claim.is_reservation() { &mut reserved } else { &mut claimed }) += amount;
        let job = state.job(key.job).unwrap();
        if amount > 0 {
            *whose.entry((job.spec.queue.clone(), job.owner.clone())).or_insert(0) += amount;
        }
    }
    let left: u64 = now - leaving + claimed;
    let most = now.max(left).max(left - awaited + reserved);
    (most - now, whose.into_iter().collect())
}
