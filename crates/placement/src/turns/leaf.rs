//! The work of one queue itself: whose groups wait in which order, what each user holds, and which shapes may be
//! placed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::fleet::ShapeIndex;
use crate::turns::group::{GroupFacts, GroupKey, May, QueueIndex, UserIndex};
use crate::turns::queues::Shape;
use crate::turns::share::{Held, History, dominant};

/// What one user holds in one queue, and held before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// What is held now.
    pub held: Held,
    /// Tasks that are active.
    pub active: u32,
    /// Decayed use. One meaning for all accounts: [`History::span`] says which.
    pub decayed: Held,
}

/// Where the work of a user of one priority stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    priority: Reverse<i64>,
    share: u64,
    user: UserIndex,
}

impl Place {
    pub(crate) fn user(self) -> UserIndex {
        self.user
    }

    pub(crate) fn with_share(self, share: u64) -> Self {
        Self { share, ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    oldest: (u64, u32),
    count: u32,
    more: bool,
}

/// Groups of one user and priority.
#[derive(Debug, Clone, Default)]
struct Lane {
    groups: BTreeMap<ShapeIndex, Waiting>,
    by_age: BTreeSet<((u64, u32), ShapeIndex)>,
}

#[derive(Debug, Clone, Default)]
struct User {
    account: Account,
    share: u64,
    lanes: BTreeMap<i64, Lane>,
}

impl User {
    fn places(&self, user: UserIndex) -> impl Iterator<Item = Place> + '_ {
        self.lanes.keys().map(move |priority| Place { priority: Reverse(*priority), share: self.share, user })
    }
}

/// All groups of one shape in one queue: what bounds them is the same for all, whoever's they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pair {
    groups: u32,
    /// Bits of the alternatives by which, as far as is known, a task may be placed.
    pub(crate) open: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Leaf {
    users: BTreeMap<UserIndex, User>,
    line: BTreeSet<Place>,
    pub(crate) pairs: BTreeMap<ShapeIndex, Pair>,
    /// The round of this number, and up to where nothing of some kinds may be placed any more in it. It holds for a
    /// whole round, because within one shares only grow, and what is closed stays closed.
    passed: (u64, BTreeMap<May, Place>),
}

impl Leaf {
    pub(crate) fn account(&self, user: UserIndex) -> Account {
        self.users.get(&user).map(|user| user.account.clone()).unwrap_or_default()
    }

    /// Puts an account in the place of the one before.
    pub(crate) fn set_account(&mut self, user: UserIndex, account: Account, capacity: &Held, history: History) {
        let share = share_of(&account, Held::NONE, 0, capacity, history);
        let entry = self.users.entry(user).or_default();
        entry.account = account;
        if entry.share != share {
            let before: Vec<_> = entry.places(user).collect();
            entry.share = share;
            for place in before {
                self.line.remove(&place);
                self.line.insert(place.with_share(share));
            }
        }
        self.forget(user);
    }

    /// Adds what so many tasks hold.
    pub(crate) fn charge(&mut self, user: UserIndex, held: &Held, tasks: u32, capacity: &Held, history: History) {
        let mut account = self.account(user);
        account.held.add(held, 1);
        account.active = account.active.saturating_add(tasks);
        self.set_account(user, account, capacity, history);
    }

    /// Reckons all shares anew.
    pub(crate) fn reweigh(&mut self, capacity: &Held, history: History) {
        let users: Vec<_> = self.users.iter().map(|(user, entry)| (*user, entry.account.clone())).collect();
        for (user, account) in users {
            self.set_account(user, account, capacity, history);
        }
    }

    /// The share that decides between users once so many more tasks are theirs.
    pub(crate) fn share_with(&self, user: UserIndex, more: (&Held, u64), capacity: &Held, history: History) -> u64 {
        let Some(entry) = self.users.get(&user) else { return 0 };
        share_of(&entry.account, more.0.clone(), more.1, capacity, history)
    }

    /// The highest priority of what waits.
    pub(crate) fn highest(&self) -> Option<i64> {
        self.line.first().map(|place| place.priority.0)
    }

    /// Puts a group; whether it is the first of its shape.
    pub(crate) fn put(&mut self, key: &GroupKey, facts: &GroupFacts) -> bool {
        let GroupFacts { oldest, count, more, .. } = *facts;
        let user = self.users.entry(key.user).or_default();
        let lane = user.lanes.entry(key.priority).or_default();
        let before = lane.groups.insert(key.shape, Waiting { oldest, count, more });
        if let Some(before) = before {
            lane.by_age.remove(&(before.oldest, key.shape));
        }
        lane.by_age.insert((oldest, key.shape));
        self.line.insert(Place { priority: Reverse(key.priority), share: user.share, user: key.user });
        let pair = self.pairs.entry(key.shape).or_default();
        pair.groups += u32::from(before.is_none());
        before.is_none() && pair.groups == 1
    }

    pub(crate) fn count(&self, key: &GroupKey) -> u32 {
        self.waiting(key).map_or(0, |waiting| waiting.count)
    }

    /// Whether more of a group wait than were counted.
    pub(crate) fn has_more(&self, key: &GroupKey) -> bool {
        self.waiting(key).is_some_and(|waiting| waiting.more)
    }

    fn waiting(&self, key: &GroupKey) -> Option<&Waiting> {
        self.users.get(&key.user)?.lanes.get(&key.priority)?.groups.get(&key.shape)
    }

    /// Takes some off the count of a group that has more of them.
    pub(crate) fn lessen(&mut self, key: &GroupKey, by: u32) {
        let lane = self.users.get_mut(&key.user).and_then(|user| user.lanes.get_mut(&key.priority));
        if let Some(waiting) = lane.and_then(|lane| lane.groups.get_mut(&key.shape)) {
            waiting.count = waiting.count.saturating_sub(by);
        }
    }

    /// Whether [`Leaf::remove`] would remove the last one of its shape.
    pub(crate) fn is_last(&self, key: &GroupKey) -> bool {
        self.count(key) > 0 && self.pairs.get(&key.shape).is_some_and(|pair| pair.groups == 1)
    }

    pub(crate) fn remove(&mut self, key: &GroupKey) {
        let Some(user) = self.users.get_mut(&key.user) else { return };
        let Some(lane) = user.lanes.get_mut(&key.priority) else { return };
        let Some(before) = lane.groups.remove(&key.shape) else { return };
        lane.by_age.remove(&(before.oldest, key.shape));
        if lane.groups.is_empty() {
            user.lanes.remove(&key.priority);
            self.line.remove(&Place { priority: Reverse(key.priority), share: user.share, user: key.user });
        }
        if let Some(pair) = self.pairs.get_mut(&key.shape) {
            pair.groups -= 1;
            if pair.groups == 0 {
                self.pairs.remove(&key.shape);
            }
        }
        self.forget(key.user);
    }

    fn forget(&mut self, user: UserIndex) {
        let empty = |user: &User| user.account == Account::default() && user.lanes.is_empty();
        if self.users.get(&user).is_some_and(empty) {
            self.users.remove(&user);
        }
    }

    /// The group whose turn it is, with its user's place, and by which of its alternatives. Those that are passed for
    /// this round are not looked at again.
    pub(crate) fn first(&mut self, queue: QueueIndex, round: u64, pick: &Pick<'_>) -> Option<(GroupKey, Place, u32)> {
        if self.passed.0 != round {
            self.passed = (round, BTreeMap::new());
        }
        let passed = self.passed.1.get(pick.may).copied();
        let mut last = None;
        for place in self.line.range((passed.map_or(Unbounded, Excluded), Unbounded)) {
            if let Some((shape, alternative)) = self.oldest_open(*place, pick) {
                let key = GroupKey { queue, priority: place.priority.0, user: place.user, shape };
                if let Some(last) = last {
                    self.passed.1.insert(pick.may.clone(), last);
                }
                return Some((key, *place, alternative));
            }
            last = Some(*place);
        }
        None
    }

    fn oldest_open(&self, place: Place, pick: &Pick<'_>) -> Option<(ShapeIndex, u32)> {
        let lane = self.users.get(&place.user)?.lanes.get(&place.priority.0)?;
        let alternative = |shape: &ShapeIndex| pick.alternative(*shape, self.pairs.get(shape)?.open);
        lane.by_age.iter().find_map(|(_, shape)| Some((*shape, alternative(shape)?)))
    }

    /// Who is next after a place, if of the same priority. Only the first few are looked at: it may be one that is
    /// blocked.
    pub(crate) fn next_after(&self, place: Place, pick: &Pick<'_>) -> Option<Place> {
        let after = self.line.range((Excluded(place), Unbounded)).copied();
        let of_priority = after.take_while(|next| next.priority == place.priority);
        let mut few = of_priority.enumerate().take(LOOKED_AT);
        few.find(|(at, next)| at + 1 == LOOKED_AT || self.oldest_open(*next, pick).is_some()).map(|(_, next)| next)
    }
}

/// What may be picked of a queue's own work.
pub(crate) struct Pick<'a> {
    pub(crate) may: &'a May,
    pub(crate) shapes: &'a BTreeMap<ShapeIndex, Shape>,
}

impl Pick<'_> {
    /// The first of a shape's open alternatives that is of a kind that may be picked.
    fn alternative(&self, shape: ShapeIndex, open: u64) -> Option<u32> {
        let kinds = &self.shapes.get(&shape).filter(|_| open != 0)?.kinds;
        let mut ways = (0..).zip(kinds);
        ways.find(|(at, kind)| open & (1 << at) != 0 && self.may.has(**kind)).map(|(at, _)| at)
    }
}

/// How many users are looked at for one that is not blocked, to tell how far a turn goes.
const LOOKED_AT: usize = 8;

/// Over all shared columns, asked or not: so a user's share changes with what is theirs alone.
fn share_of(account: &Account, more: Held, times: u64, capacity: &Held, history: History) -> u64 {
    let mut held = account.held.clone();
    held.add(&more, times);
    let shared = |held: &Held| -> u64 {
        let columns = held.entries().filter(|(at, _)| crate::turns::share::Column::is_shared(*at));
        dominant(columns, capacity)
    };
    shared(&held).saturating_add(history.of(shared(&account.decayed)))
}
