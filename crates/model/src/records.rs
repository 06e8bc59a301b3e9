//! Every record the state keeps. Desired fields are written by the coordinator's commands, observed ones by agents' reports;
//! no field has both writers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AttemptNumber, Condition, Digest, Discredit, End, Epoch, GpuIndex, Incarnation, Inventory, ItemList, JobOutcome,
    JobSpec, Leaving, MemberKey, Name, NodeId, Preempted, Ranges, Rank, Repair, Standing, StuckPhase, Surgery,
    TaskIndex, TaskKey, TaskOutcome, Term, TimeMs,
};

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What was asked for.
    pub spec: Arc<JobSpec>,
    /// Who submitted it.
    pub owner: String,
    /// The submission key, if one was given.
    pub key: Option<String>,
    /// When.
    pub submitted_at: TimeMs,
    /// Whether it should run.
    pub desired: JobDesired,
    /// Jobs it still waits for.
    pub waits_for: u32,
    /// Steps that are not complete yet.
    pub open_steps: u32,
    /// Set once it has ended.
    pub ended: Option<JobEnd>,
    /// Which of its times had passed when it was stopped.
    pub overdue: Option<Overdue>,
    /// Since when nothing but room keeps it from starting; only of a job with a queue TTL.
    pub startable_at: Option<TimeMs>,
}

/// A time of a job that can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overdue {
    /// It had to end by then.
    Deadline,
    /// Its first task had to be placed by then.
    QueueTtl,
}

impl Overdue {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::QueueTtl => "queue_ttl",
        }
    }
}

/// Whether a job should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobDesired {
    /// Yes.
    Run,
    /// No: it ends as this once nothing of it is active.
    Stop(JobOutcome),
}

/// The end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// How.
    pub outcome: JobOutcome,
    /// When.
    pub at: TimeMs,
}

/// A step of a job: its tasks as ranges until one is touched. Each task is either in exactly one of the four ranges, or has a
/// [`Task`] of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Tasks, once known.
    pub count: Option<u32>,
    /// Where items come from, once known; in order of the tasks.
    pub segments: Vec<Segment>,
    /// Untouched tasks that wait for others.
    pub blocked: Ranges,
    /// Untouched tasks that can be placed.
    pub ready: Ranges,
    /// Untouched tasks that will not run because the job stops.
    pub cancelled: Ranges,
    /// Untouched tasks that will not run because what they follow did not succeed.
    pub skipped: Ranges,
    /// Needs of kind `all` not complete yet (and one for the job, while it waits for other jobs).
    pub open_needs: u32,
    /// Touched tasks by state, untouched ones added.
    pub counts: TaskCounts,
    /// When its first attempt was placed.
    pub started_at: Option<TimeMs>,
    /// When its last task ended.
    pub ended_at: Option<TimeMs>,
}

/// Tasks that come from one list, consecutive in the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The task whose output the list is; 0 when the list was known at submit.
    pub parent: TaskIndex,
    /// First task that comes from it.
    pub start: TaskIndex,
    /// The list.
    pub list: ItemList,
}

/// How many tasks of a step are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Wait for others.
    pub blocked: u32,
    /// Can be placed.
    pub ready: u32,
    /// Wait for a time to pass before the next attempt.
    pub waiting: u32,
    /// Have a live attempt.
    pub active: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended badly.
    pub failed: u32,
    /// Were stopped.
    pub cancelled: u32,
    /// Never had to run.
    pub skipped: u32,
}

impl TaskCounts {
    /// No task.
    pub const NONE: Self =
        Self { blocked: 0, ready: 0, waiting: 0, active: 0, succeeded: 0, failed: 0, cancelled: 0, skipped: 0 };

    /// Tasks that have ended.
    pub fn done(&self) -> u32 {
        self.succeeded + self.failed + self.cancelled + self.skipped
    }

    /// All tasks.
    pub fn total(&self) -> u32 {
        self.blocked + self.ready + self.waiting + self.active + self.done()
    }
}

/// A task that has been touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Where it stands: a function of its dependencies and attempts, stored for speed.
    pub state: TaskState,
    /// All its attempts, oldest first; at most one is live.
    pub attempts: Vec<Attempt>,
    /// Attempts that spent a retry.
    pub spent: u32,
    /// Attempts that ended through no fault of the user.
    pub unblamed: u32,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for other tasks.
    Blocked,
    /// Can be placed.
    Ready,
    /// Can be placed from this time on.
    Waiting(TimeMs),
    /// Has a live attempt.
    Active,
    /// Has ended.
    Done(TaskOutcome),
}

/// One try of a task. It only moves forward and is never reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which try.
    pub number: AttemptNumber,
    /// When it was placed.
    pub placed_at: TimeMs,
    /// Whether it should run.
    pub desired: AttemptDesired,
    /// One per rank.
    pub members: Vec<Member>,
    /// The last checkpoint it reported.
    pub checkpoint: Option<Checkpoint>,
    /// When it is given up if an agent has not taken it; only from cluster version 2 on.
    pub accept_by: Option<TimeMs>,
    /// The epoch in which it was placed.
    pub epoch: Epoch,
    /// Of a gang: the port of its first member's node that it has to itself while it lives; only from cluster version 2 on.
    pub main_port: Option<u16>,
    /// That it was evicted; only from cluster version 2 on.
    pub preempted: Option<Preempted>,
    /// When its agent last saw that it had saved its work; only from cluster version 2 on.
    pub saved_at: Option<TimeMs>,
    /// Of a gang: what became of members that it lost; only from cluster version 2 on.
    pub surgery: Option<Arc<Surgery>>,
}

impl Attempt {
    /// The key of one of its members.
    pub fn member_key(&self, task: TaskKey, rank: Rank) -> MemberKey {
        let replacement = self.members.get(rank.0 as usize).map_or(0, |member| member.replacement);
        MemberKey { task, attempt: self.number, rank, epoch: self.epoch, replacement }
    }

    /// What is open of a gang that lost members and goes on.
    pub fn repair(&self) -> Option<&Repair> {
        self.surgery.as_ref()?.repair.as_ref()
    }

    /// Whether it goes on, or ended, without this rank.
    pub fn is_vacant(&self, rank: Rank) -> bool {
        self.surgery.as_ref().is_some_and(|surgery| surgery.vacant.contains(&rank))
    }

    /// How often its members were others than before.
    pub fn generation(&self) -> u32 {
        self.surgery.as_ref().map_or(0, |surgery| surgery.generation)
    }

    /// Whether one of its members should run.
    pub fn desired_of(&self, member: &Member) -> AttemptDesired {
        if self.desired == AttemptDesired::Run && member.leaving.is_some() {
            AttemptDesired::Stop
        } else {
            self.desired
        }
    }

    /// Of the members that have ended, the one whose end stands for the attempt: the gravest, of the lowest rank among
    /// equals. Who failed first is the only one that failed: the others were stopped for it.
    pub fn decisive(&self) -> Option<(Rank, &Member, &End)> {
        let members = (0..).map(Rank).zip(&self.members).filter(|(rank, _)| !self.is_vacant(*rank));
        let ends = members.filter_map(|(rank, member)| Some((rank, member, member.end.as_deref()?)));
        ends.reduce(|worst, end| if end.2.outcome.gravity() > worst.2.outcome.gravity() { end } else { worst })
    }
}

/// Whether an attempt should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptDesired {
    /// Yes.
    Run,
    /// No: its job stops.
    Stop,
    /// No: it makes room for another.
    Preempt,
    /// No: it made no progress, and is tried again elsewhere.
    GiveUp,
}

/// A saved state of a running attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its manifest.
    pub manifest: Digest,
    /// When it was written.
    pub at: TimeMs,
}

/// One member of an attempt: its allocation and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node it is placed on.
    pub node: NodeId,
    /// The registration of that node it belongs to.
    pub incarnation: Incarnation,
    /// The devices it holds there.
    pub gpus: Vec<GpuIndex>,
    /// Which of the alternatives of the request was taken.
    pub gpu_alternative: u32,
    /// How far it is.
    pub phase: Phase,
    /// When it got there.
    pub times: PhaseTimes,
    /// Its end, once the phase is `ended`.
    pub end: Option<Arc<End>>,
    /// Where it made no progress; only from cluster version 2 on.
    pub stuck: Option<StuckPhase>,
    /// How many members had its rank before it; only from cluster version 2 on.
    pub replacement: u32,
    /// That it is to stop although its gang goes on; only from cluster version 2 on.
    pub leaving: Option<Leaving>,
}

/// How far a member is; only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// In the plan; the agent has not said anything yet.
    Placed,
    /// The agent has it.
    Accepted,
    /// Code, inputs and image are being brought.
    Fetching,
    /// The user's process runs.
    Running,
    /// Outputs and logs are being stored.
    Storing,
    /// Over.
    Ended,
}

/// When a member reached its phases, by the agent's wall clock; `None` where a phase was passed without a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTimes {
    /// Accepted.
    pub accepted: Option<TimeMs>,
    /// Fetching.
    pub fetching: Option<TimeMs>,
    /// Running.
    pub running: Option<TimeMs>,
    /// Storing.
    pub storing: Option<TimeMs>,
    /// Ended.
    pub ended: Option<TimeMs>,
}

impl PhaseTimes {
    /// Nothing reached yet.
    pub const NONE: Self = Self { accepted: None, fetching: None, running: None, storing: None, ended: None };
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name an operator gave it; unique.
    pub name: Name,
    /// The counter of its registrations.
    pub incarnation: Incarnation,
    /// What it offers.
    pub inventory: Arc<Inventory>,
    /// What is known of its health.
    pub health: Health,
    /// Whether new work may be placed on it.
    pub scheduling: Scheduling,
    /// Who closed it to new work and how; only of a closed node, and of none that was closed before cluster version 2.
    pub closure: Option<Arc<Closure>>,
    /// When it registered last.
    pub registered_at: TimeMs,
    /// What its live members hold.
    pub used: Used,
    /// What is held against it; only from cluster version 2 on.
    pub discredit: Option<Arc<Discredit>>,
    /// What is known of its devices, by their ids, where there is something to say; only from cluster version 2 on.
    pub devices: BTreeMap<String, Condition>,
}

impl Node {
    /// How far it is trusted with new work.
    pub fn standing(&self) -> Standing {
        self.discredit.as_ref().map_or(Standing::Trusted, |discredit| discredit.standing)
    }

    /// Whether it is heard from and nobody closed it to new work.
    pub fn is_open(&self) -> bool {
        self.health == Health::Up && self.scheduling == Scheduling::Open
    }

    /// Whether new work may be placed on it.
    pub fn takes_work(&self) -> bool {
        self.is_open() && self.standing() != Standing::Shunned
    }
}

/// How a node was closed to new work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// Whether it is to become empty.
    pub drain: Option<Drain>,
    /// Who closed it.
    pub by: String,
    /// Why, in their words; may be empty.
    pub reason: String,
    /// When.
    pub at: TimeMs,
}

/// How a node becomes empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drain {
    /// What runs there takes its time.
    Unhurried,
    /// At this time, what still runs there is asked to stop.
    Until(TimeMs),
    /// The time is over: what ran there at this time was asked to stop.
    Stopping(TimeMs),
}

/// What the live members of a node hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Scratch space in bytes.
    pub disk_bytes: u64,
    /// Thousandths of each device, by its index.
    pub gpu_milli: Vec<u32>,
    /// What of that is held by those who declared the memory that goes with their share, by device; empty if nobody did. Only from
    /// cluster version 2 on.
    pub declared: Vec<Declared>,
    /// Tokens by name.
    pub tokens: std::collections::BTreeMap<Name, u32>,
    /// Live members.
    pub members: u32,
}

/// What is held of a device by those who declared the memory that goes with their share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Thousandths.
    pub share_milli: u32,
    /// Bytes of memory, which is another part of all than the thousandths are.
    pub memory_bytes: u64,
}

impl Used {
    /// What is free of a device's memory, in thousandths of a byte. Who declared none holds as large a part of it as of the device.
    pub fn free_memory(&self, device: usize, device_bytes: u64) -> u128 {
        let held = self.gpu_milli.get(device).copied().unwrap_or(0);
        let declared = self.declared.get(device).copied().unwrap_or_default();
        let plain = u128::from(held.saturating_sub(declared.share_milli)) * u128::from(device_bytes);
        let taken = plain + u128::from(declared.memory_bytes) * 1_000;
        (u128::from(device_bytes) * 1_000).saturating_sub(taken)
    }
}

/// What is known of a node's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Heard from.
    Up,
    /// Silent for seconds: nothing new is placed there.
    Suspect,
    /// Silent for so long that its attempts are given up.
    Down,
}

/// Whether new work may be placed on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduling {
    /// Yes.
    Open,
    /// No. What runs there stays, unless the [`Closure`] says otherwise.
    Drained,
}

/// Names a submission: owner and the key that the client chose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubmissionKey {
    /// Who.
    pub owner: String,
    /// The client's word.
    pub key: String,
}

/// What the coordinator tells agents with everything it desires, so that a message of an old leader is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Term of the leader that says it.
    pub term: Term,
    /// Revision it read.
    pub revision: crate::Revision,
}
