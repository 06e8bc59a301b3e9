//! Control groups: found as the host has them, kept in a pool and used again, because making one per task halves the rate.
//!
//! Owns everything below one parent per hierarchy, `flowyard-ID` under the cgroup this process was started in, and nothing
//! else of the host's tree. Written for v1, v2 and hybrid hosts; where a controller cannot be had, it says so in
//! [`Enforcement`] and whoever runs the task falls back ([`memory_watch`]).
//!
//! Invariant: a slot is handed out again only when no process is in it.

mod controllers;
mod detect;
mod device_rules;
pub mod memory_watch;
mod parents;
mod pool;
mod slot;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use device_rules::rules_for;
pub use pool::Pool;
pub use slot::{Slot, Usage};

/// How a limit is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforced {
    /// By the kernel, in a cgroup.
    Cgroup,
    /// By looking, and killing.
    Watched,
    /// Not at all.
    None,
}

/// How each limit is held on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// CPU time.
    pub cpu: Enforced,
    /// Memory.
    pub memory: Enforced,
    /// Number of processes.
    pub pids: Enforced,
    /// Which device nodes may be opened.
    pub devices: Enforced,
}

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct CgroupError {
    /// What was tried.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

impl CgroupError {
    /// The message with its cause.
    pub(crate) fn chain(&self) -> String {
        format!("{self}: {}", self.source)
    }

    fn new(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}
