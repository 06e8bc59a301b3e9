//! A scheduler: it follows a state by what differs, and proposes plans.
//!
//! It is a cache and nothing else: whatever it was shown before, it proposes what a new one would. So a new leader starts with
//! an empty one, and anybody can make a plan again who has the state it was made from.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{AccountKey, ClusterVersion, GpuIndex, NodeId, Placement, Plan, Seat, TimeMs, limits};
use flowyard_placement::{
    Account, Bound, Fleet, GroupFacts, GroupKey, Held, PLACER_VERSION, Queues, SeatAt, Seated, round,
};
use flowyard_state::{Differences, ReadyGroup, ReadyStep, State, decayed_at};

use crate::holders;
use crate::nodes::{self, Classes};
use crate::shapes::Shapes;
use crate::tree::Tree;
use crate::waiting;
use crate::words::Words;

/// Seats in one plan, so that its entry keeps within the limit; see also [`limits::PLACEMENTS_PER_PLAN`].
pub const SEATS_PER_PLAN: usize = 8_000;
/// Classes, models and tokens that there may come to be beside those there were at first: what is gone is forgotten by starting
/// anew.
const MORE_NAMES: usize = 10_000;
/// How often past use is compared anew.
const COMPARED_EVERY_MS: u64 = 60_000;

/// What a scheduler proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Plans, each small enough for one entry, most urgent first.
    pub plans: Vec<Plan>,
    /// Whether everything was looked at; otherwise the bound was met, and another round gets further.
    pub complete: bool,
}

/// A scheduler.
#[derive(Debug)]
pub struct Scheduler {
    /// Orders what is equal otherwise.
    seed: u64,
    known: Option<Known>,
}

impl Scheduler {
    /// One that has seen nothing yet.
    pub fn new(seed: u64) -> Self {
        Self { seed, known: None }
    }

    /// What may be placed in this state.
    pub fn round(&mut self, state: &State, bound: Bound) -> Proposal {
        let followed = self.known.take().and_then(|mut known| known.follow(state).then_some(known));
        let mut known = followed.unwrap_or_else(|| Known::of(state, self.seed));
        let round = round(&mut known.queues, &mut known.fleet, bound);
        let plans = known.plans(round.placed, bound, self.seed);
        self.known = Some(known);
        Proposal { plans, complete: round.complete }
    }
}

/// What a scheduler knows of the state that it saw last.
#[derive(Debug)]
struct Known {
    state: State,
    words: Words,
    classes: Classes,
    shapes: Shapes,
    tree: Tree,
    fleet: Fleet,
    queues: Queues,
    /// What each node adds to the capacity.
    capacity: BTreeMap<NodeId, Held>,
    /// What of each node may be given out.
    free: BTreeMap<NodeId, Held>,
    /// The groups that wait, each by its parts.
    groups: BTreeMap<ReadyGroup, Vec<GroupKey>>,
    by_key: BTreeMap<GroupKey, ReadyGroup>,
    /// Names that there were numbers for at first.
    names_at_first: usize,
    /// What the last round changed: whether it came to be is for the state to say.
    touched: Touched,
}

/// What a round gave out, and to whom.
#[derive(Debug, Default)]
struct Touched {
    nodes: BTreeSet<NodeId>,
    groups: BTreeSet<ReadyGroup>,
}

impl Known {
    fn of(state: &State, seed: u64) -> Self {
        let mut known = Self {
            state: state.clone(),
            words: Words::none(),
            classes: Classes::none(),
            shapes: Shapes::none(),
            tree: Tree::of(state),
            fleet: Fleet::new(seed),
            queues: Queues::new(Held::NONE),
            capacity: BTreeMap::new(),
            free: BTreeMap::new(),
            groups: BTreeMap::new(),
            by_key: BTreeMap::new(),
            names_at_first: 0,
            touched: Touched::default(),
        };
        known.tree.tell(state, &mut known.words, &mut known.queues);
        state.nodes().for_each(|(id, _)| known.tell_node(id));
        known.all_accounts().iter().for_each(|key| known.tell_account(key));
        if state.version() < ClusterVersion::ACCESS {
            known.tell_holders();
        }
        state.ready_groups().map(ReadyStep::group).for_each(|group| known.tell_group(&group));
        known.names_at_first = known.names();
        known
    }

    fn names(&self) -> usize {
        self.classes.examples().len() + self.words.count()
    }

    /// Takes over what differs; `false` if it is simpler to start anew.
    fn follow(&mut self, state: &State) -> bool {
        let Differences { nodes, queues, accounts, ready, .. } = state.differences(&self.state);
        // Before cluster version 2 nobody keeps accounts: what everybody holds is counted anew each time.
        let is_other =
            !queues.is_empty() || state.version() < ClusterVersion::ACCESS || self.state.version() != state.version();
        if is_other || self.names() > MORE_NAMES + 2 * self.names_at_first {
            return false;
        }
        let mut changed: BTreeSet<_> = accounts.into_iter().collect();
        let moved = compared_at(&self.state) != compared_at(state);
        self.state = state.clone();
        if moved {
            changed.extend(self.all_accounts());
        }
        let Touched { nodes: given, groups } = std::mem::take(&mut self.touched);
        nodes.into_iter().chain(given).collect::<BTreeSet<_>>().into_iter().for_each(|node| self.tell_node(node));
        for group in &groups {
            changed.insert(AccountKey { queue: group.queue.clone(), owner: group.owner.clone() });
        }
        if changed.iter().any(|key| self.tree.number(key.queue.as_str()).is_none()) {
            return false;
        }
        changed.iter().for_each(|key| self.tell_account(key));
        ready.into_iter().chain(groups).collect::<BTreeSet<_>>().iter().for_each(|group| self.tell_group(group));
        true
    }

    fn tell_node(&mut self, id: NodeId) {
        let node = self.state.node(id).cloned();
        let capacity = node.as_ref().map_or(Held::NONE, |node| nodes::capacity(node, &mut self.words));
        let before = replace(&mut self.capacity, id, &capacity);
        self.queues.change_capacity(&before, &capacity);
        let Some(node) = node.filter(|node| nodes::is_usable(node)) else {
            self.fleet.remove_node(nodes::index(id));
            let before = replace(&mut self.free, id, &Held::NONE);
            return self.queues.change_free(&before, &Held::NONE);
        };
        let (class, new) = self.classes.of(&node.inventory);
        let facts = nodes::facts(&node, class, &mut self.words);
        let free = nodes::free(&facts);
        let before = replace(&mut self.free, id, &free);
        self.queues.change_free(&before, &free);
        self.fleet.put_node(nodes::index(id), facts);
        if new {
            for (at, facts) in self.shapes.let_in(class, &node.inventory) {
                self.fleet.put_shape(at, facts);
            }
        }
    }

    fn all_accounts(&self) -> Vec<AccountKey> {
        self.state.accounts().map(|(key, _)| key.clone()).collect()
    }

    /// What somebody holds of a queue, and held before.
    fn tell_account(&mut self, key: &AccountKey) {
        let account = self.state.account(key).map_or_else(Account::default, |account| {
            let decayed = decayed_at(account, compared_at(&self.state));
            let (held, decayed) = (self.words.held(&account.held), self.words.average(&decayed));
            Account { held, active: account.active, decayed }
        });
        self.set_account(key, account);
    }

    /// The same where nobody keeps accounts.
    fn tell_holders(&mut self) {
        for (key, (active, held)) in holders::count(&self.state) {
            let held = self.words.held(&held);
            self.set_account(&key, Account { held, active, decayed: Held::NONE });
        }
    }

    fn set_account(&mut self, key: &AccountKey, account: Account) {
        if let Some(number) = self.tree.number(key.queue.as_str()) {
            self.queues.set_account(number, self.words.user(&key.owner), account);
        }
    }

    /// What waits in a group.
    fn tell_group(&mut self, group: &ReadyGroup) {
        let parts = waiting::count(&self.state, group);
        let before = self.groups.remove(group).unwrap_or_default();
        let Some(queue) = self.tree.number(group.queue.as_str()) else { return };
        let mut keys = Vec::with_capacity(parts.len());
        for part in parts {
            let (job, step) = part.oldest;
            let (shape, new) = self.shapes.join(group.shape, (&part.job, step), &self.classes, &mut self.words);
            if let Some(facts) = new {
                self.fleet.put_shape(shape, facts);
            }
            let key = GroupKey { queue, priority: group.priority.0, user: self.words.user(&group.owner), shape };
            let needs = self.shapes.get(shape).needs.clone();
            let facts = GroupFacts { oldest: (job.0, step.0), count: part.count, needs };
            self.queues.put_group(key, &facts);
            self.by_key.insert(key, group.clone());
            keys.push(key);
        }
        for key in before {
            if !keys.contains(&key) {
                self.queues.remove_group(key);
                self.by_key.remove(&key);
            }
            if self.shapes.leave(key.shape) {
                self.fleet.drop_shape(key.shape);
            }
        }
        if !keys.is_empty() {
            self.groups.insert(group.clone(), keys);
        }
    }

    /// Plans of what a round has placed.
    fn plans(&mut self, placed: Vec<(GroupKey, Seated)>, bound: Bound, seed: u64) -> Vec<Plan> {
        let mut counts: BTreeMap<GroupKey, usize> = BTreeMap::new();
        placed.iter().for_each(|(key, _)| *counts.entry(*key).or_default() += 1);
        let tasks = counts.into_iter().map(|(key, count)| {
            let group = &self.by_key[&key];
            (key, waiting::first_tasks(&self.state, group, &self.shapes, key.shape, count).into_iter())
        });
        let mut tasks: BTreeMap<_, _> = tasks.collect();
        let mut plans: Vec<Plan> = Vec::new();
        let mut seats = SEATS_PER_PLAN;
        for (key, seated) in placed {
            self.touched.groups.insert(self.by_key[&key].clone());
            // There are as many as were counted, since nothing changed in between.
            let Some((task, attempt)) = tasks.get_mut(&key).and_then(Iterator::next) else { continue };
            let members: Vec<_> = seated.seats.iter().map(|seat| self.seat(seat, seated.alternative)).collect();
            let full = plans.last().is_none_or(|plan| plan.placements.len() >= limits::PLACEMENTS_PER_PLAN);
            if full || seats + members.len() > SEATS_PER_PLAN {
                seats = 0;
                plans.push(Plan {
                    based_on: self.state.revision(),
                    seed,
                    budget: bound.steps,
                    placer_version: PLACER_VERSION,
                    placements: Vec::new(),
                    accept_ms: None,
                });
            }
            seats += members.len();
            plans.last_mut().expect("one was just made").placements.push(Placement { task, attempt, members });
        }
        plans
    }

    fn seat(&mut self, seat: &SeatAt, alternative: u32) -> Seat {
        let node = nodes::id(seat.node);
        self.touched.nodes.insert(node);
        let incarnation = self.state.node(node).expect("a node that is seated on is known").incarnation;
        let gpus = seat.devices.iter().map(|at| GpuIndex(at as u32)).collect();
        Seat { node, incarnation, gpus, gpu_alternative: alternative }
    }
}

/// Keeps what a node has now, where that is anything; what it had before.
fn replace(kept: &mut BTreeMap<NodeId, Held>, node: NodeId, now: &Held) -> Held {
    let before = if *now == Held::NONE { kept.remove(&node) } else { kept.insert(node, now.clone()) };
    before.unwrap_or(Held::NONE)
}

/// The time at which past use is compared: it is the same for all, and moves on by the minute so that a round need not look at
/// everybody.
fn compared_at(state: &State) -> TimeMs {
    TimeMs(state.time().0 / COMPARED_EVERY_MS * COMPARED_EVERY_MS)
}
