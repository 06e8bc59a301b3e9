//! When a failed attempt is tried again, and how it is asked to stop.

use flowyard_model as model;
use flowyard_model::limits;

use super::{closed, number};
use crate::api as wire;
use crate::decode::{self, DecodeError, Decoded, Problem, Under};

closed! {
    RetryOn in wire { Failed, Oom, Timeout }
}

impl From<&model::Retry> for wire::Retry {
    fn from(retry: &model::Retry) -> Self {
        let on = retry.on.iter().map(|on| number::<_, wire::RetryOn>(*on)).collect();
        // What an older release writes has none, and means the same.
        let growth = (retry.growth != model::Growth::DOUBLING).then(|| retry.growth.into());
        let rules = retry.rules.iter().map(Into::into).collect();
        Self { times: retry.times, backoff_ms: retry.backoff_ms, on, growth, rules }
    }
}

impl TryFrom<wire::Retry> for model::Retry {
    type Error = DecodeError;

    fn try_from(retry: wire::Retry) -> Decoded<Self> {
        decode::at_most("rules", limits::RETRY_RULES, retry.rules.len())?;
        Ok(Self {
            times: retry.times,
            backoff_ms: retry.backoff_ms,
            growth: retry.growth.map_or(model::Growth::DOUBLING, Into::into),
            on: decode::set("on", retry.on.into_iter().map(|number| decode::closed("", number)))?,
            rules: decode::list("rules", retry.rules)?,
        })
    }
}

impl From<model::Growth> for wire::Growth {
    fn from(growth: model::Growth) -> Self {
        Self { factor: growth.factor, max_ms: growth.max_ms, jitter: growth.jitter }
    }
}

impl From<wire::Growth> for model::Growth {
    fn from(growth: wire::Growth) -> Self {
        Self { factor: growth.factor, max_ms: growth.max_ms, jitter: growth.jitter }
    }
}

impl From<&model::RetryRule> for wire::RetryRule {
    fn from(rule: &model::RetryRule) -> Self {
        Self {
            reasons: rule.reasons.iter().map(|reason| number::<_, wire::Reason>(*reason)).collect(),
            exit_codes: rule.exit_codes.iter().copied().collect(),
            times: rule.times,
            backoff_ms: rule.backoff.map(|backoff| backoff.first_ms),
            growth: rule.backoff.map(|backoff| backoff.growth.into()),
        }
    }
}

impl TryFrom<wire::RetryRule> for model::RetryRule {
    type Error = DecodeError;

    fn try_from(rule: wire::RetryRule) -> Decoded<Self> {
        decode::at_most("exit_codes", limits::RETRY_CODES, rule.exit_codes.len())?;
        let backoff = match (rule.backoff_ms, rule.growth) {
            (None, None) => None,
            (Some(ms), Some(growth)) => Some(model::Backoff { first_ms: ms, growth: growth.into() }),
            _ => return Err(Problem::Contradiction("a wait and its growth come together")).under("backoff_ms"),
        };
        Ok(Self {
            reasons: decode::set("reasons", rule.reasons.into_iter().map(|number| decode::closed("", number)))?,
            exit_codes: decode::set("exit_codes", rule.exit_codes.into_iter().map(Ok))?,
            times: rule.times,
            backoff,
        })
    }
}

impl From<model::StopSignal> for wire::StopSignal {
    fn from(signal: model::StopSignal) -> Self {
        match signal {
            model::StopSignal::Term => Self::Unspecified,
            model::StopSignal::Int => Self::Int,
            model::StopSignal::Hup => Self::Hup,
            model::StopSignal::Quit => Self::Quit,
            model::StopSignal::Usr1 => Self::Usr1,
            model::StopSignal::Usr2 => Self::Usr2,
        }
    }
}

/// The signal of a step; what an older release writes has none, and means SIGTERM.
pub(super) fn stop_signal(field: &str, number: i32) -> Decoded<model::StopSignal> {
    Ok(match wire::StopSignal::try_from(number).map_err(|_| Problem::UnknownValue { number }).under(field)? {
        wire::StopSignal::Unspecified => model::StopSignal::Term,
        wire::StopSignal::Int => model::StopSignal::Int,
        wire::StopSignal::Hup => model::StopSignal::Hup,
        wire::StopSignal::Quit => model::StopSignal::Quit,
        wire::StopSignal::Usr1 => model::StopSignal::Usr1,
        wire::StopSignal::Usr2 => model::StopSignal::Usr2,
    })
}
