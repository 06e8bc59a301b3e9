//! The policy, and where the members of a step go in relation to each other.

use flowyard_model as model;

use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded, Under};

impl From<&model::Policy> for wire::Policy {
    fn from(policy: &model::Policy) -> Self {
        Self { topology: policy.topology.iter().map(ToString::to_string).collect() }
    }
}

impl TryFrom<wire::Policy> for model::Policy {
    type Error = DecodeError;

    fn try_from(policy: wire::Policy) -> Decoded<Self> {
        let levels = policy.topology.iter().enumerate();
        let levels = levels.map(|(at, level)| decode::name("", level).under_index("topology", at));
        Ok(Self { topology: levels.collect::<Decoded<_>>()? })
    }
}

impl From<&model::Preference> for wire::Preference {
    fn from(preference: &model::Preference) -> Self {
        Self { constraint: Some((&preference.constraint).into()), weight: preference.weight }
    }
}

impl TryFrom<wire::Preference> for model::Preference {
    type Error = DecodeError;

    fn try_from(preference: wire::Preference) -> Decoded<Self> {
        let constraint = decode::required("constraint", preference.constraint)?;
        Ok(Self { constraint, weight: decode::positive("weight", preference.weight)? })
    }
}

/// What a step says of it; nothing where it says nothing, as in a cluster of 0.1.0.
pub(super) fn from_placing(placing: &model::Placing) -> Option<wire::Placing> {
    let near = |near: &model::Near| wire::Near { level: near.level.to_string(), need: near.need };
    (!placing.is_plain()).then(|| wire::Placing {
        near: placing.near.as_ref().map(near),
        prefer: placing.prefer.iter().map(Into::into).collect(),
    })
}

/// The reverse of [`from_placing`].
pub(super) fn to_placing(placing: Option<wire::Placing>) -> Decoded<model::Placing> {
    let near = |near: wire::Near| {
        let level = decode::name("level", &near.level).under("near")?;
        Decoded::Ok(model::Near { level, need: near.need })
    };
    let placing = placing.unwrap_or_default();
    let prefer = decode::list("prefer", placing.prefer)?;
    Ok(model::Placing { near: placing.near.map(near).transpose()?, prefer })
}
