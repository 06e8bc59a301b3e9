//! `gang` and `prefer`: how many members a task has, and where they go.

use flowyard_model::{Name, Near, Preference, limits};

use super::constraints::constraint;
use super::fields;
use super::spec::FlowStep;
use super::walk::{At, Walk};

/// `{ size = 8, near = "rack" }`
pub(super) fn read_gang(walk: &mut Walk<'_>, at: &At<'_, '_>, step: &mut FlowStep) {
    let Some(entries) = walk.table(at, "a table such as { size = 8 }") else { return };
    let (later, entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| fields::LATER_OF_GANG.contains(&entry.key));
    for entry in &later {
        let message = format!("a gang cannot have `{}` yet", entry.key);
        let help = "a gang has one size, starts as a whole, and is tried again as a whole: write gang = { size = 8 }";
        walk.problems.at_span(entry.key_span.clone(), &entry.at.path, message).help(help);
    }
    let mut sized = false;
    for entry in walk.fields(entries, fields::GANG, "in `gang`") {
        match entry.key {
            "size" => {
                sized = true;
                step.gang_size = walk.integer(&entry.at, 1, i64::from(limits::GANG));
            }
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
