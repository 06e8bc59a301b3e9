//! The shapes of work and how far each has come in its orders.

use super::amounts::Amounts;
use super::device::Wish;
use super::layout::Filter;
use super::order::{Gang, Scope};
use super::orders::Orders;
use super::seek::Seek;
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

    fn scope(&self, alternative: u32, filter: Option<Filter>) -> Scope {
        let wish = || self.wish(alternative).cloned();
        let gang = (self.size > 1).then(|| Gang { needs: self.needs.clone(), wish: wish(), size: self.size });
        Scope { eligible: self.eligible.clone(), filter, gang }
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
        if self.seeks.len() >= SEEKS_PER_ALTERNATIVE * self.facts.wishes.len().max(1) {
            orders.close(self.seeks.remove(0).order);
        }
        self.seeks.push(Seek::new(alternative, filter, order, self.facts.wish(alternative)));
    }

    pub(crate) fn new_scope(&self, alternative: u32, filter: Option<Filter>) -> Scope {
        self.facts.scope(alternative, filter)
    }

    /// Lets go of all orders.
    pub(crate) fn close(self, orders: &mut Orders) {
        self.seeks.into_iter().for_each(|seek| orders.close(seek.order));
    }
}
