//! `gang` and `prefer`: how many members a task has, and where they go.

use flowyard_model::{Name, Near, Preference, Replace, limits};

use super::constraints::constraint;
use super::fields;
use super::read_step::TIME;
use super::spec::FlowStep;
use super::walk::{At, Walk};
use crate::units;

/// `{ size = 8, near = "rack" }`
pub(super) fn read_gang(walk: &mut Walk<'_>, at: &At<'_, '_>, step: &mut FlowStep) {
    let Some(entries) = walk.table(at, "a table such as { size = 8 }") else { return };
    let (later, entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| fields::LATER_OF_GANG.contains(&entry.key));
    for entry in &later {
        let message = format!("a gang cannot have `{}` yet", entry.key);
        let help = "write gang = { size = 8 }, or gang = { size = 8, min_size = 4 } for one that starts with what there is room for";
        walk.problems.at_span(entry.key_span.clone(), &entry.at.path, message).help(help);
    }
    let mut sized = false;
    for entry in walk.fields(entries, fields::GANG, "in `gang`") {
        match entry.key {
            "size" => {
                sized = true;
                step.gang_size = walk.integer(&entry.at, 1, i64::from(limits::GANG));
            }
            "min_size" => step.min_gang_size = walk.integer(&entry.at, 1, i64::from(limits::GANG)),
            "replace" => step.replace = read_replace(walk, &entry.at),
            _ => step.near = read_near(walk, &entry.at),
        }
    }
    if !sized {
        walk.problem(at, "`gang` does not say its `size`").help("write gang = { size = 8 }");
    }
    if step.near.is_some() && step.gang_size == Some(1) {
        walk.problem(at, "a gang of one member is always near to itself")
            .help("leave `near` out, or let `size` be 2 or more");
    }
    if let (Some(least), Some(size)) = (step.min_gang_size, step.gang_size)
        && (least > size || size == 1)
    {
        walk.problem(at, "`min_size` is larger than `size`, or the gang has one member")
            .help("`size` is the most that it starts with, `min_size` the least: gang = { size = 8, min_size = 4 }");
    }
    if step.replace.is_some() && step.gang_size == Some(1) {
        walk.problem(at, "a gang of one member has no others that could go on without it")
            .help("leave `replace` out, or let `size` be 2 or more");
    }
}

/// `true` or `{ within = "10m" }`
fn read_replace(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Replace> {
    let usual = Replace { within_ms: Replace::WITHIN_MS };
    if at.as_table().is_none() {
        return walk.boolean(at)?.then_some(usual);
    }
    let entries = walk.table(at, "true, or a table such as { within = \"10m\" }")?;
    let mut replace = usual;
    for entry in walk.fields(entries, fields::REPLACE, "in `replace`") {
        replace.within_ms = walk.quantity(&entry.at, TIME, units::positive_duration_ms)?;
    }
    Some(replace)
}

/// `"rack"` or `{ level = "rack", need = true }`
fn read_near(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Near> {
    const EXPECTED: &str = "a level such as \"rack\", or a table such as { level = \"rack\", need = true }";
    if at.as_table().is_none() {
        let level = walk.parsed(at, EXPECTED, str::parse::<Name>)?;
        return Some(Near { level, need: false });
    }
    let entries = walk.table(at, EXPECTED)?;
    let (mut level, mut need, mut named) = (None, Some(false), false);
    for entry in walk.fields(entries, fields::NEAR, "in `near`") {
        match entry.key {
            "level" => {
                named = true;
                level = walk.parsed(&entry.at, "a level such as \"rack\"", str::parse::<Name>);
            }
            _ => need = walk.boolean(&entry.at),
        }
    }
    if !named {
        walk.problem(at, "`near` does not say its `level`").help("write near = { level = \"rack\", need = true }");
    }
    Some(Near { level: level?, need: need? })
}

/// `[{ label = "zone == a", weight = 50 }]`
pub(super) fn read_prefer(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Vec<Preference>> {
    let items = walk.list(at, "a list such as [{ label = \"zone == a\", weight = 50 }]")?;
    Some(items.iter().filter_map(|item| read_preference(walk, item)).collect())
}

fn read_preference(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Preference> {
    let entries = walk.table(at, "a table such as { label = \"zone == a\", weight = 50 }")?;
    let (mut label, mut weight, mut named) = (None, Some(1), false);
    for entry in walk.fields(entries, fields::PREFERENCE, "in `prefer`") {
        match entry.key {
            "label" => {
                named = true;
                label = walk.parsed(&entry.at, "a condition such as \"zone == a\"", constraint);
            }
            _ => weight = walk.integer(&entry.at, 1, i64::from(limits::PREFERENCE)),
        }
    }
    if !named {
        walk.problem(at, "a preference does not say its `label`").help("write { label = \"zone == a\", weight = 50 }");
    }
    Some(Preference { constraint: label?, weight: weight? })
}
