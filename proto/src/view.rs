//! Records as the API shows them. The coordinator chooses what to show; here is only how.

use flowyard_model as model;
use flowyard_model::{JobId, JobOutcome, NodeId, StepIndex, TaskIndex, TimeMs};

use crate::api;
use crate::convert::{from_conditions, shown_closure, shown_discredit, stuck_number, task_state, waiting_until_ms};
use crate::decode::{Decoded, Problem, Under};

/// How a job stands: `None` while it is active.
pub fn job_phase(ended: Option<JobOutcome>) -> api::JobPhase {
    match ended {
        None => api::JobPhase::Active,
        Some(JobOutcome::Succeeded) => api::JobPhase::Succeeded,
        Some(JobOutcome::Failed) => api::JobPhase::Failed,
        Some(JobOutcome::Cancelled) => api::JobPhase::Cancelled,
    }
}

/// The reverse of [`job_phase`].
///
/// # Errors
/// When the number is none of a phase.
pub fn job_outcome(number: i32) -> Decoded<Option<JobOutcome>> {
    match api::JobPhase::try_from(number).map_err(|_| Problem::UnknownValue { number }).under("state")? {
        api::JobPhase::Unspecified => Err(Problem::Missing).under("state"),
        api::JobPhase::Active => Ok(None),
        api::JobPhase::Succeeded => Ok(Some(JobOutcome::Succeeded)),
        api::JobPhase::Failed => Ok(Some(JobOutcome::Failed)),
        api::JobPhase::Cancelled => Ok(Some(JobOutcome::Cancelled)),
    }
}

/// A job in a list. `tasks` and `started` are over all its steps.
pub fn job_row(id: JobId, job: &model::Job, tasks: model::TaskCounts, started: Option<TimeMs>) -> api::JobRow {
    api::JobRow {
        job: id.0,
        name: job.spec.name.to_string(),
        owner: job.owner.clone(),
        queue: job.spec.queue.to_string(),
        state: job_phase(job.ended.map(|end| end.outcome)).into(),
        submitted_ms: job.submitted_at.0,
        started_ms: started.map(|time| time.0),
        ended_ms: job.ended.map(|end| end.at.0),
        tasks: Some(tasks.into()),
        tags: job.spec.tags.iter().cloned().collect(),
    }
}

/// A step of a job.
pub fn step(spec: &model::StepSpec, step: &model::Step) -> api::Step {
    api::Step {
        name: spec.name.to_string(),
        count: step.count,
        tasks: Some(step.counts.into()),
        started_ms: step.started_at.map(|time| time.0),
        ended_ms: step.ended_at.map(|time| time.0),
    }
}

/// A task that has been touched, with its attempts.
pub fn task<'a>(
    step: StepIndex,
    index: TaskIndex,
    task: &model::Task,
    node: impl Fn(NodeId) -> Option<&'a model::Node>,
) -> api::Task {
    let attempts = task.attempts.iter().map(|it| attempt(it, &node)).collect();
    api::Task { attempts, ..untouched_task(step, index, task.state) }
}

/// A task that is only an index in a range of its step.
pub fn untouched_task(step: StepIndex, index: TaskIndex, state: model::TaskState) -> api::Task {
    api::Task {
        step: step.0,
        task: index.0,
        state: api::TaskState::from(state).into(),
        waiting_until_ms: waiting_until_ms(state),
        attempts: Vec::new(),
    }
}

/// Where a shown task stands.
///
/// # Errors
/// When its state is not known, or contradicts its time.
pub fn state_of(task: &api::Task) -> Decoded<model::TaskState> {
    task_state(task.state, task.waiting_until_ms)
}

/// One attempt of a task.
pub fn attempt<'a>(attempt: &model::Attempt, node: impl Fn(NodeId) -> Option<&'a model::Node>) -> api::Attempt {
    let replaced = |it: &model::Replaced| api::ReplacedMember {
        rank: it.rank.0,
        member: Some(member(&it.member, node(it.member.node))),
    };
    api::Attempt {
        number: attempt.number.0,
        placed_ms: attempt.placed_at.0,
        members: attempt.members.iter().map(|it| member(it, node(it.node))).collect(),
        preempted: attempt.preempted.map(Into::into),
        saved_at_ms: attempt.saved_at.map(|time| time.0),
        decisive_rank: attempt.decisive().map(|(rank, ..)| rank.0),
        generation: attempt.generation(),
        repairing_until_ms: attempt.repair().map(|repair| repair.until.0),
        replaced: attempt.surgery.iter().flat_map(|surgery| &surgery.replaced).map(replaced).collect(),
    }
}

/// One member of an attempt. Its devices are shown while the node's inventory is the one it was placed by.
pub fn member(member: &model::Member, node: Option<&model::Node>) -> api::Member {
    let inventory = node.filter(|node| node.incarnation == member.incarnation).map(|node| &node.inventory);
    let gpus = member.gpus.iter().filter_map(|gpu| inventory?.gpus.get(gpu.0 as usize));
    api::Member {
        node: member.node.0,
        node_name: node.map(|node| node.name.to_string()).unwrap_or_default(),
        gpus: gpus.map(Into::into).collect(),
        phase: api::Phase::from(member.phase).into(),
        times: Some(member.times.into()),
        end: member.end.as_deref().map(Into::into),
        stuck: stuck_number(member.stuck),
        replacement: member.replacement,
        gpu_alternative: None,
        gpu_request: String::new(),
    }
}

/// A node; `connected` is known by the coordinator's sessions only.
pub fn node(id: NodeId, node: &model::Node, connected: bool) -> api::Node {
    api::Node {
        node: id.0,
        name: node.name.to_string(),
        incarnation: node.incarnation.0,
        health: api::Health::from(node.health).into(),
        scheduling: scheduling(node).into(),
        registered_ms: node.registered_at.0,
        inventory: Some(node.inventory.as_ref().into()),
        used: Some((&node.used).into()),
        connected,
        closure: node.closure.as_deref().map(shown_closure),
        undying: Vec::new(),
        discredit: None,
        devices: from_conditions(&node.devices),
    }
}

/// What is held against a node: so much at the time of the answer. `attempt` names the attempt of a member.
pub fn discredit(
    discredit: &model::Discredit,
    points_milli: u64,
    attempt: impl Fn(model::MemberKey) -> String,
) -> api::Discredit {
    shown_discredit(discredit, points_milli, attempt)
}

/// A drain is over once nothing lives on the node; nobody has to say so.
fn scheduling(node: &model::Node) -> api::Scheduling {
    let drains = node.closure.as_ref().is_some_and(|closure| closure.drain.is_some());
    match (node.scheduling, drains, node.used.members) {
        (model::Scheduling::Open, ..) => api::Scheduling::Open,
        (model::Scheduling::Drained, false, _) => api::Scheduling::Cordoned,
        (model::Scheduling::Drained, true, 0) => api::Scheduling::Drained,
        (model::Scheduling::Drained, true, _) => api::Scheduling::Draining,
    }
}

/// An artifact that a successful task wrote.
pub fn artifact(step: StepIndex, task: TaskIndex, name: &model::Name, output: &model::Output) -> api::Artifact {
    api::Artifact { step: step.0, task: task.0, name: name.to_string(), manifest: Some(output.manifest.into()) }
}
