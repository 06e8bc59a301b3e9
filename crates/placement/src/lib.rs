//! Where to put what: [`solve`] takes a [`Problem`] and gives a [`Plan`].
//!
//! It knows resources and indexes, nothing else: no jobs, no log, no clock, no threads, no randomness beside the seed. Work is
//! counted in steps, so the same problem, budget and seed give the same plan on any machine. It may change freely between
//! releases, because replicas never run it again: its result enters the log as a plan.
//!
//! # Policy
//! Shapes are served in the order given, most urgent first; each takes what it can get before the next is looked at. A shape
//! that does not fit holds nobody up.
//! - Alternatives of devices are tried in order on all nodes; a later one is used only where no earlier one fits anywhere.
//! - Work with devices goes where it leaves the least of them free (best fit), and takes them from the group of linked
//!   devices that it splits least, so that large requests keep finding room.
//! - Work without devices goes to nodes without devices first, and is spread: the least loaded node is next.
//! - A gang is seated whole or not at all, on as few nodes as its members fit on; all members take the same alternative.
//! - Costs, where given, go before all of this.
//!
//! # Work
//! One step per shape and node looked at, and per member seated: never one per waiting task.
#![deny(clippy::float_arithmetic)]

mod bits;
mod explain;
mod fit;
mod problem;
mod score;
mod solve;

pub use bits::Bits;
pub use explain::{Explanation, Lack, could_ever_fit, explain};
pub use fit::bound;
pub use problem::{Amounts, Device, Node, Problem, Shape, Wish};
pub use solve::{Budget, PLACER_VERSION, Placed, Plan, Seat, solve};
