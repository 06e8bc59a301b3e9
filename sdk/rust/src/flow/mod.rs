//! Flow files: from the text a user wrote to the job spec a coordinator takes.
//!
//! Four phases, kept apart: read (syntax, keys, types), check (names and the graph), resolve (parameters put in, paths
//! stored), assemble (steps in order). Each reports everything wrong that it finds; a later one starts only when the earlier
//! found nothing.
//!
//! Must not: talk to a coordinator, or store bytes itself; that is behind [`Artifacts`].

mod artifacts;
mod assemble;
mod constraints;
mod describe;
pub(crate) mod fields;
mod json;
mod links;
pub(crate) mod load;
mod order;
mod packing;
mod params;
pub(crate) mod problem;
pub(crate) mod read;
mod read_beside;
mod read_gang;
mod read_gpu;
mod read_retry;
mod read_step;
mod reference;
mod resolve;
mod schema;
pub(crate) mod source;
mod spec;
pub(crate) mod walk;

pub use artifacts::{ArtifactError, Artifacts};
pub use constraints::{ConstraintError, constraint};
pub use describe::{Description, ParamDescription, StepDescription};
pub use load::base_of;
pub use packing::Packing;
pub use params::{Param, ParamKind, ParamValue};
pub use problem::{FlowError, Problem};
pub use reference::reference_markdown;
pub use schema::json_schema;
pub use spec::{Flow, FlowStep, Foreach, ImageSource, fallback};
