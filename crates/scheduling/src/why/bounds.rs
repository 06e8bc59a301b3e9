//! Which bounds of queues keep a task out, who holds what they count, and what is kept free for others.

use std::collections::BTreeSet;

use flowyard_model::{ClusterVersion, Held, Queue, QueuePath, Resources, StepSpec};
use flowyard_state::State;

use super::Resource;
use crate::holders;
use crate::scheduler::Line;

/// What a bound of a queue is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum BoundOn {
    /// Active tasks.
    Tasks,
    /// What is held of a resource.
    Limit(Resource),
    /// What is held of a resource beyond what is promised of it.
    Borrow(Resource),
    /// What is held of a resource by what must not be evicted.
    NoPreempt(Resource),
    /// What is held in all queues of a token that all nodes share: there are no more in the cluster.
    Cluster(Resource),
}

/// A bound that keeps one more task out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundReached {
    /// By which alternative of its devices it would meet it.
    pub alternative: u32,
    /// Whose bound it is: the task's queue, or one above it; the task's own where it is one of the cluster.
    pub queue: QueuePath,
    /// On what.
    pub on: BoundOn,
    /// How much there is now.
    pub held: u64,
    /// How much more there would be.
    pub need: u64,
    /// How much there may be.
    pub most: u64,
    /// Who holds it, those with most first.
    pub holders: Vec<Holder>,
}

/// Somebody who holds something that a bound counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// By jobs of which queue.
    pub queue: QueuePath,
    /// Who.
    pub owner: String,
    /// How much of it.
    pub held: u64,
}

/// What is free of a resource and kept for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFree {
    /// Of what.
    pub resource: Resource,
    /// How much the task needs.
    pub need: u64,
    /// How much is free on nodes that take work.
    pub free: u64,
    /// How much of that is kept.
    pub kept: u64,
    /// For which queues, and how much for each.
    pub keepers: Vec<(QueuePath, u64)>,
}

/// The alternatives of a step, by their position; one without devices too.
pub(crate) fn alternatives(spec: &StepSpec) -> std::ops::Range<u32> {
    0..spec.resources.gpus.len().max(1) as u32
}

/// What a task with all its members would hold.
pub(crate) fn need(spec: &StepSpec, wanted: &Resources, alternative: u32) -> Held {
    let mut need = Held::NONE;
    (0..spec.size).for_each(|_| need.add(&Held::by_request(wanted, alternative)));
    need
}

/// Every bound that a task would meet by an alternative; none if it is within all of them.
pub(crate) fn reached(state: &State, queue: &QueuePath, spec: &StepSpec, alternative: u32) -> Vec<BoundReached> {
    let mut found = met(state, queue, spec, alternative);
    found.iter_mut().for_each(|bound| bound.holders = holders_of(state, &bound.queue, &bound.on));
    found
}

/// The same without who holds what.
pub(crate) fn met(state: &State, queue: &QueuePath, spec: &StepSpec, alternative: u32) -> Vec<BoundReached> {
    let of =
        |wanted: &Resources| of_need(state, queue, &need(spec, wanted, alternative), (alternative, spec.preemptible));
    let found = of(&spec.resources);
    let request = spec.resources.gpus.get(alternative as usize);
    let Some(request) = request.filter(|request| request.model.is_none() && found.is_empty()) else { return found };
    // If any model will do, every model there is has to be out of bounds.
    let gpus = state.nodes().flat_map(|(_, node)| &node.inventory.gpus).filter(|gpu| request.accepts(gpu));
    let models: BTreeSet<_> = gpus.map(|gpu| gpu.model.to_ascii_lowercase()).collect();
    let of_model = |model: &String| {
        let mut wanted = spec.resources.clone();
        wanted.gpus[alternative as usize].model = Some(model.clone());
        Some(of(&wanted)).filter(|found| !found.is_empty())
    };
    let found: Option<Vec<_>> = models.iter().map(of_model).collect();
    let mut found: Vec<_> = found.into_iter().flatten().flatten().collect();
    found.dedup_by(|one, other| (&one.queue, &one.on) == (&other.queue, &other.on));
    found
}

fn of_need(
    state: &State,
    queue: &QueuePath,
    need: &Held,
    (alternative, preemptible): (u32, bool),
) -> Vec<BoundReached> {
    let on_path: Vec<&Queue> = match state.version() < ClusterVersion::ACCESS {
        true => state.queue(queue).into_iter().map(|queue| &**queue).collect(),
        false => queue.levels().filter_map(|level| Some(&**state.queue(&level.parse().ok()?)?)).collect(),
    };
    let mut found: Vec<BoundReached> = of_cluster(state, queue, need, alternative).collect();
    for queue in on_path {
        for (on, held, need, most) in of_queue(state, queue, need, preemptible) {
            let (queue, holders) = (queue.path.clone(), Vec::new());
            found.push(BoundReached { alternative, queue, on, held, need, most, holders });
        }
    }
    found
}

/// Tokens of which the cluster has too few for a task.
fn of_cluster(state: &State, queue: &QueuePath, need: &Held, alternative: u32) -> impl Iterator<Item = BoundReached> {
    need.tokens.iter().filter(|(_, need)| **need > 0).filter_map(move |(name, need)| {
        let (held, most) = (state.shared_held(name), state.shared(name)?);
        let on = BoundOn::Cluster(Resource::Token(name.clone()));
        let (queue, holders) = (queue.clone(), Vec::new());
        let reached = BoundReached { alternative, queue, on, held, need: *need, most, holders };
        (held.saturating_add(*need) > most).then_some(reached)
    })
}

/// What one queue bounds, as far as a task would be beyond it: on what, how much is held, is needed and may be held.
fn of_queue(state: &State, queue: &Queue, need: &Held, preemptible: bool) -> Vec<(BoundOn, u64, u64, u64)> {
    let load = state.load(&queue.path);
    let old = state.version() < ClusterVersion::ACCESS;
    let active = if old { load.own_active } else { load.active };
    let tasks = queue.max_active.map(|most| (BoundOn::Tasks, u64::from(active), 1, u64::from(most)));
    let limits = queue.limit.named().map(|(column, most)| (BoundOn::Limit(Resource::of(column)), column, most));
    let borrows = queue.borrow.named().map(|(column, most)| {
        let most = most.saturating_add(queue.reserve.promised(column));
        (BoundOn::Borrow(Resource::of(column)), column, most)
    });
    let kept = queue.no_preempt.named().filter(|_| !preemptible);
    let kept = kept.map(|(column, most)| (BoundOn::NoPreempt(Resource::of(column)), column, most));
    let amounts = limits.chain(borrows).chain(kept).filter(|_| !old);
    let amounts = amounts.map(|(on, column, most)| {
        let held = if matches!(on, BoundOn::NoPreempt(_)) { &load.held_for_good } else { &load.held };
        (on, held.get(column), need.get(column), most)
    });
    let needed = tasks.into_iter().chain(amounts).filter(|(_, _, need, _)| *need > 0);
    needed.filter(|(_, held, need, most)| held.saturating_add(*need) > *most).collect()
}

fn holders_of(state: &State, queue: &QueuePath, on: &BoundOn) -> Vec<Holder> {
    let amount = |active: u32, held: &Held| match on {
        BoundOn::Tasks => u64::from(active),
        BoundOn::Limit(resource) | BoundOn::Borrow(resource) | BoundOn::Cluster(resource) => {
            held.get(resource.column())
        }
        // Accounts do not say which of it must not be evicted.
        BoundOn::NoPreempt(_) => 0,
    };
    let mut holders: Vec<_> = if state.version() < ClusterVersion::ACCESS {
        let own = holders::count(state).into_iter().filter(|(key, _)| key.queue == *queue);
        own.map(|(key, (active, held))| (key, amount(active, &held))).collect()
    } else {
        let of_all = matches!(on, BoundOn::Cluster(_));
        let below = state.accounts().filter(|(key, _)| of_all || queue.covers(&key.queue));
        below.map(|(key, account)| (key.clone(), amount(account.active, &account.held))).collect()
    };
    holders.retain(|(_, held)| *held > 0);
    holders.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    holders.into_iter().map(|(key, held)| Holder { queue: key.queue, owner: key.owner, held }).collect()
}

/// What is kept free for others of what a task would take by an alternative.
pub(crate) fn kept(line: &mut Line, queue: &QueuePath, spec: &StepSpec, alternative: u32) -> Vec<KeptFree> {
    let asked = Resource::asked(&need(spec, &spec.resources, alternative));
    asked.iter().filter_map(|(resource, need)| line.kept_from(queue, resource, *need)).collect()
}
