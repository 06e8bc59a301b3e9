//! A scheduler: it follows a state by what differs, and proposes plans.
//!
//! It is a cache and nothing else: whatever it was shown before, it proposes what a new one would. So a new leader
//! starts with an empty one, and anybody can make a plan again who has the state it was made from.

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::{
    AccountKey, AttemptNumber, Claim, ClusterVersion, GpuIndex, NodeId, Placement, Plan, QueuePath, Seat, StepSpec,
    TaskKey, TimeMs,
};
use flowyard_placement::{
    Account, Bound, Fit, Fleet, GroupFacts, GroupKey, Held, Queues, SeatAt, Seated, ShapeIndex, round,
};
use flowyard_state::{Differences, Portion, ReadyGroup, ReadyStep, State, decayed_at, fingerprint};

use crate::beside::{self, Own, Whose};
use crate::claimed::{self, Claimed};
use crate::evictable::Evictable;
use crate::evictions::Claiming;
use crate::for_good;
use crate::holders;
use crate::keeping::Kept;
use crate::nodes::{self, Classes, When};
use crate::plans::Plans;
use crate::shapes::Shapes;
use crate::throttle;
use crate::tree::Tree;
use crate::waiting::{self, Counted};
use crate::words::Words;

pub(crate) use self::line::{Line, Standing};

/// Classes, models and tokens that there may come to be beside those there were at first: what is gone is forgotten by
/// starting anew.
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
    /// Whether it ended because not all that waits was counted, and would end so again.
    pub counted_out: bool,
    /// When another round is worth while although nothing else has changed: something may be evicted then that may not
    /// be yet.
    pub wake_at: Option<TimeMs>,
}

/// A scheduler.
#[derive(Debug)]
pub struct Scheduler {
    /// Orders what is equal otherwise.
    seed: u64,
    fit: Fit,
    counted: Counted,
    known: Option<Known>,
}

impl Scheduler {
    /// One that has seen nothing yet.
    pub fn new(seed: u64) -> Self {
        Self::with_fit(seed, Fit::Fragmentation)
    }

    /// One that chooses nodes for single tasks with devices by another rule; to compare with.
    pub fn with_fit(seed: u64, fit: Fit) -> Self {
        Self { seed, fit, counted: Counted::TO_PLACE, known: None }
    }

    /// One that counts so much of each group.
    pub(crate) fn counting(seed: u64, counted: Counted) -> Self {
        Self { counted, ..Self::new(seed) }
    }

    /// What may be placed in this state, and what is to be evicted for what may not, as of a time; that is not before
    /// the state's.
    pub fn round(&mut self, state: &State, now: TimeMs, bound: Bound) -> Proposal {
        self.propose(state, Some(now.max(state.time())), bound)
    }

    /// What may be placed in this state. It is not looked for whom to evict.
    pub fn place(&mut self, state: &State, bound: Bound) -> Proposal {
        self.propose(state, None, bound)
    }

    fn propose(&mut self, state: &State, now: Option<TimeMs>, bound: Bound) -> Proposal {
        let followed = self.known.take().and_then(|mut known| known.follow(state).then_some(known));
        let mut known = followed.unwrap_or_else(|| Known::of(state, (self.seed, self.fit), self.counted));
        let (kept, mut drops) = known.take_up_claims();
        let (repairs, all_repaired) = known.repair(bound.steps);
        let repairs_any = !repairs.is_empty();
        known.size_gangs();
        let round = round(&mut known.queues, &mut known.fleet, bound);
        let counted_out = round.counted_out;
        let turns = counts(round.placed.iter().map(|(key, _)| *key));
        let mut placed = known.placements(round.placed, &turns);
        let Claiming { mut wishes, given_up, wake_at, instead } = match now.filter(|_| round.complete) {
            Some(now) => known.claim(&placed, &turns, (now, bound)),
            None => Claiming::default(),
        };
        drops.extend(given_up);
        if let Some((placement, fallen)) = instead {
            drops.extend(fallen);
            placed.push(placement);
        } else if let Some(now) = now.filter(|_| round.complete && wishes.is_empty()) {
            known.fill(&mut placed, now, bound);
            wishes.extend(known.reserve(&placed, now, bound));
        }
        let mut plans = Plans::new(state, self.seed, now, bound);
        plans.drop(drops);
        repairs.into_iter().for_each(|wish| plans.repair(wish));
        kept.into_iter().chain(placed).for_each(|placement| plans.place(placement));
        wishes.into_iter().for_each(|wish| plans.claim(wish));
        self.known = Some(known);
        // Those that were not looked at are in another round, which the next entry brings; where nobody is repaired, none would get further.
        let complete = round.complete && (all_repaired || !repairs_any);
        Proposal { plans: plans.done(), complete, counted_out, wake_at }
    }
}

/// What a scheduler knows of the state that it saw last.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) state: State,
    /// The same once the claims are taken up whose room is free.
    pub(crate) ahead: State,
    pub(crate) words: Words,
    pub(crate) classes: Classes,
    pub(crate) shapes: Shapes,
    pub(crate) tree: Tree,
    pub(crate) fleet: Fleet,
    pub(crate) queues: Queues,
    pub(crate) evictable: Evictable,
    pub(crate) claimed: Claimed,
    /// What is kept for open ranks of gangs that found no room.
    pub(crate) kept: Kept,
    /// The shapes of whom waits for others to end.
    pub(crate) reserved: BTreeMap<TaskKey, ShapeIndex>,
    /// Paths of queues of which it was told what is promised to those.
    later: BTreeSet<QueuePath>,
    /// What those of them hold who start in this round.
    started: BTreeMap<AccountKey, claimed::Portion>,
    /// What each node adds to the capacity.
    pub(crate) capacity: BTreeMap<NodeId, Held>,
    /// What of each node may be given out.
    pub(crate) free: BTreeMap<NodeId, Held>,
    /// The groups that wait, each by its parts.
    pub(crate) groups: BTreeMap<ReadyGroup, Vec<GroupKey>>,
    pub(crate) by_key: BTreeMap<GroupKey, ReadyGroup>,
    /// Of these, gangs of no fixed size.
    pub(crate) elastic: BTreeSet<ReadyGroup>,
    /// Names that there were numbers for at first.
    names_at_first: usize,
    /// How much of each group is counted.
    counted: Counted,
    /// What the last round changed: whether it came to be is for the state to say.
    pub(crate) touched: Touched,
}

/// Queues as they were.
#[derive(Debug)]
pub(crate) struct QueuesThen {
    queues: Queues,
    capacity: BTreeMap<NodeId, Held>,
    free: BTreeMap<NodeId, Held>,
}

/// What a round gave out, and to whom.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) nodes: BTreeSet<NodeId>,
    pub(crate) groups: BTreeSet<ReadyGroup>,
}

impl Known {
    pub(crate) fn of(state: &State, (seed, fit): (u64, Fit), counted: Counted) -> Self {
        let mut known = Self {
            state: state.clone(),
            ahead: state.clone(),
            words: Words::of(state.policy()),
            classes: Classes::none(),
            shapes: Shapes::none(),
            tree: Tree::of(state),
            fleet: Fleet::with_fit(seed, fit),
            queues: Queues::new(Held::NONE),
            evictable: Evictable::none(),
            claimed: Claimed::of(state),
            kept: Kept::default(),
            reserved: BTreeMap::new(),
            later: BTreeSet::new(),
            started: BTreeMap::new(),
            capacity: BTreeMap::new(),
            free: BTreeMap::new(),
            groups: BTreeMap::new(),
            by_key: BTreeMap::new(),
            elastic: BTreeSet::new(),
            names_at_first: 0,
            counted,
            touched: Touched::default(),
        };
        known.fleet.bound_starting(state.policy().throttle.per_node);
        known.tree.tell(state, &mut known.words, &mut known.queues);
        known.tell_mix();
        state.nodes().for_each(|(id, _)| known.tell_node(id, When::Now));
        for (id, _) in state.nodes() {
            state
                .live_members(id)
                .for_each(|(key, ..)| known.evictable.tell(state, &known.tree, &known.words, key.task));
        }
        known.tell_for_good();
        known.all_accounts().iter().for_each(|key| known.tell_account(key));
        if state.version() < ClusterVersion::ACCESS {
            known.tell_holders();
        }
        state.ready_groups().map(ReadyStep::group).for_each(|group| known.tell_group(&group));
        let queues: Vec<_> = state.queues().map(|queue| queue.path.clone()).collect();
        queues.into_iter().for_each(|path| known.tell_later(path));
        known.tell_reserved();
        known.tell_shared();
        known.names_at_first = known.names();
        known
    }

    fn names(&self) -> usize {
        self.classes.examples().len() + self.words.count()
    }

    /// Takes over what differs; `false` if it is simpler to start anew.
    fn follow(&mut self, state: &State) -> bool {
        let Differences { nodes, queues, accounts, loads, ready, tasks, claims, policy, mix, .. } =
            state.differences(&self.state);
        // Before cluster version 2 nobody keeps accounts: what everybody holds is counted anew each time.
        let is_other = policy
            || !queues.is_empty()
            || state.version() < ClusterVersion::ACCESS
            || self.state.version() != state.version()
            // Which tags tell one shape from another is another question then.
            || !state.shunned_tags().eq(self.state.shunned_tags());
        if is_other || self.names() > MORE_NAMES + 2 * self.names_at_first {
            return false;
        }
        let mut changed: BTreeSet<_> = accounts.into_iter().collect();
        let mut groups: BTreeSet<_> = ready.into_iter().collect();
        if !claims.is_empty() {
            for state in [&self.state, state] {
                groups.extend(claims.iter().filter_map(|key| claimed::group(state, *key)));
            }
            changed.extend(self.claimed.accounts().cloned());
            self.claimed = Claimed::of(state);
            changed.extend(self.claimed.accounts().cloned());
        }
        // Where members of a step are changes also without anything of it being ready: a gang that goes on loses some and gets others.
        let counts =
            |task: &&TaskKey| state.step_spec(task.job, task.step).is_some_and(|spec| spec.placing.counts_its_own());
        let moved_beside: Vec<_> = tasks.iter().filter(counts).copied().collect();
        groups.extend(moved_beside.iter().filter_map(|task| claimed::group(state, *task)));
        let labelled = nodes.iter().any(|node| is_labelled_anew(&self.state, state, *node));
        if labelled {
            groups.extend(self.groups_that_count_their_own());
        }
        let started = std::mem::take(&mut self.started);
        changed.extend(started.keys().cloned());
        let moved = compared_at(&self.state) != compared_at(state);
        (self.state, self.ahead) = (state.clone(), state.clone());
        if moved {
            changed.extend(self.all_accounts());
        }
        if mix {
            self.tell_mix();
        }
        let given = std::mem::take(&mut self.touched);
        let nodes: BTreeSet<_> = nodes.into_iter().chain(given.nodes).collect();
        nodes.into_iter().for_each(|node| self.tell_node(node, When::Now));
        for group in &given.groups {
            changed.insert(AccountKey { queue: group.queue.clone(), owner: group.owner.clone() });
        }
        if changed.iter().any(|key| self.tree.number(key.queue.as_str()).is_none()) {
            return false;
        }
        changed.iter().for_each(|key| self.tell_account(key));
        tasks.into_iter().for_each(|task| self.evictable.tell(&self.state, &self.tree, &self.words, task));
        self.tell_for_good();
        groups.into_iter().chain(given.groups).collect::<BTreeSet<_>>().iter().for_each(|group| self.tell_group(group));
        let above = started.keys().flat_map(|key| key.queue.levels()).filter_map(|path| path.parse().ok());
        let paths: BTreeSet<QueuePath> = loads.into_iter().chain(above).collect();
        paths.into_iter().for_each(|path| self.tell_later(path));
        if !claims.is_empty() {
            self.tell_reserved();
        }
        if labelled || !moved_beside.is_empty() {
            self.tell_beside_reserved();
        }
        self.tell_shared();
        true
    }

    /// What there is of a node and what of it is free.
    pub(crate) fn tell_node(&mut self, id: NodeId, when: When) {
        let node = self.ahead.node(id).cloned();
        let capacity = node.as_ref().map_or(Held::NONE, |node| nodes::capacity(node, &mut self.words));
        let before = replace(&mut self.capacity, id, &capacity);
        self.queues.change_capacity(&before, &capacity);
        let Some(node) = node.filter(|node| nodes::is_usable(node)) else {
            self.fleet.remove_node(nodes::index(id));
            let before = replace(&mut self.free, id, &Held::NONE);
            return self.queues.change_free(&before, &Held::NONE);
        };
        let (class, new) = self.classes.of(&node.inventory);
        if new {
            self.fleet.put_class(class, &self.words.domain(self.state.policy(), &node.inventory));
        }
        let mut used = nodes::used(&self.ahead, id, &node, when);
        if let Some(kept) = self.kept.on.get(&id) {
            nodes::count(&mut used, kept, true);
        }
        let facts = nodes::facts(&node, &used, when.kept(&self.ahead, id), class, &mut self.words);
        let free = nodes::free(&facts);
        let before = replace(&mut self.free, id, &free);
        self.queues.change_free(&before, &free);
        self.fleet.put_node(nodes::index(id), facts);
        self.fleet.put_marks(nodes::index(id), beside::marks(&self.ahead, id, when, &mut self.words));
        self.fleet.put_starting(nodes::index(id), self.ahead.starting_on(id));
        if new {
            for (at, facts) in self.shapes.let_in(class, &node.inventory, &self.state, &mut self.words) {
                self.fleet.put_shape(at, facts);
            }
        }
    }

    /// How common each kind of work with devices is.
    fn tell_mix(&mut self) {
        let told = self.state.mix().clone();
        let mix = self.words.mix(told.told().map(|(kind, parts)| (kind, u64::from(parts))));
        self.fleet.set_mix(&mix);
    }

    /// The queues, and what each node has added to their sums.
    pub(crate) fn queues_now(&self) -> QueuesThen {
        QueuesThen { queues: self.queues.clone(), capacity: self.capacity.clone(), free: self.free.clone() }
    }

    /// All as it was then: what has been told of nodes meanwhile is told once more in the next round.
    pub(crate) fn put_back(&mut self, then: QueuesThen) {
        (self.queues, self.capacity, self.free) = (then.queues, then.capacity, then.free);
    }

    fn groups_that_count_their_own(&self) -> Vec<ReadyGroup> {
        let counts = |keys: &[GroupKey]| keys.iter().any(|key| self.shapes.counts_its_own(key.shape));
        self.groups.iter().filter(|(_, keys)| counts(keys)).map(|(group, _)| group.clone()).collect()
    }

    fn all_accounts(&self) -> Vec<AccountKey> {
        self.state.accounts().map(|(key, _)| key).chain(self.claimed.accounts()).cloned().collect()
    }

    /// What somebody holds of a queue, is promised, and held before.
    fn tell_account(&mut self, key: &AccountKey) {
        let mut told = self.state.account(key).map_or_else(Account::default, |account| {
            let decayed = decayed_at(account, compared_at(&self.state));
            let (held, decayed) = (self.words.held(&account.held), self.words.average(&decayed));
            Account { held, active: account.active, decayed }
        });
        for portion in self.claimed.of_account(key).into_iter().chain(self.started.get(key)) {
            told.held.add(&self.words.held(&portion.held), 1);
            told.held.add(&self.words.for_good(&portion.held_for_good), 1);
            told.active = told.active.saturating_add(portion.tasks);
        }
        self.set_account(key, told);
    }

    /// The same where nobody keeps accounts.
    fn tell_holders(&mut self) {
        for (key, (active, held)) in holders::count(&self.state) {
            let held = self.words.held(&held);
            self.set_account(&key, Account { held, active, decayed: Held::NONE });
        }
    }

    /// What is held in each queue by what must not be evicted: as of somebody of whom nothing waits.
    fn tell_for_good(&mut self) {
        let nobody = self.words.user("\0");
        for (queue, held) in self.evictable.changed_for_good() {
            self.queues.set_account(queue, nobody, Account { held, ..Account::default() });
        }
    }

    fn set_account(&mut self, key: &AccountKey, account: Account) {
        if let Some(number) = self.tree.number(key.queue.as_str()) {
            self.queues.set_account(number, self.words.user(&key.owner), account);
        }
    }

    /// Who waited for others to end starts: what it holds was promised to it until now.
    pub(crate) fn account_for(&mut self, placement: &Placement) {
        let reserved = self.state.claim(&placement.task).is_some_and(Claim::is_reservation);
        let Some(job) = self.state.job(placement.task.job).filter(|_| reserved).map(|job| Arc::clone(&job)) else {
            return;
        };
        let account = AccountKey { queue: job.spec.queue.clone(), owner: job.owner.clone() };
        let spec = &job.spec.steps[placement.task.step.0 as usize];
        self.started.entry(account.clone()).or_default().add(&self.state, spec, &placement.members);
        self.tell_account(&account);
        let levels = account.queue.levels().filter_map(|path| path.parse().ok());
        levels.collect::<Vec<QueuePath>>().into_iter().for_each(|path| self.tell_later(path));
        self.tell_shared();
    }

    /// An account holds so much more in this round.
    pub(crate) fn account_more(&mut self, account: &AccountKey, more: claimed::Portion) {
        self.started.entry(account.clone()).or_default().add_all(&more);
        self.tell_account(account);
    }

    /// What is promised in a queue to whom waits for others to end, and what those hold there.
    fn tell_later(&mut self, path: QueuePath) {
        let load = self.ahead.load(&path);
        let (promised, awaited) = (load.reserved.clone(), load.awaited.clone());
        let is_nothing = promised == Portion::NONE && awaited == Portion::NONE;
        if is_nothing && !self.later.remove(&path) {
            return;
        }
        let Some(queue) = self.tree.number(path.as_str()) else { return };
        let [promised, awaited] = [promised, awaited].map(|portion| {
            let mut held = self.words.held(&portion.held);
            held.add(&self.words.for_good(&portion.held_for_good), 1);
            (held, portion.tasks)
        });
        self.queues.set_later(queue, (&promised.0, promised.1), (&awaited.0, awaited.1));
        if !is_nothing {
            self.later.insert(path);
        }
    }

    /// Of whom waits for others to end the shapes are kept, so that room for them is found elsewhere, too.
    fn tell_reserved(&mut self) {
        let claims = self.state.claims().filter(|(_, claim)| claim.is_reservation());
        let now: BTreeSet<TaskKey> = claims.map(|(key, _)| *key).collect();
        let gone: Vec<_> = self.reserved.keys().filter(|key| !now.contains(key)).copied().collect();
        for shape in gone.iter().filter_map(|key| self.reserved.remove(key)).collect::<Vec<_>>() {
            if self.shapes.leave(shape) {
                self.fleet.drop_shape(shape);
            }
        }
        for key in now {
            let Some(job) =
                self.state.job(key.job).map(|job| job.spec.clone()).filter(|_| !self.reserved.contains_key(&key))
            else {
                continue;
            };
            let (spec, of) = (&job.steps[key.step.0 as usize], (key.job, key.step));
            let whose = Whose::of(&self.state, &job, of);
            let known = (&self.classes, &**self.state.policy());
            let joins = (&job, key.step, &whose);
            let (shape, new) = self.shapes.join(fingerprint(spec, of), joins, known, &mut self.words);
            if new || spec.placing.counts_its_own() {
                self.tell_shape(shape, spec, Own { tags: job.tags.clone(), key: of });
            }
            self.reserved.insert(key, shape);
        }
    }

    /// Of whom waits for others to end, and of whose step it matters where members are: where those are now.
    fn tell_beside_reserved(&mut self) {
        for (key, shape) in self.reserved.clone() {
            let Some(job) = self.state.job(key.job).map(|job| job.spec.clone()) else { continue };
            let spec = &job.steps[key.step.0 as usize];
            if spec.placing.counts_its_own() {
                self.tell_shape(shape, spec, Own { tags: job.tags.clone(), key: (key.job, key.step) });
            }
        }
    }

    /// What a shape asks for, with what is beside its tasks now.
    fn tell_shape(&mut self, shape: ShapeIndex, spec: &StepSpec, own: Own) {
        let beside = beside::of(&self.state, (spec, &own), self.classes.examples(), &mut self.words);
        self.fleet.put_shape(shape, self.shapes.say(shape, beside));
    }

    /// What waits in a group.
    pub(crate) fn tell_group(&mut self, group: &ReadyGroup) {
        let parts = waiting::count(&self.state, group, &self.claimed, self.counted);
        let elastic = |part: &waiting::Part| part.job.steps[part.oldest.1.0 as usize].placing.min_size.is_some();
        if parts.iter().any(elastic) {
            self.elastic.insert(group.clone());
        } else {
            self.elastic.remove(group);
        }
        let before = self.groups.remove(group).unwrap_or_default();
        let Some(queue) = self.tree.number(group.queue.as_str()) else { return };
        let mut keys = Vec::with_capacity(parts.len());
        for part in parts {
            let (job, step) = part.oldest;
            let spec = &part.job.steps[step.0 as usize];
            if !spec.preemptible && !for_good::may_ever(&self.state, &part.job.queue, &spec.resources) {
                continue;
            }
            let known = (&self.classes, &**self.state.policy());
            let joins = (&part.job, step, &part.whose);
            let (shape, new) = self.shapes.join(group.shape, joins, known, &mut self.words);
            if new || spec.placing.counts_its_own() {
                let job = self.state.job(part.oldest.0);
                let tags = job.map(|job| job.spec.tags.clone()).unwrap_or_default();
                self.tell_shape(shape, spec, Own { tags, key: part.oldest });
            }
            let key = GroupKey { queue, priority: group.priority.0, user: self.words.user(&group.owner), shape };
            let needs = self.shapes.get(shape).needs.clone();
            let facts = GroupFacts { oldest: (job.0, step.0), count: part.count, more: part.more, needs };
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

    /// The placements that a round comes to, where so many of each group were placed.
    fn placements(&mut self, placed: Vec<(GroupKey, Seated)>, turns: &BTreeMap<GroupKey, usize>) -> Vec<Placement> {
        let mut tasks = self.next_tasks(&BTreeMap::new(), turns);
        let placement = |(key, seated): (GroupKey, Seated)| {
            let (task, attempt) = tasks.get_mut(&key)?.next()?;
            Some(Placement { task, attempt, members: self.seats(&key, &seated) })
        };
        // There are as many tasks as were counted, since nothing changed in between.
        let placements: Vec<_> = placed.into_iter().filter_map(placement).collect();
        throttle::kept(&self.ahead, placements)
    }

    /// So many tasks of each group, after so many whose turn it was before.
    pub(crate) fn next_tasks(
        &self,
        before: &BTreeMap<GroupKey, usize>,
        turns: &BTreeMap<GroupKey, usize>,
    ) -> BTreeMap<GroupKey, std::vec::IntoIter<(TaskKey, AttemptNumber)>> {
        let of_group = |(key, count): (&GroupKey, &usize)| {
            let (group, before) = (&self.by_key[key], before.get(key).copied().unwrap_or(0));
            let of_shape = (&self.shapes, key.shape);
            let mut tasks = waiting::first_tasks(&self.state, group, &self.claimed, of_shape, before + count);
            let rest = tasks.split_off(before.min(tasks.len()));
            (*key, rest.into_iter())
        };
        turns.iter().map(of_group).collect()
    }

    /// The seats of a task, in the words of the state.
    pub(crate) fn seats(&mut self, key: &GroupKey, seated: &Seated) -> Vec<Seat> {
        self.touched.groups.extend(self.by_key.get(key).cloned());
        seated.seats.iter().map(|seat| self.seat(seat, seated.alternative)).collect()
    }

    /// A seat, in the words of the state.
    pub(crate) fn seat(&mut self, seat: &SeatAt, alternative: u32) -> Seat {
        let node = nodes::id(seat.node);
        self.touched.nodes.insert(node);
        let incarnation = self.state.node(node).expect("a node that is seated on is known").incarnation;
        let gpus = seat.devices.iter().map(|at| GpuIndex(at as u32)).collect();
        Seat { node, incarnation, gpus, gpu_alternative: alternative }
    }
}

/// How often each group had a turn.
pub(crate) fn counts(turns: impl Iterator<Item = GroupKey>) -> BTreeMap<GroupKey, usize> {
    let mut counts = BTreeMap::new();
    turns.for_each(|key| *counts.entry(key).or_insert(0) += 1);
    counts
}

/// Whether a node has other labels than before, so that whoever is there may be in another domain.
fn is_labelled_anew(before: &State, now: &State, node: NodeId) -> bool {
    before.node(node).zip(now.node(node)).is_some_and(|(before, now)| {
        !Arc::ptr_eq(&before.inventory, &now.inventory) && before.inventory.labels != now.inventory.labels
    })
}

/// Keeps what a node has now, where that is anything; what it had before.
pub(crate) fn replace(kept: &mut BTreeMap<NodeId, Held>, node: NodeId, now: &Held) -> Held {
    let before = if *now == Held::NONE { kept.remove(&node) } else { kept.insert(node, now.clone()) };
    before.unwrap_or(Held::NONE)
}

/// The time at which past use is compared: it is the same for all, and moves on by the minute so that a round need not
/// look at everybody.
fn compared_at(state: &State) -> TimeMs {
    TimeMs(state.time().0 / COMPARED_EVERY_MS * COMPARED_EVERY_MS)
}
