//! Commands for clusters of machines: coordinators, agents, tokens, members.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use flowyard_model::{Name, QueuePath};
use flowyard_sdk::units;

const COORDINATOR_EXAMPLES: &str = "\
Examples:
  fctl coordinator init --cluster lab --address c1.lab:7400      on the first host
  fctl coordinator run                                           there, and keep it running
  fctl token create --role coordinator                           there: prints the line for the next host";

/// `fctl coordinator`.
#[derive(Debug, Subcommand)]
#[command(after_help = COORDINATOR_EXAMPLES)]
pub(crate) enum Coordinator {
    /// Form a cluster: make this host its first coordinator
    Init(CoordinatorInit),
    /// Make this host another coordinator of a cluster
    Join(CoordinatorJoin),
    /// Run the coordinator of this host, until it is told to stop
    Run(CoordinatorRun),
    /// Make this host the first coordinator of a cluster that goes on from a backup
    Restore(CoordinatorRestore),
    /// Make this host the only coordinator, after the majority was lost for good
    Recover(CoordinatorRecover),
}

/// Where a coordinator keeps everything, and where it is reached.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorPlace {
    /// Folder of everything it keeps
    #[arg(long, value_name = "DIR", default_value = COORDINATOR_FOLDER, value_parser = folder)]
    pub folder: PathBuf,
    /// Where agents and people reach it; this host's name and port 7400 if not given
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// Where other coordinators reach it; the same host and the next port if not given
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_address: Option<String>,
    /// Where it listens for agents and people; every interface if not given
    #[arg(long, value_name = "IP:PORT", value_parser = listening)]
    pub listen: Option<SocketAddr>,
    /// Where it listens for other coordinators; every interface if not given
    #[arg(long, value_name = "IP:PORT", value_parser = listening)]
    pub peer_listen: Option<SocketAddr>,
    /// A folder that all coordinators share, for the stored blobs; each keeps its own copy if not given
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub shared_origin: Option<PathBuf>,
}

/// A folder as it is wherever one stands: others are told of it.
pub(crate) fn folder(text: &str) -> Result<PathBuf, std::io::Error> {
    std::path::absolute(text)
}

/// Where this machine listens: a name would say nothing about on which of its interfaces.
fn listening(text: &str) -> Result<SocketAddr, String> {
    let wrong = |_| "write IP:PORT: the address of one interface, or 0.0.0.0 or [::] for every one".to_owned();
    text.parse().map_err(wrong)
}

fn member(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        let text: String = text.chars().flat_map(char::escape_debug).collect();
        format!("`{text}` is no number of a coordinator; `fctl cluster status` lists them")
    })
}

fn token(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write the number that `fctl token ls` lists it under, not the token".to_owned())
}

/// Folder of a coordinator, if none is named.
pub(crate) const COORDINATOR_FOLDER: &str = "/var/lib/flowyard/coordinator";
/// Folder of an agent, if none is named.
pub(crate) const AGENT_FOLDER: &str = "/var/lib/flowyard/agent";

/// `fctl coordinator init`.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorInit {
    /// What people call the cluster
    #[arg(long, value_name = "NAME")]
    pub cluster: Name,
    /// Where it is
    #[command(flatten)]
    pub place: CoordinatorPlace,
}

/// `fctl coordinator join`.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorJoin {
    /// The token that `fctl token create --role coordinator` printed; `-` reads it from standard input
    pub token: String,
    /// Only learn, and do not vote: until `fctl cluster promote`
    #[arg(long)]
    pub learner: bool,
    /// Where it is
    #[command(flatten)]
    pub place: CoordinatorPlace,
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  fctl cluster backup /backup/lab.fybackup --with-keys                       before, while the cluster ran
  fctl coordinator restore /backup/lab.fybackup --address c1.lab:7400        on a host with an empty folder
  fctl coordinator run                                                       there; then add others as ever";

/// `fctl coordinator restore`.
#[derive(Debug, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(crate) struct CoordinatorRestore {
    /// The backup that `fctl cluster backup` made: a file, or s3://BUCKET/KEY
    #[arg(value_name = "FILE")]
    pub backup: PathBuf,
    /// What people call the cluster; as in the backup if not given
    #[arg(long, alias = "cluster-name", value_name = "NAME")]
    pub cluster: Option<Name>,
    /// Where it is
    #[command(flatten)]
    pub place: CoordinatorPlace,
}

/// `fctl coordinator recover`.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorRecover {
    /// Give up the other coordinators; nothing else can be recovered from
    #[arg(long, required = true)]
    pub force_new_cluster: bool,
    /// Do it; without it, only what would be lost is said
    #[arg(long)]
    pub yes: bool,
    /// Folder of everything it keeps
    #[arg(long, value_name = "DIR", default_value = COORDINATOR_FOLDER, value_parser = folder)]
    pub folder: PathBuf,
}

/// `fctl coordinator run`.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorRun {
    /// Folder of everything it keeps
    #[arg(long, value_name = "DIR", default_value = COORDINATOR_FOLDER, value_parser = folder)]
    pub folder: PathBuf,
    /// Let Prometheus read its metrics here, such as 127.0.0.1:9464
    #[arg(long, value_name = "IP:PORT", value_parser = listening)]
    pub metrics: Option<SocketAddr>,
    /// Tell an OpenTelemetry collector of this machine what is done for each job, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "FLOWYARD_OTLP")]
    pub otlp: Option<String>,
}

/// `fctl agent`.
#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Make this host a node of a cluster
    Join(AgentJoin),
    /// Run the agent of this host, until it is told to stop; what runs goes on without it
    Run(AgentRun),
}

/// `fctl agent join`.
#[derive(Debug, Args)]
pub(crate) struct AgentJoin {
    /// The token that `fctl token create --role agent` printed; `-` reads it from standard input
    pub token: String,
    /// Name of the node; this host's name if not given
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// Folder of everything it keeps
    #[arg(long, value_name = "DIR", default_value = AGENT_FOLDER, value_parser = folder)]
    pub folder: PathBuf,
}

/// `fctl agent run`.
#[derive(Debug, Args)]
pub(crate) struct AgentRun {
    /// Folder of everything it keeps
    #[arg(long, value_name = "DIR", default_value = AGENT_FOLDER, value_parser = folder)]
    pub folder: PathBuf,
    /// Let Prometheus read its metrics here, such as 127.0.0.1:9465
    #[arg(long, value_name = "IP:PORT", value_parser = listening)]
    pub metrics: Option<SocketAddr>,
    /// Tell an OpenTelemetry collector of this machine what is done for each job, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "FLOWYARD_OTLP")]
    pub otlp: Option<String>,
}

/// What a token lets somebody be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenRole {
    /// Another coordinator
    Coordinator,
    /// A node
    Agent,
    /// A person who looks at every job
    Viewer,
    /// A person who submits to the queues given with --queue
    Submitter,
    /// A person who runs the cluster
    Operator,
    /// A person who decides who comes in
    Admin,
}

/// `fctl token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token that lets somebody in
    Create(TokenCreate),
    /// List tokens, without their secrets
    Ls,
    /// Take a token back
    Revoke(TokenRevoke),
}

/// `fctl token create`.
#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// What it lets somebody be
    #[arg(long, value_enum)]
    pub role: TokenRole,
    /// How long it lasts, such as 1h or 90d; an hour to join, 90 days for a person if not given
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms)]
    pub ttl: Option<u64>,
    /// How many it lets in, for a coordinator or agent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: Option<u32>,
    /// The person's name, who owns what is submitted with it
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// A queue that a submitter submits to; may be given more than once
    #[arg(long, value_name = "PATH")]
    pub queue: Vec<QueuePath>,
}

/// `fctl token revoke`.
#[derive(Debug, Args)]
pub(crate) struct TokenRevoke {
    /// Its number, as `fctl token ls` lists it
    #[arg(value_parser = token)]
    pub token: u64,
}

/// `fctl cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Show the members and how they are
    Status,
    /// See whether any one coordinator may be stopped now, as an upgrade does
    Check(ClusterCheck),
    /// List the segments in which applied entries of the log are kept
    LogSegments,
    /// Let a coordinator vote that only learns
    Promote(OneMember),
    /// Take a coordinator out for good; its id is never given again
    Remove(OneMember),
    /// Hand the leadership to another coordinator
    TransferLeader(OneMember),
    /// Have another coordinator lead, whichever is fit
    StepDown,
    /// Shut somebody out: their certificates are void at once
    Revoke(Revoke),
    /// Write everything that the cluster keeps into one file, while it runs
    Backup(ClusterBackup),
    /// Read a backup and see that it is whole
    VerifyBackup(VerifyBackup),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  fctl cluster check                 what stands against stopping a coordinator, if anything does
  fctl cluster check --wait 5m       until nothing does: between two coordinators of an upgrade";

/// `fctl cluster check`.
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct ClusterCheck {
    /// Wait so long until nothing stands against it
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms)]
    pub wait: Option<u64>,
}

const BACKUP_EXAMPLES: &str = "\
Examples:
  fctl cluster backup /backup/lab.fybackup                            the state and all blobs that jobs name
  fctl cluster backup /backup/lab.fybackup --with-keys                and the cluster's keys: nodes and people come back by themselves
  fctl cluster backup /tmp/past.fybackup --log --without-blobs        the state and the log, to look at the past
  fctl cluster backup s3://bucket/lab.fybackup                        in an object store; AWS_ACCESS_KEY_ID and so on say who asks
  fctl cluster backup - | gsutil cp - gs://bucket/lab.fybackup        somewhere else";

/// `fctl cluster backup`.
#[derive(Debug, Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(crate) struct ClusterBackup {
    /// The file to write, or s3://BUCKET/KEY; `-` is standard output
    #[arg(value_name = "FILE")]
    pub file: String,
    /// With the keys of the cluster: whoever has them can be anybody in it
    #[arg(long)]
    pub with_keys: bool,
    /// Without code, inputs, artifacts and logs
    #[arg(long)]
    pub without_blobs: bool,
    /// With what is kept of the cluster's log, so that `fctl replay` and `fctl whatif` can run the past again
    #[arg(long)]
    pub log: bool,
    /// Replace a file that is there
    #[arg(long)]
    pub overwrite: bool,
}

/// `fctl cluster verify-backup`.
#[derive(Debug, Args)]
pub(crate) struct VerifyBackup {
    /// The file, or s3://BUCKET/KEY; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: String,
}

/// One coordinator.
#[derive(Debug, Args)]
pub(crate) struct OneMember {
    /// Its number, as `fctl cluster status` lists it
    #[arg(value_parser = member)]
    pub member: u64,
}

/// `fctl cluster revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Whom: agent/NAME or coordinator/NUMBER
    #[arg(value_name = "WHO")]
    pub who: String,
}

/// `fctl login`.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The token that `fctl token create` printed; `-`, or nothing, reads it from standard input
    pub token: Option<String>,
    /// Forget the token that is kept
    #[arg(long, conflicts_with = "token")]
    pub forget: bool,
}

/// What is run as a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Daemon {
    /// The coordinator of this host
    Coordinator,
    /// The agent of this host
    Agent,
}

/// `fctl install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Which service
    #[arg(value_enum)]
    pub service: Daemon,
    /// Folder of everything it keeps, if not the usual one
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub folder: Option<PathBuf>,
    /// Print the unit file instead of installing it
    #[arg(long)]
    pub print: bool,
    /// Where unit files are
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub units: PathBuf,
}
