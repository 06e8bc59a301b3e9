//! What a coordinator tells its operator in figures.
//!
//! Reading order: [`Counts`] (what is counted where it happens), `calls` (a layer around the services), `told` (the page: what was
//! counted, and what the state and the log say anyway when somebody reads).
//!
//! Every figure is in `docs/metrics.md`; a test compares both.

mod calls;
mod counts;
mod told;

pub(crate) use calls::Calls;
pub(crate) use counts::Counts;
pub(crate) use told::Told;
