//! What became of a cluster, once more: its log applied again up to any entry, its plans made again, and what would have been with
//! another fleet, other queues or another policy.
//!
//! Pure: time is virtual, files are read by whoever calls. What is where:
//!
//! | Module | |
//! |---|---|
//! | `past` | snapshots and stretches of the log, put together to a history |
//! | `replay` | a history applied again, entry by entry |
//! | `overview` | what there is in a state, in numbers |
//! | `plans` | each plan made again from what it was made from |
//! | `workload` | what a history asks for, without what was decided: who submitted what, which nodes came, how long what ran |
//! | `arrivals`, `synthetic` | the same from a trace, and traces by the dice |
//! | `whatif`, `simulation` | a workload with the real scheduler and the real apply, in virtual time |
//! | `policy`, `line`, `room` | other policies, to compare with |
//! | `observer`, `measures`, `fragmented` | what is measured of a run, recorded or not |
//!
//! Invariant: the same input gives the same output, to the last digit; there are no floats.
#![deny(clippy::float_arithmetic)]

mod arrivals;
mod fragmented;
mod line;
mod measures;
mod observer;
mod overview;
mod past;
mod plans;
mod policy;
mod replay;
mod room;
mod simulation;
mod synthetic;
mod whatif;
mod workload;

pub use arrivals::{Arrival, Machines, TraceError, of_arrivals};
pub use fragmented::Fragmented;
pub use measures::{Measures, Spread, Utilisation};
pub use overview::{Overview, QueueLoad};
pub use past::{Contradiction, History, NoHistory, Past};
pub use plans::{Derived, OtherPlan, derive};
pub use policy::Policy;
pub use replay::{ReplayError, Replayed, replay};
pub use synthetic::{Profile, Quantile, Synthetic, quantiles, synthesize};
pub use whatif::{Change, Run, Stuck, run, run_seen};
pub use workload::{Recorded, Workload, recorded};
