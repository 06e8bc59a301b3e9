//! `spread`, `unique_host`, `apart` and `pack`: what may be beside tasks of a step.

use std::collections::BTreeSet;

use flowyard_model::{Name, Spread, limits};

use super::fields;
use super::read::is_tag;
use super::spec::FlowStep;
use super::walk::{At, KeyAt, Walk};

/// Reads one of these keys; whether it is one.
pub(super) fn read_beside(walk: &mut Walk<'_>, entry: &KeyAt<'_, '_>, step: &mut FlowStep) -> bool {
    let at = &entry.at;
    match entry.key {
        "spread" => step.spread = read_spread(walk, at),
        "unique_host" => step.unique_host = walk.boolean(at),
        "apart" => step.apart = read_apart(walk, at),
        "pack" => step.pack = walk.boolean(at),
        _ => return false,
    }
    true
}

/// `"rack"` or `{ over = "rack", at_most = 2 }`
fn read_spread(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Spread> {
    const EXPECTED: &str = "a label such as \"rack\", \"host\", or a table such as { over = \"rack\", at_most = 2 }";
    if at.as_table().is_none() {
        return Some(Spread { over: walk.parsed(at, EXPECTED, str::parse::<Name>)?, at_most: None });
    }
    let entries = walk.table(at, EXPECTED)?;
    let (mut over, mut at_most, mut named) = (None, None, false);
    for entry in walk.fields(entries, fields::SPREAD, "in `spread`") {
        match entry.key {
            "over" => {
                named = true;
                over = walk.parsed(&entry.at, "a label such as \"rack\", or \"host\"", str::parse::<Name>);
            }
            _ => at_most = Some(walk.integer(&entry.at, 1, i64::from(u32::MAX))?),
        }
    }
    if !named {
        walk.problem(at, "`spread` does not say `over` what").help("write spread = { over = \"rack\", at_most = 2 }");
    }
    Some(Spread { over: over?, at_most })
}

/// `["database"]`
fn read_apart(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<BTreeSet<String>> {
    let tags = walk.texts(at, "a list of tags of jobs, such as [\"database\"]");
    if tags.len() > limits::APART {
        walk.problem(at, format!("a step keeps apart from at most {} tags", limits::APART));
    }
    if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
        let shown = crate::shown::shown(tag);
        walk.problem(at, format!("\"{shown}\" cannot be a tag: 1 to 256 bytes without control characters"));
    }
    Some(tags.into_iter().collect())
}
