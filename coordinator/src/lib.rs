//! The coordinator: the replicated log, the actors around the state, and the API.

pub mod placer;
pub mod raft;
