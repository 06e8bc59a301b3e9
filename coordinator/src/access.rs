//! Who may do what: the one place that decides.
//!
//! It owns the rule and nothing else: who calls was found out by the acceptor, what a call is about by the call. Everything that
//! is not allowed here is denied, and no other code may decide. Each call of the services is an [`Action`]; a call without one
//! does not pass the tests.
//!
//! # The rules
//! - A viewer looks at every job, its artifacts and its logs. A submitter does so, submits, cancels and enters, in its own queues
//!   and those below them. An operator does that in all queues, and runs queues, nodes and storage. An admin decides who comes
//!   in. Lists are made of what the caller may look at, line by line.
//! - An agent speaks for its own node only, and reads only blobs that its own allocations name.
//! - A coordinator speaks for its own replica only. What it passes on for others it has decided on itself: coordinators trust
//!   each other.
//! - Who has shown nothing may show a token to join. Who shows an expired certificate may renew it.
//! - The owner of the socket of an embedded cluster may do everything: the machine is theirs.
//! - Knowing a digest is no right to read it: a blob is read through something that names it.
//! - What a secret is, nobody is told but the agent whose task is given it, in a job of a queue that it is for.

use std::fmt;

use flowyard_identity::{Identified, Subject};
use flowyard_model::{Identity, Name, QueuePath, ReplicaId, Role};
use flowyard_proto::peer;
use tonic::Status;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The user whose socket it is, or root.
    Owner {
        /// Its name on this machine.
        name: String,
    },
    /// A person, by certificate or token.
    Person {
        /// The name that jobs are owned by.
        name: Name,
        /// What it may do.
        role: Role,
    },
    /// The agent of a node.
    Agent {
        /// The node's name.
        name: Name,
    },
    /// A coordinator.
    Coordinator {
        /// Its replica of the log.
        replica: ReplicaId,
    },
    /// A node or person whose certificate has expired.
    Lapsed {
        /// Whom it named.
        who: Identity,
    },
    /// Somebody who has shown nothing.
    Nobody,
}

impl Caller {
    /// Whom a certificate names.
    pub fn certified(found: &Identified) -> Self {
        if found.lapsed {
            return Self::Lapsed { who: found.claim.subject.identity() };
        }
        match found.claim.subject.clone() {
            Subject::Coordinator { replica } => Self::Coordinator { replica },
            Subject::Agent { name } => Self::Agent { name },
            Subject::Person { name, role } => Self::Person { name, role },
        }
    }

    /// The name that jobs are owned by and that the audit stream writes down.
    pub fn principal(&self) -> String {
        match self {
            Self::Owner { name } => name.clone(),
            Self::Person { name, .. } => name.to_string(),
            Self::Agent { name } => format!("agent {name}"),
            Self::Coordinator { replica } => format!("coordinator {replica}"),
            Self::Lapsed { who } => format!("{who} (expired)"),
            Self::Nobody => "somebody unknown".to_owned(),
        }
    }

    /// Who it is among those that can be shut out.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match self {
            Self::Person { name, .. } => Some(Identity::Person(name.clone())),
            Self::Agent { name } => Some(Identity::Agent(name.clone())),
            Self::Coordinator { replica } => Some(Identity::Coordinator(*replica)),
            Self::Lapsed { who } => Some(who.clone()),
            Self::Owner { .. } | Self::Nobody => None,
        }
    }
}

impl From<&Caller> for peer::Caller {
    fn from(caller: &Caller) -> Self {
        use peer::caller::Who;
        let who = match caller {
            Caller::Owner { name } => Who::Owner(name.clone()),
            Caller::Person { name, role } => {
                Who::Person(peer::ApiGrant { principal: name.to_string(), role: Some(role.into()) })
            }
            Caller::Agent { name } => Who::Agent(name.to_string()),
            Caller::Coordinator { replica } => Who::Coordinator(replica.0),
            Caller::Lapsed { who } => Who::Lapsed(who.into()),
            Caller::Nobody => Who::Nobody(peer::Nobody {}),
        };
        Self { who: Some(who), address: String::new(), ground: None }
    }
}

impl TryFrom<peer::Caller> for Caller {
    type Error = Status;

    fn try_from(wire: peer::Caller) -> Result<Self, Status> {
        use peer::caller::Who;
        let name = |text: &str| text.parse::<Name>().map_err(|error| Status::invalid_argument(error.to_string()));
        let unreadable = |error: flowyard_proto::DecodeError| Status::invalid_argument(format!("caller: {error}"));
        Ok(match wire.who.ok_or_else(|| Status::invalid_argument("caller: missing"))? {
            Who::Owner(name) => Self::Owner { name },
            Who::Person(person) => {
                let role = person.role.ok_or_else(|| Status::invalid_argument("caller: no role"))?;
                Self::Person { name: name(&person.principal)?, role: Role::try_from(role).map_err(unreadable)? }
            }
            Who::Agent(agent) => Self::Agent { name: name(&agent)? },
            Who::Coordinator(replica) => Self::Coordinator { replica: ReplicaId(replica) },
            Who::Lapsed(who) => Self::Lapsed { who: Identity::try_from(who).map_err(unreadable)? },
            Who::Nobody(_) => Self::Nobody,
        })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.principal())?;
        match self {
            Self::Person { role: Role::Viewer, .. } => f.write_str(" (viewer)"),
            Self::Person { role: Role::Submitter { queues }, .. } => {
                let queues: Vec<_> = queues.iter().map(QueuePath::as_str).collect();
                write!(f, " (submitter to {})", queues.join(", "))
            }
            Self::Person { role: Role::Operator, .. } => f.write_str(" (operator)"),
            Self::Person { role: Role::Admin, .. } => f.write_str(" (admin)"),
            _ => Ok(()),
        }
    }
}

/// What names a blob, and so may make it readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A job: its code, an input, an artifact or a log of it.
    Job {
        /// The queue of the job.
        queue: &'a QueuePath,
    },
    /// A live allocation.
    Allocation {
        /// The node that holds it.
        node: &'a Name,
    },
    /// The store: whatever is in it, named by anybody.
    Stored,
    /// An upload that no job names yet.
    Upload {
        /// The principal who uploaded it.
        by: &'a str,
    },
}

/// What is asked for, with what it is about. Closed; one for every call of every service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Ask which cluster answers.
    GetCluster,
    /// Submit a job.
    Submit {
        /// To this queue.
        queue: &'a QueuePath,
    },
    /// Let a job use a blob that was not uploaded with it.
    UseBlob {
        /// What names it.
        named_by: &'a [Named<'a>],
    },
    /// Cancel a job.
    Cancel {
        /// Its queue.
        queue: &'a QueuePath,
    },
    /// List jobs; each line is decided by [`Action::GetJob`].
    ListJobs,
    /// Look at a job.
    GetJob {
        /// Its queue.
        queue: &'a QueuePath,
    },
    /// Look at its tasks.
    ListTasks {
        /// Its queue.
        queue: &'a QueuePath,
    },
    /// Watch it.
    WatchJob {
        /// Its queue.
        queue: &'a QueuePath,
    },
    /// Read what its tasks wrote.
    Logs {
        /// Its queue.
        queue: &'a QueuePath,
    },
    /// Ask why it waits or failed.
    Why {
        /// Its queue.
        queue: &'a QueuePath,
    },
    /// Run a command beside a running task.
    Exec {
        /// The queue of its job.
        queue: &'a QueuePath,
    },
    /// List its artifacts.
    ListArtifacts {
        /// Its queue.
        queue: &'a QueuePath,
    },
    /// List nodes.
    ListNodes,
    /// Ask what is stored.
    GetStorage,
    /// Forget ended jobs.
    Prune,
    /// Make, change or drop queues.
    ChangeQueue,
    /// List queues; each line is decided by [`Action::LookAtQueue`].
    ListQueues,
    /// Ask what was used over time; each line is decided by [`Action::LookAtQueue`].
    GetUsage,
    /// Look at a queue: what it is promised, allowed and holds.
    LookAtQueue {
        /// Which.
        queue: &'a QueuePath,
    },
    /// Drain, open, or remove a node.
    ChangeNode,
    /// Say what holds for all of the cluster.
    ChangePolicy,
    /// Ask what holds for all of the cluster.
    GetPolicy,
    /// Run an agent's session.
    Session {
        /// The node it is for.
        node: &'a Name,
    },
    /// Answer a stream that the coordinator asked for.
    Relay {
        /// The node it was asked of.
        node: &'a Name,
    },
    /// Ask which blobs are missing.
    MissingBlobs,
    /// Store a blob.
    PutBlob,
    /// Read a blob.
    GetBlob {
        /// What names it.
        named_by: &'a [Named<'a>],
    },
    /// Take part in the log: votes, entries, snapshots.
    Replicate {
        /// As this replica.
        replica: ReplicaId,
    },
    /// Pass on a proposal, or a call that the coordinator which took it has decided on.
    Forward {
        /// As this replica.
        replica: ReplicaId,
    },
    /// Copy the origin's blobs between coordinators.
    Mirror {
        /// As this replica.
        replica: ReplicaId,
    },
    /// Show a token and join.
    Join,
    /// Have a certificate issued again.
    Renew {
        /// For whom.
        who: &'a Identity,
    },
    /// List secrets, without what they are; each line is decided by [`Action::LookAtSecret`].
    ListSecrets,
    /// Know of a secret.
    LookAtSecret {
        /// The queue whose jobs may use it; every queue if `None`.
        queue: Option<&'a QueuePath>,
    },
    /// Keep, replace or forget a secret.
    ChangeSecret {
        /// The queue whose jobs may use it; every queue if `None`.
        queue: Option<&'a QueuePath>,
    },
    /// Encrypt all secrets with another key.
    RotateSecretKey,
    /// Be told what a secret is, for a task.
    ReadSecret {
        /// The node that holds the task.
        node: &'a Name,
        /// The queue of the task's job.
        job: &'a QueuePath,
        /// The queue whose jobs may use the secret; every queue if `None`.
        queue: Option<&'a QueuePath>,
    },
    /// Make, list or take back tokens.
    ChangeTokens,
    /// Shut somebody out.
    Revoke,
    /// Add, promote or remove coordinators; move the leadership.
    ChangeMembers,
    /// Read everything: backups.
    ReadAll,
    /// Read who did what.
    ReadAudit,
    /// Look for a fault in what the parts say of themselves.
    Diagnose,
    /// Ask whether the service is well, or what it offers.
    Ping,
}

/// What a person needs for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need<'a> {
    /// To be known.
    Known,
    /// To look at what is in this queue.
    View(&'a QueuePath),
    /// To submit to this queue.
    Submit(&'a QueuePath),
    /// To submit to any queue.
    SubmitAnywhere,
    /// To look at one of these.
    Read(&'a [Named<'a>]),
    /// To run the cluster.
    Operate,
    /// To decide who comes in.
    Administer,
    /// Nothing helps: it is for nodes.
    Never,
}

/// An action that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{caller} may not {action}; {remedy}")]
pub struct Denied {
    /// Who asked.
    pub caller: String,
    /// For what.
    pub action: String,
    /// Who could.
    pub remedy: &'static str,
    /// Whether it helps to say who one is.
    pub unknown: bool,
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        if denied.unknown {
            Self::unauthenticated(denied.to_string())
        } else {
            Self::permission_denied(denied.to_string())
        }
    }
}

/// Whether the caller may do this.
///
/// # Errors
/// [`Denied`] if not, with who could.
pub fn allow(caller: &Caller, action: Action<'_>) -> Result<(), Denied> {
    let need = need(action);
    let allowed = match caller {
        Caller::Owner { .. } => for_the_owner(action),
        Caller::Person { name, role } => person_may(name, role, need) || renews_itself(caller, action),
        Caller::Agent { name } => agent_may(name, action) || renews_itself(caller, action),
        Caller::Coordinator { replica } => coordinator_may(*replica, action) || renews_itself(caller, action),
        Caller::Lapsed { .. } => renews_itself(caller, action),
        Caller::Nobody => action == Action::Join,
    };
    if allowed {
        return Ok(());
    }
    Err(Denied {
        caller: caller.to_string(),
        action: sentence(action),
        remedy: remedy(caller, need),
        unknown: *caller == Caller::Nobody,
    })
}

/// Everything; only that a secret is for some queues binds the tasks of the owner too.
fn for_the_owner(action: Action<'_>) -> bool {
    match action {
        Action::ReadSecret { job, queue, .. } => queue.is_none_or(|own| own.covers(job)),
        _ => true,
    }
}

fn renews_itself(caller: &Caller, action: Action<'_>) -> bool {
    matches!(action, Action::Renew { who } if caller.identity().as_ref() == Some(who))
}

fn agent_may(name: &Name, action: Action<'_>) -> bool {
    match action {
        Action::Session { node } | Action::Relay { node } => node == name,
        Action::GetBlob { named_by } => named_by.contains(&Named::Allocation { node: name }),
        Action::ReadSecret { node, job, queue } => node == name && queue.is_none_or(|own| own.covers(job)),
        Action::MissingBlobs | Action::PutBlob | Action::GetCluster | Action::Ping => true,
        _ => false,
    }
}

fn coordinator_may(own: ReplicaId, action: Action<'_>) -> bool {
    match action {
        Action::Replicate { replica } | Action::Forward { replica } | Action::Mirror { replica } => replica == own,
        Action::GetCluster | Action::Ping => true,
        _ => false,
    }
}

fn person_may(name: &Name, role: &Role, need: Need<'_>) -> bool {
    match need {
        Need::Known => true,
        Need::View(queue) => views(role, queue),
        Need::Submit(queue) => submits(role, queue),
        Need::SubmitAnywhere => *role != Role::Viewer,
        Need::Read(named_by) => named_by.iter().any(|named| match named {
            Named::Job { queue } => views(role, queue),
            Named::Upload { by } => *by == name.as_str(),
            Named::Stored => !matches!(role, Role::Submitter { .. }),
            Named::Allocation { .. } => false,
        }),
        Need::Operate => matches!(role, Role::Operator | Role::Admin),
        Need::Administer => *role == Role::Admin,
        Need::Never => false,
    }
}

fn views(role: &Role, queue: &QueuePath) -> bool {
    *role == Role::Viewer || submits(role, queue)
}

fn submits(role: &Role, queue: &QueuePath) -> bool {
    match role {
        Role::Viewer => false,
        Role::Submitter { queues } => queues.iter().any(|own| own.covers(queue)),
        Role::Operator | Role::Admin => true,
    }
}

fn need(action: Action<'_>) -> Need<'_> {
    match action {
        Action::GetCluster
        | Action::ListJobs
        | Action::ListNodes
        | Action::ListQueues
        | Action::GetUsage
        | Action::GetStorage
        | Action::GetPolicy
        | Action::Ping => Need::Known,
        Action::GetJob { queue }
        | Action::ListTasks { queue }
        | Action::WatchJob { queue }
        | Action::Logs { queue }
        | Action::Why { queue }
        | Action::ListArtifacts { queue }
        | Action::LookAtQueue { queue } => Need::View(queue),
        Action::Submit { queue } | Action::Cancel { queue } | Action::Exec { queue } => Need::Submit(queue),
        Action::MissingBlobs | Action::PutBlob => Need::SubmitAnywhere,
        Action::GetBlob { named_by } | Action::UseBlob { named_by } => Need::Read(named_by),
        Action::ListSecrets => Need::Known,
        Action::LookAtSecret { queue: Some(queue) } => Need::View(queue),
        Action::LookAtSecret { queue: None } => Need::Known,
        Action::ChangeSecret { queue: Some(queue) } => Need::Submit(queue),
        Action::ChangeSecret { queue: None } => Need::Operate,
        Action::RotateSecretKey => Need::Administer,
        Action::Prune
        | Action::ChangeQueue
        | Action::ChangeNode
        | Action::ChangePolicy
        | Action::ReadAudit
        | Action::Diagnose => Need::Operate,
        Action::ChangeTokens | Action::Revoke | Action::ChangeMembers | Action::ReadAll => Need::Administer,
        Action::Session { .. }
        | Action::Relay { .. }
        | Action::ReadSecret { .. }
        | Action::Replicate { .. }
        | Action::Forward { .. }
        | Action::Mirror { .. }
        | Action::Join
        | Action::Renew { .. } => Need::Never,
    }
}

fn remedy(caller: &Caller, need: Need<'_>) -> &'static str {
    match (caller, need) {
        (Caller::Nobody, _) => "show a certificate or a token",
        (Caller::Lapsed { .. }, _) => "its certificate has expired and may only be renewed",
        (Caller::Agent { .. } | Caller::Coordinator { .. }, _) => "a node speaks only for itself",
        (_, Need::Known) => "show a certificate or a token",
        (_, Need::View(_)) => "a viewer or a submitter to its queue may",
        (_, Need::Submit(_)) => "a submitter to its queue or an operator may",
        (_, Need::SubmitAnywhere) => "a submitter or an operator may",
        (_, Need::Read(_)) => "blobs are read through a job that names them, in a queue that one may look at",
        (_, Need::Operate) => "an operator may",
        (_, Need::Administer) => "an admin may",
        (_, Need::Never) => "only nodes of the cluster do that, each for itself",
    }
}

/// The action as it is read after "may not".
fn sentence(action: Action<'_>) -> String {
    let in_queue = |does: &str, queue: &QueuePath| format!("{does} in queue `{queue}`");
    match action {
        Action::GetCluster => "ask about the cluster".to_owned(),
        Action::Submit { queue } => format!("submit to queue `{queue}`"),
        Action::UseBlob { .. } => "let a job use this blob".to_owned(),
        Action::Cancel { queue } => in_queue("cancel jobs", queue),
        Action::ListJobs => "list jobs".to_owned(),
        Action::GetJob { queue }
        | Action::ListTasks { queue }
        | Action::WatchJob { queue }
        | Action::Why { queue }
        | Action::ListArtifacts { queue } => in_queue("look at jobs", queue),
        Action::Logs { queue } => in_queue("read logs", queue),
        Action::Exec { queue } => in_queue("run commands beside tasks", queue),
        Action::ListNodes => "list nodes".to_owned(),
        Action::GetStorage => "ask what is stored".to_owned(),
        Action::Prune => "forget jobs".to_owned(),
        Action::ChangeQueue => "change queues".to_owned(),
        Action::ListQueues => "list queues".to_owned(),
        Action::GetUsage => "ask what was used".to_owned(),
        Action::LookAtQueue { queue } => format!("look at queue `{queue}`"),
        Action::ChangeNode => "change nodes".to_owned(),
        Action::ChangePolicy => "change the policy".to_owned(),
        Action::GetPolicy => "ask what the policy is".to_owned(),
        Action::Session { node } | Action::Relay { node } => format!("speak for node {node}"),
        Action::MissingBlobs | Action::PutBlob => "store blobs".to_owned(),
        Action::GetBlob { .. } => "read this blob".to_owned(),
        Action::Replicate { replica } => format!("take part in the log as replica {replica}"),
        Action::Forward { replica } => format!("pass calls on as replica {replica}"),
        Action::Mirror { replica } => format!("copy blobs as replica {replica}"),
        Action::Join => "join with a token".to_owned(),
        Action::Renew { who } => format!("renew the certificate of {who}"),
        Action::ListSecrets => "list secrets".to_owned(),
        Action::LookAtSecret { .. } => "know of this secret".to_owned(),
        Action::ChangeSecret { queue: Some(queue) } => in_queue("change secrets for jobs", queue),
        Action::ChangeSecret { queue: None } => "change secrets that jobs of every queue may use".to_owned(),
        Action::RotateSecretKey => "change the key of secrets".to_owned(),
        Action::ReadSecret { node, .. } => format!("be told secrets for tasks of node {node}"),
        Action::ChangeTokens => "see or change tokens".to_owned(),
        Action::Revoke => "shut anybody out".to_owned(),
        Action::ChangeMembers => "change the members of the cluster".to_owned(),
        Action::ReadAll => "read everything".to_owned(),
        Action::ReadAudit => "read who did what".to_owned(),
        Action::Diagnose => "read what the parts say of themselves".to_owned(),
        Action::Ping => "ask how the service is".to_owned(),
    }
}

#[cfg(test)]
mod tests;
