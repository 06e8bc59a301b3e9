//! Who is next. From the root down, among those with work that may be placed: first whoever is below what it is
//! entitled to, by how far; then whoever has the smallest share for its weight. In a queue's own work: priority, then
//! the user with the smallest share, then who has waited longest.
//!
//! Who goes first by a promise does so with the kinds of work that the promise is for and with nothing else: below it
//! only those may be picked, and those are all that its place and the places below are reckoned from. A task that may
//! have what is promised then takes it, even if it would rather have had something else. A promise counts at each fork on the
//! way down to whom it is made to, whatever others hold there: who is below what it is entitled to is before all others
//! beside each of those above it, too.
//!
//! Shares are compared over what somebody below asks for and may get. A resource that is all given away is asked for
//! by nobody, as far as that goes: so who holds much of it is not kept from the others (the lesson of hierarchical
//! DRF).

use crate::turns::fixed::part;
use crate::turns::group::{GroupKey, May, QueueIndex};
use crate::turns::leaf::{Pick, Place};
use crate::turns::queues::{At, Queues, ROOT, owner_of};
use crate::turns::share::{Column, Held, dominant};

/// Place of a node among those under the same one. The smallest is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Whether it has no less than it is entitled to.
    served: bool,
    /// How much of it, or the share for its weight.
    share: u128,
    /// Ties go by position: own work first, then queues in their order.
    rank: u32,
    at: At,
}

/// Whose turn it is.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) key: GroupKey,
    /// By which of its open alternatives.
    pub(crate) alternative: u32,
    place: Place,
    /// From the top, the nodes on the way, each with what might be picked of those under the same one.
    way: Vec<(At, May)>,
    /// What may be picked of the queue's own work.
    may: May,
}

/// What would be held more: so much, so many times, by these nodes.
#[derive(Clone, Copy)]
struct Added<'a> {
    each: &'a Held,
    times: u64,
    by: &'a [At],
}

type More<'a> = Option<Added<'a>>;

impl Queues {
    /// Whose turn it is, if anything may be placed.
    pub(crate) fn first(&mut self) -> Option<Turn> {
        let (mut at, mut may, mut way) = (ROOT, May::ALL, Vec::new());
        loop {
            let key = self.next_below(at, &may)[0]?;
            at = key.at;
            way.push((at, may.clone()));
            may = self.below_it(at, may);
            if let Some(queue) = owner_of(at) {
                let pick = Pick { may: &may, shapes: &self.shapes };
                let (key, place, alternative) = self.leaves[queue.0 as usize].first(queue, self.round, &pick)?;
                return Some(Turn { key, alternative, place, way, may });
            }
        }
    }

    /// The first and the second below a node.
    fn next_below(&self, at: At, may: &May) -> [Option<Key>; 2] {
        let node = &self.nodes[at];
        if may.has_all(&node.asks) {
            let mut line = node.line.iter().copied();
            return [line.next(), line.next()];
        }
        let below = node.line.iter().map(|key| key.at);
        let with_any = below.filter(|at| self.nodes[*at].asks.kinds().any(|kind| may.has(kind)));
        with_any.map(|at| self.key_of(at, None, may)).fold([None, None], |[first, second], key| {
            if first.is_none_or(|first| key < first) {
                [Some(key), first]
            } else {
                [first, Some(second.map_or(key, |second| key.min(second)))]
            }
        })
    }

    /// How many of so many tasks in a row are the turn's, if each comes to so much: until somebody else would be
    /// next.
    pub(crate) fn in_a_row(&self, turn: &Turn, each: &Held, wanted: u32) -> u32 {
        let leaf = &self.leaves[turn.key.queue.0 as usize];
        let user = leaf.next_after(turn.place, &Pick { may: &turn.may, shapes: &self.shapes });
        let next = |at: At, may: &May| self.next_below(self.nodes[at].above, may)[1];
        let way: Vec<_> =
            turn.way.iter().map(|(at, may)| (*at, may, next(*at, may), self.claims(*at, None, may))).collect();
        let by: Vec<_> = turn.way.iter().map(|(at, _)| *at).collect();
        let is_still_first = |after: u64| {
            let share = |user| leaf.share_with(user, (each, after), &self.capacity, self.history);
            let first_user = user.is_none_or(|next| turn.place.with_share(share(turn.place.user())) < next);
            let more = Some(Added { each, times: after, by: &by });
            let first_on_way = |(at, may, next, claims): &(At, &May, Option<Key>, Vec<u32>)| {
                let is_first = next.is_none_or(|next| self.key_of(*at, more, may) < next);
                // Once a promise is met by some kind, something else may be picked below.
                is_first && (claims.is_empty() || self.claims(*at, more, may) == *claims)
            };
            first_user && way.iter().all(first_on_way)
        };
        let (mut most, mut too_many) = (1, wanted.saturating_add(1));
        while most < wanted && most + 1 < too_many {
            let guess = if too_many > wanted { (most * 2).min(wanted) } else { u32::midpoint(most, too_many) };
            if is_still_first(u64::from(guess) - 1) { most = guess } else { too_many = guess }
        }
        most
    }

    /// Puts every node whose place may have changed where it belongs.
    pub(crate) fn refresh(&mut self) {
        while let Some(at) = self.stale.pop() {
            self.nodes[at].stale = false;
            if at == ROOT {
                continue;
            }
            let key = (!self.nodes[at].asks.is_empty()).then(|| self.key_of(at, None, &May::ALL));
            let before = std::mem::replace(&mut self.nodes[at].key, key);
            if before == key {
                continue;
            }
            let above = self.nodes[at].above;
            let line = &mut self.nodes[above].line;
            before.map(|before| line.remove(&before));
            key.map(|key| line.insert(key));
            // Who is above goes by who has a claim below.
            if before.into_iter().chain(key).any(|key| !key.served) {
                self.mark(above);
            }
        }
    }

    /// Open pairs' queues below a node.
    pub(crate) fn open_queues(&self, at: At) -> Vec<QueueIndex> {
        let (mut found, mut next) = (Vec::new(), vec![at]);
        while let Some(at) = next.pop() {
            found.extend(owner_of(at).filter(|_| !self.nodes[at].asks.is_empty()));
            next.extend(self.nodes[at].line.iter().map(|key| key.at));
        }
        found.sort_unstable();
        found
    }

    /// A node's place for what may be picked below, if so much more were held.
    fn key_of(&self, at: At, more: More<'_>, may: &May) -> Key {
        let node = &self.nodes[at];
        let rank = owner_of(at).map_or(at as u32, |_| 0);
        if let Some(share) = self.claimed(at, more, may) {
            return Key { served: false, share: u128::from(share), rank, at };
        }
        let share = if may.has_all(&node.asks) {
            self.share(at, more, || node.asks.columns().iter().copied())
        } else {
            let columns = || self.asked(at, may).flat_map(|kind| self.kinds.columns(kind)).copied();
            self.share(at, more, || columns().filter(|column| Column::is_shared(*column)))
        };
        Key { served: true, share: (u128::from(share) << 32) / u128::from(node.facts.weight.max(1)), rank, at }
    }

    /// The share of what a node holds and held of some columns.
    fn share<I: Iterator<Item = usize>>(&self, at: At, more: More<'_>, columns: impl Fn() -> I) -> u64 {
        let now = dominant(columns().map(|column| (column, self.held_with(at, column, more))), &self.capacity);
        let before = columns().map(|column| (column, self.nodes[at].decayed.at(column)));
        now.saturating_add(self.history.of(dominant(before, &self.capacity)))
    }

    fn held_with(&self, at: At, column: usize, more: More<'_>) -> u64 {
        let added = more.filter(|more| more.by.contains(&at));
        let added = added.map_or(0, |more| more.each.at(column).saturating_mul(more.times));
        self.nodes[at].held.at(column).saturating_add(added)
    }

    fn asked<'a>(&'a self, at: At, may: &'a May) -> impl Iterator<Item = u32> + 'a {
        self.nodes[at].asks.kinds().filter(|kind| may.has(*kind))
    }

    /// Those below a node that might have a claim: with less of it, or less to pick, nobody has one who has none now.
    fn claimants(&self, at: At) -> impl Iterator<Item = &Key> {
        self.nodes[at].line.iter().take_while(|key| !key.served)
    }

    /// How much of what is promised to it there is of who has least of it, of a node and those below; nothing if nobody has a claim.
    fn claimed(&self, at: At, more: More<'_>, may: &May) -> Option<u64> {
        let is_promised = !self.nodes[at].entitled.is_none();
        let own = is_promised.then(|| self.asked(at, may).filter_map(|kind| self.below_entitled(at, kind, more)).min());
        let below = if more.is_none() && *may == May::ALL {
            self.claimants(at).next().map(|key| key.share as u64)
        } else {
            self.claimants(at).filter_map(|key| self.claimed(key.at, more, may)).min()
        };
        own.flatten().into_iter().chain(below).min()
    }

    /// The kinds of work below a node that it, or somebody below it, is below what it is entitled to for; ascending.
    fn claims(&self, at: At, more: More<'_>, may: &May) -> Vec<u32> {
        let mut claims: Vec<_> = match self.nodes[at].entitled.is_none() {
            true => Vec::new(),
            false => self.asked(at, may).filter(|kind| self.below_entitled(at, *kind, more).is_some()).collect(),
        };
        let own = claims.len();
        self.claimants(at).for_each(|key| claims.extend(self.claims(key.at, more, may)));
        if claims.len() > own {
            claims.sort_unstable();
            claims.dedup();
        }
        claims
    }

    /// What may be picked below a node, of what might be picked beside it.
    fn below_it(&self, at: At, may: May) -> May {
        let claims = self.claims(at, None, &may);
        if claims.is_empty() { may } else { May::only(claims) }
    }

    /// How much of what it is entitled to it has, if it has less of everything that a kind of work below asks for. Only
    /// what is promised is looked at; work that asks for nothing promised has no claim.
    fn below_entitled(&self, at: At, kind: u32, more: More<'_>) -> Option<u64> {
        let entitled = &self.nodes[at].entitled;
        let promised = self.kinds.columns(kind).iter().filter(|column| entitled.at(**column) > 0);
        let parts = promised.map(|column| (self.held_with(at, *column, more), entitled.at(*column)));
        let parts = parts.map(|(held, entitled)| (held < entitled).then(|| part(held, entitled)));
        parts.reduce(|one, other| Some(one?.max(other?))).flatten()
    }
}
