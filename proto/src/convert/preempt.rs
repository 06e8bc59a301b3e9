//! Evictions, and what is promised around them.

use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{AttemptNumber, JobId, Record, StepIndex, TaskIndex, TimeMs};

use super::{closed, number, retry};
use crate::decode::{self, DecodeError, Decoded};
use crate::{api as wire, peer};

closed! {
    EvictionKind in wire { Priority, Reclaim }
}

impl From<model::TaskKey> for wire::TaskKey {
    fn from(key: model::TaskKey) -> Self {
        Self { job: key.job.0, step: key.step.0, task: key.task.0 }
    }
}

impl From<wire::TaskKey> for model::TaskKey {
    fn from(key: wire::TaskKey) -> Self {
        Self { job: JobId(key.job), step: StepIndex(key.step), task: TaskIndex(key.task) }
    }
}

impl From<model::Contract> for wire::Contract {
    fn from(contract: model::Contract) -> Self {
        let model::Contract { min_run_ms, notice_ms, kill_within_ms } = contract;
        Self { min_run_ms, notice_ms, kill_within_ms }
    }
}

impl From<wire::Contract> for model::Contract {
    fn from(contract: wire::Contract) -> Self {
        let wire::Contract { min_run_ms, notice_ms, kill_within_ms } = contract;
        Self { min_run_ms, notice_ms, kill_within_ms }
    }
}

impl From<model::Notice> for wire::Notice {
    fn from(notice: model::Notice) -> Self {
        Self { signal: wire::StopSignal::from(notice.signal).into(), ms: notice.ms }
    }
}

impl TryFrom<wire::Notice> for model::Notice {
    type Error = DecodeError;

    fn try_from(notice: wire::Notice) -> Decoded<Self> {
        Ok(Self { signal: retry::stop_signal("signal", notice.signal)?, ms: decode::positive("ms", notice.ms)? })
    }
}

impl From<model::Preempted> for wire::Preempted {
    fn from(preempted: model::Preempted) -> Self {
        let kind = number::<_, wire::EvictionKind>(preempted.kind);
        Self { kind, by: Some(preempted.by.into()), at_ms: preempted.at.0 }
    }
}

impl TryFrom<wire::Preempted> for model::Preempted {
    type Error = DecodeError;

    fn try_from(preempted: wire::Preempted) -> Decoded<Self> {
        let by = decode::required("by", preempted.by)?;
        Ok(Self { kind: decode::closed("kind", preempted.kind)?, by, at: TimeMs(preempted.at_ms) })
    }
}

impl From<model::Eviction> for peer::Eviction {
    fn from(eviction: model::Eviction) -> Self {
        let kind = number::<_, wire::EvictionKind>(eviction.kind);
        Self { task: Some(eviction.task.into()), attempt: eviction.attempt.0, kind }
    }
}

impl TryFrom<peer::Eviction> for model::Eviction {
    type Error = DecodeError;

    fn try_from(eviction: peer::Eviction) -> Decoded<Self> {
        Ok(Self {
            task: decode::required("task", eviction.task)?,
            attempt: AttemptNumber(decode::positive("attempt", eviction.attempt)?),
            kind: decode::closed("kind", eviction.kind)?,
        })
    }
}

impl From<model::Awaited> for peer::Awaited {
    fn from(awaited: model::Awaited) -> Self {
        Self { task: Some(awaited.task.into()), attempt: awaited.attempt.0 }
    }
}

impl TryFrom<peer::Awaited> for model::Awaited {
    type Error = DecodeError;

    fn try_from(awaited: peer::Awaited) -> Decoded<Self> {
        Ok(Self {
            task: decode::required("task", awaited.task)?,
            attempt: AttemptNumber(decode::positive("attempt", awaited.attempt)?),
        })
    }
}

impl From<&model::ClaimWish> for peer::ClaimWish {
    fn from(wish: &model::ClaimWish) -> Self {
        Self {
            task: Some(wish.task.into()),
            attempt: wish.attempt.0,
            members: wish.members.iter().map(Into::into).collect(),
            evictions: wish.evictions.iter().map(|eviction| (*eviction).into()).collect(),
            awaits: wish.awaits.iter().map(|awaited| (*awaited).into()).collect(),
        }
    }
}

impl TryFrom<peer::ClaimWish> for model::ClaimWish {
    type Error = DecodeError;

    fn try_from(wish: peer::ClaimWish) -> Decoded<Self> {
        Ok(Self {
            task: decode::required("task", wish.task)?,
            attempt: AttemptNumber(decode::positive("attempt", wish.attempt)?),
            members: wish.members.into_iter().map(Into::into).collect(),
            evictions: decode::list("evictions", wish.evictions)?,
            awaits: decode::list("awaits", wish.awaits)?,
        })
    }
}

pub(super) fn from_claim(task: model::TaskKey, claim: &model::Claim) -> peer::Claim {
    peer::Claim {
        task: Some(task.into()),
        attempt: claim.attempt.0,
        members: claim.members.iter().map(Into::into).collect(),
        evictions: claim.evictions.iter().map(|eviction| (*eviction).into()).collect(),
        made_at_ms: claim.made_at.0,
        until_ms: claim.until.0,
        awaits: claim.awaits.iter().map(|awaited| (*awaited).into()).collect(),
        starts_at_ms: claim.starts_at.map(|at| at.0),
    }
}

pub(super) fn to_claim(claim: peer::Claim) -> Decoded<Record> {
    let task = decode::required("task", claim.task)?;
    let claim = model::Claim {
        attempt: AttemptNumber(decode::positive("attempt", claim.attempt)?),
        members: claim.members.into_iter().map(Into::into).collect(),
        evictions: decode::list("evictions", claim.evictions)?,
        made_at: TimeMs(claim.made_at_ms),
        until: TimeMs(claim.until_ms),
        awaits: decode::list("awaits", claim.awaits)?,
        starts_at: claim.starts_at_ms.map(TimeMs),
    };
    Ok(Record::Claim(task, Arc::new(claim)))
}
