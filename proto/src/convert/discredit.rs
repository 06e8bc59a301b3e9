//! What is held against nodes.

use flowyard_model as model;
use flowyard_model::{TimeMs, limits};

use super::{closed, number};
use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded};
use crate::peer;

closed! {
    Standing in wire { Trusted, Avoided, Shunned }
}

pub(super) fn from_discredit(discredit: &model::Discredit) -> peer::Discredit {
    peer::Discredit {
        points_milli: discredit.points_milli,
        at_ms: discredit.at.0,
        standing: number::<_, wire::Standing>(discredit.standing),
        until_ms: discredit.until.0,
        recent: discredit.recent.iter().map(|charge| (*charge).into()).collect(),
    }
}

pub(super) fn to_discredit(wire: peer::Discredit) -> Decoded<model::Discredit> {
    decode::at_most("recent", limits::CHARGES, wire.recent.len())?;
    Ok(model::Discredit {
        points_milli: wire.points_milli,
        at: TimeMs(wire.at_ms),
        standing: decode::closed("standing", wire.standing)?,
        until: TimeMs(wire.until_ms),
        recent: decode::list("recent", wire.recent)?,
    })
}

impl From<model::Charge> for peer::Charge {
    fn from(charge: model::Charge) -> Self {
        Self {
            at_ms: charge.at.0,
            reason: number::<_, wire::Reason>(charge.reason),
            blame: number::<_, wire::Blame>(charge.blame),
            member: charge.member.map(Into::into),
        }
    }
}

impl TryFrom<peer::Charge> for model::Charge {
    type Error = DecodeError;

    fn try_from(wire: peer::Charge) -> Decoded<Self> {
        Ok(Self {
            at: TimeMs(wire.at_ms),
            reason: decode::closed("reason", wire.reason)?,
            blame: decode::closed("blame", wire.blame)?,
            member: wire.member.map(Into::into),
        })
    }
}

/// What is held against a node as it is shown at a time, with the names of attempts.
pub(crate) fn shown_discredit(
    discredit: &model::Discredit,
    points_milli: u64,
    attempt: impl Fn(model::MemberKey) -> String,
) -> wire::Discredit {
    let charge = |charge: &model::Charge| wire::Charge {
        at_ms: charge.at.0,
        reason: number::<_, wire::Reason>(charge.reason),
        blame: number::<_, wire::Blame>(charge.blame),
        attempt: charge.member.map(&attempt).unwrap_or_default(),
    };
    wire::Discredit {
        points_milli,
        standing: number::<_, wire::Standing>(discredit.standing),
        until_ms: discredit.until.0,
        recent: discredit.recent.iter().map(charge).collect(),
    }
}
