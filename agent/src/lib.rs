//! The agent: keeps what runs on one node in step with what the coordinator desires.

pub mod runtime;
