//! The policy, and where the members of a step go in relation to each other.

use flowyard_model as model;

use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded, Under};

impl From<&model::Policy> for wire::Policy {
    fn from(policy: &model::Policy) -> Self {
        let model::Throttle { per_job, per_node } = policy.throttle;
        let throttle = (!policy.throttle.is_none()).then_some(wire::Throttle { per_job, per_node });
        let tokens = policy.tokens.iter().map(|(name, count)| (name.to_string(), *count)).collect();
        Self { topology: policy.topology.iter().map(ToString::to_string).collect(), throttle, tokens }
    }
}

impl TryFrom<wire::Policy> for model::Policy {
    type Error = DecodeError;

    fn try_from(policy: wire::Policy) -> Decoded<Self> {
        let levels = policy.topology.iter().enumerate();
        let levels = levels.map(|(at, level)| decode::name("", level).under_index("topology", at));
        let throttle = policy.throttle.unwrap_or_default();
        let throttle = model::Throttle { per_job: throttle.per_job, per_node: throttle.per_node };
        let tokens = decode::named("tokens", policy.tokens)?;
        Ok(Self { topology: levels.collect::<Decoded<_>>()?, throttle, tokens })
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
    let spread = |spread: &model::Spread| wire::Spread { over: spread.over.to_string(), at_most: spread.at_most };
    (!placing.is_plain()).then(|| wire::Placing {
        near: placing.near.as_ref().map(near),
        prefer: placing.prefer.iter().map(Into::into).collect(),
        min_size: placing.min_size,
        replace: placing.replace.map(|replace| wire::Replace { within_ms: replace.within_ms }),
        spread: placing.spread.as_ref().map(spread),
        unique_host: placing.unique_host,
        apart: placing.apart.iter().cloned().collect(),
        pack: placing.pack,
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
    let spread = |spread: wire::Spread| {
        let over = decode::name("over", &spread.over).under("spread")?;
        Decoded::Ok(model::Spread { over, at_most: spread.at_most })
    };
    Ok(model::Placing {
        near: placing.near.map(near).transpose()?,
        prefer,
        min_size: placing.min_size,
        replace: placing.replace.map(|replace| model::Replace { within_ms: replace.within_ms }),
        spread: placing.spread.map(spread).transpose()?,
        unique_host: placing.unique_host,
        apart: decode::set("apart", placing.apart.into_iter().map(Ok))?,
        pack: placing.pack,
    })
}
