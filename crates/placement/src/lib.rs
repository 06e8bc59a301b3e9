//! Where to put what, and who is next: [`round()`] takes queues and a fleet, and gives tasks their seats.
//!
//! It knows resources and indexes, nothing else: no jobs, no log, no clock, no threads, no randomness beside the seed. Work is
//! counted in steps, so the same problem, bound and seed give the same plan on any machine. It may change freely between
//! releases, because replicas never run it again: its result enters the log as a plan.
//!
//! # Policy
//! Who is next is said in `turns`. Where it goes:
//! - Alternatives of devices are tried in order on all nodes; a later one is used only where no earlier one fits anywhere.
//! - Of the nodes on which a task of one member fits, those that it prefers come first, before all that follows.
//! - Work with devices goes where it makes the least of what is free useless to other work, if the fleet was told how common which work is
//!   ([`Fleet::set_mix`]); else, and among equals, where it leaves the least of them free (best fit). It takes them from the group
//!   of linked devices that it splits least, so that large requests keep finding room.
//! - Work without devices goes to nodes without devices first, and is spread: the least loaded node is next.
//! - What keeps apart goes to no node where something is that it avoids ([`Beside`]), and what is spread to the domain that has the
//!   fewest of its own, and to none that has as many as may be.
//! - A gang is seated whole or not at all; all members take the same alternative. It goes to the lowest domain of the topology
//!   that holds it (the level where it is near enough, if it names one), to as few parts of each domain as its members fit
//!   in, and on each node to as few groups of linked devices. Without a topology: on as few nodes as its members fit on.
//!
//! # Work
//! One step per node that changed and is looked at, and per member seated: never one per waiting task.
#![deny(clippy::float_arithmetic)]

mod bits;
mod fleet;
mod turns;

pub use bits::Bits;
pub use fleet::{
    Amounts, Beside, Device, DeviceMask, Domain, Ended, Explanation, Fit, Fleet, Fragments, Holding, Lack, Link, Near,
    NearRoom, NodeFacts, NodeIndex, Occupied, Portion, SeatAt, Seated, ShapeFacts, ShapeIndex, Spread, Wish,
};
pub use turns::bounds::Kept;
pub use turns::claims::{Claims, Rights, claims, may_leave};
pub use turns::fixed;
pub use turns::group::{GroupFacts, GroupKey, Need, QueueIndex, UserIndex};
pub use turns::leaf::Account;
pub use turns::lent::Lent;
pub use turns::queues::{QueueFacts, Queues};
pub use turns::reserve::{Reserved, reserve};
pub use turns::rights::{Reason, Rules, Running};
pub use turns::round::{Ask, Bound, Room, Round, round, round_on};
pub use turns::share::{Column, Held, History, Named};
pub use turns::victims::{Evictions, Scratch, victims};

/// Version of the policy; written into every plan, so that a past decision can be told from what would be decided now.
pub const PLACER_VERSION: u32 = 5;
