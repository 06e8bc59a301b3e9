//! The agent: keeps what runs on one node in step with what the coordinator desires.

pub mod image;
pub mod reconcile;
pub mod runtime;
pub mod session;
