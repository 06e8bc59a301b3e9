//! Accounts of the ledger.

use std::sync::Arc;

use flowyard_model as model;
use flowyard_model::{AccountKey, Record, TimeMs};

use super::by_text;
use super::resources::{by_model, of_models};
use crate::decode::{self, DecodeError, Decoded, Problem, Under};
use crate::peer;

pub(super) fn from_account(key: &AccountKey, account: &model::Account) -> peer::Account {
    peer::Account {
        queue: key.queue.to_string(),
        owner: key.owner.clone(),
        held: Some((&account.held).into()),
        active: account.active,
        at_ms: account.at.0,
        decayed: Some((&account.decayed).into()),
        current: Some((&account.current).into()),
        hours: account.hours.iter().map(Into::into).collect(),
        days: account.days.iter().map(Into::into).collect(),
    }
}

pub(super) fn to_account(account: peer::Account) -> Decoded<Record> {
    let queue = account.queue.parse().map_err(Problem::QueuePath).under("queue")?;
    let key = AccountKey { queue, owner: account.owner };
    let account = model::Account {
        held: decode::required("held", account.held)?,
        active: account.active,
        at: TimeMs(account.at_ms),
        decayed: decode::required("decayed", account.decayed)?,
        current: decode::required("current", account.current)?,
        hours: Arc::new(buckets("hours", account.hours)?),
        days: Arc::new(buckets("days", account.days)?),
    };
    Ok(Record::Account(key, Arc::new(account)))
}

fn buckets(field: &str, buckets: Vec<peer::UsageBucket>) -> Decoded<Vec<model::UsageBucket>> {
    let starts = buckets.iter().map(|bucket| bucket.start_ms);
    if !starts.is_sorted_by(|one, next| one < next) {
        return Err(Problem::Contradiction("spans of time ascend")).under(field);
    }
    decode::list(field, buckets)
}

impl From<&model::UsageBucket> for peer::UsageBucket {
    fn from(bucket: &model::UsageBucket) -> Self {
        Self { start_ms: bucket.start.0, used: Some((&bucket.used).into()) }
    }
}

impl TryFrom<peer::UsageBucket> for model::UsageBucket {
    type Error = DecodeError;

    fn try_from(bucket: peer::UsageBucket) -> Decoded<Self> {
        Ok(Self { start: TimeMs(bucket.start_ms), used: decode::required("used", bucket.used)? })
    }
}

impl From<&model::Held> for peer::Held {
    fn from(held: &model::Held) -> Self {
        Self {
            cpu_milli: held.cpu_milli,
            memory_bytes: held.memory_bytes,
            disk_bytes: held.disk_bytes,
            gpu_milli: of_models(&held.gpu_milli, |milli| *milli),
            tokens: by_text(&held.tokens, |count| *count),
        }
    }
}

impl TryFrom<peer::Held> for model::Held {
    type Error = DecodeError;

    fn try_from(held: peer::Held) -> Decoded<Self> {
        let none = |amounts: &std::collections::BTreeMap<String, u64>| amounts.values().any(|amount| *amount == 0);
        if none(&held.gpu_milli) || none(&held.tokens) {
            return Err(Problem::Contradiction("what is not held has no key").into());
        }
        Ok(Self {
            cpu_milli: held.cpu_milli,
            memory_bytes: held.memory_bytes,
            disk_bytes: held.disk_bytes,
            gpu_milli: by_model("gpu_milli", held.gpu_milli)?,
            tokens: decode::named("tokens", held.tokens)?,
        })
    }
}

impl From<&model::Usage> for peer::Usage {
    fn from(usage: &model::Usage) -> Self {
        let some = |number: u128| (number > 0).then(|| wide(number));
        Self {
            cpu_milli_ms: some(usage.cpu_milli_ms),
            memory_byte_ms: some(usage.memory_byte_ms),
            disk_byte_ms: some(usage.disk_byte_ms),
            gpu_milli_ms: of_models(&usage.gpu_milli_ms, |used| wide(*used)),
            token_ms: by_text(&usage.token_ms, |used| wide(*used)),
        }
    }
}

impl TryFrom<peer::Usage> for model::Usage {
    type Error = DecodeError;

    fn try_from(usage: peer::Usage) -> Decoded<Self> {
        let some = |field, number: Option<peer::Wide>| -> Decoded<u128> {
            number.map(number_of).transpose().under(field).map(Option::unwrap_or_default)
        };
        let gpus = by_model("gpu_milli_ms", usage.gpu_milli_ms)?.into_iter();
        let tokens = usage.token_ms.into_iter();
        Ok(Self {
            cpu_milli_ms: some("cpu_milli_ms", usage.cpu_milli_ms)?,
            memory_byte_ms: some("memory_byte_ms", usage.memory_byte_ms)?,
            disk_byte_ms: some("disk_byte_ms", usage.disk_byte_ms)?,
            gpu_milli_ms: gpus
                .map(|(class, used)| Ok((class, number_of(used).under("gpu_milli_ms")?)))
                .collect::<Decoded<_>>()?,
            token_ms: tokens
                .map(|(name, used)| Ok((decode::name("token_ms", &name)?, number_of(used).under("token_ms")?)))
                .collect::<Decoded<_>>()?,
        })
    }
}

fn wide(number: u128) -> peer::Wide {
    peer::Wide { low: number as u64, high: (number >> 64) as u64 }
}

fn number_of(wide: peer::Wide) -> Decoded<u128> {
    let number = u128::from(wide.high) << 64 | u128::from(wide.low);
    if number == 0 { Err(Problem::Missing.into()) } else { Ok(number) }
}
