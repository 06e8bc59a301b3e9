//! A fleet with what runs on it: to see what would be if some were gone.

use super::Fleet;
use super::amounts::Amounts;
use super::device::Portion;
use super::layout::Filter;
use super::mask::DeviceMask;
use super::node::NodeIndex;
use super::room;
use super::seat::{Ended, Seated};
use super::shapes::ShapeIndex;
use super::spread::Spread;
use crate::turns::round::{Ask, Room};
use crate::turns::victims::Scratch;

/// What a member that runs holds of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The node.
    pub node: NodeIndex,
    /// Its amounts.
    pub amounts: Amounts,
    /// Its devices.
    pub devices: DeviceMask,
    /// How much of each of them.
    pub portion: Portion,
    /// The marks that it left there.
    pub marks: Vec<u32>,
}

/// A fleet, and what each of those that run holds of it, all of which was taken off what is free when the nodes were
/// put. Of a node that is not in the fleet nothing is given back.
#[derive(Debug)]
pub struct Occupied<'a> {
    fleet: &'a mut Fleet,
    running: &'a [Vec<Holding>],
}

impl<'a> Occupied<'a> {
    /// A fleet with what runs on it.
    pub fn new(fleet: &'a mut Fleet, running: &'a [Vec<Holding>]) -> Self {
        Self { fleet, running }
    }
}

impl Room for Occupied<'_> {
    type Seated = Seated;

    fn seat(&mut self, ask: &Ask<'_>, most: u32, steps: &mut u64, out: &mut Vec<Seated>) -> Ended {
        Room::seat(self.fleet, ask, most, steps, out)
    }

    fn give_back(&mut self, shape: ShapeIndex, seated: &Seated) {
        self.fleet.give_back(shape, seated);
    }

    fn models_of(&self, shape: ShapeIndex, seated: &Seated) -> Vec<(u32, u64)> {
        self.fleet.models_of(shape, seated)
    }
}

impl Scratch for Occupied<'_> {
    fn take_out(&mut self, running: usize) {
        self.running[running].iter().for_each(|holding| self.fleet.let_go(holding));
    }

    fn put_back(&mut self, running: usize) {
        self.running[running].iter().for_each(|holding| self.fleet.hold(holding));
    }

    fn members_on(&mut self, ask: &Ask<'_>, node: NodeIndex, most: u32) -> u32 {
        self.fleet.members_on(ask, node, most)
    }

    fn members(&self, shape: ShapeIndex) -> u32 {
        self.fleet.shape(shape).map_or(1, |shape| shape.facts.size)
    }
}

impl Fleet {
    fn let_go(&mut self, holding: &Holding) {
        let at = holding.node.0 as usize;
        if let Some(node) = self.nodes.get_mut(at) {
            node.give_back(&holding.amounts, &holding.devices, holding.portion);
            self.nodes.marks.lift(at, &holding.marks);
            self.changes.note(at);
        }
    }

    fn hold(&mut self, holding: &Holding) {
        let at = holding.node.0 as usize;
        if let Some(node) = self.nodes.get_mut(at) {
            node.take_again(&holding.amounts, &holding.devices, holding.portion);
            self.nodes.marks.leave(at, &holding.marks);
            self.changes.note(at);
        }
    }

    /// How many members of one task a node could hold beside each other now, at most so many.
    fn members_on(&self, ask: &Ask<'_>, node: NodeIndex, most: u32) -> u32 {
        let at = node.0 as usize;
        let found = self.shape(ask.shape).zip(self.nodes.get(at));
        let Some((shape, node)) = found.filter(|(shape, node)| shape.facts.eligible.contains(node.class as usize))
        else {
            return 0;
        };
        let beside = &shape.facts.beside;
        let own = |spread: &Spread| if spread.allows(at) { spread.room(spread.domain(at, node.class)) } else { 0 };
        let most = u64::from(if beside.is_alone() { most.min(1) } else { most });
        let most = shape.spread.as_ref().map_or(most, |spread| most.min(own(spread)));
        if most == 0 || self.nodes.marks.has_any(at, &beside.avoids) {
            return 0;
        }
        let wish = shape.facts.wish(ask.alternative);
        let filter = match (wish, ask.models) {
            (None, _) => None,
            (Some(wish), None) => Some(Filter::of(wish)),
            (Some(wish), Some(models)) => match Filter::within(wish, models, self.nodes.models()) {
                Some(filter) => Some(filter),
                None => return 0,
            },
        };
        let layout = self.nodes.layouts.get(node.layout);
        let mut accepted = vec![DeviceMask::NONE; node.layout as usize + 1];
        if let (Some(filter), Some(mask)) = (filter, accepted.last_mut()) {
            *mask = filter.accepted(layout);
        }
        let ask = room::Ask { needs: &shape.facts.needs, wish, accepted: &accepted, avoids: &beside.avoids };
        // It is no more than was asked for.
        ask.capacity(node, node.room(layout), most) as u32
    }
}
