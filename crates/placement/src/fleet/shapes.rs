//! The shapes of work and how far each has come in its orders.

use super::amounts::Amounts;
use super::device::Wish;
use super::fragment::Fit;
use super::layout::Filter;
use super::order::{By, Gang, Scope};
use super::orders::Orders;
use super::seek::Seek;
use super::tree::Near;
use crate::bits::Bits;

/// Seeks that a shape keeps for each of its alternatives: one for each set of models it was asked for.
const SEEKS_PER_ALTERNATIVE: usize = 4;

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
    /// How much better each class of nodes is, for work of one member; those beyond its length are 0. Of the nodes on which it fits
    /// the better ones come first, before all else.
    pub prefer: Vec<u32>,
}

/// A shape and its seeks.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) facts: ShapeFacts,
    /// Those asked last are last.
    pub(crate) seeks: Vec<Seek>,
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
        }
        let preferred = self.prefer.iter().rposition(|score| *score > 0).map_or(0, |last| last + 1);
        self.prefer.truncate(if self.size > 1 { 0 } else { preferred });
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

    fn scope(&self, alternative: u32, filter: Option<Filter>, fit: Fit) -> Scope {
        let wish = || self.wish(alternative).cloned();
        let gang = (self.size > 1).then(|| Gang { needs: self.needs.clone(), wish: wish(), size: self.size });
        let by = match (fit, self.wish(alternative)) {
            (Fit::Fragmentation, Some(wish)) if gang.is_none() => By::Useless(wish.clone()),
            (Fit::First, Some(_)) if gang.is_none() => By::Index,
            _ => By::Rank,
        };
        Scope { eligible: self.eligible.clone(), filter, gang, prefer: self.prefer.clone(), by }
    }
}

impl Shape {
    /// The position of the seek by an alternative and these devices, if there is one; it becomes the last.
    pub(crate) fn known_seek(&mut self, alternative: u32, filter: Option<&Filter>) -> Option<&mut Seek> {
        let same = |seek: &Seek| seek.alternative == alternative && seek.filter.as_ref() == filter;
        let at = self.seeks.iter().position(same)?;
        let last = self.seeks.len() - 1;
        self.seeks[at..].rotate_left(1);
        self.seeks.get_mut(last)
    }

    /// Starts a seek, and lets go of the one that was not asked for longest if there are too many.
    pub(crate) fn start_seek(&mut self, alternative: u32, filter: Option<Filter>, order: u32, orders: &mut Orders) {
        let Some(by) = orders.get_mut(order).map(|order| order.scope.by.clone()) else { return };
        if self.seeks.len() >= SEEKS_PER_ALTERNATIVE * self.facts.wishes.len().max(1) {
            orders.close(self.seeks.remove(0).order);
        }
        // Only where nothing is preferred do those with the fewest devices left come first.
        let wish = self.facts.wish(alternative).filter(|_| self.facts.prefer.is_empty());
        self.seeks.push(Seek::new(alternative, filter, order, wish, &by));
    }

    pub(crate) fn new_scope(&self, alternative: u32, filter: Option<Filter>, fit: Fit) -> Scope {
        self.facts.scope(alternative, filter, fit)
    }

    /// Lets go of all orders.
    pub(crate) fn close(self, orders: &mut Orders) {
        self.seeks.into_iter().for_each(|seek| orders.close(seek.order));
    }
}
