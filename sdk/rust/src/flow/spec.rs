//! A flow as its writer means it: typed values, names not yet joined to each other, paths not yet stored.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    Constraint, GpuRequest, HostMount, Isolation, JobId, Name, Near, NetworkMode, Notice, OnDisconnect, OnFailure,
    Preference, QueuePath, Replace, Retry, Spread, StopSignal,
};

use super::params::Param;
use super::source::Source;

/// A flow: read from a file, or made from the flags of a one-step job.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Its name.
    pub name: Name,
    /// Where its jobs wait.
    pub queue: QueuePath,
    /// Higher goes first within its queue.
    pub priority: i32,
    /// Free words to find its jobs by.
    pub tags: BTreeSet<String>,
    /// How long a finished job is remembered, in milliseconds; the cluster's default if `None`.
    pub retention_ms: Option<u64>,
    /// Longest time from its submission to its end, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Longest time it waits for its first task to be placed, in milliseconds.
    pub queue_ttl_ms: Option<u64>,
    /// Jobs that must have succeeded before its jobs start.
    pub after: Vec<JobId>,
    /// Values given at submit, in the order of the file.
    pub params: Vec<Param>,
    /// In the order of the file.
    pub steps: Vec<(Name, FlowStep)>,
    /// Whether `${params.NAME}` is replaced; the words of a command line are taken as they are.
    pub(crate) substitutes: bool,
    pub(crate) source: Source,
}

/// A step, or the defaults of all steps: what is `None` or empty was not written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowStep {
    /// Program and arguments.
    pub run: Vec<String>,
    /// Folder that becomes the working directory.
    pub code: Option<String>,
    /// A path, or `STEP/NAME`.
    pub inputs: BTreeMap<Name, String>,
    /// Paths below the working directory.
    pub outputs: BTreeMap<Name, String>,
    /// One task per item.
    pub foreach: Option<Foreach>,
    /// Name of the step it follows task by task.
    pub each: Option<String>,
    /// Names of further steps that come first.
    pub needs: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Variables that hold a secret of this name.
    pub secret_env: BTreeMap<String, Name>,
    /// Files that hold a secret of this name.
    pub secret_files: BTreeMap<String, Name>,
    /// When a failed attempt is tried again.
    pub retry: Option<Retry>,
    /// Longest run of an attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How long an attempt is expected to run, in milliseconds.
    pub expected_ms: Option<u64>,
    /// What the failure of one task means for the others.
    pub on_failure: Option<OnFailure>,
    /// Most tasks active at one time.
    pub max_parallel: Option<u32>,
    /// Thousandths of a CPU.
    pub cpu_milli: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Scratch space in bytes.
    pub disk_bytes: Option<u64>,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: Option<u64>,
    /// Countable things, such as licences, that each member holds.
    pub tokens: Option<BTreeMap<Name, u32>>,
    /// Alternatives; an empty list asks for none.
    pub gpus: Option<Vec<GpuRequest>>,
    /// Labels that a node must have with exactly this value.
    pub labels: BTreeMap<Name, String>,
    /// Further conditions on a node's labels.
    pub constraints: Option<Vec<Constraint>>,
    /// Network of its containers.
    pub network: Option<NetworkMode>,
    /// Host folders to see inside.
    pub mounts: Option<Vec<HostMount>>,
    /// Time between the stop signal and the kill, in milliseconds.
    pub kill_grace_ms: Option<u64>,
    /// The signal that asks its process to stop.
    pub stop_signal: Option<StopSignal>,
    /// Whether it may be evicted.
    pub preemptible: Option<bool>,
    /// What it is sent first when it is evicted.
    pub notice: Option<Notice>,
    /// What an attempt does when its agent hears nothing from the coordinator.
    pub on_disconnect: Option<OnDisconnect>,
    /// Added to the job's priority.
    pub priority: Option<i32>,
    /// The root file system.
    pub image: Option<ImageSource>,
    /// How it is separated from its host.
    pub isolation: Option<Isolation>,
    /// Members of each task.
    pub gang_size: Option<u32>,
    /// How near to each other the members of a gang are.
    pub near: Option<Near>,
    /// The fewest members that a gang starts with.
    pub min_gang_size: Option<u32>,
    /// Whether a gang goes on when it loses members.
    pub replace: Option<Replace>,
    /// Conditions on a node's labels that are good to have.
    pub prefer: Option<Vec<Preference>>,
    /// Over what its members are spread.
    pub spread: Option<Spread>,
    /// Whether a node has at most one member of it at a time.
    pub unique_host: Option<bool>,
    /// Tags of jobs that it keeps apart from.
    pub apart: Option<BTreeSet<String>>,
    /// Whether work without GPUs fills the nodes that are fullest.
    pub pack: Option<bool>,
}

/// What a step makes one task of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreach {
    /// The items of a JSON list that another step writes: `STEP/NAME`.
    Output(String),
    /// These, as compact JSON.
    Items(Vec<String>),
    /// The numbers from `start` on.
    Range {
        /// The first.
        start: i64,
        /// How many.
        count: u32,
    },
}

/// Where the root file system of a step comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The node's own operating system.
    Host,
    /// An OCI layout folder, or an OCI or docker archive.
    Path(String),
}

/// What holds where neither the step nor `[defaults]` says anything. The field reference quotes these.
pub mod fallback {
    /// Thousandths of a CPU.
    pub const CPU_MILLI: u64 = 1_000;
    /// Memory in bytes.
    pub const MEMORY_BYTES: u64 = 512 << 20;
    /// Time between the stop signal and the kill, in milliseconds.
    pub const KILL_GRACE_MS: u64 = 10_000;
    /// Wait before the first retry, in milliseconds.
    pub const BACKOFF_MS: u64 = 1_000;
}

impl FlowStep {
    /// Fills what was not written from the flow's defaults; variables and labels are merged name by name.
    pub(crate) fn fill_from(&mut self, defaults: &Self) {
        fn fill<T: Clone>(mine: &mut Option<T>, theirs: &Option<T>) {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        }
        fn merge<K: Ord + Clone>(mine: &mut BTreeMap<K, String>, theirs: &BTreeMap<K, String>) {
            for (name, value) in theirs {
                mine.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        fill(&mut self.code, &defaults.code);
        fill(&mut self.retry, &defaults.retry);
        fill(&mut self.timeout_ms, &defaults.timeout_ms);
        fill(&mut self.expected_ms, &defaults.expected_ms);
        fill(&mut self.on_failure, &defaults.on_failure);
        fill(&mut self.max_parallel, &defaults.max_parallel);
        fill(&mut self.cpu_milli, &defaults.cpu_milli);
        fill(&mut self.memory_bytes, &defaults.memory_bytes);
        fill(&mut self.disk_bytes, &defaults.disk_bytes);
        fill(&mut self.shm_bytes, &defaults.shm_bytes);
        fill(&mut self.tokens, &defaults.tokens);
        fill(&mut self.gpus, &defaults.gpus);
        fill(&mut self.constraints, &defaults.constraints);
        fill(&mut self.prefer, &defaults.prefer);
        fill(&mut self.spread, &defaults.spread);
        fill(&mut self.unique_host, &defaults.unique_host);
        fill(&mut self.apart, &defaults.apart);
        fill(&mut self.pack, &defaults.pack);
        fill(&mut self.network, &defaults.network);
        fill(&mut self.mounts, &defaults.mounts);
        fill(&mut self.kill_grace_ms, &defaults.kill_grace_ms);
        fill(&mut self.stop_signal, &defaults.stop_signal);
        fill(&mut self.preemptible, &defaults.preemptible);
        fill(&mut self.notice, &defaults.notice);
        fill(&mut self.on_disconnect, &defaults.on_disconnect);
        fill(&mut self.priority, &defaults.priority);
        fill(&mut self.image, &defaults.image);
        fill(&mut self.isolation, &defaults.isolation);
        let written: BTreeSet<String> = self.env.keys().chain(self.secret_env.keys()).cloned().collect();
        let missing = |name: &&String| !written.contains(*name);
        self.env.extend(defaults.env.iter().filter(|(name, _)| missing(name)).map(|(k, v)| (k.clone(), v.clone())));
        let secrets = defaults.secret_env.iter().filter(|(name, _)| missing(name));
        self.secret_env.extend(secrets.map(|(k, v)| (k.clone(), v.clone())));
        for (file, secret) in &defaults.secret_files {
            self.secret_files.entry(file.clone()).or_insert_with(|| secret.clone());
        }
        merge(&mut self.labels, &defaults.labels);
    }
}
