//! Parts of records that commands, snapshots and the API have in common.

use flowyard_model as model;
use flowyard_model::{AttemptNumber, Epoch, JobId, Rank, StepIndex, TaskIndex, TaskKey, TaskOutcome, TimeMs};

use super::{by_text, closed};
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::{api as wire, peer};

closed! {
    Phase in wire { Placed, Accepted, Fetching, Running, Storing, Ended }
    Health in wire { Up, Suspect, Down }
}

/// In the log a node is open or it is not. What else a closed node can be is told only to people, by
/// [`view::node`](crate::view::node).
impl From<model::Scheduling> for wire::Scheduling {
    fn from(scheduling: model::Scheduling) -> Self {
        match scheduling {
            model::Scheduling::Open => Self::Open,
            model::Scheduling::Drained => Self::Drained,
        }
    }
}

impl decode::Closed for model::Scheduling {
    fn from_number(number: i32) -> Option<Self> {
        match wire::Scheduling::try_from(number).ok()? {
            wire::Scheduling::Open => Some(Self::Open),
            wire::Scheduling::Drained => Some(Self::Drained),
            wire::Scheduling::Unspecified | wire::Scheduling::Cordoned | wire::Scheduling::Draining => None,
        }
    }
}

impl From<model::MemberKey> for wire::MemberKey {
    fn from(key: model::MemberKey) -> Self {
        Self {
            job: key.task.job.0,
            step: key.task.step.0,
            task: key.task.task.0,
            attempt: key.attempt.0,
            rank: key.rank.0,
            epoch: key.epoch.0,
            replacement: key.replacement,
        }
    }
}

impl From<wire::MemberKey> for model::MemberKey {
    fn from(key: wire::MemberKey) -> Self {
        Self {
            task: TaskKey { job: JobId(key.job), step: StepIndex(key.step), task: TaskIndex(key.task) },
            attempt: AttemptNumber(key.attempt),
            rank: Rank(key.rank),
            epoch: Epoch(key.epoch),
            replacement: key.replacement,
        }
    }
}

impl From<model::PhaseTimes> for wire::PhaseTimes {
    fn from(times: model::PhaseTimes) -> Self {
        let ms = |time: Option<TimeMs>| time.map(|time| time.0);
        Self {
            accepted_ms: ms(times.accepted),
            fetching_ms: ms(times.fetching),
            running_ms: ms(times.running),
            storing_ms: ms(times.storing),
            ended_ms: ms(times.ended),
        }
    }
}

impl From<wire::PhaseTimes> for model::PhaseTimes {
    fn from(times: wire::PhaseTimes) -> Self {
        Self {
            accepted: times.accepted_ms.map(TimeMs),
            fetching: times.fetching_ms.map(TimeMs),
            running: times.running_ms.map(TimeMs),
            storing: times.storing_ms.map(TimeMs),
            ended: times.ended_ms.map(TimeMs),
        }
    }
}

impl From<model::Checkpoint> for wire::Checkpoint {
    fn from(checkpoint: model::Checkpoint) -> Self {
        Self { manifest: Some(checkpoint.manifest.into()), at_ms: checkpoint.at.0 }
    }
}

impl TryFrom<wire::Checkpoint> for model::Checkpoint {
    type Error = DecodeError;

    fn try_from(checkpoint: wire::Checkpoint) -> Decoded<Self> {
        Ok(Self { manifest: decode::required("manifest", checkpoint.manifest)?, at: TimeMs(checkpoint.at_ms) })
    }
}

impl From<model::TaskCounts> for wire::TaskCounts {
    fn from(counts: model::TaskCounts) -> Self {
        Self {
            blocked: counts.blocked,
            ready: counts.ready,
            waiting: counts.waiting,
            active: counts.active,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            skipped: counts.skipped,
        }
    }
}

impl From<wire::TaskCounts> for model::TaskCounts {
    fn from(counts: wire::TaskCounts) -> Self {
        Self {
            blocked: counts.blocked,
            ready: counts.ready,
            waiting: counts.waiting,
            active: counts.active,
            succeeded: counts.succeeded,
            failed: counts.failed,
            cancelled: counts.cancelled,
            skipped: counts.skipped,
        }
    }
}

/// A task's state is one number on the wire, with the time beside it when it waits for one.
impl From<model::TaskState> for wire::TaskState {
    fn from(state: model::TaskState) -> Self {
        match state {
            model::TaskState::Blocked => Self::Blocked,
            model::TaskState::Ready => Self::Ready,
            model::TaskState::Waiting(_) => Self::Waiting,
            model::TaskState::Active => Self::Active,
            model::TaskState::Done(TaskOutcome::Succeeded) => Self::Succeeded,
            model::TaskState::Done(TaskOutcome::Failed) => Self::Failed,
            model::TaskState::Done(TaskOutcome::Cancelled) => Self::Cancelled,
            model::TaskState::Done(TaskOutcome::Skipped) => Self::Skipped,
        }
    }
}

/// The time that goes beside a task's state.
pub(crate) fn waiting_until_ms(state: model::TaskState) -> Option<u64> {
    if let model::TaskState::Waiting(until) = state { Some(until.0) } else { None }
}

/// A task's state from its number and its time.
pub(crate) fn task_state(number: i32, waiting_until_ms: Option<u64>) -> Decoded<model::TaskState> {
    let unknown = || decode::problem("state", Problem::UnknownValue { number });
    let state = match wire::TaskState::try_from(number).map_err(|_| unknown())? {
        wire::TaskState::Unspecified => return Err(Problem::Missing).under("state"),
        wire::TaskState::Blocked => model::TaskState::Blocked,
        wire::TaskState::Ready => model::TaskState::Ready,
        wire::TaskState::Waiting => {
            let until = waiting_until_ms.ok_or(Problem::Missing).under("waiting_until_ms")?;
            return Ok(model::TaskState::Waiting(TimeMs(until)));
        }
        wire::TaskState::Active => model::TaskState::Active,
        wire::TaskState::Succeeded => model::TaskState::Done(TaskOutcome::Succeeded),
        wire::TaskState::Failed => model::TaskState::Done(TaskOutcome::Failed),
        wire::TaskState::Cancelled => model::TaskState::Done(TaskOutcome::Cancelled),
        wire::TaskState::Skipped => model::TaskState::Done(TaskOutcome::Skipped),
    };
    if waiting_until_ms.is_some() {
        let contradiction = Problem::Contradiction("only a waiting task waits for a time");
        return Err(contradiction).under("waiting_until_ms");
    }
    Ok(state)
}

impl From<&model::Used> for wire::Used {
    fn from(used: &model::Used) -> Self {
        Self {
            cpu_milli: used.cpu_milli,
            memory_bytes: used.memory_bytes,
            disk_bytes: used.disk_bytes,
            gpu_milli: used.gpu_milli.clone(),
            tokens: by_text(&used.tokens, |count| *count),
            members: used.members,
            declared: used.declared.iter().map(|it| (*it).into()).collect(),
        }
    }
}

impl TryFrom<wire::Used> for model::Used {
    type Error = DecodeError;

    fn try_from(used: wire::Used) -> Decoded<Self> {
        Ok(Self {
            cpu_milli: used.cpu_milli,
            memory_bytes: used.memory_bytes,
            disk_bytes: used.disk_bytes,
            gpu_milli: used.gpu_milli,
            tokens: decode::named("tokens", used.tokens)?,
            members: used.members,
            declared: used.declared.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<model::Declared> for wire::Declared {
    fn from(declared: model::Declared) -> Self {
        let model::Declared { share_milli, memory_bytes } = declared;
        Self { share_milli, memory_bytes }
    }
}

impl From<wire::Declared> for model::Declared {
    fn from(wire: wire::Declared) -> Self {
        let wire::Declared { share_milli, memory_bytes } = wire;
        Self { share_milli, memory_bytes }
    }
}

impl From<&model::Queue> for peer::Queue {
    fn from(queue: &model::Queue) -> Self {
        let named = |amounts: &model::QueueAmounts| (!amounts.is_empty()).then(|| amounts.into());
        Self {
            path: queue.path.to_string(),
            weight: queue.weight,
            max_active: queue.max_active,
            limit: named(&queue.limit),
            reserve: named(&queue.reserve),
            borrow: named(&queue.borrow),
            lend: named(&queue.lend),
            contract: queue.contract.map(Into::into),
            no_preempt: named(&queue.no_preempt),
        }
    }
}

impl TryFrom<peer::Queue> for model::Queue {
    type Error = DecodeError;

    fn try_from(queue: peer::Queue) -> Decoded<Self> {
        let amounts = |field, amounts: Option<wire::QueueAmounts>| -> Decoded<_> {
            amounts.map(model::QueueAmounts::try_from).transpose().under(field).map(Option::unwrap_or_default)
        };
        Ok(Self {
            path: queue.path.parse().map_err(Problem::QueuePath).under("path")?,
            weight: decode::positive("weight", queue.weight)?,
            max_active: queue.max_active,
            limit: amounts("limit", queue.limit)?,
            reserve: amounts("reserve", queue.reserve)?,
            borrow: amounts("borrow", queue.borrow)?,
            lend: amounts("lend", queue.lend)?,
            contract: queue.contract.map(Into::into),
            no_preempt: amounts("no_preempt", queue.no_preempt)?,
        })
    }
}
