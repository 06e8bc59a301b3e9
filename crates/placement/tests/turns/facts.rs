//! All that queues are told, kept aside: what a round should follow, and what to tell another one.

use std::collections::BTreeMap;

use flowyard_placement::*;

use crate::fleet::{Fleet, Seated};

pub(crate) const ENOUGH: Bound = Bound { tasks: 1_000_000, steps: 100_000_000 };

/// All columns that these tests use.
pub(crate) const COLUMNS: [Column; 5] = [Column::Cpu, Column::Memory, Column::Gpus, Column::Gpu(0), Column::Gpu(1)];

/// A queue, or its own work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    Own(QueueIndex),
    Queue(QueueIndex),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) capacity: Held,
    /// What is free where new work may go.
    pub(crate) free: Held,
    pub(crate) history: History,
    pub(crate) queues: BTreeMap<QueueIndex, QueueFacts>,
    pub(crate) accounts: BTreeMap<(QueueIndex, UserIndex), Account>,
    pub(crate) groups: BTreeMap<GroupKey, GroupFacts>,
}

impl Facts {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        Self { capacity: fleet.capacity(), free: fleet.capacity(), ..Self::default() }
    }

    /// A queue that is told nothing but what the change says.
    pub(crate) fn queue(&mut self, queue: u32, parent: Option<u32>, change: impl FnOnce(&mut QueueFacts)) {
        let mut facts = QueueFacts::below(parent.map(QueueIndex));
        change(&mut facts);
        self.queues.insert(QueueIndex(queue), facts);
    }

    /// So many tasks of a shape of a user in a queue.
    pub(crate) fn wait(&mut self, fleet: &Fleet, (queue, user, shape): (u32, u32, u32), count: u32) -> GroupKey {
        let (queue, user, shape) = (QueueIndex(queue), UserIndex(user.into()), ShapeIndex(shape));
        let key = GroupKey { queue, priority: 0, user, shape };
        let needs = fleet.work[shape.0 as usize].needs();
        self.groups.insert(key, GroupFacts { oldest: (0, 0), count, more: false, needs });
        key
    }

    pub(crate) fn hold(&mut self, queue: u32, user: u32, held: Held, active: u32) {
        let account = Account { held, active, decayed: Held::NONE };
        self.accounts.insert((QueueIndex(queue), UserIndex(user.into())), account);
    }

    pub(crate) fn tell(&self) -> Queues {
        let mut queues = Queues::new(self.capacity.clone());
        queues.change_free(&Held::NONE, &self.free);
        queues.set_history(self.history);
        self.queues.iter().for_each(|(queue, facts)| queues.put_queue(*queue, facts.clone()));
        self.accounts.iter().for_each(|((queue, user), account)| queues.set_account(*queue, *user, account.clone()));
        self.groups.iter().for_each(|(key, facts)| queues.put_group(*key, facts));
        queues
    }

    pub(crate) fn round(&self, fleet: &mut Fleet) -> Vec<(GroupKey, Seated)> {
        let round = round(&mut self.tell(), fleet, ENOUGH);
        assert!(round.complete);
        round.placed
    }

    /// The queue and those above it.
    pub(crate) fn path(&self, queue: QueueIndex) -> Vec<QueueIndex> {
        let above = |queue: &QueueIndex| self.queues.get(queue).and_then(|facts| facts.parent);
        std::iter::successors(Some(queue), above).collect()
    }

    pub(crate) fn facts(&self, queue: QueueIndex) -> QueueFacts {
        self.queues.get(&queue).cloned().unwrap_or(QueueFacts::below(None))
    }

    /// All queues that are named anywhere.
    pub(crate) fn all(&self) -> Vec<QueueIndex> {
        let told = self.queues.iter().flat_map(|(queue, facts)| [Some(*queue), facts.parent]).flatten();
        let used = self.accounts.keys().map(|key| key.0).chain(self.groups.keys().map(|key| key.queue));
        let mut all: Vec<_> = told.chain(used).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What a queue holds with all below it.
    pub(crate) fn held(&self, queue: QueueIndex, column: Column) -> u64 {
        self.below(queue).map(|account| account.held.get(column)).sum()
    }

    pub(crate) fn active(&self, queue: QueueIndex) -> u64 {
        self.below(queue).map(|account| u64::from(account.active)).sum()
    }

    pub(crate) fn below(&self, queue: QueueIndex) -> impl Iterator<Item = &Account> {
        let accounts = self.accounts.iter();
        accounts.filter(move |((of, _), _)| self.path(*of).contains(&queue)).map(|(_, account)| account)
    }

    /// What everybody holds.
    pub(crate) fn held_by_all(&self, column: Column) -> u64 {
        self.accounts.values().map(|account| account.held.get(column)).sum()
    }

    /// Notes that a task was placed.
    pub(crate) fn placed(&mut self, fleet: &Fleet, key: &GroupKey, seated: &Seated) {
        let mut held = self.groups[key].needs[seated.alternative as usize].clone();
        if held.any_model {
            for (model, milli) in fleet.models_of(key.shape, seated) {
                let column = Column::Gpu(model);
                held.held = held.held.clone().with(column, held.held.get(column) + milli);
            }
        }
        let account = self.accounts.entry((key.queue, key.user)).or_default();
        for column in COLUMNS {
            let sum = account.held.get(column) + held.held.get(column);
            account.held = account.held.clone().with(column, sum);
            let left = self.free.get(column).saturating_sub(held.held.get(column));
            self.free = self.free.clone().with(column, left);
        }
        account.active += 1;
        let group = self.groups.get_mut(key).expect("it waits");
        group.count -= 1;
        if group.count == 0 {
            self.groups.remove(key);
        }
    }

    /// What a queue names as promised to it; 0 if nothing.
    fn named(&self, queue: QueueIndex, column: Column) -> u64 {
        self.facts(queue).reserve.get(column).unwrap_or(0)
    }

    fn children(&self, of: Option<QueueIndex>) -> impl Iterator<Item = QueueIndex> {
        self.all().into_iter().filter(move |at| self.facts(*at).parent == of)
    }

    /// What counts as promised to a queue beside others, within its limit: what it names, or all that is promised below it.
    fn promise(&self, queue: QueueIndex, column: Column) -> u64 {
        let below = |column| self.children(Some(queue)).map(|child| self.promise(child, column)).sum::<u64>();
        let own = |column| Some(self.named(queue, column)).filter(|named| *named > 0).unwrap_or_else(|| below(column));
        let promised = match column {
            // Devices of a model are devices, also of one that only those below name.
            Column::Gpus => own(Column::Gpus).max(below(Column::Gpus)).max(own(Column::Gpu(0)) + own(Column::Gpu(1))),
            column => own(column),
        };
        promised.min(self.facts(queue).limit.get(column).unwrap_or(promised))
    }

    pub(crate) fn beside(&self, queue: QueueIndex) -> Vec<QueueIndex> {
        let parent = self.facts(queue).parent;
        self.all().into_iter().filter(|other| self.facts(*other).parent == parent).collect()
    }

    /// What a queue and those below it come to, where those beside it may be promised more than there is.
    fn part(&self, queue: QueueIndex, column: Column) -> u64 {
        let above = self.path(queue).into_iter().skip(1).find(|above| self.promise(*above, column) > 0);
        let there_is = above.map_or(self.capacity.get(column), |above| self.part(above, column));
        let all: u64 = self.beside(queue).into_iter().map(|beside| self.promise(beside, column)).sum();
        let promise = self.promise(queue, column);
        if all > there_is { promise * there_is / all } else { promise }
    }

    /// What a queue is entitled to itself: nothing if it names nothing, whatever is promised below it.
    pub(crate) fn entitled(&self, queue: QueueIndex, column: Column) -> u64 {
        if self.named(queue, column) > 0 { self.part(queue, column) } else { 0 }
    }

    /// What is kept free for a queue. Who is promised something says what of it is kept; else those below do.
    pub(crate) fn kept(&self, queue: QueueIndex, column: Column) -> u64 {
        let entitled = self.entitled(queue, column);
        match self.facts(queue).lend.get(column) {
            Some(lend) if entitled > 0 => entitled.saturating_sub(lend).saturating_sub(self.held(queue, column)),
            _ => self.children(Some(queue)).map(|child| self.kept(child, column)).sum(),
        }
    }

    /// Whose bounds have no room for an amount.
    pub(crate) fn room_for(&self, queue: QueueIndex, column: Column, amount: u64) -> Vec<Child> {
        let is_met = |at: &QueueIndex| {
            let (facts, held) = (self.facts(*at), self.held(*at, column) + amount);
            let most = facts.reserve.get(column).zip(facts.borrow.get(column)).map(|(reserve, more)| reserve + more);
            facts.limit.get(column).is_some_and(|limit| held > limit) || most.is_some_and(|most| held > most)
        };
        let met = self.path(queue).into_iter().filter(|at| amount > 0 && is_met(at)).map(Child::Queue);
        met.chain(self.keeps_from(queue, column, amount)).collect()
    }

    /// Beside whom so much is kept for others that the amount is not left; the uppermost.
    fn keeps_from(&self, queue: QueueIndex, column: Column, amount: u64) -> Option<Child> {
        let mut kept =
            vec![(Child::Own(queue), self.children(Some(queue)).map(|at| self.kept(at, column)).sum::<u64>())];
        for at in self.path(queue) {
            if self.entitled(at, column) > 0 && self.held(at, column) + amount <= self.entitled(at, column) {
                // From whoever is promised it nothing is kept.
                break;
            }
            let others = self.beside(at).into_iter().filter(|beside| *beside != at);
            kept.push((Child::Queue(at), others.map(|at| self.kept(at, column)).sum()));
        }
        let all: u64 = kept.iter().map(|(_, kept)| kept).sum();
        let upper = kept.into_iter().rfind(|(_, kept)| *kept > 0)?.0;
        (amount > 0 && amount + all > self.free.get(column)).then_some(upper)
    }

    /// Which models a task of a need may be of (all if `None`), or the bounds that have no room for it, each with what
    /// it bounds.
    pub(crate) fn within(&self, queue: QueueIndex, need: &Need) -> Result<Option<Bits>, Vec<(Child, Option<Column>)>> {
        let is_full =
            |at: &QueueIndex| self.facts(*at).most_active.is_some_and(|most| self.active(*at) >= u64::from(most));
        let full = self.path(queue).into_iter().filter(is_full).map(|at| (Child::Queue(at), None));
        let by = |column: Column, amount: u64| {
            self.room_for(queue, column, amount).into_iter().map(move |at| (at, Some(column)))
        };
        let met: Vec<_> = full.chain(COLUMNS.into_iter().flat_map(|at| by(at, need.held.get(at)))).collect();
        if !met.is_empty() {
            return Err(met);
        }
        let known = (0..2).filter(|model| self.capacity.get(Column::Gpu(*model)) > 0).max().map_or(0, |last| last + 1);
        let milli = if need.any_model { need.held.get(Column::Gpus) } else { 0 };
        let by_model: Vec<Vec<_>> = (0..known).map(|model| by(Column::Gpu(model), milli).collect()).collect();
        if by_model.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let mut bits = Bits::none(known as usize);
        (0..known as usize).filter(|model| by_model[*model].is_empty()).for_each(|model| bits.insert(model));
        if bits.iter().next().is_none() { Err(by_model.concat()) } else { Ok(Some(bits)) }
    }
}
