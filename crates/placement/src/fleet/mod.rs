//! The fleet: nodes, shapes of work, and for each shape an order of nodes that is kept between rounds.
//!
//! It is a cache of what it was told: the same seed, nodes and shapes give the same seats, however they came about. Only
//! where a spent budget cuts off does it matter what was known already.

mod amounts;
mod beside;
mod changes;
mod device;
mod fragment;
mod gang;
mod layout;
mod link;
mod mask;
mod memo;
mod node;
mod nodes;
mod occupied;
mod order;
mod orders;
mod rank;
mod room;
mod seat;
mod seek;
mod shapes;
mod spread;
mod starts;
mod tree;
mod why;

pub use self::amounts::Amounts;
pub use self::beside::Beside;
pub use self::device::{Device, Portion, Wish};
pub use self::fragment::{Fit, Fragments};
pub use self::link::Link;
pub use self::mask::DeviceMask;
pub use self::node::{NodeFacts, NodeIndex};
pub use self::occupied::{Holding, Occupied};
pub use self::seat::{Ended, SeatAt, Seated};
pub use self::shapes::{ShapeFacts, ShapeIndex};
pub use self::spread::{Domain, Spread};
pub use self::tree::Near;
pub use self::why::{Explanation, Lack, NearRoom};

use self::changes::Changes;
use self::fragment::Mix;
use self::layout::Filter;
use self::nodes::{Nodes, Put};
use self::orders::Orders;
use self::seat::Turn;
use self::shapes::Shape;
use crate::bits::Bits;
use crate::turns::round::{Ask, Room};

/// Nodes and shapes, and what was found out about them.
#[derive(Debug)]
pub struct Fleet {
    seed: u64,
    fit: Fit,
    nodes: Nodes,
    changes: Changes,
    shapes: Vec<Option<Shape>>,
    orders: Orders,
    /// For choosing devices; empty between calls.
    scratch: Vec<u128>,
}

impl Fleet {
    /// No nodes and no shapes. The seed says which of equal nodes comes first; with seed 0 that of the lowest index.
    pub fn new(seed: u64) -> Self {
        Self::with_fit(seed, Fit::Fragmentation)
    }

    /// The same with another rule by which nodes are chosen for single tasks with devices.
    pub fn with_fit(seed: u64, fit: Fit) -> Self {
        Self {
            seed,
            fit,
            nodes: Nodes::default(),
            changes: Changes::new(),
            shapes: Vec::new(),
            orders: Orders::default(),
            scratch: Vec::new(),
        }
    }

    /// Says how common each kind of work with devices is. What is sorted by fragmentation is sorted anew when it is asked for next, so this
    /// is for fixed moments, not for each round.
    pub fn set_mix(&mut self, kinds: &[(Wish, u64)]) {
        self.nodes.mix = Mix::of(kinds, &self.nodes.layouts);
        self.shapes.iter_mut().flatten().for_each(|shape| shape.seeks.clear());
        self.orders = Orders::default();
    }

    /// What is free of the devices that are well, and how much of it is of no use to the work there is.
    pub fn fragments(&self) -> Fragments {
        self.nodes.fragments(&self.nodes.mix)
    }

    /// The same for another mix than the one that nodes are chosen by.
    pub fn fragments_for(&self, kinds: &[(Wish, u64)]) -> Fragments {
        self.nodes.fragments(&Mix::of(kinds, &self.nodes.layouts))
    }

    /// Puts a node, new or in place of what it was. Equal facts change nothing.
    pub fn put_node(&mut self, at: NodeIndex, facts: NodeFacts) {
        let at = at.0 as usize;
        let put = self.nodes.put(at, facts);
        if let Put::Added(layout) = put {
            self.orders.cover(layout, self.nodes.layouts.get(layout));
        }
        if put != Put::Same {
            self.changes.note(at);
        }
    }

    /// Says which marks the members on a node left there, each as often as there are such members.
    pub fn put_marks(&mut self, at: NodeIndex, marks: Vec<u32>) {
        let at = at.0 as usize;
        if self.nodes.marks.put(at, marks) {
            self.changes.note(at);
        }
    }

    /// Says how many members on a node are placed and do not run yet.
    pub fn put_starting(&mut self, at: NodeIndex, members: u32) {
        let at = at.0 as usize;
        if self.nodes.starts.put(at, members) {
            self.changes.note(at);
        }
    }

    /// Bounds how many members on a node are placed and do not run yet. Where none is, a gang may come that is more.
    pub fn bound_starting(&mut self, most: Option<u32>) {
        self.nodes.starts.bound(most).into_iter().for_each(|at| self.changes.note(at));
    }

    /// Takes a node out.
    pub fn remove_node(&mut self, at: NodeIndex) {
        if self.nodes.remove(at.0 as usize) {
            self.changes.note(at.0 as usize);
        }
    }

    /// Says where the nodes of a class are in the topology: their labels from the top, as far as they have them. Best told
    /// before there are nodes of the class; a class that is never told of is in no domain.
    pub fn put_class(&mut self, class: u32, labels: &[u32]) {
        let (flat, changed) = (self.nodes.tree.is_flat(), self.nodes.tree.put(class, labels));
        if changed && (flat || self.nodes.iter().any(|(_, node)| node.class == class)) {
            self.orders.start_again();
        }
    }

    /// Puts a shape, new or in place of what it was. Equal facts change nothing.
    pub fn put_shape(&mut self, at: ShapeIndex, facts: ShapeFacts) {
        let facts = facts.in_order();
        if self.shapes.len() <= at.0 as usize {
            self.shapes.resize_with(at.0 as usize + 1, || None);
        }
        let place = &mut self.shapes[at.0 as usize];
        if place.as_ref().is_some_and(|shape| shape.facts == facts && shape.spread == facts.beside.spread) {
            return;
        }
        let (spread, tiers) = (facts.beside.spread.clone(), facts.tiers());
        if let Some(before) = place.replace(Shape { facts, seeks: Vec::new(), spread, tiers }) {
            before.close(&mut self.orders);
        }
    }

    /// How a shape is spread now, with those that were seated since it was put.
    pub fn spread_of(&self, at: ShapeIndex) -> Option<&Spread> {
        self.shape(at)?.spread.as_ref()
    }

    /// Takes a shape out.
    pub fn drop_shape(&mut self, at: ShapeIndex) {
        if let Some(shape) = self.shapes.get_mut(at.0 as usize).and_then(Option::take) {
            shape.close(&mut self.orders);
        }
    }

    /// Seats up to `most` tasks of a shape by its alternatives in order, only on devices of these models (`None`: of any),
    /// and adds them to `out`. Each task is seated whole or not at all. `steps` are those left; they are counted down: one
    /// for each node that changed or was tested, and for each member seated. Of a shape that was not put none is seated.
    pub fn seat(
        &mut self,
        shape: ShapeIndex,
        most: u32,
        models: Option<&Bits>,
        steps: &mut u64,
        out: &mut Vec<Seated>,
    ) -> Ended {
        let mut left = most;
        let alternatives = self.shape(shape).map_or(0, |shape| shape.facts.alternatives().count());
        for alternative in 0..alternatives as u32 {
            if left == 0 {
                break;
            }
            if *steps == 0 || self.seat_by(shape, alternative, models, &mut left, steps, out) == Ended::Budget {
                return Ended::Budget;
            }
        }
        if left == 0 { Ended::Enough } else { Ended::NoRoom }
    }

    fn shape(&self, at: ShapeIndex) -> Option<&Shape> {
        self.shapes.get(at.0 as usize)?.as_ref()
    }

    fn seat_by(
        &mut self,
        shape: ShapeIndex,
        alternative: u32,
        models: Option<&Bits>,
        left: &mut u32,
        steps: &mut u64,
        out: &mut Vec<Seated>,
    ) -> Ended {
        let tiers = self.shape(shape).map_or(0, |shape| shape.tiers.len()) as u32;
        let worst = tiers.saturating_sub(1);
        // Whatever is preferred, nodes that are avoided come after all others.
        let by_trusted = (0..tiers).filter(|_| worst > 0).map(|tier| (tier, true));
        for (tier, trusted) in by_trusted.chain((0..worst).map(|tier| (tier, false))) {
            let before = (*steps, out.len());
            match self.seat_in(shape, (alternative, tier, trusted), models, left, steps, out) {
                // There are few tiers: to find nothing in one is no step, or a small budget would end in the same one each time.
                Ended::NoRoom if out.len() == before.1 => *steps = before.0,
                Ended::NoRoom if *steps > 0 => {}
                Ended::NoRoom => return Ended::Budget,
                ended => return ended,
            }
        }
        self.seat_in(shape, (alternative, worst, false), models, left, steps, out)
    }

    /// Seats on the nodes of one tier; of a gang only on trusted ones if so.
    fn seat_in(
        &mut self,
        shape: ShapeIndex,
        (alternative, tier, trusted): (u32, u32, bool),
        models: Option<&Bits>,
        left: &mut u32,
        steps: &mut u64,
        out: &mut Vec<Seated>,
    ) -> Ended {
        let Self { seed, fit, nodes, changes, shapes, orders, scratch } = self;
        let Some(shape) = shapes.get_mut(shape.0 as usize).and_then(Option::as_mut) else { return Ended::NoRoom };
        let filter = match (shape.facts.wish(alternative), models) {
            (None, _) => None,
            (Some(wish), None) => Some(Filter::of(wish)),
            (Some(wish), Some(models)) => match Filter::within(wish, models, nodes.models()) {
                Some(filter) => Some(filter),
                None => return Ended::NoRoom,
            },
        };
        let by = (alternative, tier);
        if shape.known_seek(alternative, filter.as_ref(), tier).is_none() {
            let order = orders.open(
                shape.new_scope(by, filter.clone(), if nodes.mix.is_empty() { fit.untold() } else { *fit }),
                &nodes.layouts,
                *seed,
            );
            shape.start_seek(by, filter, order, orders);
        }
        let Shape { facts, seeks, spread, .. } = shape;
        let Some(seek) = seeks.last_mut() else { return Ended::NoRoom };
        let Some(order) = orders.get_mut(seek.order) else { return Ended::NoRoom };
        let wish = facts.wish(alternative);
        Turn { facts, wish, seek, order, nodes, changes, scratch, steps, out, spread, trusted }.seat(left)
    }

    /// Gives back what a task took that was seated for a shape. What is not there any more is left out.
    pub fn give_back(&mut self, shape: ShapeIndex, seated: &Seated) {
        let Some(shape) = self.shapes.get_mut(shape.0 as usize).and_then(Option::as_mut) else { return };
        let portion = shape.facts.wish(seated.alternative).map_or(Portion::NONE, Wish::portion);
        for seat in &seated.seats {
            let at = seat.node.0 as usize;
            if let Some(node) = self.nodes.get_mut(at) {
                node.give_back(&shape.facts.needs, &seat.devices, portion);
                self.nodes.marks.lift(at, &shape.facts.beside.leaves);
                self.nodes.starts.go(at);
                self.changes.note(at);
            }
            if let Some(spread) = &mut shape.spread {
                spread.go(at, &self.nodes);
            }
        }
    }

    /// Whether a shape is wide, so that much has to be free in one place or at one time: it is of a gang, or of at least half a node, wherever it may go.
    pub fn is_wide(&self, shape: ShapeIndex) -> bool {
        let Some(Shape { facts, .. }) = self.shape(shape) else { return false };
        let wishes = facts.wishes.iter().map(|wish| u64::from(wish.count) * u64::from(wish.share_milli));
        let devices = wishes.min().unwrap_or(0);
        let mut eligible =
            self.nodes.iter().filter(|(_, node)| facts.eligible.contains(node.class as usize)).peekable();
        eligible.peek().is_some() && (facts.size > 1 || eligible.all(|(_, node)| node.is_half(&facts.needs, devices)))
    }

    /// Looks at every node for one task of a shape, as it is now. Nodes are told by their index.
    pub fn explain(&self, shape: &ShapeFacts) -> Explanation {
        why::explain(&self.nodes, &shape.clone().in_order())
    }

    /// The domains in one of which all members of a shape have to be, as they are now. Nodes are told by their index.
    pub fn near_room(&self, shape: &ShapeFacts) -> NearRoom {
        why::near_room(&self.nodes, &shape.clone().in_order())
    }

    /// Whether one task of the shape would fit if nothing ran and all devices were well.
    pub fn could_ever_fit(&self, shape: &ShapeFacts) -> bool {
        why::could_ever_fit(&self.nodes, &shape.clone().in_order())
    }
}

impl Room for Fleet {
    type Seated = Seated;

    fn seat(&mut self, ask: &Ask<'_>, most: u32, steps: &mut u64, out: &mut Vec<Seated>) -> Ended {
        let mut left = most;
        if left == 0 {
            return Ended::Enough;
        }
        if *steps == 0 {
            return Ended::Budget;
        }
        self.seat_by(ask.shape, ask.alternative, ask.models, &mut left, steps, out)
    }

    fn give_back(&mut self, shape: ShapeIndex, seated: &Seated) {
        Self::give_back(self, shape, seated);
    }

    fn models_of(&self, shape: ShapeIndex, seated: &Seated) -> Vec<(u32, u64)> {
        let share = self.shape(shape).and_then(|shape| shape.facts.wish(seated.alternative));
        let share = share.map_or(0, |wish| u64::from(wish.share_milli));
        let devices = seated.seats.iter().flat_map(|seat| {
            let node = self.nodes.get(seat.node.0 as usize);
            seat.devices.iter().filter_map(move |at| Some((self.nodes.layouts.get(node?.layout).model(at), share)))
        });
        devices.collect()
    }
}
