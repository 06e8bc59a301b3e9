//! Who is next: the order that queues, promises, shares and priorities make of what waits, and a round that follows
//! it.
//!
//! It knows what work comes to and what queues may, never where work goes: that is behind [`Room`](round::Room).

pub(crate) mod bounds;
pub(crate) mod claims;
pub mod fixed;
pub(crate) mod group;
pub(crate) mod leaf;
pub(crate) mod lent;
mod order;
mod promises;
pub(crate) mod queues;
pub(crate) mod reserve;
pub(crate) mod rights;
pub(crate) mod round;
pub(crate) mod share;
pub(crate) mod victims;
