//! Wishes, and what they are answered with.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Admitted, ArchiveJobs, AttemptNumber, ChangeDevice, Checkpoint, ClaimWish, ClusterVersion, Digest, End, Epoch,
    Fingerprint, GpuIndex, Grant, Health, Identity, Incarnation, Inventory, JobId, JobSpec, MemberKey, Name, NodeId,
    Phase, PhaseTimes, Policy, PutSecret, Queue, QueuePath, RepairWish, Revision, Scheduling, SealSegments, SetDevices,
    StuckPhase, TaskKey, TimeMs, TokenFault, TokenId,
};

/// A command with its place in the log and the leader's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Index in the log; becomes the revision.
    pub index: Revision,
    /// When the leader proposed it; state time is the greatest seen.
    pub time: TimeMs,
    /// What is wished.
    pub command: Command,
}

/// Everything that can be asked of the state. Closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Take a job.
    SubmitJob(SubmitJob),
    /// Stop a job.
    CancelJob {
        /// Which.
        job: JobId,
    },
    /// Make or change a queue.
    PutQueue(Arc<Queue>),
    /// Remove an empty queue.
    DropQueue {
        /// Which.
        path: QueuePath,
    },
    /// A node says what it offers, for the first time or anew.
    RegisterNode(RegisterNode),
    /// What liveness concluded about a node.
    SetNodeHealth {
        /// Which.
        node: NodeId,
        /// The registration it was concluded about; another one makes the command void.
        incarnation: Incarnation,
        /// The conclusion.
        health: Health,
    },
    /// Whether new work may be placed on a node.
    SetNodeScheduling {
        /// Which.
        node: NodeId,
        /// Whether.
        scheduling: Scheduling,
    },
    /// Place tasks.
    CommitPlan(Plan),
    /// What an agent observed.
    ReportAttempts(ReportAttempts),
    /// What several agents observed, in this order. What comes from no node that is known is passed over.
    ReportMany(Vec<ReportAttempts>),
    /// A deadline has passed.
    Tick,
    /// All members support this behaviour from now on.
    RaiseVersion {
        /// The behaviour.
        version: ClusterVersion,
    },
    /// Forget ended jobs before their time, to free space.
    ForgetJobs {
        /// Which; unknown and active ones are passed over.
        jobs: Vec<JobId>,
    },
    /// Make a token.
    CreateToken(CreateToken),
    /// Take a token back; whom it let in stays in.
    RevokeToken {
        /// Which.
        token: TokenId,
    },
    /// A joiner showed the secret of a token.
    UseToken {
        /// Which.
        token: TokenId,
        /// Fingerprint of the public key that is let in.
        by: Fingerprint,
        /// As what.
        who: Admitted,
    },
    /// Shut an identity out.
    RevokeIdentity {
        /// Whom.
        identity: Identity,
        /// When the last certificate issued so far will have expired; never if `None`.
        until: Option<TimeMs>,
        /// Who asks.
        by: String,
    },
    /// Close a node to new work, empty it, open it again, or forget it.
    ChangeNode(ChangeNode),
    /// A restore or a forced recovery: what follows is another history.
    BeginEpoch {
        /// Its number, higher than any before.
        epoch: Epoch,
    },
    /// Forget ended jobs that the archive has, or change what it has.
    ArchiveJobs(ArchiveJobs),
    /// Note sealed segments of the log.
    SealSegments(SealSegments),
    /// Keep a secret, or replace what it is.
    PutSecret(PutSecret),
    /// Forget a secret.
    DropSecret {
        /// Which.
        name: Name,
    },
    /// Say what holds for all of the cluster.
    PutPolicy(Arc<Policy>),
    /// What an agent observed of its devices.
    SetDevices(SetDevices),
    /// Take a device out of use, or put it back.
    ChangeDevice(ChangeDevice),
}

impl Command {
    /// The cluster version from which on it may be used.
    pub fn needs(&self) -> ClusterVersion {
        match self {
            Self::CreateToken(_)
            | Self::RevokeToken { .. }
            | Self::UseToken { .. }
            | Self::RevokeIdentity { .. }
            | Self::ChangeNode(_)
            | Self::ArchiveJobs(_)
            | Self::SealSegments(_)
            | Self::PutSecret(_)
            | Self::DropSecret { .. }
            | Self::PutPolicy(_)
            | Self::ReportMany(_)
            | Self::SetDevices(_)
            | Self::ChangeDevice(_)
            | Self::BeginEpoch { .. } => ClusterVersion::ACCESS,
            Self::RegisterNode(wish)
                if wish.inventory.gpus.iter().any(|gpu| gpu.part.is_some() || gpu.pcie_group.is_some()) =>
            {
                ClusterVersion::ACCESS
            }
            Self::CommitPlan(plan) if plan.is_newer() => ClusterVersion::ACCESS,
            Self::SubmitJob(wish) if wish.spec.is_newer() => ClusterVersion::ACCESS,
            Self::PutQueue(queue) if queue.is_newer() => ClusterVersion::ACCESS,
            _ => ClusterVersion(1),
        }
    }

    /// What agents observed, if that is what it is about.
    pub fn reports(&self) -> &[ReportAttempts] {
        match self {
            Self::ReportAttempts(report) => std::slice::from_ref(report),
            Self::ReportMany(reports) => reports,
            _ => &[],
        }
    }
}

/// What an operator wants of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeNode {
    /// Which.
    pub node: NodeId,
    /// What.
    pub change: NodeChange,
    /// Who asks.
    pub by: String,
    /// Why, in their words; may be empty.
    pub reason: String,
}

/// What an operator can want of a node. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChange {
    /// Place nothing new there; what runs there stays.
    Cordon,
    /// Place nothing new there, and let it become empty.
    Drain {
        /// When what still runs there is asked to stop; it may take its time if `None`.
        deadline: Option<TimeMs>,
    },
    /// Use it as before.
    Uncordon,
    /// Forget it.
    Remove,
    /// Hold nothing against it any more.
    Forgive,
}

/// A token to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateToken {
    /// Hash of its secret.
    pub hash: Fingerprint,
    /// What it is good for.
    pub grant: Grant,
    /// From when on it is good for nothing.
    pub expires_at: TimeMs,
    /// How often it lets someone in; given exactly if it is for joining.
    pub uses: Option<u32>,
    /// Who asks.
    pub created_by: String,
}

/// A job to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitJob {
    /// What is asked for; checked before it was proposed.
    pub spec: Arc<JobSpec>,
    /// Digest of the encoded spec, to tell a repeated submission from another one with the same key.
    pub spec_digest: Digest,
    /// Who asks.
    pub owner: String,
    /// Makes a repeated submission the same submission.
    pub key: Option<String>,
}

/// A node's registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterNode {
    /// Its name; the same name is the same node.
    pub name: Name,
    /// What it offers.
    pub inventory: Arc<Inventory>,
    /// The registration it had before, if its agent remembers one: live attempts of it go on.
    pub previous: Option<(NodeId, Incarnation)>,
}

/// The solver's proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Revision of the view it was made from.
    pub based_on: Revision,
    /// Ties were broken by it.
    pub seed: u64,
    /// Steps of work it was allowed.
    pub budget: u64,
    /// Version of the solver.
    pub placer_version: u32,
    /// The proposals, most urgent first.
    pub placements: Vec<Placement>,
    /// How long an agent may take to accept each, in milliseconds; for ever if `None`.
    pub accept_ms: Option<u64>,
    /// Room that waiting tasks are to be promised, most urgent first.
    pub claims: Vec<ClaimWish>,
    /// Tasks whose claims are pointless.
    pub drops: Vec<TaskKey>,
    /// The time that the solver reckoned with, if it did.
    pub at: Option<TimeMs>,
    /// What it was made from beside the view. Apply passes it over: it is for whoever makes the plan again.
    pub made_from: Option<MadeFrom>,
    /// Seats for open ranks of running gangs. They come before all placements.
    pub repairs: Vec<RepairWish>,
}

impl Plan {
    /// One that says nothing.
    pub fn empty(based_on: Revision) -> Self {
        Self {
            based_on,
            seed: 0,
            budget: 0,
            placer_version: 0,
            placements: Vec::new(),
            accept_ms: None,
            claims: Vec::new(),
            drops: Vec::new(),
            at: None,
            made_from: None,
            repairs: Vec::new(),
        }
    }

    /// Whether it says what only a cluster of version [`ClusterVersion::ACCESS`] knows.
    pub fn is_newer(&self) -> bool {
        let evicts = !self.claims.is_empty() || !self.drops.is_empty() || !self.repairs.is_empty();
        evicts || self.accept_ms.is_some() || self.at.is_some() || self.made_from.is_some()
    }
}

/// What a plan was made from beside the view: with it, anybody who has the log can make the plan again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFrom {
    /// Counts the plans of one placer, which has a seed of its own.
    pub number: u64,
    /// Which of the plans that were made at one time, from 0.
    pub part: u32,
    /// Most tasks that could be placed in all of them together.
    pub tasks: u64,
    /// Plans of the same placer of which nothing was known yet, by number, in the order in which they were made.
    pub under_way: Vec<u64>,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The task.
    pub task: TaskKey,
    /// The attempt this will be.
    pub attempt: AttemptNumber,
    /// Where each rank goes.
    pub members: Vec<Seat>,
}

/// Where one member goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// The registration the solver saw.
    pub incarnation: Incarnation,
    /// The devices.
    pub gpus: Vec<GpuIndex>,
    /// Which of the request's alternatives they satisfy.
    pub gpu_alternative: u32,
}

/// What an agent observed, for the registration it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportAttempts {
    /// The agent's node.
    pub node: NodeId,
    /// Its registration.
    pub incarnation: Incarnation,
    /// Only what changed.
    pub reports: Vec<AttemptReport>,
}

/// One member as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// Which.
    pub member: MemberKey,
    /// How far.
    pub phase: Phase,
    /// Since when.
    pub times: PhaseTimes,
    /// Its end; exactly when the phase is `ended`.
    pub end: Option<Arc<End>>,
    /// A checkpoint it wrote.
    pub checkpoint: Option<Checkpoint>,
    /// Where it makes, or made, no progress. Passed over below cluster version 2.
    pub stuck: Option<StuckPhase>,
    /// When it was last seen to have saved its work. Passed over below cluster version 2.
    pub saved_at: Option<TimeMs>,
}

/// What a command is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The job was taken, now or before.
    Submitted {
        /// Its id.
        job: JobId,
        /// Whether it was there already, by its submission key.
        existing: bool,
    },
    /// The node is registered.
    Registered {
        /// Its id.
        node: NodeId,
        /// Its registration.
        incarnation: Incarnation,
    },
    /// The plan was looked at, placement by placement.
    PlanCommitted {
        /// Those that were stale: position in the plan, and why.
        refused: Vec<(u32, Refusal)>,
        /// Claims that were stale: likewise.
        refused_claims: Vec<(u32, Refusal)>,
    },
    /// The token was made.
    TokenCreated {
        /// Its id.
        token: TokenId,
    },
    /// The token lets its bearer in.
    TokenUsed {
        /// To do this.
        grant: Grant,
    },
    /// Done; there is nothing to say.
    Done,
    /// Refused; retrying it unchanged is pointless.
    Rejected(Rejection),
}

/// Why a placement or a claim was stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The task is unknown, not ready any more, or this attempt number was used.
    TaskNotReady,
    /// The step already has as many active tasks as it or its queue allows.
    AtLimit,
    /// The node is unknown, not up, drained, or registered anew.
    NodeChanged,
    /// CPU, memory, disk or tokens are taken.
    NoRoom,
    /// A device is taken, unhealthy or unknown.
    DeviceTaken,
    /// The members do not match the request.
    Malformed,
    /// An attempt that was to leave may not be evicted, or not yet, or is not there any more.
    Protected,
    /// The room is promised to another task.
    Claimed,
}

/// Why a wish is refused. Closed; each says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    /// No such job.
    #[error("there is no job {job}; `fctl jobs` lists those that are remembered")]
    UnknownJob {
        /// As asked for.
        job: JobId,
    },
    /// No such node.
    #[error("there is no node {node}; `fctl nodes` lists them")]
    UnknownNode {
        /// As asked for.
        node: String,
    },
    /// No such queue.
    #[error("there is no queue `{queue}`; there are: {known}")]
    UnknownQueue {
        /// As asked for.
        queue: QueuePath,
        /// Those that exist.
        known: String,
    },
    /// The queue still has jobs.
    #[error("queue `{queue}` still has {jobs} active jobs; wait for them or cancel them first")]
    QueueInUse {
        /// Which.
        queue: QueuePath,
        /// How many.
        jobs: u64,
    },
    /// The submission key was used for another spec.
    #[error(
        "submission key `{key}` was already used for job {job} with another spec; choose another key, or submit the same spec"
    )]
    KeyReused {
        /// The key.
        key: String,
        /// The job it made.
        job: JobId,
    },
    /// A job it should wait for is not known.
    #[error("job {job} named by `after` is not known; it may have been forgotten")]
    UnknownAfter {
        /// Which.
        job: JobId,
    },
    /// A spec that breaks a rule.
    #[error("{path}: {message}")]
    Invalid {
        /// Where: `steps.train.retry.times`.
        path: String,
        /// What is wrong and what would be accepted.
        message: String,
    },
    /// No node could ever run it.
    #[error("step `{step}` asks for {asked}, which no node could ever give: {exists}")]
    Infeasible {
        /// Which step.
        step: Name,
        /// What it asks for.
        asked: String,
        /// What there is.
        exists: String,
    },
    /// A version that may not be raised to.
    #[error("cluster version {wished} cannot follow {current}")]
    BadVersion {
        /// As asked for.
        wished: ClusterVersion,
        /// As it is.
        current: ClusterVersion,
    },
    /// A registration that another node holds.
    #[error(
        "node `{name}` is registered under another agent that is heard from, or whose work may still run; stop that one and wait until the node is down, or choose another name"
    )]
    NodeNameTaken {
        /// The name.
        name: Name,
    },
    /// A node that is to be forgotten while something lives there.
    #[error(
        "node `{node}` holds {members} running allocations; empty it first with `fctl node drain {node} --wait`, or stop its machine and wait until it is down"
    )]
    NodeInUse {
        /// Its name.
        node: Name,
        /// Live members on it.
        members: u32,
    },
    /// A node that is to be forgotten while it takes work.
    #[error(
        "node `{node}` is heard from and takes work; close it first with `fctl node drain {node} --wait`, or stop its agent"
    )]
    NodeOpen {
        /// Its name.
        node: Name,
    },
    /// No such token.
    #[error("there is no token {token}; those that have expired are forgotten")]
    UnknownToken {
        /// As asked for.
        token: TokenId,
    },
    /// A token that lets nobody in.
    #[error("token {token} {fault}; ask an administrator for another one")]
    TokenVoid {
        /// Which.
        token: TokenId,
        /// Why.
        fault: TokenFault,
    },
    /// The archive or the log's segments are not as the command expects.
    #[error("{what} changed meanwhile; read it again")]
    PastMoved {
        /// Which.
        what: String,
    },
    /// A command of a later cluster version.
    #[error("this needs cluster version {needs}, and the cluster is at {current}: upgrade all its members first")]
    NeedsVersion {
        /// The version it needs.
        needs: ClusterVersion,
        /// The version of the cluster.
        current: ClusterVersion,
    },
}
