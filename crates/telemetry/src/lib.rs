//! What a part of the cluster lets its operator see of itself.
//!
//! | Module | Owns |
//! |---|---|
//! | [`distribution`] | counting how long things take, cheaply enough for the hottest path |
//! | [`exposition`] | figures as the page that Prometheus reads |
//! | [`process`] | the figures of this process itself |
//! | [`listening`] | where that page may be read, and by whom |
//! | [`endpoint`] | answering who reads it |
//! | [`traces`] | what was done for one job, by whom and for how long, for OpenTelemetry |
//! | [`logs`] | what goes on inside, as lines of JSON, and the newest of them in memory |
//!
//! This crate knows nothing of jobs or of the cluster: each part says itself what it counts, by being a [`Source`].
//!
//! Invariants: nobody is answered unless an operator asked for it; beyond this machine nobody is answered without TLS and a token; names
//! of figures are fixed, and their labels come from short lists, never from a job, a task or a caller.

pub mod distribution;
pub mod endpoint;
pub mod exposition;
pub mod listening;
pub mod logs;
pub mod process;
pub mod traces;

pub use distribution::Distribution;
pub use endpoint::{ServeError, Served, serve};
pub use exposition::{Exposition, Labels, Page, Source, spelled};
pub use listening::{Listening, ListeningError};
