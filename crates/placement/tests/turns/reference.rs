//! The same round, one task at a time, with everything reckoned from nothing before each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use flowyard_placement::fixed::{ONE, mul_div, part};
use flowyard_placement::*;

use crate::facts::{COLUMNS, Child, Facts};
use crate::fleet::{Fleet, Seated};

/// An alternative of a shape in a queue.
type Way = (QueueIndex, ShapeIndex, u32);

pub(crate) struct Reference<'a> {
    pub(crate) facts: Facts,
    fleet: &'a mut Fleet,
    open: BTreeSet<Way>,
    found: BTreeMap<(ShapeIndex, u32, Option<Bits>), bool>,
    placed: Vec<(GroupKey, Seated)>,
}

pub(crate) fn round_by_reference(facts: &Facts, fleet: &mut Fleet) -> Vec<(GroupKey, Seated)> {
    let (open, found) = (BTreeSet::new(), BTreeMap::new());
    let mut reference = Reference { facts: facts.clone(), fleet, open, found, placed: vec![] };
    reference.survey();
    while let Some((key, alternative)) = reference.first() {
        reference.turn(key, alternative);
    }
    reference.placed
}

impl Reference<'_> {
    fn ways(&self) -> BTreeSet<(ShapeIndex, QueueIndex, u32)> {
        let of = |(key, facts): (&GroupKey, &GroupFacts)| {
            let (shape, queue) = (key.shape, key.queue);
            (0..facts.needs.len() as u32).map(move |alternative| (shape, queue, alternative)).collect::<Vec<_>>()
        };
        self.facts.groups.iter().flat_map(of).collect()
    }

    fn need(&self, shape: ShapeIndex, alternative: u32) -> Need {
        self.fleet.work[shape.0 as usize].needs()[alternative as usize].clone()
    }

    fn survey(&mut self) {
        for (shape, queue, alternative) in self.ways() {
            if self.refused(shape, alternative, &None) {
                continue;
            }
            let Ok(models) = self.facts.within(queue, &self.need(shape, alternative)) else { continue };
            if self.has_room(shape, alternative, None) && self.has_room(shape, alternative, models) {
                self.open.insert((queue, shape, alternative));
            }
        }
    }

    fn has_room(&mut self, shape: ShapeIndex, alternative: u32, models: Option<Bits>) -> bool {
        let ask = Ask { shape, alternative, models: models.as_ref() };
        let has_room = self.fleet.has_room(&ask, &mut 1_000) == Ended::Enough;
        *self.found.entry((shape, alternative, models)).or_insert(has_room)
    }

    fn refused(&self, shape: ShapeIndex, alternative: u32, models: &Option<Bits>) -> bool {
        let found = |models: &Option<Bits>| self.found.get(&(shape, alternative, models.clone())) == Some(&false);
        found(&None) || found(models)
    }

    fn below(&self, child: Child, ways: &BTreeSet<Way>) -> BTreeSet<Way> {
        let is_below = |way: &&Way| match child {
            Child::Own(queue) => way.0 == queue,
            Child::Queue(queue) => self.facts.path(way.0).contains(&queue),
        };
        ways.iter().filter(is_below).copied().collect()
    }

    fn held(&self, child: Child, column: Column, of: impl Fn(&Account) -> &Held) -> u64 {
        match child {
            Child::Queue(queue) => self.facts.below(queue).map(|account| of(account).get(column)).sum(),
            Child::Own(queue) => {
                let own = self.facts.accounts.iter().filter(|((at, _), _)| *at == queue);
                own.map(|(_, account)| of(account).get(column)).sum()
            }
        }
    }

    fn columns(&self, way: &Way) -> impl Iterator<Item = Column> {
        let need = self.need(way.1, way.2).held;
        COLUMNS.into_iter().filter(move |column| need.get(*column) > 0)
    }

    /// The ways below that a child, or some queue below it, is below its reserve for, with how much of it there is.
    fn claims(&self, child: Child, below: &BTreeSet<Way>) -> BTreeMap<Way, u64> {
        let Child::Queue(queue) = child else { return BTreeMap::new() };
        let held = |column: Column| self.held(child, column, |account| &account.held);
        let entitled = |column: Column| self.facts.entitled(queue, column);
        let of_way = |way: &Way| {
            let promised: Vec<_> = self.columns(way).filter(|column| entitled(*column) > 0).collect();
            let is_below = promised.iter().all(|column| held(*column) < entitled(*column));
            let parts = promised.iter().filter(|_| is_below).map(|column| part(held(*column), entitled(*column)));
            Some((*way, parts.max()?))
        };
        let mut claims: BTreeMap<Way, u64> = below.iter().filter_map(of_way).collect();
        for child in self.facts.all().into_iter().filter(|other| self.facts.facts(*other).parent == Some(queue)) {
            let child = Child::Queue(child);
            for (way, part) in self.claims(child, &self.below(child, below)) {
                let least = claims.entry(way).or_insert(part);
                *least = part.min(*least);
            }
        }
        claims
    }

    fn key(&self, child: Child, below: &BTreeSet<Way>) -> (bool, u128, u32) {
        let rank = if let Child::Queue(queue) = child { queue.0 + 1 } else { 0 };
        if let Some(least) = self.claims(child, below).into_values().min() {
            return (false, u128::from(least), rank);
        }
        let held = |column: Column| self.held(child, column, |account| &account.held);
        let past = |column: Column| self.held(child, column, |of| &of.decayed);
        let all = || below.iter().flat_map(|way| self.columns(way));
        let weight = if let Child::Queue(queue) = child { self.facts.facts(queue).weight } else { 1 };
        let now = all().map(|column| self.share(column, held(column))).max().unwrap_or(0);
        let before = all().map(|column| self.share(column, past(column))).max().unwrap_or(0);
        (true, (u128::from(self.weigh(now, before)) << 32) / u128::from(weight), rank)
    }

    /// Of what there is none of, nothing is a share.
    fn share(&self, column: Column, amount: u64) -> u64 {
        let all = self.facts.capacity.get(column);
        if all == 0 { 0 } else { part(amount, all) }
    }

    fn weigh(&self, now: u64, before: u64) -> u64 {
        now.saturating_add(mul_div(before / self.facts.history.span, self.facts.history.weight, ONE))
    }

    fn first(&self) -> Option<(GroupKey, u32)> {
        let (mut above, mut ways) = (None, self.open.clone());
        loop {
            let all = self.facts.all();
            let below = all.into_iter().filter(|queue| self.facts.facts(*queue).parent == above).map(Child::Queue);
            let children = above.map(Child::Own).into_iter().chain(below);
            let children = children.map(|child| (child, self.below(child, &ways)));
            let some = children.filter(|(_, below)| !below.is_empty());
            let (child, below) = some.min_by_key(|(child, below)| self.key(*child, below))?;
            let claims: BTreeSet<_> = self.claims(child, &below).into_keys().collect();
            ways = if claims.is_empty() { below } else { claims };
            match child {
                Child::Queue(queue) => above = Some(queue),
                Child::Own(queue) => return self.first_of(queue, &ways),
            }
        }
    }

    fn first_of(&self, queue: QueueIndex, ways: &BTreeSet<Way>) -> Option<(GroupKey, u32)> {
        let way = |key: &GroupKey| ways.iter().find(|way| (way.0, way.1) == (key.queue, key.shape)).map(|way| way.2);
        let share = |user: UserIndex| {
            let account = self.facts.accounts.get(&(queue, user)).cloned().unwrap_or_default();
            let of = |held: &Held| COLUMNS.map(|column| self.share(column, held.get(column)));
            let largest = |held: &Held| of(held).into_iter().max().unwrap_or(0);
            self.weigh(largest(&account.held), largest(&account.decayed))
        };
        let groups = self.facts.groups.iter().filter(|(key, _)| key.queue == queue && way(key).is_some());
        let order = |(key, facts): &(&GroupKey, &GroupFacts)| {
            (Reverse(key.priority), share(key.user), key.user, facts.oldest, key.shape)
        };
        groups.min_by_key(order).and_then(|(key, _)| Some((*key, way(key)?)))
    }

    fn turn(&mut self, key: GroupKey, alternative: u32) {
        let way: Way = (key.queue, key.shape, alternative);
        let within = self.facts.within(key.queue, &self.need(key.shape, way.2));
        if let Ok(models) = within.clone()
            && !self.refused(key.shape, way.2, &models)
        {
            let mut out = vec![];
            let ask = Ask { shape: key.shape, alternative: way.2, models: models.as_ref() };
            if self.fleet.seat(&ask, 1, &mut 1_000, &mut out) == Ended::NoRoom {
                self.found.insert((key.shape, way.2, models.clone()), false);
                if models.is_none() {
                    self.open.retain(|open| (open.1, open.2) != (key.shape, way.2));
                }
            }
            for seated in out {
                self.facts.placed(self.fleet, &key, &seated);
                self.placed.push((key, seated));
            }
        }
        let groups = &self.facts.groups;
        self.open.retain(|way| groups.keys().any(|key| (key.queue, key.shape) == (way.0, way.1)));
        let same = |way: &Way| (way.0, way.1) == (key.queue, key.shape);
        let mut met = vec![];
        for way in self.open.iter().copied().filter(same).collect::<Vec<_>>() {
            met.extend(self.close(way));
        }
        let bounded = self.bounded_by(&met);
        for way in self.open.clone().into_iter().filter(|way| bounded.contains(&(way.0, way.1))) {
            self.close(way);
        }
    }

    /// What is open below some bounds and asks for what they bound.
    fn bounded_by(&self, met: &[(Child, Option<Column>)]) -> Vec<(QueueIndex, ShapeIndex)> {
        let asks = |way: &Way, column: Column| {
            let need = self.need(way.1, way.2);
            let is_model = need.any_model && matches!(column, Column::Gpu(_));
            need.held.get(column) > 0 || (is_model && need.held.get(Column::Gpus) > 0)
        };
        let is_bounded = |way: &&Way| {
            met.iter().any(|(at, column)| {
                !self.below(*at, &BTreeSet::from([**way])).is_empty() && column.is_none_or(|column| asks(way, column))
            })
        };
        self.open.iter().filter(is_bounded).map(|way| (way.0, way.1)).collect()
    }

    /// Takes what is blocked out; whose bounds it met.
    fn close(&mut self, way: Way) -> Vec<(Child, Option<Column>)> {
        match self.facts.within(way.0, &self.need(way.1, way.2)) {
            Err(met) => {
                self.open.remove(&way);
                met
            }
            Ok(models) => {
                if self.refused(way.1, way.2, &models) {
                    self.open.remove(&way);
                }
                vec![]
            }
        }
    }
}
