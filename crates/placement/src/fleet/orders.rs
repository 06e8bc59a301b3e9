//! All orders, each kept as long as a shape asks for it, and some a while longer in case one does again.

use std::collections::{BTreeMap, VecDeque};

use super::layout::{Layout, Layouts};
use super::order::{Order, Scope};

/// Orders that are kept although no shape asks for them.
const IDLE: usize = 32;

/// Orders by number.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    list: Vec<Option<Order>>,
    /// By order, how many seeks use it.
    uses: Vec<u32>,
    numbers: BTreeMap<Scope, u32>,
    /// Numbers that no order has.
    spare: Vec<u32>,
    /// Orders that nobody uses, those longest out of use first.
    idle: VecDeque<u32>,
}

impl Orders {
    /// The number of an order, which is kept until it is closed as often as it was opened.
    pub(crate) fn open(&mut self, scope: Scope, layouts: &Layouts, seed: u64) -> u32 {
        let number = self.numbers.get(&scope).copied().unwrap_or_else(|| self.add(scope, layouts, seed));
        if self.uses[number as usize] == 0 {
            self.idle.retain(|idle| *idle != number);
        }
        self.uses[number as usize] += 1;
        number
    }

    fn add(&mut self, scope: Scope, layouts: &Layouts, seed: u64) -> u32 {
        let number = self.spare.pop().unwrap_or(self.list.len() as u32);
        if number as usize == self.list.len() {
            self.list.push(None);
            self.uses.push(0);
        }
        self.list[number as usize] = Some(Order::new(scope.clone(), layouts, seed));
        self.numbers.insert(scope, number);
        number
    }

    pub(crate) fn close(&mut self, number: u32) {
        self.uses[number as usize] -= 1;
        if self.uses[number as usize] > 0 {
            return;
        }
        self.idle.push_back(number);
        if self.idle.len() > IDLE
            && let Some(number) = self.idle.pop_front()
            && let Some(order) = self.list[number as usize].take()
        {
            self.numbers.remove(&order.scope);
            self.spare.push(number);
        }
    }

    /// Tells all of them of a layout that was not there.
    pub(crate) fn cover(&mut self, number: u32, layout: &Layout) {
        self.list.iter_mut().flatten().for_each(|order| order.cover(number as usize, layout));
    }

    /// All of them are to look at everything again.
    pub(crate) fn start_again(&mut self) {
        self.list.iter_mut().flatten().for_each(Order::start_again);
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Order> {
        self.list.get_mut(number as usize)?.as_mut()
    }
}
