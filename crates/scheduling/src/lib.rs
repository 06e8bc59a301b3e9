//! Where `state` and `placement` meet: what the state says becomes nodes, queues and groups with numbers, and what a round places
//! becomes plans.
//!
//! Pure, so that the coordinator's placer and the simulator run the same. What is where:
//!
//! | Module | |
//! |---|---|
//! | `scheduler` | follows a state by what differs, and proposes plans |
//! | `nodes`, `tree`, `waiting`, `shapes` | the four things that placement is told of |
//! | `plans` | what a round comes to, in entries of the log |
//! | `words` | names and their numbers |
//! | `claimed`, `evictable` | what is promised to whom, and what might be evicted |
//! | `evictions` | the end of a round: who is promised room that others hold |
//! | `for_good` | what must not be evicted |
//! | `holders` | who holds what, before there were accounts |
//! | `near` | how near to each other the members of a gang have to be, and where there is room so near |
//! | `feasible` | whether a step could ever be placed |
//! | [`why`] | why a task waits, when it would start, and what would let it start now |
//!
//! What placement decides, it decides by numbers: no decision may depend on the order in which names were first seen.
#![deny(clippy::float_arithmetic)]

mod claimed;
mod evictable;
mod evictions;
mod feasible;
#[cfg(test)]
mod fixture;
mod for_good;
mod holders;
mod near;
mod nodes;
mod plans;
mod scheduler;
mod shapes;
#[cfg(test)]
mod tests;
mod tree;
mod waiting;
pub mod why;
mod words;

pub use feasible::could_ever_run;
pub use flowyard_placement::Bound;
pub use near::{NearRoom, near_room};
pub use plans::SEATS_PER_PLAN;
pub use scheduler::{Proposal, Scheduler};
