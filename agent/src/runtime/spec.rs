//! What the launcher is asked to run. Everything is resolved: nothing is fetched, no name is looked up here.
//!
//! These records cross a process boundary (agent to launcher) and are kept in the attempt's folder as JSON, so that an agent
//! started later, also a newer one, can read what an older one asked for. Fields are only added, with a default.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use flowyard_model::StopSignal;
use serde::{Deserialize, Serialize};

/// One attempt's member, ready to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The attempt's text id as a user reads it, e.g. `17/train/3#2`; for messages and process titles only.
    pub name: String,
    /// The attempt's own folder, absolute. It holds the spec, the log spools and the exit record.
    pub folder: PathBuf,
    /// Program and arguments; never empty. The program is looked up in PATH of `env`, as the task would.
    pub argv: Vec<String>,
    /// The whole environment; nothing else is inherited.
    pub env: Vec<(String, String)>,
    /// Variables whose values are secret: each with the file in memory that holds the value, which is read just before the start.
    #[serde(default)]
    pub secret_env: Vec<(String, PathBuf)>,
    /// The working directory: a host path for `Sandbox::Process`, a path inside the container otherwise.
    pub workdir: PathBuf,
    /// What it may use.
    pub limits: Limits,
    /// How it is separated from the host.
    pub sandbox: Sandbox,
    /// Wall time after which it is stopped with reason `timeout`; counted from the start of the user's process.
    pub timeout_ms: Option<u64>,
    /// Time between the stop signal and SIGKILL.
    pub kill_grace_ms: u64,
    /// The stop signal.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// The signal that comes before the stop signal when it is given notice.
    #[serde(default)]
    pub notice_signal: Option<StopSignal>,
    /// Kept bytes of each of stdout and stderr; more is dropped and the drop announced in the log.
    pub log_limit_bytes: u64,
    /// File holding the boot-clock deadline (decimal milliseconds) of the node's lease; `None` for `on_disconnect = "keep"`.
    pub lease_file: Option<PathBuf>,
}

impl LaunchSpec {
    /// The secret variables with their values, as `NAME=value`.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub fn secret_variables(&self) -> std::io::Result<Vec<Vec<u8>>> {
        let read = |(name, path): &(String, PathBuf)| {
            let value = std::fs::read(path);
            let value =
                value.map_err(|error| std::io::Error::new(error.kind(), format!("secret of `{name}`: {error}")));
            Ok([name.as_bytes(), b"=", &value?].concat())
        };
        self.secret_env.iter().map(read).collect()
    }
}

/// Resource limits of one attempt; enforced by cgroup where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory in bytes, shared memory and tmpfs included.
    pub memory_bytes: u64,
    /// Greatest number of processes and threads.
    pub pids: u64,
    /// Size of `/dev/shm` in bytes; 0 for the default.
    pub shm_bytes: u64,
    /// Size of the writable working space in bytes; 0 for no limit.
    pub disk_bytes: u64,
}

/// How an attempt is separated from its host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// A process group of the host in a cgroup, without namespaces.
    Process,
    /// A container.
    Container(Box<ContainerSpec>),
}

/// What a container consists of beside its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The root file system.
    pub root: Root,
    /// Mounts over the root, in this order.
    pub mounts: Vec<Mount>,
    /// Network of the container.
    pub network: Network,
    /// Device nodes that exist inside and may be opened, beside the harmless standard ones (null, zero, random, tty, ...).
    pub devices: Vec<PathBuf>,
    /// Who the task is.
    pub user: User,
    /// Any OCI runtime binary to use instead of the linked-in one.
    pub oci_runtime: Option<PathBuf>,
}

/// The root file system of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// A fresh tmpfs with the host's top-level directories bound read-only; the paths in `hidden` are made empty and unreadable.
    Host {
        /// Host paths that a task must not see: agent state, root's home, shadow files, SSH keys, other users' homes.
        hidden: Vec<PathBuf>,
    },
    /// An unpacked image, shared by all attempts that run it; writable through a private upper layer.
    Tree {
        /// Folder of the unpacked image.
        lower: PathBuf,
        /// Whether its files are to belong to the task's root, for a task that has a range.
        #[serde(default)]
        mapped: bool,
    },
}

/// One bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Host path.
    pub source: PathBuf,
    /// Path inside the container; made when missing.
    pub target: PathBuf,
    /// Whether the container may write.
    pub read_only: bool,
    /// Whether what belongs to root is to belong to the task's root, for a task that has a range. Only what is read-only can be.
    #[serde(default)]
    pub mapped: bool,
}

/// Network of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's.
    Host,
    /// An own, empty network namespace with loopback.
    None,
    /// An own network namespace, connected with the node.
    Private(Wire),
}

/// The two ends of a private network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// What the node's end is called.
    pub interface: String,
    /// The node's address on it.
    pub node: Ipv4Addr,
    /// The task's address.
    pub task: Ipv4Addr,
}

/// The identity of a task, inside and outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// The host's user id behind `uid`.
    pub host_uid: u32,
    /// The host's group id behind `gid`.
    pub host_gid: u32,
    /// How many ids there are inside, from 0 on, each with one of the host's behind it; 0 if there is only `uid` and `gid`.
    #[serde(default)]
    pub range: u32,
}

impl User {
    /// The one user of the host, under the same number inside.
    pub fn itself(uid: u32, gid: u32) -> Self {
        Self { uid, gid, host_uid: uid, host_gid: gid, range: 0 }
    }

    /// The host's user and group behind the task's root, where it has a range.
    pub(crate) fn root(self) -> Option<(u32, u32)> {
        (self.range > 0).then(|| (self.host_uid - self.uid, self.host_gid - self.gid))
    }

    /// The range as the kernel reads it, where `id` is what stands behind `uid` or `gid`.
    pub(crate) fn range_map(self, id: u32) -> String {
        format!("0 {} {}", id - self.uid, self.range)
    }
}

/// How an attempt ended, as the process that watched it wrote it down (`exit.json` in the attempt's folder, by rename).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// What happened.
    pub cause: ExitCause,
    /// When the user's process started, wall clock in milliseconds; `None` if it never did.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: u64,
    /// Highest memory use seen, in bytes.
    pub peak_memory_bytes: u64,
    /// CPU time used, in microseconds.
    pub cpu_us: u64,
}

/// Why an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExitCause {
    /// The process ended by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it that nobody here sent.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// The kernel, or we, killed it for using more memory than its limit.
    OutOfMemory {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// It ran longer than it may.
    TimedOut {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// It was asked to stop.
    Stopped,
    /// The node's lease ended without word from the agent.
    LeaseExpired,
    /// The program was not found or could not be executed.
    CommandFailed {
        /// 127 not found, 126 not executable, as shells have it.
        code: i32,
        /// What a user should read.
        message: String,
    },
    /// The sandbox could not be made; no code of the user has run.
    StartFailed {
        /// What an operator should read.
        message: String,
    },
}
