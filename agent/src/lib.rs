//! The agent: keeps what runs on one node in step with what the coordinator desires.

pub mod cgroup;
pub mod image;
pub mod launcher;
pub mod logs;
pub mod reconcile;
pub mod runtime;
pub mod session;
