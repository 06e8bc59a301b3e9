//! Which bounds of queues keep a task out, who holds what they count, and what is kept free for others.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{AccountKey, ClusterVersion, Column, GpuClass, Held, Queue, QueuePath, Resources, StepSpec};
use flowyard_state::{Load, Portion, State};

use super::Resource;
use crate::for_good;
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
    /// What must not be evicted needs this, of which neither the queue nor one above it keeps anything from eviction (any more).
    NoQuota(Resource),
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
    /// How much more there will be once those have started who have their place and wait for others to leave or to end.
    pub kept: u64,
    /// How much more there would be.
    pub need: u64,
    /// How much there may be.
    pub most: u64,
    /// Who holds it, those with most first.
    pub holders: Vec<Holder>,
    /// Who has a place that it counts, those with most first.
    pub kept_for: Vec<Holder>,
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

/// What counts as held where it is asked whether a bound is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reckon {
    /// What is held now: whoever is out of bounds by that is placed nowhere.
    Now,
    /// What is held now, or will be once those have started who have a place: the greater of them. Who will have ended before may go where
    /// they wait for room.
    Kept,
}

/// One way to place a step: by an alternative of its devices, as far as bounds and what is kept for others leave it open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// Bounds in sets: it is open, or open for one model of devices more, once all of a set are raised.
    pub(crate) bounds: Vec<Vec<BoundReached>>,
    /// What is free and kept for others of what it would take.
    pub(crate) kept: Vec<KeptFree>,
    /// Whether bounds close it altogether.
    pub(crate) is_beyond: bool,
    /// Whether what is kept for others closes it altogether, or that and bounds together.
    pub(crate) is_kept: bool,
    /// Models of devices that it is closed for; if all, it is closed.
    pub(crate) hidden: BTreeSet<String>,
}

impl Way {
    pub(crate) fn is_closed(&self) -> bool {
        self.is_beyond || self.is_kept
    }

    /// Bounds to be raised in sets, with who holds what they count.
    pub(crate) fn with_holders(mut self, state: &State) -> Self {
        for bound in self.bounds.iter_mut().flatten() {
            bound.holders = holders_of(state, &bound.queue, &bound.on);
            bound.kept_for = if bound.kept > 0 { kept_for(state, &bound.queue, &bound.on) } else { Vec::new() };
        }
        self
    }
}

/// Whose bounds these are, and what is asked of them.
struct Asked<'a> {
    state: &'a State,
    queue: &'a QueuePath,
    spec: &'a StepSpec,
    alternative: u32,
    reckon: Reckon,
}

/// How a task could be placed by an alternative. What is kept for others is not looked at without a line.
pub(crate) fn way(
    state: &State,
    queue: &QueuePath,
    (spec, alternative): (&StepSpec, u32),
    reckon: Reckon,
    line: Option<&mut Line>,
) -> Way {
    let asked = Asked { state, queue, spec, alternative, reckon };
    let met = asked.met(&spec.resources);
    let (bounds, kept, hidden) = (Vec::new(), Vec::new(), BTreeSet::new());
    if !met.is_empty() {
        return Way { bounds: vec![met], kept, is_beyond: true, is_kept: false, hidden };
    }
    let mut line = line;
    let kept = line.as_deref_mut().map_or(kept, |line| asked.kept(line, &spec.resources));
    let is_kept = !kept.is_empty();
    let way = Way { bounds, kept, is_beyond: false, is_kept, hidden };
    let any_model = spec.resources.gpus.get(alternative as usize).is_some_and(|request| request.model.is_none());
    if any_model && !is_kept { asked.by_model(way, line) } else { way }
}

impl Asked<'_> {
    /// Where any model will do, those are left out that are out of bounds or kept for others.
    fn by_model(&self, mut way: Way, mut line: Option<&mut Line>) -> Way {
        let models = self.models();
        let mut beyond = 0;
        for model in &models {
            let mut wanted = self.spec.resources.clone();
            wanted.gpus[self.alternative as usize].model = Some(model.clone());
            let met = self.met(&wanted);
            if !met.is_empty() {
                way.bounds.push(met);
                beyond += 1;
            } else {
                let kept = line.as_deref_mut().map_or_else(Vec::new, |line| self.kept(line, &wanted));
                if kept.is_empty() {
                    continue;
                }
                way.kept.extend(kept);
            }
            way.hidden.insert(model.clone());
        }
        way.is_beyond = !models.is_empty() && beyond == models.len();
        way.is_kept = !way.is_beyond && !models.is_empty() && way.hidden.len() == models.len();
        way
    }

    /// Models of devices that would do.
    fn models(&self) -> BTreeSet<String> {
        let Some(request) = self.spec.resources.gpus.get(self.alternative as usize) else { return BTreeSet::new() };
        let gpus = self.state.nodes().flat_map(|(_, node)| &node.inventory.gpus);
        gpus.filter(|gpu| request.accepts(gpu)).map(|gpu| gpu.model.to_ascii_lowercase()).collect()
    }

    /// What is kept free for others of what a task would take.
    fn kept(&self, line: &mut Line, wanted: &Resources) -> Vec<KeptFree> {
        let asked = Resource::asked(&need(self.spec, wanted, self.alternative));
        asked.iter().filter_map(|(resource, need)| line.kept_from(self.queue, resource, *need)).collect()
    }

    /// Every bound that a task would meet; none if it is within all of them.
    fn met(&self, wanted: &Resources) -> Vec<BoundReached> {
        let (state, need) = (self.state, need(self.spec, wanted, self.alternative));
        let on_path: Vec<&Queue> = match state.version() < ClusterVersion::ACCESS {
            true => state.queue(self.queue).into_iter().map(|queue| &**queue).collect(),
            false => self.queue.levels().filter_map(|level| Some(&**state.queue(&level.parse().ok()?)?)).collect(),
        };
        let mut found: Vec<BoundReached> = self.of_cluster(&need).collect();
        found.extend(on_path.into_iter().flat_map(|queue| self.of_queue(queue, &need)));
        found.extend(self.no_quota());
        found
    }

    fn bound(
        &self,
        queue: &QueuePath,
        on: BoundOn,
        (held, kept): (u64, u64),
        (need, most): (u64, u64),
    ) -> BoundReached {
        let (alternative, queue) = (self.alternative, queue.clone());
        BoundReached { alternative, queue, on, held, kept, need, most, holders: Vec::new(), kept_for: Vec::new() }
    }

    /// Tokens of which the cluster has too few for a task.
    fn of_cluster(&self, need: &Held) -> impl Iterator<Item = BoundReached> {
        let needed = need.tokens.iter().filter(|(_, need)| **need > 0);
        needed.filter_map(|(name, need)| {
            let (held, most) = (self.state.shared_held(name), self.state.shared(name)?);
            let later = most.saturating_sub(held).saturating_sub(self.state.shared_free(name));
            let kept = if self.reckon == Reckon::Now { 0 } else { later };
            let on = BoundOn::Cluster(Resource::Token(name.clone()));
            Some(self.bound(self.queue, on, (held, kept), (*need, most))).filter(is_reached)
        })
    }

    /// What one queue bounds, as far as a task would be beyond it.
    fn of_queue(&self, queue: &Queue, need: &Held) -> Vec<BoundReached> {
        let old = self.state.version() < ClusterVersion::ACCESS;
        let tasks = queue.max_active.map(|most| (BoundOn::Tasks, 1, u64::from(most)));
        let needs = |column: Column<'_>| need.get(column);
        let limits = queue.limit.named();
        let limits = limits.map(|(column, most)| (BoundOn::Limit(Resource::of(column)), needs(column), most));
        let borrows = queue.borrow.named().map(|(column, most)| {
            let most = most.saturating_add(queue.reserve.promised(column));
            (BoundOn::Borrow(Resource::of(column)), needs(column), most)
        });
        let request = self.spec.resources.gpus.get(self.alternative as usize);
        let any = request.is_some_and(|request| request.model.is_none());
        // Which model they will be is not known before: they count as of each.
        let for_good = |column: Column<'_>| match column {
            Column::Gpu(GpuClass::Model(_)) if any => need.get(Column::GPUS),
            column => need.get(column),
        };
        let quotas = queue.no_preempt.named().filter(|_| !self.spec.preemptible);
        let quotas = quotas.map(|(column, most)| (BoundOn::NoPreempt(Resource::of(column)), for_good(column), most));
        let amounts = limits.chain(borrows).chain(quotas).filter(|_| !old);
        let all = tasks.into_iter().chain(amounts).filter(|(_, need, _)| *need > 0);
        let bounds = all.map(|(on, need, most)| {
            let (held, kept) = counted(self.state, &queue.path, &on);
            let kept = if self.reckon == Reckon::Now { 0 } else { kept };
            self.bound(&queue.path, on, (held, kept), (need, most))
        });
        bounds.filter(is_reached).collect()
    }

    /// What must not be evicted and is kept from eviction nowhere is never placed.
    fn no_quota(&self) -> Option<BoundReached> {
        let (spec, wanted) = (self.spec, &self.spec.resources);
        if spec.preemptible || for_good::may_ever(self.state, self.queue, wanted) {
            return None;
        }
        let (column, need) = alternatives(spec).find_map(|alternative| {
            let need = need(spec, wanted, alternative);
            for_good::uncovered(self.state, self.queue, &need)
        })?;
        Some(self.bound(self.queue, BoundOn::NoQuota(column), (0, 0), (need, 0)))
    }
}

fn is_reached(bound: &BoundReached) -> bool {
    bound.held.saturating_add(bound.kept).saturating_add(bound.need) > bound.most
}

/// What counts in a bound of a queue: how much is held of it, and how much more will be once those have started who have a place.
pub(crate) fn counted(state: &State, queue: &QueuePath, on: &BoundOn) -> (u64, u64) {
    let load = state.load(queue);
    if state.version() < ClusterVersion::ACCESS {
        return (u64::from(load.own_active), 0);
    }
    let now = of_load(load, on);
    let of = |portion: &Portion| match on {
        BoundOn::Tasks => u64::from(portion.tasks),
        BoundOn::Limit(resource) | BoundOn::Borrow(resource) | BoundOn::Cluster(resource) => {
            portion.held.get(resource.column())
        }
        BoundOn::NoPreempt(resource) | BoundOn::NoQuota(resource) => portion.held_for_good.get(resource.column()),
    };
    let left = now.wrapping_sub(of(&load.leaving)).wrapping_add(of(&load.claimed));
    let then = left.wrapping_sub(of(&load.awaited)).wrapping_add(of(&load.reserved));
    (now, left.max(then).saturating_sub(now))
}

fn of_load(load: &Load, on: &BoundOn) -> u64 {
    match on {
        BoundOn::Tasks => load.active.into(),
        BoundOn::Limit(resource) | BoundOn::Borrow(resource) | BoundOn::Cluster(resource) => {
            load.held.get(resource.column())
        }
        BoundOn::NoPreempt(resource) | BoundOn::NoQuota(resource) => load.held_for_good.get(resource.column()),
    }
}

fn holders_of(state: &State, queue: &QueuePath, on: &BoundOn) -> Vec<Holder> {
    let amount = |active: u32, held: &Held| match on {
        BoundOn::Tasks => u64::from(active),
        BoundOn::Limit(resource)
        | BoundOn::Borrow(resource)
        | BoundOn::Cluster(resource)
        | BoundOn::NoPreempt(resource) => held.get(resource.column()),
        BoundOn::NoQuota(_) => 0,
    };
    let of_all = matches!(on, BoundOn::Cluster(_));
    let old = state.version() < ClusterVersion::ACCESS;
    let is_below = |key: &AccountKey| match old {
        true => key.queue == *queue,
        false => of_all || queue.covers(&key.queue),
    };
    // Accounts do not say which of it must not be evicted.
    if old || matches!(on, BoundOn::NoPreempt(_)) {
        let counted = if old { holders::count(state) } else { holders::count_for_good(state) };
        let own = counted.into_iter().filter(|(key, _)| is_below(key));
        return in_order(own.map(|(key, (active, held))| (key, amount(active, &held))));
    }
    let below = state.accounts().filter(|(key, _)| is_below(key));
    in_order(below.map(|(key, account)| (key.clone(), amount(account.active, &account.held))))
}

/// Whose places a bound counts.
fn kept_for(state: &State, queue: &QueuePath, on: &BoundOn) -> Vec<Holder> {
    let mut found: BTreeMap<AccountKey, u64> = BTreeMap::new();
    for (key, claim) in state.claims() {
        let Some((job, spec)) = state.outline(key.job).zip(state.step_spec(key.job, key.step)) else { continue };
        if !matches!(on, BoundOn::Cluster(_)) && !queue.covers(&job.spec.queue) {
            continue;
        }
        let seats = claim.members.iter().filter_map(|seat| {
            let inventory = &state.node(seat.node)?.inventory;
            Some(Held::by_member(&spec.resources, seat.gpu_alternative, inventory, &seat.gpus))
        });
        let held = |resource: &Resource| seats.map(|held| held.get(resource.column())).sum::<u64>();
        let amount = match on {
            BoundOn::Tasks => 1,
            BoundOn::Limit(resource) | BoundOn::Borrow(resource) | BoundOn::Cluster(resource) => held(resource),
            BoundOn::NoPreempt(_) if spec.preemptible => 0,
            BoundOn::NoPreempt(resource) => held(resource),
            BoundOn::NoQuota(_) => 0,
        };
        *found.entry(AccountKey { queue: job.spec.queue.clone(), owner: job.owner.to_owned() }).or_insert(0) += amount;
    }
    in_order(found.into_iter())
}

fn in_order(holders: impl Iterator<Item = (AccountKey, u64)>) -> Vec<Holder> {
    let mut holders: Vec<_> = holders.filter(|(_, held)| *held > 0).collect();
    holders.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    holders.into_iter().map(|(key, held)| Holder { queue: key.queue, owner: key.owner, held }).collect()
}
