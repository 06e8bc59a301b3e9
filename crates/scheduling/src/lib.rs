//! Where `state` and `placement` meet: what the state says becomes nodes, queues and groups with numbers, and what a round places
//! becomes plans.
//!
//! Pure, so that the coordinator's placer and the simulator run the same. What is where:
//!
//! | Module | |
//! |---|---|
//! | `scheduler` | follows a state by what differs, and proposes plans |
//! | `nodes`, `tree`, `waiting`, `shapes` | the four things that placement is told of |
//! | `words` | names and their numbers |
//! | `holders` | who holds what, before there were accounts |
//! | `feasible` | whether a step could ever be placed |
//!
//! What placement decides, it decides by numbers: no decision may depend on the order in which names were first seen.
#![deny(clippy::float_arithmetic)]

mod feasible;
#[cfg(test)]
mod fixture;
mod holders;
mod nodes;
mod scheduler;
mod shapes;
#[cfg(test)]
mod tests;
mod tree;
mod waiting;
mod words;

pub use feasible::could_ever_run;
pub use flowyard_placement::Bound;
pub use scheduler::{Proposal, SEATS_PER_PLAN, Scheduler};
