//! Hollow agents: many agents in one process, that are agents in everything but that nothing runs.
//!
//! Each joins with a token, has a certificate of its own, one connection and one session, registers, gives signs of life, takes
//! what it is wanted to run, and reports how it ended. In the place of a container there is a time, which the task says itself
//! ([`DURATION`]), and a fate, which everybody who knows the seed can tell beforehand ([`Fates`]): so that whoever drives the
//! fleet can check afterwards that exactly that happened.
//!
//! It owns the attempts of pretended nodes. It must not keep anything on a disk, nor decide anything that the agent's own
//! `session` and `reconcile` decide.
//!
//! Reading order: [`Order`] (what a fleet is told), [`Fates`], [`Attempts`] (one agent's work, pure), `link` (its session),
//! [`run`] (all of them).

mod attempts;
mod counts;
mod fate;
mod fleet;
mod joining;
mod link;
mod order;
mod shake;

pub use attempts::{Attempts, DURATION, Now};
pub use counts::{Counts, Told};
pub use fate::{Fate, Fates};
pub use fleet::{FleetError, descriptors_for, raise_descriptors, run};
pub use order::{Class, LABEL, Order, inventory};
pub use shake::Shake;
