//! The field `retry`: a number of tries, or a table with waits and exceptions.

use std::collections::BTreeSet;

use flowyard_model::{Backoff, Growth, Reason, Retry, RetryOn, RetryRule, limits};

use super::fields;
use super::read_step::TIME;
use super::spec::fallback;
use super::walk::{At, Walk};
use crate::flags;
use crate::units;

const WAIT: &str = "a time with a unit, such as \"10s\", or a table such as { initial = \"1s\", max = \"5m\" }";
const REASONS: &str = "a reason such as \"oom\", or a list of them";
const CODES: &str = "an exit code such as 42, or a list of them";

/// Reads `retry`.
pub(super) fn read_retry(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Retry> {
    if at.as_table().is_none() && at.as_integer().is_none() {
        walk.wrong(at, "a number of tries, or a table such as { times = 2, backoff = \"5s\" }");
        return None;
    }
    let mut retry = flags::retry_all(0);
    if at.as_integer().is_some() {
        retry.times = walk.integer(at, 0, i64::from(limits::RETRIES))?;
        return Some(retry);
    }
    let entries = walk.table(at, "a table")?;
    let mut times = None;
    for entry in walk.fields(entries, fields::RETRY, "in `retry`") {
        match entry.key {
            "times" => times = Some(walk.integer(&entry.at, 0, i64::from(limits::RETRIES))?),
            "backoff" => {
                Backoff { first_ms: retry.backoff_ms, growth: retry.growth } = read_backoff(walk, &entry.at)?;
            }
            "rules" => retry.rules = read_rules(walk, &entry.at)?,
            _ => retry.on = read_retry_on(walk, &entry.at)?,
        }
    }
    let Some(times) = times else {
        walk.problem(at, "`retry` does not say how many times").help("add times = 2");
        return None;
    };
    Some(Retry { times, ..retry })
}

fn read_retry_on(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<BTreeSet<RetryOn>> {
    let items = walk.list(at, "a list such as [\"failed\", \"oom\"]")?;
    if items.is_empty() {
        walk.problem(at, "`on` names no end").help("leave it out for all: [\"failed\", \"oom\", \"timeout\"]");
    }
    Some(items.iter().filter_map(|item| walk.choice(item, &flags::RETRY_ON)).collect())
}

/// A first wait that doubles, or a table that says how it grows.
fn read_backoff(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Backoff> {
    if at.as_table().is_none() {
        if at.is_list() || at.as_boolean().is_some() {
            walk.wrong(at, WAIT);
            return None;
        }
        let first_ms = walk.quantity(at, TIME, units::duration_ms)?;
        return Some(Backoff { first_ms, growth: Growth::DOUBLING });
    }
    let (mut initial_ms, mut growth) = (fallback::BACKOFF_MS, Growth::DOUBLING);
    let entries = walk.table(at, WAIT)?;
    for entry in walk.fields(entries, fields::BACKOFF, "in `backoff`") {
        match entry.key {
            "initial" => initial_ms = walk.quantity(&entry.at, TIME, units::duration_ms)?,
            "factor" => growth.factor = walk.integer(&entry.at, 1, i64::from(limits::RETRY_FACTOR))?,
            "max" => growth.max_ms = Some(walk.quantity(&entry.at, TIME, units::duration_ms)?),
            _ => growth.jitter = walk.boolean(&entry.at)?,
        }
    }
    if growth.max_ms.is_some_and(|max| max < initial_ms) {
        let help = "let `max` be at least `initial`, which is \"1s\" if not given";
        walk.problem(at, "`max` is shorter than the first wait").help(help);
        return None;
    }
    Some(Backoff { first_ms: initial_ms, growth })
}

fn read_rules(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Vec<RetryRule>> {
    let items = walk.list(at, "a list of rules such as [{ reason = \"oom\", times = 1 }]")?;
    if items.len() > limits::RETRY_RULES {
        walk.problem(at, format!("at most {} rules, these are {}", limits::RETRY_RULES, items.len()));
        return None;
    }
    Some(items.iter().filter_map(|item| read_rule(walk, item)).collect())
}

fn read_rule(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<RetryRule> {
    let entries = walk.table(at, "a table such as { reason = \"oom\", times = 1 }")?;
    let mut rule = RetryRule { reasons: BTreeSet::new(), exit_codes: BTreeSet::new(), times: None, backoff: None };
    for entry in walk.fields(entries, fields::RETRY_RULE, "in a rule of `retry`") {
        match entry.key {
            "reason" => rule.reasons = one_or_many(walk, &entry.at, REASONS, read_reason)?,
            "exit_code" => rule.exit_codes = one_or_many(walk, &entry.at, CODES, |walk, at| walk.integer(at, 1, 255))?,
            "times" => rule.times = Some(walk.integer(&entry.at, 0, i64::from(limits::RETRIES))?),
            _ => rule.backoff = Some(read_backoff(walk, &entry.at)?),
        }
    }
    if rule.reasons.is_empty() && rule.exit_codes.is_empty() {
        let help = "add reason = \"oom\" or exit_code = 42; what holds for all ends stands in `retry` itself";
        walk.problem(at, "the rule does not say for which ends it holds").help(help);
        return None;
    }
    Some(rule)
}

fn read_reason(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Reason> {
    if let Some(text) = at.as_text().filter(|text| fields::UNBLAMED_REASONS.contains(text)) {
        let message = format!("an end with reason \"{text}\" is never the user's fault, so no rule is asked about it");
        walk.problem(at, message).help("leave it out: such attempts are tried again anyway and spend no retry");
        return None;
    }
    walk.choice(at, &fields::REASONS)
}

/// A value, or a list of them that is not empty.
fn one_or_many<T: Ord>(
    walk: &mut Walk<'_>,
    at: &At<'_, '_>,
    expected: &str,
    read: impl Fn(&mut Walk<'_>, &At<'_, '_>) -> Option<T>,
) -> Option<BTreeSet<T>> {
    if !at.is_list() {
        return read(walk, at).map(|one| BTreeSet::from([one]));
    }
    let items = walk.list(at, expected)?;
    if items.is_empty() {
        walk.problem(at, "the list is empty").help(format!("write {expected}"));
        return None;
    }
    items.iter().map(|item| read(walk, item)).collect()
}

/// The retry rule of a step that has none.
pub(super) fn no_retry() -> Retry {
    Retry::plain(0, fallback::BACKOFF_MS, [])
}
