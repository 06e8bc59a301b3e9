//! The shapes of work and how far each has come in its orders.

use std::cmp::Reverse;

use super::amounts::Amounts;
use super::beside::Beside;
use super::device::Wish;
use super::fragment::Fit;
use super::layout::Filter;
use super::node::WHOLE;
use super::order::{By, Gang, Scope};
use super::orders::Orders;
use super::seek::Seek;
use super::spread::Spread;
use super::tree::Near;
use crate::bits::Bits;

/// Seeks that a shape keeps for each of its alternatives: one for each set of models it was asked for.
const SEEKS_PER_ALTERNATIVE: usize = 4;

/// Grades of nodes that a gang tells apart.
const TIERS: usize = 8;

/// Position of a shape, chosen by the caller; low and dense, since lists go as far as the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeIndex(pub u32);

/// Work that is alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeFacts {
    /// What each member needs.
    pub needs: Amounts,
    /// Alternatives of devices, the first that fits is taken; empty for none. A count or share of 0 is taken as 1.
    pub wishes: Vec<Wish>,
    /// Members of a task; 0 is taken as 1.
    pub size: u32,
    /// Classes of nodes that it may go to; one beyond its length is not in.
    pub eligible: Bits,
    /// How near to each other its members have to be.
    pub near: Near,
    /// How much better each class of nodes is; those beyond its length are 0. Of the nodes on which work of one member fits the better
    /// ones come first, before all else; a gang goes where the worst of its nodes is as good as can be.
    pub prefer: Vec<u32>,
    /// What it says of what is beside it.
    pub beside: Beside,
}

/// A shape and its seeks.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) facts: ShapeFacts,
    /// Those asked last are last.
    pub(crate) seeks: Vec<Seek>,
    /// How it is spread, with those that were seated since it was put.
    pub(crate) spread: Option<Spread>,
    /// The nodes that a gang tries one after the other; empty if all are alike to it.
    pub(crate) tiers: Vec<Bits>,
}

impl ShapeFacts {
    /// The same in the one form that equal shapes have.
    #[must_use]
    pub(crate) fn in_order(mut self) -> Self {
        let tokens = self.needs.tokens.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.needs.tokens.truncate(tokens);
        self.size = self.size.max(1);
        for wish in &mut self.wishes {
            wish.count = wish.count.max(1);
            wish.share_milli = wish.share_milli.max(1);
            // A whole device comes with all its memory.
            wish.memory_bytes = if wish.share_milli < WHOLE { wish.memory_bytes } else { 0 };
        }
        let preferred = self.prefer.iter().rposition(|score| *score > 0).map_or(0, |last| last + 1);
        self.prefer.truncate(preferred);
        self.eligible.trim();
        self
    }

    /// The alternatives by their position; `None` for that of no devices.
    pub(crate) fn alternatives(&self) -> impl Iterator<Item = Option<&Wish>> {
        let none = self.wishes.is_empty().then_some(None);
        self.wishes.iter().map(Some).chain(none)
    }

    /// One of the alternatives; `None` too if there is no such one.
    pub(crate) fn wish(&self, alternative: u32) -> Option<&Wish> {
        self.wishes.get(alternative as usize)
    }

    /// For a gang that prefers some nodes: those that are good enough, fewer first, and all at last. Of many grades the worst are taken
    /// together.
    pub(crate) fn tiers(&self) -> Vec<Bits> {
        if self.size <= 1 || self.prefer.is_empty() {
            return Vec::new();
        }
        let score = |class: usize| self.prefer.get(class).copied().unwrap_or(0);
        let mut grades: Vec<u32> = self.eligible.iter().map(score).collect();
        grades.sort_unstable_by_key(|grade| Reverse(*grade));
        grades.dedup();
        if let Some(least) = grades.last().copied().filter(|_| grades.len() > TIERS) {
            grades.truncate(TIERS - 1);
            grades.push(least);
        }
        let tier = |least: u32| {
            let mut tier = Bits::none(0);
            self.eligible.iter().filter(|class| score(*class) >= least).for_each(|class| tier.put(class));
            tier
        };
        grades.into_iter().map(tier).collect()
    }

    fn scope(&self, alternative: u32, filter: Option<Filter>, fit: Fit) -> Scope {
        let wish = || self.wish(alternative).cloned();
        let (avoids, alone) = (self.beside.avoids.clone(), self.beside.is_alone());
        let gang = || Gang { needs: self.needs.clone(), wish: wish(), size: self.size, avoids, alone };
        let gang = (self.size > 1).then(gang);
        let by = match (fit, self.wish(alternative)) {
            (Fit::Fragmentation, Some(wish)) if gang.is_none() => By::Useless(wish.clone()),
            (Fit::First, Some(_)) if gang.is_none() => By::Index,
            _ => By::Rank,
        };
        let pack = self.beside.pack && filter.is_none();
        let prefer = if gang.is_some() { Vec::new() } else { self.prefer.clone() };
        Scope { eligible: self.eligible.clone(), filter, gang, prefer, by, pack }
    }
}

impl Shape {
    /// The position of the seek by an alternative, these devices and the nodes of a tier, if there is one; it becomes the last.
    pub(crate) fn known_seek(&mut self, alternative: u32, filter: Option<&Filter>, tier: u32) -> Option<&mut Seek> {
        let same = |seek: &Seek| (seek.alternative, seek.tier) == (alternative, tier) && seek.filter.as_ref() == filter;
        let at = self.seeks.iter().position(same)?;
        let last = self.seeks.len() - 1;
        self.seeks[at..].rotate_left(1);
        self.seeks.get_mut(last)
    }

    /// Starts a seek, and lets go of the one that was not asked for longest if there are too many.
    pub(crate) fn start_seek(
        &mut self,
        (alternative, tier): (u32, u32),
        filter: Option<Filter>,
        order: u32,
        orders: &mut Orders,
    ) {
        let Some(by) = orders.get_mut(order).map(|order| order.scope.by.clone()) else { return };
        let alternatives = self.facts.wishes.len().max(1) * self.tiers.len().max(1);
        if self.seeks.len() >= SEEKS_PER_ALTERNATIVE * alternatives {
            orders.close(self.seeks.remove(0).order);
        }
        // Only where nothing is preferred do those with the fewest devices left come first.
        let wish = self.facts.wish(alternative).filter(|_| self.facts.prefer.is_empty());
        self.seeks.push(Seek::new((alternative, tier), filter, order, wish, &by));
    }

    pub(crate) fn new_scope(&self, (alternative, tier): (u32, u32), filter: Option<Filter>, fit: Fit) -> Scope {
        let scope = self.facts.scope(alternative, filter, fit);
        match self.tiers.get(tier as usize) {
            Some(tier) => Scope { eligible: tier.clone(), ..scope },
            None => scope,
        }
    }

    /// Lets go of all orders.
    pub(crate) fn close(self, orders: &mut Orders) {
        self.seeks.into_iter().for_each(|seek| orders.close(seek.order));
    }
}
