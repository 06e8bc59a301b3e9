//! What a snapshot is made of: everything that cannot be computed from the rest, one record at a time, in one order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Account, AccountKey, ArchivePage, Claim, ClusterVersion, Digest, DurationKey, Durations, Epoch, Identity, Job,
    JobId, KeptSecret, LogSegment, Mix, Name, Node, NodeId, Policy, Queue, Revision, Revocation, Step, StepIndex,
    SubmissionKey, Task, TaskKey, TimeMs, Token, TokenId,
};

/// One record of the state. A snapshot is a sequence of them: the [`Meta`] first, then queues, accounts, nodes, submission keys, jobs,
/// waits, steps, tasks, claims, tokens, revocations, secrets, pages of the archive, segments of the log, the policy, durations and the mix of
/// work with devices, each kind ordered by its key.
/// Indexes are not recorded; they are rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The scalars of the state; exactly one, first.
    Meta(Meta),
    /// A queue.
    Queue(Arc<Queue>),
    /// What somebody uses in a queue.
    Account(AccountKey, Arc<Account>),
    /// A node.
    Node(NodeId, Arc<Node>),
    /// What a submission key stands for.
    Submission(SubmissionKey, Submission),
    /// A job.
    Job(JobId, Arc<Job>),
    /// The first job waits until the second has ended.
    Wait(JobId, JobId),
    /// A step.
    Step(JobId, StepIndex, Arc<Step>),
    /// A task that was touched.
    Task(TaskKey, Arc<Task>),
    /// Room that a waiting task is promised.
    Claim(TaskKey, Arc<Claim>),
    /// A token.
    Token(TokenId, Arc<Token>),
    /// An identity that was shut out.
    Revocation(Identity, Revocation),
    /// A page of the archive.
    ArchivePage(u64, ArchivePage),
    /// A sealed segment of the log.
    Segment(LogSegment),
    /// A secret.
    Secret(Name, Arc<KeptSecret>),
    /// What holds for all of the cluster; at most one, and none while it says nothing.
    Policy(Arc<Policy>),
    /// How long a step took.
    Durations(DurationKey, Arc<Durations>),
    /// What the work there is asks for of devices; at most one, and none before anybody looked.
    Mix(Arc<Mix>),
}

/// The scalars of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Index of the last applied entry.
    pub revision: Revision,
    /// State time: the greatest time an entry was stamped with.
    pub time: TimeMs,
    /// What apply may do.
    pub version: ClusterVersion,
    /// The id that the next job gets.
    pub next_job: JobId,
    /// The id that the next node gets.
    pub next_node: NodeId,
    /// Which history of the cluster this is.
    pub epoch: Epoch,
}

/// What was submitted under a submission key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The job it made.
    pub job: JobId,
    /// Digest of the encoded spec.
    pub spec_digest: Digest,
}
