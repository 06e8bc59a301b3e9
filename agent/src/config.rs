//! What an operator decides about one agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flowyard_model::Name;

use crate::launcher::StartCommand;
use crate::runtime::spec::User;

/// Settings of one agent.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of the node.
    pub name: Name,
    /// Folder of everything the agent keeps.
    pub folder: PathBuf,
    /// How the launcher is started.
    pub launcher: StartCommand,
    /// Labels of the node.
    pub labels: BTreeMap<Name, String>,
    /// Whether `isolation = "process"` is allowed.
    pub allow_process: bool,
    /// Whether `image = "host"` is allowed.
    pub allow_host_image: bool,
    /// Host folders that a step may mount, with everything below them.
    pub allow_mounts: Vec<PathBuf>,
    /// Who tasks are.
    pub user: User,
    /// Home of that user, hidden from containers but for what is harmless.
    pub user_home: Option<PathBuf>,
    /// Further host paths that no container may see: the coordinator's socket and what it keeps, where they are on this machine.
    pub hidden: Vec<PathBuf>,
    /// Any OCI runtime binary to use instead of the linked-in one.
    pub oci_runtime: Option<PathBuf>,
    /// GPUs to pretend, for development.
    pub fake_gpus: u32,
    /// Thousandths of a CPU to offer, if not all.
    pub cpu_milli: Option<u64>,
    /// Bytes of memory to offer, if not all.
    pub memory_bytes: Option<u64>,
    /// Kept bytes of each of stdout and stderr of an attempt.
    pub log_limit_bytes: u64,
    /// Most processes and threads of an attempt.
    pub pids: u64,
}

/// What the user of an embedded cluster may decide about its agent.
#[derive(Debug, Clone)]
pub struct EmbeddedChoices {
    /// See [`AgentConfig::fake_gpus`].
    pub fake_gpus: u32,
    /// See [`AgentConfig::oci_runtime`].
    pub oci_runtime: Option<PathBuf>,
    /// See [`AgentConfig::labels`].
    pub labels: BTreeMap<Name, String>,
    /// See [`AgentConfig::allow_mounts`].
    pub allow_mounts: Vec<PathBuf>,
    /// See [`AgentConfig::cpu_milli`].
    pub cpu_milli: Option<u64>,
    /// See [`AgentConfig::memory_bytes`].
    pub memory_bytes: Option<u64>,
    /// Who tasks are on an agent that root runs; the user who runs it, in an embedded cluster.
    pub user: Option<String>,
}

/// There is no such user on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agent.user: there is no user `{0}` on this machine")]
pub struct NoSuchUser(String);

/// Who tasks are on an agent that root runs, if nothing else is configured: a user that owns nothing.
const NOBODY: &str = "nobody";

/// The user of that name, or for whoever is not root the own one: only root can be somebody else.
fn task_user(name: Option<&str>) -> Result<User, NoSuchUser> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        let (uid, gid) = (own.as_raw(), rustix::process::getegid().as_raw());
        return Ok(User { uid, gid, host_uid: uid, host_gid: gid });
    }
    let name = name.unwrap_or(NOBODY);
    let found = nix::unistd::User::from_name(name).ok().flatten().ok_or_else(|| NoSuchUser(name.to_owned()))?;
    let (uid, gid) = (found.uid.as_raw(), found.gid.as_raw());
    Ok(User { uid, gid, host_uid: uid, host_gid: gid })
}

impl AgentConfig {
    /// The agent of an embedded cluster: tasks run as the user who runs the cluster, on the machine's own system, in containers
    /// or as processes. Nothing of the cluster's `home` is seen in containers.
    pub fn embedded(home: PathBuf, folder: PathBuf, exe: &Path, choices: EmbeddedChoices) -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self {
            name: "local".parse().unwrap_or_else(|error| unreachable!("a plain word is a name: {error}")),
            allow_process: true,
            user: User { uid, gid, host_uid: uid, host_gid: gid },
            user_home: std::env::var_os("HOME").map(PathBuf::from),
            hidden: vec![home],
            ..Self::chosen(folder, exe, choices)
        }
    }

    /// The agent of a node whose coordinators are other machines. Tasks are not trusted: they run in containers only, and as a
    /// user that owns nothing.
    ///
    /// # Errors
    /// When the user that tasks should be does not exist.
    pub fn fleet(name: Name, folder: PathBuf, exe: &Path, choices: EmbeddedChoices) -> Result<Self, NoSuchUser> {
        let user = task_user(choices.user.as_deref())?;
        Ok(Self { name, user, hidden: vec![folder.clone()], ..Self::chosen(folder, exe, choices) })
    }

    fn chosen(folder: PathBuf, exe: &Path, choices: EmbeddedChoices) -> Self {
        let launcher = StartCommand::of_binary(exe, &folder.join("launcher"));
        Self {
            name: "node".parse().unwrap_or_else(|error| unreachable!("a plain word is a name: {error}")),
            folder,
            launcher,
            labels: choices.labels,
            allow_process: false,
            allow_host_image: true,
            allow_mounts: choices.allow_mounts,
            user: User { uid: 0, gid: 0, host_uid: 0, host_gid: 0 },
            user_home: None,
            hidden: Vec::new(),
            oci_runtime: choices.oci_runtime,
            fake_gpus: choices.fake_gpus,
            cpu_milli: choices.cpu_milli,
            memory_bytes: choices.memory_bytes,
            log_limit_bytes: Self::LOG_LIMIT_BYTES,
            pids: Self::PIDS,
        }
    }

    /// Kept bytes of each of stdout and stderr, if nothing else is configured.
    pub const LOG_LIMIT_BYTES: u64 = 64 * 1024 * 1024;
    /// Most processes and threads of an attempt, if nothing else is configured.
    pub const PIDS: u64 = 4_096;

    /// Folder with one folder per attempt.
    pub fn attempts(&self) -> PathBuf {
        self.folder.join("attempts")
    }

    /// File with the boot-clock deadline of the node's lease.
    pub fn lease_file(&self) -> PathBuf {
        self.folder.join("lease")
    }

    /// File that says which node this is, and what its agent was last asked to run.
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }
}
