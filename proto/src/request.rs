//! Requests and messages of which every part has a word in the model.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowyard_model::{
    AttemptReport, DeviceReport, Digest, JobSpec, Name, NodeChange, Policy, Queue, QueuePath, RegisterNode,
    StuckLimits, TimeMs, limits,
};

use crate::convert::{only_of_a_drain, previous};
use crate::decode::{self, Decoded, Problem, Under};
use crate::{agent, api};

/// What a client wants to run, and the key that makes a repeated submission the same one.
///
/// # Errors
/// When the spec breaks the contract, or the key is empty, too long or hostile to a terminal.
pub fn submission(request: api::SubmitRequest) -> Decoded<(JobSpec, Option<String>)> {
    if let Some(key) = &request.key {
        decode::within("key", limits::TEXT_BYTES, key.len())?;
        if key.is_empty() {
            return Err(Problem::Missing).under("key");
        }
        if key.chars().any(char::is_control) {
            return Err(Problem::ControlCharacter).under("key");
        }
    }
    Ok((decode::required("spec", request.spec)?, request.key))
}

/// What a caller wants of the node of this name, at this time.
///
/// # Errors
/// When the name, the change or its deadline breaks the contract, or the reason is too long or hostile to a terminal.
pub fn change_node(request: api::ChangeNodeRequest, now: TimeMs) -> Decoded<(Name, NodeWish, String)> {
    let name = decode::name("name", &request.name)?;
    decode::within("reason", limits::TEXT_BYTES, request.reason.len())?;
    if request.reason.chars().any(char::is_control) {
        return Err(Problem::ControlCharacter).under("reason");
    }
    let number = request.change;
    let change = api::NodeChange::try_from(number).map_err(|_| Problem::UnknownValue { number }).under("change")?;
    only_of_a_drain(change == api::NodeChange::Drain, request.deadline_ms)?;
    let out = change == api::NodeChange::DeviceOut;
    let change = match change {
        api::NodeChange::Unspecified => return Err(Problem::Missing).under("change"),
        api::NodeChange::Cordon => NodeChange::Cordon,
        api::NodeChange::Drain => NodeChange::Drain { deadline: request.deadline_ms.map(|wait_ms| now.after(wait_ms)) },
        api::NodeChange::Uncordon => NodeChange::Uncordon,
        api::NodeChange::Remove => NodeChange::Remove,
        api::NodeChange::Forgive => NodeChange::Forgive,
        api::NodeChange::DeviceOut | api::NodeChange::DeviceBack => {
            decode::within("device", limits::TEXT_BYTES, request.device.len())?;
            let device = decode::positive("device", request.device)?;
            return Ok((name, NodeWish::Device { device, out }, request.reason));
        }
    };
    if !request.device.is_empty() {
        return Err(Problem::Contradiction("only the changes of a device name one")).under("device");
    }
    Ok((name, NodeWish::Node(change), request.reason))
}

/// What a caller wants of a node, or of one of its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeWish {
    /// Of the node.
    Node(NodeChange),
    /// Of a device.
    Device {
        /// Its id in the inventory.
        device: String,
        /// Whether it is taken out of use, or put back.
        out: bool,
    },
}

/// What an agent says of its devices.
///
/// # Errors
/// When a part of it breaks the contract.
pub fn devices(devices: agent::Devices) -> Decoded<Vec<DeviceReport>> {
    decode::list("devices", devices.devices)
}

/// The queues that a caller wants, each path once.
///
/// # Errors
/// When there are too many, or one of them breaks the contract.
pub fn put_queues(request: api::PutQueuesRequest) -> Decoded<Vec<Queue>> {
    decode::at_most("queues", limits::QUEUES_PER_CALL, request.queues.len())?;
    let queues: Vec<Queue> = decode::list("queues", request.queues)?;
    decode::set("queues", queues.iter().map(|queue| Ok(&queue.path)))?;
    Ok(queues)
}

/// The policy that a caller wants.
///
/// # Errors
/// When there is none, or it breaks the contract.
pub fn put_policy(request: api::PutPolicyRequest) -> Decoded<Policy> {
    decode::required("policy", request.policy)
}

/// The path of the queue that a request is about.
///
/// # Errors
/// When it is none.
pub fn queue_path(path: &str) -> Decoded<QueuePath> {
    path.parse().map_err(Problem::QueuePath).under("path")
}

/// An agent's first message: its registration, and everything it has.
///
/// # Errors
/// When a part of it breaks the contract.
pub fn hello(hello: agent::Hello) -> Decoded<(RegisterNode, Vec<AttemptReport>)> {
    let register = RegisterNode {
        name: decode::name("name", &hello.name)?,
        inventory: Arc::new(decode::required("inventory", hello.inventory)?),
        previous: previous(hello.previous_node, hello.previous_incarnation)?,
    };
    Ok((register, decode::list("observed", hello.observed)?))
}

/// The message that [`hello`] reads, of an agent that was in no cluster yet.
pub fn to_hello(register: &RegisterNode, observed: &[AttemptReport]) -> agent::Hello {
    let (node, incarnation) = register.previous.unzip();
    agent::Hello {
        name: register.name.to_string(),
        inventory: Some(register.inventory.as_ref().into()),
        previous_node: node.map(|node| node.0),
        previous_incarnation: incarnation.map(|incarnation| incarnation.0),
        observed: observed.iter().map(Into::into).collect(),
        ..agent::Hello::default()
    }
}

/// How long an agent's attempts may make no progress.
pub fn stuck_limits(limits: agent::StuckLimits) -> StuckLimits {
    let agent::StuckLimits { fetching_ms, starting_ms, storing_ms, stopping_ms } = limits;
    StuckLimits { fetching_ms, starting_ms, storing_ms, stopping_ms, ..StuckLimits::STANDARD }
}

/// The reverse of [`stuck_limits`]; accepting is not the agent's to watch.
pub fn to_stuck_limits(limits: &StuckLimits) -> agent::StuckLimits {
    let StuckLimits { fetching_ms, starting_ms, storing_ms, stopping_ms, accepting_ms: _ } = *limits;
    agent::StuckLimits { fetching_ms, starting_ms, storing_ms, stopping_ms }
}

/// What a client would submit, and the blobs that it would upload before.
///
/// # Errors
/// As [`submission`], or when a digest breaks the contract.
pub fn dry_run(request: api::DryRunRequest) -> Decoded<(api::SubmitRequest, BTreeSet<Digest>)> {
    decode::within("brought", BROUGHT, request.brought.len())?;
    let brought: Vec<Digest> = decode::list("brought", request.brought)?;
    let submit = request.submit.ok_or(Problem::Missing).under("submit")?;
    Ok((submit, brought.into_iter().collect()))
}

/// Most blobs that a dry run says it would bring.
const BROUGHT: usize = 100_000;
