//! What a coordinator tells one agent to run: everything resolved to digests, nothing to look up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Digest, Fence, GpuIndex, JobId, MemberKey, Name, Phase, Rank, StepIndex, StepSpec, TaskIndex};

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
    /// Which of the alternatives of the request they satisfy; the first for one that was told by a coordinator of 0.1.0.
    #[serde(default)]
    pub gpu_alternative: u32,
    /// Its inputs.
    pub inputs: BTreeMap<Name, ResolvedInput>,
    /// What makes this task differ from its siblings.
    pub item: Option<Item>,
    /// The phase the coordinator knows it to be in: what is past `placed` and unknown to the agent was lost by it.
    pub known: Phase,
    /// The gang it is in, if it has other members.
    #[serde(default)]
    pub gang: Option<Gang>,
}

/// A gang as each of its members is told: ranks are counted through its nodes, in their order. A node may be named twice once a member
/// of it has the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    /// Where its members are; at least one node, and on each at least one.
    pub nodes: Vec<GangNode>,
    /// The port at the first node that the first member may listen at.
    pub main_port: u16,
    /// How often its members were others than before.
    #[serde(default)]
    pub generation: u32,
    /// Ranks that nobody has any more.
    #[serde(default)]
    pub vacant: BTreeSet<Rank>,
}

/// A node of a gang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GangNode {
    /// Its name.
    pub name: Name,
    /// What others reach it by.
    pub address: String,
    /// How many members it has.
    pub members: u32,
}

/// Where in its gang a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GangSeat {
    /// Position of its node.
    pub node: u32,
    /// Position among the members of that node.
    pub local: u32,
    /// Members of that node.
    pub local_size: u32,
}

impl Gang {
    /// Its members.
    pub fn size(&self) -> u32 {
        self.members().count() as u32
    }

    /// Where a rank is; `None` if it has no such rank.
    pub fn seat(&self, rank: Rank) -> Option<GangSeat> {
        let mut left = rank.0;
        for (at, node) in self.nodes.iter().enumerate() {
            if left < node.members {
                let count =
                    |nodes: &[GangNode]| nodes.iter().filter(|it| it.name == node.name).map(|it| it.members).sum();
                let before: u32 = count(&self.nodes[..at]);
                let first = self.nodes.iter().position(|it| it.name == node.name).unwrap_or(at);
                let node = distinct(&self.nodes[..first]);
                return Some(GangSeat { node, local: before + left, local_size: count(&self.nodes) });
            }
            left -= node.members;
        }
        None
    }

    /// How many nodes it is on. One that has a member in the place of another may be named twice.
    pub fn node_count(&self) -> u32 {
        distinct(&self.nodes)
    }

    /// Each rank that somebody has, with its node.
    pub fn members(&self) -> impl Iterator<Item = (Rank, &GangNode)> {
        let nodes = self.nodes.iter().flat_map(|node| std::iter::repeat_n(node, node.members as usize));
        (0..).map(Rank).zip(nodes).filter(|(rank, _)| !self.vacant.contains(rank))
    }
}

/// Names, each counted once.
fn distinct(nodes: &[GangNode]) -> u32 {
    nodes.iter().map(|node| &node.name).collect::<BTreeSet<_>>().len() as u32
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
    /// Of those that should stop: how, if they are evicted.
    pub stop_terms: BTreeMap<MemberKey, StopTerms>,
}

/// How a member is asked to stop; as its step says where nothing is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopTerms {
    /// The longest that the notice of its step comes before its stop signal; there is no notice if `None`.
    pub notice_ms: Option<u64>,
    /// The longest time from its stop signal to the kill.
    pub kill_within_ms: Option<u64>,
}
