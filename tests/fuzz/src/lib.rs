//! Hostile bytes for everything that reads the network or the disk.
//!
//! Owns the list of decoders ([`targets::all`]), a mutator of valid inputs, and the judge: no panic, no hang, no allocation
//! beyond a bound, and what one accepts is accepted again once written. A finding becomes a file under `regressions/TARGET`.
//! Must not: reach a decoder by another way than the product does.

mod judge;
mod memory;
mod mutate;
pub mod targets;

pub use judge::{Finding, Seen, fuzz, judge, regressions};
pub use targets::Target;
