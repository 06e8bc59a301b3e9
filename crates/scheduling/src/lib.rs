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
//! | `elastic` | how many members gangs of no fixed size ask for |
//! | `surgery`, `keeping` | seats for open ranks of running gangs, and room that is kept for those that find none |
//! | `holders` | who holds what, before there were accounts |
//! | `beside` | what keeps apart from what, and where those are that run of a step already |
//! | `near` | how near to each other the members of a gang have to be, and where there is room so near |
//! | `passed` | what is not wide and waits while smaller work is placed |
//! | `throttle` | how much may be starting of a job |
//! | `shared` | tokens that all nodes share |
//! | `borrowing` | what a queue holds that others are promised |
//! | `leaving` | who may have to leave for a task that waits |
//! | `upgrading` | who has a reservation, and may have others leave by now |
//! | `fragments` | how much of what is free of devices is of no use |
//! | `feasible` | whether a step could ever be placed |
//! | [`why`] | why a task waits, when it would start, and what would let it start now |
//!
//! What placement decides, it decides by numbers: no decision may depend on the order in which names were first seen.
#![deny(clippy::float_arithmetic)]

mod beside;
mod borrowing;
mod claimed;
mod elastic;
mod evictable;
mod evictions;
mod feasible;
mod filling;
#[cfg(test)]
mod fixture;
mod for_good;
mod fragments;
mod holders;
mod keeping;
mod leaving;
mod near;
mod nodes;
pub(crate) mod passed;
mod plans;
mod reserving;
mod scheduler;
mod shapes;
mod shared;
mod surgery;
#[cfg(test)]
mod tests;
mod throttle;
mod tree;
mod upgrading;
mod waiting;
pub mod why;
mod words;

pub use borrowing::{Borrowed, borrowed, first_return};
pub use feasible::could_ever_run;
pub use flowyard_placement::{Bound, Fit, Fragments};
pub use fragments::{Gauge, fragments};
pub use keeping::kept_for;
pub use leaving::{MayLeave, may_leave};
pub use near::NearRoom;
pub use plans::SEATS_PER_PLAN;
pub use scheduler::{Proposal, Scheduler};
