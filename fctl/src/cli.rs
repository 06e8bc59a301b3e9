//! Every command and flag, with its help. Values are checked where they are read, so that an error names the flag.

pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod debug;
pub(crate) mod fleet;
pub(crate) mod history;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod queue;
pub(crate) mod secret;
pub(crate) mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use flowyard_agent::inventory::fake::FakeGpus;
use flowyard_model::{
    Constraint, GpuRequest, HostMount, Isolation, JobId, Name, NetworkMode, OnDisconnect, QueuePath, Reference, Retry,
    StopSignal,
};
use flowyard_sdk::flow::{Foreach, ImageSource};
use flowyard_sdk::{flags, units};

use crate::failure::codes;

/// Runs the steps of machine-learning flows on machines you own.
#[derive(Debug, Parser)]
#[command(name = "fctl", version, arg_required_else_help = true, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  fctl submit --local examples/iris/flow.toml      run a flow here, now, and wait for it
  fctl submit --local -- python3 train.py          run one command the same way
  fctl dev                                         keep a cluster of this machine up
  fctl show 17 --local                             what became of job 17
  fctl logs 17/train/3 --local                     what one task printed
  fctl why 17 --local                              why it is pending, or why it failed";

/// What holds for every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Use the embedded cluster of this machine, in $FLOWYARD_HOME
    #[arg(long, global = true, conflicts_with = "endpoint")]
    pub local: bool,
    /// Where the cluster is reached: unix:///path/to/api.sock, or a token of its API
    #[arg(long, global = true, value_name = "ENDPOINT", env = "FLOWYARD_ENDPOINT", hide_env_values = true)]
    pub endpoint: Option<String>,
    /// How answers are written
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = OutputKind::Text, value_name = "KIND")]
    pub format: OutputKind,
    /// Say more about what goes on inside; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How much of what goes on inside is written to standard error: error, warn, info, debug or trace; also by part, such as
    /// info,flowyard_agent=debug
    #[arg(long, global = true, value_name = "LEVEL", env = "FLOWYARD_LOG")]
    pub log_level: Option<String>,
    /// How it is written
    #[arg(long, global = true, value_enum, default_value_t = LogKind::Text, value_name = "KIND", env = "FLOWYARD_LOG_FORMAT")]
    pub log_format: LogKind,
}

/// How what goes on inside is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogKind {
    /// For people
    Text,
    /// For programs: one JSON object per line
    Json,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputKind {
    /// For people
    Text,
    /// For programs: documented, stable fields
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a flow, or one command
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit(Box<Submit>),
    /// Check a flow without submitting it, and list its parameters
    Validate(Validate),
    /// Print the JSON Schema of flow files, for editors
    Schema,
    /// Keep an embedded cluster of this machine up until interrupted
    Dev(Dev),
    /// List jobs
    Jobs(Jobs),
    /// Show a job, its steps, tasks and attempts
    Show(Show),
    /// Follow a job until it ends
    Watch(OneJob),
    /// Wait for a job, and exit as it ended
    Wait(Wait),
    /// Print what a task wrote to stdout and stderr
    Logs(Logs),
    /// Stop a job
    Cancel(OneJob),
    /// Say why a job or task is pending, or why it failed
    Why(OneReference),
    /// Run a command beside a running task, or open a shell there
    Exec(Exec),
    /// List the machines and what they offer
    Nodes,
    /// Close a machine to new work, empty it, open it again, or forget it
    #[command(subcommand)]
    Node(node::Node),
    /// Make, change, list or forget queues: who may hold how much
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Say what holds for all of the cluster: which machines are near to each other
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Say what was used over time, by user, queue or model of GPU
    Usage(usage::Usage),
    /// List, print, fetch or store artifacts
    #[command(subcommand)]
    Artifact(Artifact),
    /// Show what is kept and how large it is, or free it
    Storage(Storage),
    /// Form a cluster of machines, join one, or run a coordinator of it
    #[command(subcommand)]
    Coordinator(fleet::Coordinator),
    /// Make this machine a node of a cluster, or run its agent
    #[command(subcommand)]
    Agent(fleet::Agent),
    /// Make, list or take back what lets somebody in
    #[command(subcommand)]
    Token(fleet::Token),
    /// Say who did what, from where, and what came of it
    Audit(audit::Audit),
    /// Keep, list or forget what tasks are given and nobody is shown
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Show the coordinators of a cluster, or change who they are
    #[command(subcommand)]
    Cluster(fleet::Cluster),
    /// Measure what a cluster can carry
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Apply the log of a backup again: what the state was at any entry, and whether plans would be made the same
    Replay(history::Replay),
    /// Run the past, or a trace, with other machines, queues or another policy, and compare
    Whatif(history::Whatif),
    /// Gather what helps to find a fault
    #[command(subcommand)]
    Debug(debug::Debug),
    /// Keep the token of a cluster, so that every command uses it
    Login(fleet::Login),
    /// Install the unit file with which systemd runs a coordinator or an agent
    Install(fleet::Install),
    /// Print a completion script for a shell
    Completions(Completions),
}

const SUBMIT_EXAMPLES: &str = "\
Examples:
  fctl submit --local examples/iris/flow.toml -P folds=10
  fctl submit --local --cpu 2 --memory 1GiB -- python3 train.py --epochs 3
  fctl submit --array 0-99 --wait -- sh -c 'echo item $FLOWYARD_ITEM'
  fctl submit --input data=./iris.csv --output model=model.json -- python3 train.py";

/// `fctl submit`.
#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The flow file
    #[arg(required_unless_present_any = ["command", "batch"], conflicts_with_all = ["command", "batch"])]
    pub flow: Option<PathBuf>,
    /// Several flow files, in one call: each is taken or refused by itself, and none is waited for
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["command", "key", "wait", "follow", "cancel_on_interrupt"])]
    pub batch: Vec<PathBuf>,
    /// Value of a parameter of the flow, as NAME=VALUE
    #[arg(short = 'P', long = "param", value_name = "NAME=VALUE", value_parser = flags::param, conflicts_with = "command")]
    pub params: Vec<(String, String)>,
    /// How to wait for it
    #[command(flatten)]
    pub waiting: Waiting,
    /// Only say what would come of it: whether each step would start now and where, or why not, and what would let it; nothing is
    /// stored, and no job is made
    #[arg(long, conflicts_with_all = ["batch", "wait", "follow", "cancel_on_interrupt", "trace"])]
    pub dry_run: bool,
    /// Print the id of its trace, which OpenTelemetry collectors know it by
    #[arg(long, conflicts_with = "batch")]
    pub trace: bool,
    /// Tell an OpenTelemetry collector of this machine of the submission, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "FLOWYARD_OTLP")]
    pub otlp: Option<String>,
    /// Makes the same submission, sent twice, one job
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Fields of the one step
    #[command(flatten)]
    pub step: StepFlags,
    /// Queue to wait in
    #[arg(long, value_name = "PATH")]
    pub queue: Option<QueuePath>,
    /// Higher goes first within the queue
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// A job that must have succeeded before
    #[arg(long, value_name = "JOB", value_parser = job_id)]
    pub after: Vec<JobId>,
    /// Longest time from now to its end, such as 6h; it is stopped and fails then
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms)]
    pub deadline: Option<u64>,
    /// Longest time it waits for its first task to be placed, such as 1h; it fails then
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms)]
    pub queue_ttl: Option<u64>,
    /// A word to find the job by
    #[arg(long, value_name = "WORD")]
    pub tag: Vec<String>,
    /// The command of a one-step job
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// How a submitter waits.
#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Wait until the job has ended, and exit as it did
    #[arg(long)]
    pub wait: bool,
    /// Print what its tasks write while it runs; implies --wait
    #[arg(long)]
    pub follow: bool,
    /// Cancel the job when interrupted while waiting, instead of leaving it running
    #[arg(long)]
    pub cancel_on_interrupt: bool,
}

/// Fields of the one step of `fctl submit -- CMD`.
#[derive(Debug, Args)]
#[command(next_help_heading = "One-step job")]
pub(crate) struct StepFlags {
    /// Name of the job and its step; the program's name if not given
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
    /// CPUs, from 0.001
    #[arg(long, value_name = "N", value_parser = units::cpu_milli)]
    pub cpu: Option<u64>,
    /// Memory with its unit, such as 512MiB
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub memory: Option<u64>,
    /// GPUs: a count, count=N,model=NAME, or a part of one, share=0.25,memory=10GiB; given more than once, each is an alternative, the
    /// first preferred
    #[arg(long, value_name = "N", value_parser = gpus)]
    pub gpu: Vec<Gpus>,
    /// Scratch space with its unit
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub disk: Option<u64>,
    /// Size of /dev/shm with its unit
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub shm: Option<u64>,
    /// A countable thing, such as a licence, that it holds while it runs, as NAME or NAME=COUNT
    #[arg(long, value_name = "NAME=COUNT", value_parser = flags::token)]
    pub token: Vec<(Name, u32)>,
    /// One task per number: FIRST-LAST
    #[arg(long, value_name = "0-99", value_parser = flags::array)]
    pub array: Option<Foreach>,
    /// Most tasks of the array active at one time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_parallel: Option<u32>,
    /// Root file system: host, or the path of an OCI layout or archive
    #[arg(long, value_name = "IMAGE", value_parser = flags::image)]
    pub image: Option<ImageSource>,
    /// How it is separated from its host
    #[arg(long, value_enum)]
    pub isolation: Option<IsolationKind>,
    /// A file or folder to read, as NAME=PATH
    #[arg(long, value_name = "NAME=PATH", value_parser = flags::input)]
    pub input: Vec<(Name, String)>,
    /// A file or folder to keep, as NAME=PATH
    #[arg(long, value_name = "NAME=PATH", value_parser = flags::output)]
    pub output: Vec<(Name, String)>,
    /// Folder that becomes the working directory
    #[arg(long, value_name = "FOLDER")]
    pub code: Option<String>,
    /// Tries beside the first: N, or times=2,backoff=5s,on=failed+oom
    #[arg(long, value_name = "N", value_parser = flags::retry)]
    pub retry: Option<Retry>,
    /// Longest run with its unit, such as 10m
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms)]
    pub timeout: Option<u64>,
    /// How long a run is expected to take; it is not stopped then
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms)]
    pub expected: Option<u64>,
    /// A variable, as NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE", value_parser = flags::env)]
    pub env: Vec<(String, String)>,
    /// A host folder to see inside, as PATH or PATH:ro
    #[arg(long, value_name = "PATH[:ro]", value_parser = flags::mount)]
    pub mount: Vec<HostMount>,
    /// A label the node must have, as LABEL=VALUE
    #[arg(long, value_name = "LABEL=VALUE", value_parser = flags::label)]
    pub label: Vec<(Name, String)>,
    /// A condition on the node's labels, such as "zone != z1" or "rack in [r1, r2]"
    #[arg(long, value_name = "CONDITION", value_parser = flags::constraint)]
    pub constraint: Vec<Constraint>,
    /// Network of its container
    #[arg(long, value_parser = flags::network, value_name = "private|host|none")]
    pub network: Option<NetworkMode>,
    /// Time between the stop signal and the kill, such as 30s
    #[arg(long, value_name = "TIME", value_parser = units::duration_ms)]
    pub kill_grace: Option<u64>,
    /// The signal that asks it to stop, such as SIGINT
    #[arg(long, value_name = "SIGNAL", value_parser = flags::stop_signal)]
    pub stop_signal: Option<StopSignal>,
    /// What it does when its agent hears nothing from the coordinator
    #[arg(long, value_enum)]
    pub on_disconnect: Option<OnDisconnectKind>,
}

/// The values of `--on-disconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnDisconnectKind {
    /// It runs on; when the node was given up meanwhile, the task may run twice
    Keep,
    /// It stops at the end of its lease, so that it never runs twice
    Stop,
}

impl From<OnDisconnectKind> for OnDisconnect {
    fn from(kind: OnDisconnectKind) -> Self {
        match kind {
            OnDisconnectKind::Keep => Self::Keep,
            OnDisconnectKind::Stop => Self::Stop,
        }
    }
}

/// The value of one `--gpu`, none for 0; a type of its own, since an option would mean a flag that need not be given.
#[derive(Debug, Clone)]
pub(crate) struct Gpus(pub Option<GpuRequest>);

fn gpus(text: &str) -> Result<Gpus, flags::FlagError> {
    flags::gpu(text).map(Gpus)
}

fn job_id(text: &str) -> Result<JobId, String> {
    match text.parse::<Reference>() {
        Ok(reference) if reference.step.is_none() => Ok(reference.job),
        _ => Err("write the number of a job, such as 17".to_owned()),
    }
}

/// The values of `--isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IsolationKind {
    /// Namespaces, cgroup, seccomp
    Container,
    /// A process group in a cgroup
    Process,
}

impl From<IsolationKind> for Isolation {
    fn from(kind: IsolationKind) -> Self {
        match kind {
            IsolationKind::Container => Self::Container,
            IsolationKind::Process => Self::Process,
        }
    }
}

/// `fctl validate`.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// The flow file
    pub flow: PathBuf,
    /// Value of a parameter, as NAME=VALUE
    #[arg(short = 'P', long = "param", value_name = "NAME=VALUE", value_parser = flags::param)]
    pub params: Vec<(String, String)>,
}

/// `fctl dev`.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// GPUs to pretend, for development, as 8 or as 8,nvlink=4,pcie=2,numa=4 with how many are in one group
    #[arg(long, value_name = "GPUS")]
    pub fake_gpus: Option<FakeGpus>,
    /// Parts of one more GPU to pretend, by their MIG profiles, as 1g.10gb,3g.40gb
    #[arg(long, value_name = "PROFILES", value_delimiter = ',')]
    pub fake_mig: Vec<String>,
    /// Any OCI runtime binary to run containers with, instead of the linked-in one
    #[arg(long, value_name = "PATH")]
    pub oci_runtime: Option<PathBuf>,
    /// Label of this node, as LABEL=VALUE
    #[arg(long, value_name = "LABEL=VALUE", value_parser = flags::label)]
    pub label: Vec<(Name, String)>,
    /// Let Prometheus read its metrics here, such as 127.0.0.1:9464
    #[arg(long, value_name = "IP:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Tell an OpenTelemetry collector of this machine what is done for each job, such as http://127.0.0.1:4318
    #[arg(long, value_name = "URL", env = "FLOWYARD_OTLP")]
    pub otlp: Option<String>,
}

/// A reference to a job or a part of it.
#[derive(Debug, Args)]
pub(crate) struct OneReference {
    /// A job or a part of it: 17, 17/train, 17/train/3, 17/train/3#2
    pub reference: Reference,
}

/// `fctl show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Be content with what any coordinator knows, also when none leads; the answer is labelled as such
    #[arg(long)]
    pub stale: bool,
    /// A job or a part of it: 17, 17/train, 17/train/3, 17/train/3#2
    pub reference: Reference,
    /// Only tasks in this state; may be given more than once
    #[arg(long, value_enum)]
    pub state: Vec<TaskStateKind>,
    /// Most tasks to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Only tasks of the step after this one: the last of the page before
    #[arg(long, value_name = "TASK")]
    pub after: Option<u32>,
}

/// States of a task, as `fctl show --state` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskStateKind {
    /// Waits for other tasks
    Blocked,
    /// Can be placed
    Ready,
    /// Waits for a time to pass before the next attempt
    Waiting,
    /// Has a live attempt
    Active,
    /// Ended well
    Succeeded,
    /// Ended badly
    Failed,
    /// Was stopped
    Cancelled,
    /// Never had to run
    Skipped,
}

/// A job.
#[derive(Debug, Args)]
pub(crate) struct OneJob {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
}

/// `fctl wait`.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The job
    #[arg(value_parser = job_id)]
    pub job: JobId,
    /// Print what its tasks write while it runs
    #[arg(long)]
    pub follow: bool,
    /// Cancel the job when interrupted while waiting, instead of leaving it running
    #[arg(long)]
    pub cancel_on_interrupt: bool,
}

/// `fctl jobs`.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// Be content with what any coordinator knows, also when none leads; the answer is labelled as such
    #[arg(long)]
    pub stale: bool,
    /// Only jobs in this state; may be given more than once
    #[arg(long, value_enum)]
    pub state: Vec<JobState>,
    /// Only jobs of this user
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// Only jobs of this queue
    #[arg(long, value_name = "PATH")]
    pub queue: Option<QueuePath>,
    /// Only jobs with this tag; all of them, if given more than once
    #[arg(long, value_name = "WORD")]
    pub tag: Vec<String>,
    /// Only jobs submitted within this time, such as 2d
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration_ms)]
    pub since: Option<u64>,
    /// Most jobs to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Jobs that were forgotten and are kept in the archive, instead of those that are remembered
    #[arg(long)]
    pub archived: bool,
    /// Only jobs older than this one: the last of the page before
    #[arg(long, value_name = "JOB", value_parser = job_id)]
    pub before: Option<JobId>,
}

/// States of a job, as `fctl jobs --state` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobState {
    /// Not ended yet
    Active,
    /// Ended well
    Succeeded,
    /// Ended badly
    Failed,
    /// Was stopped
    Cancelled,
}

/// `fctl logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A task: 17/train/3, or 17 or 17/train where that is only one
    pub reference: Reference,
    /// Go on until the task has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Only standard error
    #[arg(long, conflicts_with = "stdout")]
    pub stderr: bool,
    /// Only standard output
    #[arg(long)]
    pub stdout: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    pub tail: Option<u32>,
    /// Put the time in front of each line
    #[arg(long)]
    pub timestamps: bool,
}

/// `fctl exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// A running task: 17/train/3, or 17 where that is only one
    pub reference: Reference,
    /// The command; a shell if not given
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// `fctl artifact`.
#[derive(Debug, Subcommand)]
pub(crate) enum Artifact {
    /// List what tasks have written
    Ls(OneReference),
    /// Print a file of an artifact
    Cat(ArtifactCat),
    /// Fetch an artifact into a file or folder
    Get(ArtifactGet),
    /// Store a file or folder, and print the digest of its manifest
    Put(ArtifactPut),
}

/// `fctl artifact cat`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactCat {
    /// The task
    pub reference: Reference,
    /// The artifact's name
    pub name: Name,
    /// A file in it, if it is a folder
    pub path: Option<String>,
}

/// `fctl artifact get`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactGet {
    /// The task
    pub reference: Reference,
    /// The artifact's name
    pub name: Name,
    /// Where to put it; the artifact's name if not given
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
}

/// `fctl artifact put`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactPut {
    /// The file or folder
    pub path: PathBuf,
}

/// `fctl storage`.
#[derive(Debug, Args)]
pub(crate) struct Storage {
    /// Forget ended jobs older than this, such as 7d, and free what only they kept
    #[arg(long, value_name = "TIME", value_parser = units::duration_ms)]
    pub prune_older_than: Option<u64>,
    /// With --prune-older-than: newest ended jobs to keep in any case
    #[arg(long, value_name = "N", requires = "prune_older_than")]
    pub keep: Option<u32>,
    /// With --prune-older-than: only say what would be forgotten
    #[arg(long, requires = "prune_older_than")]
    pub dry_run: bool,
}

/// `fctl completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Whether answers were asked for as JSON, as far as it can be told of a command line that makes no sense otherwise.
fn asks_for_json(args: impl Iterator<Item = std::ffi::OsString>) -> bool {
    // What follows is the user's own command.
    let words: Vec<_> = args.take_while(|word| word != "--").collect();
    let alone = words.iter().any(|word| word == "-ojson" || word == "-o=json" || word == "--format=json");
    alone || words.windows(2).any(|pair| (pair[0] == "-o" || pair[0] == "--format") && pair[1] == "json")
}

/// Reads the command line; what is wrong with it ends the process with the code of usage errors.
pub(crate) fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let code = if error.use_stderr() { i32::from(codes::USAGE) } else { 0 };
        if error.use_stderr() {
            if asks_for_json(std::env::args_os().skip(1)) {
                let first = error.render().to_string();
                let first = first.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
                crate::output::json(&serde_json::json!({ "error": crate::text::harmless(&first) }));
            }
            // It repeats what was written, which may be hostile to a terminal; so it is shown without colours.
            let said = error.render().to_string();
            said.trim_end().lines().for_each(|line| crate::output::note(crate::text::harmless(line)));
        } else {
            // A closed pipe is the reader's choice.
            let _ = error.print();
        }
        std::process::exit(code)
    })
}
