//! Where `state` and `placement` meet: a state becomes a problem, what the solver makes of it becomes plans.
//!
//! Pure, so that the coordinator's placer and the simulator run the same.
#![deny(clippy::float_arithmetic)]

pub mod bridge;
#[cfg(test)]
mod fixture;
