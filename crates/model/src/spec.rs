//! What a user asks for: a job and its steps, checked and complete. Nothing here changes after submission.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Digest, JobId, Name, Notice, Placing, QueuePath, Resources, Retry, SecretUse, StepIndex};

/// One submitted execution of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name of the flow.
    pub name: Name,
    /// Where its ready tasks wait.
    pub queue: QueuePath,
    /// Higher goes first within its queue; 0 is usual.
    pub priority: i32,
    /// Free words to find it by.
    pub tags: BTreeSet<String>,
    /// Values of the flow's parameters, as JSON values; already put into commands and env.
    pub params: BTreeMap<Name, String>,
    /// In an order in which every step comes after those it depends on.
    pub steps: Vec<StepSpec>,
    /// Jobs that must have succeeded before this one starts.
    pub after: Vec<JobId>,
    /// How long it is remembered after its end, in milliseconds; the cluster's default if `None`.
    pub retention_ms: Option<u64>,
    /// Longest time from its submission to its end, in milliseconds; it is stopped and fails then.
    pub deadline_ms: Option<u64>,
    /// Longest time it may be able to start and have no task placed, in milliseconds; it fails then.
    pub queue_ttl_ms: Option<u64>,
}

/// What a job needs that is stored before it is submitted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecBlobs {
    /// Artifacts: code, inputs, images.
    pub manifests: BTreeSet<Digest>,
    /// Lists of items.
    pub lists: BTreeSet<Digest>,
}

impl JobSpec {
    /// Whether it asks for what only a cluster of version [`ClusterVersion::ACCESS`](crate::ClusterVersion::ACCESS) knows.
    pub fn is_newer(&self) -> bool {
        let newer = |step: &StepSpec| {
            let evicted = !step.preemptible || step.notice.is_some();
            let stopped = step.retry.is_newer() || step.stop_signal != StopSignal::Term;
            let declared = step.resources.gpus.iter().any(|request| request.memory_bytes > 0 || request.link.is_some());
            let said = declared || step.expected_ms.is_some();
            evicted || stopped || said || !step.secrets.is_empty() || !step.placing.is_plain()
        };
        self.deadline_ms.is_some() || self.queue_ttl_ms.is_some() || self.steps.iter().any(newer)
    }

    /// Every secret it is given, each once.
    pub fn secrets(&self) -> BTreeSet<&Name> {
        self.steps.iter().flat_map(|step| &step.secrets).map(|used| &used.secret).collect()
    }

    /// Every blob it names.
    pub fn blobs(&self) -> SpecBlobs {
        let mut blobs = SpecBlobs::default();
        for step in &self.steps {
            blobs.manifests.extend(step.code);
            blobs.manifests.extend(step.inputs.values().filter_map(|input| match input {
                Input::Stored { manifest } => Some(*manifest),
                Input::Output { .. } => None,
            }));
            if let Image::Stored { manifest, .. } = &step.image {
                blobs.manifests.insert(*manifest);
            }
            if let FanOut::Items(list) = &step.fan_out {
                blobs.lists.insert(list.items);
            }
        }
        blobs
    }
}

/// A node of the job's graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepSpec {
    /// Unique in its job.
    pub name: Name,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The root file system it runs in.
    pub image: Image,
    /// How it is separated from its host.
    pub isolation: Isolation,
    /// Manifest that becomes the working directory; an empty one if `None`.
    pub code: Option<Digest>,
    /// Named artifacts to read.
    pub inputs: BTreeMap<Name, Input>,
    /// Named artifacts to keep: path relative to the working directory.
    pub outputs: BTreeMap<Name, String>,
    /// How many tasks it has, and what each is given.
    pub fan_out: FanOut,
    /// Steps that come first; every step named by an input, `foreach` or `each` is among them.
    pub needs: BTreeMap<StepIndex, NeedKind>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// What each member needs.
    pub resources: Resources,
    /// Members of a task: 1, or the size of a gang.
    pub size: u32,
    /// When a failed attempt is tried again.
    pub retry: Retry,
    /// Longest run of an attempt's process, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How long an attempt is expected to run, in milliseconds; it is not stopped then.
    #[serde(default)]
    pub expected_ms: Option<u64>,
    /// What the failure of one task means for the others.
    pub on_failure: OnFailure,
    /// Most tasks of the step active at one time.
    pub max_parallel: Option<u32>,
    /// Only nodes that satisfy all of these.
    pub constraints: Vec<Constraint>,
    /// Network of its containers.
    pub network: NetworkMode,
    /// Host folders to see inside, where the agent's configuration allows them.
    pub mounts: Vec<HostMount>,
    /// Time between the stop signal and the kill, in milliseconds.
    pub kill_grace_ms: u64,
    /// The signal that asks its process to stop.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// What an attempt does when its agent hears nothing from the coordinator.
    pub on_disconnect: OnDisconnect,
    /// Added to the job's priority.
    pub priority: i32,
    /// Secrets it is given, in the order of their places.
    #[serde(default)]
    pub secrets: Vec<SecretUse>,
    /// Whether it may be evicted. What may not counts against a quota of its queues.
    #[serde(default = "yes")]
    pub preemptible: bool,
    /// What it is sent first when it is evicted; it is asked to stop at once if `None`.
    #[serde(default)]
    pub notice: Option<Notice>,
    /// Where its members go in relation to each other.
    #[serde(default)]
    pub placing: Placing,
}

fn yes() -> bool {
    true
}

/// The root file system of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// The node's own operating system, read-only.
    Host,
    /// An OCI layout or archive, stored as an artifact.
    Stored {
        /// Manifest of the layout folder or of the archive file.
        manifest: Digest,
        /// What the user wrote, for messages.
        source: String,
    },
}

/// How a step is separated from its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, cgroup, seccomp.
    Container,
    /// A process group in a cgroup; only where the agent's configuration allows it.
    Process,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Stored before the job was submitted.
    Stored {
        /// Its manifest.
        manifest: Digest,
    },
    /// Written by another step: of a single task, its artifact; of task i, where `each` says so; of all tasks otherwise, as a
    /// directory with an entry per task.
    Output {
        /// The step.
        step: StepIndex,
        /// Its output's name.
        output: Name,
    },
}

/// How many tasks a step has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FanOut {
    /// One task without an item.
    Single,
    /// One task per number; the number is the item.
    Range {
        /// First number.
        start: i64,
        /// How many; at least 1.
        count: u32,
    },
    /// One task per item of a list known at submit.
    Items(ItemList),
    /// One task per item of a JSON list that another step writes (all lists in order, when that step has many tasks).
    Output {
        /// The step that writes it.
        step: StepIndex,
        /// Its output's name.
        output: Name,
    },
    /// Task i follows task i of another step, with the same item.
    Each {
        /// That step.
        step: StepIndex,
    },
}

/// A checked JSON list, stored as an indexed blob: one item per line, as compact JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemList {
    /// The blob.
    pub items: Digest,
    /// How many items it has.
    pub count: u32,
}

/// How a step waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeedKind {
    /// For all its tasks.
    All,
    /// Task i for task i.
    Each,
}

/// The signal that asks a process to stop; what is left after the grace is killed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT, as Ctrl-C sends it.
    Int,
    /// SIGHUP.
    Hup,
    /// SIGQUIT.
    Quit,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// What the final failure of one task means for the rest of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Everything else stops and the job fails.
    Stop,
    /// The other tasks go on; a join sees which entries are missing.
    Continue,
}

/// One condition on a node's labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Constraint {
    /// The label.
    pub label: Name,
    /// How it is compared.
    pub operator: ConstraintOperator,
    /// With what; empty for `exists` and `absent`.
    pub values: Vec<String>,
}

/// As it is written in a flow file.
impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, operator, values } = self;
        match (operator, values.as_slice()) {
            (ConstraintOperator::Exists, _) => write!(f, "{label}"),
            (ConstraintOperator::Absent, _) => write!(f, "!{label}"),
            (ConstraintOperator::In, [value]) => write!(f, "{label} == {value}"),
            (ConstraintOperator::NotIn, [value]) => write!(f, "{label} != {value}"),
            (ConstraintOperator::In, values) => write!(f, "{label} in [{}]", values.join(", ")),
            (ConstraintOperator::NotIn, values) => write!(f, "{label} not in [{}]", values.join(", ")),
        }
    }
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintOperator {
    /// The label has one of the values.
    In,
    /// The label is missing or has none of the values.
    NotIn,
    /// The label exists.
    Exists,
    /// The label does not exist.
    Absent,
}

/// Network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The node's.
    Host,
    /// An own one behind address translation.
    Private,
    /// Loopback only.
    None,
    /// What the cluster's nodes usually give. Only in wishes: a coordinator decides what that is before a job is in the log.
    Usual,
}

/// A host folder seen inside a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostMount {
    /// The same absolute path outside and inside.
    pub path: String,
    /// Whether it may only be read.
    pub read_only: bool,
}

/// What an attempt does when its agent hears nothing from the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It runs on; only the desired attempt can publish.
    Keep,
    /// It stops at the end of its lease, so that it never runs twice.
    Stop,
}
