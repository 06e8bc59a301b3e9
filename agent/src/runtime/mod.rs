//! The ways an attempt is run. The only module that names container libraries.
//!
//! Owns: how a container is made from a [`LaunchSpec`], from namespaces to the last system call filter.
//! Must not: know cgroups (the shim is put into its cgroup before `create`, and what is forked from it stays there), write logs
//! or exit records, or start threads.
//!
//! Everything here blocks and forks, so it runs only in the single-threaded launcher and its shims:
//!
//! 1. the launcher keeps one [`Stages`]; `stages.ready(&container)` prepares, once per kind of root, what containers share;
//! 2. it forks a shim, which calls [`open`] and then `create`, `start`, `wait`, `delete` on the result;
//! 3. between `start` and the end the shim may sleep on a pidfd of [`Runtime::init_pid`] and ask [`Runtime::try_wait`].

mod binary;
pub mod enter;
mod error;
mod fake;
mod gpu;
mod host_root;
mod init;
mod linked;
mod maker;
mod mapped;
mod oci;
mod processes;
mod report;
mod scratch;
mod seccomp;
pub mod spec;
mod stage;
mod sys;
mod title;
mod tree_root;
pub(crate) mod wire;

use std::os::fd::OwnedFd;
use std::rc::Rc;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

pub use self::error::RuntimeError;
pub use self::fake::{FakeRuntime, FakeScript};
pub use self::gpu::{GpuAccess, GpuGrant, gpu_access};
pub use self::host_root::default_hidden;
pub use self::mapped::can_map;
pub use self::oci::HOME;
use self::spec::{ContainerSpec, LaunchSpec};
pub use self::stage::{Stage, Stages};

/// One container, from nothing to gone. Used by one shim, in the order of the methods.
pub trait Runtime {
    /// Makes the container. No code of the user runs yet. The container's processes inherit the caller's cgroups.
    fn create(&mut self) -> Result<(), RuntimeError>;

    /// Starts the user's program; returns once it has been executed, or says why it could not be.
    fn start(&mut self) -> Result<(), RuntimeError>;

    /// The container's first process, a direct child of the caller (or adopted by it as a subreaper) since `create`.
    /// It ends when the user's program ends, and everything in the container ends with it.
    fn init_pid(&self) -> Option<Pid>;

    /// Sends a signal to the user's program and its process group. A container that has already ended is no error.
    fn kill(&mut self, signal: i32) -> Result<(), RuntimeError>;

    /// Kills everything in the container at once. Idempotent.
    fn kill_all(&mut self) -> Result<(), RuntimeError>;

    /// How the user's program ended, if it has; never blocks. The answer stays available.
    fn try_wait(&mut self) -> Result<Option<End>, RuntimeError>;

    /// Waits for the end of the user's program.
    fn wait(&mut self) -> Result<End, RuntimeError>;

    /// What the container's processes use now. For nodes without cgroups, where the shim watches memory itself.
    fn stats(&mut self) -> Result<Stats, RuntimeError>;

    /// Removes what is left of the container: processes, mounts, state. Idempotent, also after a failed `create`.
    fn delete(&mut self) -> Result<(), RuntimeError>;
}

/// How a user's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// By itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// By a signal.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
}

/// What the processes of a container use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Number of processes, the container's own init included.
    pub processes: u64,
    /// Anonymous and shared memory resident now, in bytes.
    pub resident_bytes: u64,
    /// CPU time used so far by the processes alive and their waited-for children, in microseconds.
    pub cpu_us: u64,
}

/// What the user's program reads and writes. Given up by `create`, so that the program holds the only other ends.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

/// The runtime for a container. `stage` comes from [`Stages::ready`] for the same container.
pub fn open(
    launch: &LaunchSpec,
    container: &ContainerSpec,
    stage: &Rc<Stage>,
    stdio: Stdio,
) -> Result<Box<dyn Runtime>, RuntimeError> {
    let stage = Rc::clone(stage);
    match &container.oci_runtime {
        Some(binary) => Ok(Box::new(binary::Binary::new(binary, launch, container, stage, stdio))),
        None => Ok(Box::new(linked::Linked::new(launch, container, stage, stdio))),
    }
}
