//! What an operator decides about one agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flowyard_model::{Name, PortRange};

use crate::inventory::fake::FakeGpus;
use crate::launcher::StartCommand;
use crate::network::NetworkChoices;
use crate::runtime::spec::User;
use crate::users::{Span, SpanTaken};

/// Where other parts of Flowyard on this machine keep their things, unless told otherwise.
const FLOWYARD: &str = "/var/lib/flowyard";

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
    /// Who tasks are, where they do not get users of their own.
    pub user: User,
    /// From which ids each task gets users of its own.
    pub users: Option<Span>,
    /// Why tasks do not get users of their own, if the machine is to blame.
    pub users_missing: Option<String>,
    /// Networks of tasks; `None` where tasks are the agent's own user, whom they can do no harm that he could not do himself.
    pub networks: Option<NetworkChoices>,
    /// Home of that user, hidden from containers but for what is harmless.
    pub user_home: Option<PathBuf>,
    /// Further host paths that no container may see: the coordinator's socket and what it keeps, where they are on this machine.
    pub hidden: Vec<PathBuf>,
    /// Any OCI runtime binary to use instead of the linked-in one.
    pub oci_runtime: Option<PathBuf>,
    /// GPUs to pretend, for development.
    pub fake_gpus: FakeGpus,
    /// Parts of one more GPU to pretend, by their profiles: `1g.10gb`.
    pub fake_mig: Vec<String>,
    /// Thousandths of a CPU to offer, if not all.
    pub cpu_milli: Option<u64>,
    /// Bytes of memory to offer, if not all.
    pub memory_bytes: Option<u64>,
    /// Kept bytes of each of stdout and stderr of an attempt.
    pub log_limit_bytes: u64,
    /// Most processes and threads of an attempt.
    pub pids: u64,
    /// What other hosts reach this one by, if it is not the address that it has on its way to the coordinator.
    pub address: Option<String>,
    /// The ports that gangs are given here.
    pub gang_ports: PortRange,
}

/// What the user of an embedded cluster may decide about its agent.
#[derive(Debug, Clone)]
pub struct EmbeddedChoices {
    /// See [`AgentConfig::fake_gpus`].
    pub fake_gpus: FakeGpus,
    /// See [`AgentConfig::fake_mig`].
    pub fake_mig: Vec<String>,
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
    /// Who all tasks are on an agent that root runs, instead of having users of their own; the user who runs it, in an embedded
    /// cluster.
    pub user: Option<String>,
    /// See [`AgentConfig::users`]; for an agent that root runs.
    pub users: Option<Span>,
    /// See [`AgentConfig::networks`]; for an agent of a fleet.
    pub networks: NetworkChoices,
    /// See [`AgentConfig::address`].
    pub address: Option<String>,
    /// See [`AgentConfig::gang_ports`]; [`PortRange::USUAL`] if it is not said.
    pub gang_ports: Option<PortRange>,
}

/// Tasks cannot be whom the settings say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUsers {
    /// There is no such user.
    #[error("agent.user: there is no user `{0}` on this machine")]
    NoSuchUser(String),
    /// Somebody has the ids.
    #[error(transparent)]
    Taken(#[from] SpanTaken),
    /// One user for all, or users for each.
    #[error("agent.user makes all tasks one user, agent.users gives each its own; say one of them")]
    Both,
}

/// Who tasks are on an agent that root runs, where they cannot have users of their own: one that owns nothing.
const NOBODY: &str = "nobody";

/// From which ids tasks get their users, or why they get none.
fn own_users(choices: &EmbeddedChoices) -> Result<Result<Span, Option<String>>, BadUsers> {
    match (&choices.user, choices.users) {
        (Some(_), Some(_)) => Err(BadUsers::Both),
        _ if !rustix::process::geteuid().is_root() => Ok(Err(Some("root does not run the agent".to_owned()))),
        (Some(_), None) => Ok(Err(None)),
        (None, Some(span)) => span.unused().map(|()| Ok(span)).map_err(BadUsers::Taken),
        // What nobody has chosen must not keep an agent from running.
        (None, None) => Ok(Span::USUAL.unused().map(|()| Span::USUAL).map_err(|taken| Some(taken.to_string()))),
    }
}

/// The user of that name, or for whoever is not root the own one: only root can be somebody else.
fn task_user(name: Option<&str>) -> Result<User, BadUsers> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        let (uid, gid) = (own.as_raw(), rustix::process::getegid().as_raw());
        return Ok(User::itself(uid, gid));
    }
    let name = name.unwrap_or(NOBODY);
    let found =
        nix::unistd::User::from_name(name).ok().flatten().ok_or_else(|| BadUsers::NoSuchUser(name.to_owned()))?;
    Ok(User::itself(found.uid.as_raw(), found.gid.as_raw()))
}

impl AgentConfig {
    /// The agent of an embedded cluster: tasks run as the user who runs the cluster, on the machine's own system, in containers
    /// or as processes. Nothing of the cluster's `home` is seen in containers.
    pub fn embedded(home: PathBuf, folder: PathBuf, exe: &Path, choices: EmbeddedChoices) -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self {
            name: "local".parse().unwrap_or_else(|error| unreachable!("a plain word is a name: {error}")),
            allow_process: true,
            user: User::itself(uid, gid),
            user_home: std::env::var_os("HOME").map(PathBuf::from),
            hidden: vec![home],
            ..Self::chosen(folder, exe, choices)
        }
    }

    /// The agent of a node whose coordinators are other machines. Tasks are not trusted: they run in containers only, each as users of
    /// its own, or else all as one that owns nothing.
    ///
    /// # Errors
    /// When tasks cannot be whom they should be.
    pub fn fleet(name: Name, folder: PathBuf, exe: &Path, choices: EmbeddedChoices) -> Result<Self, BadUsers> {
        let user = task_user(choices.user.as_deref())?;
        let (users, users_missing) = match own_users(&choices)? {
            Ok(span) => (Some(span), None),
            Err(missing) => (None, missing),
        };
        let hidden = vec![folder.clone(), PathBuf::from(FLOWYARD)];
        let networks = Some(choices.networks.clone());
        Ok(Self { name, user, users, users_missing, networks, hidden, ..Self::chosen(folder, exe, choices) })
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
            user: User::itself(0, 0),
            users: None,
            users_missing: None,
            networks: None,
            user_home: None,
            hidden: Vec::new(),
            oci_runtime: choices.oci_runtime,
            fake_gpus: choices.fake_gpus,
            fake_mig: choices.fake_mig,
            cpu_milli: choices.cpu_milli,
            memory_bytes: choices.memory_bytes,
            log_limit_bytes: Self::LOG_LIMIT_BYTES,
            pids: Self::PIDS,
            address: choices.address,
            gang_ports: choices.gang_ports.unwrap_or(PortRange::USUAL),
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
