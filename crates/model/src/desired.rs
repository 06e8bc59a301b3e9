//! What a coordinator tells one agent to run: everything resolved to digests, nothing to look up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Digest, Fence, GpuIndex, JobId, MemberKey, Name, Phase, StepIndex, StepSpec, TaskIndex};

/// What all tasks of a step have in common; told once per session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepContext {
    /// The job.
    pub job: JobId,
    /// The step in it.
    pub step: StepIndex,
    /// Name of the flow.
    pub job_name: Name,
    /// What was asked for.
    pub spec: StepSpec,
    /// Values of the flow's parameters, as JSON values.
    pub params: BTreeMap<Name, String>,
    /// Who submitted the job.
    pub owner: String,
    /// Outputs that a `foreach` names: stored only if they are JSON lists.
    pub lists: BTreeSet<Name>,
}

/// One member an agent should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredMember {
    /// Which.
    pub key: MemberKey,
    /// The devices granted, as positions in the inventory.
    pub gpus: Vec<GpuIndex>,
    /// Its inputs.
    pub inputs: BTreeMap<Name, ResolvedInput>,
    /// What makes this task differ from its siblings.
    pub item: Option<Item>,
    /// The phase the coordinator knows it to be in: what is past `placed` and unknown to the agent was lost by it.
    pub known: Phase,
}

/// An input as digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedInput {
    /// One artifact.
    Artifact(Digest),
    /// A directory with an entry per task that succeeded, out of `count`.
    Join {
        /// Tasks of the step.
        count: u32,
        /// Those that succeeded, ascending.
        entries: Vec<(TaskIndex, Digest)>,
    },
}

/// The item of a task in a fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A number of a range.
    Number(i64),
    /// A line of an indexed list.
    Listed {
        /// Blob of the list.
        items: Digest,
        /// Position in it.
        position: u32,
    },
}

/// A change, or all, of what one agent should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// A lower one than seen before is ignored.
    pub fence: Fence,
    /// Counts up from 1 within a session.
    pub sequence: u64,
    /// Whether whatever is not named is not desired.
    pub all: bool,
    /// Contexts that members here or later refer to.
    pub steps: Vec<Arc<StepContext>>,
    /// Should run.
    pub run: Vec<DesiredMember>,
    /// Should stop, and still be reported on.
    pub stop: Vec<MemberKey>,
    /// Not desired any more: the end was applied, or it was given up.
    pub gone: Vec<MemberKey>,
}
