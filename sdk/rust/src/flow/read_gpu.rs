//! `gpu`: a number, a table, or a list of acceptable ways.

use flowyard_model::{GpuRequest, limits};

use super::fields;
use super::read_step::SIZE;
use super::walk::{At, Walk};
use crate::flags;
use crate::units;

/// Reads the acceptable ways to be given GPUs, the best first; none for no GPU.
pub(super) fn read_gpu(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Vec<GpuRequest>> {
    if at.is_list() {
        return read_alternatives(walk, at);
    }
    if at.as_integer() == Some(0) {
        return Some(Vec::new());
    }
    read_one(walk, at, 0).map(|request| vec![request])
}

/// `[{ count = 2, model = "H100" }, { count = 4, model = "A100" }]`
fn read_alternatives(walk: &mut Walk<'_>, at: &At<'_, '_>) -> Option<Vec<GpuRequest>> {
    let items = walk.list(at, "a list")?;
    if items.is_empty() {
        walk.problem(at, "`gpu` names no alternative")
            .help("write at least one, such as gpu = [{ count = 2 }], or gpu = 0 for none");
        return None;
    }
    if items.len() > limits::GPU_ALTERNATIVES {
        walk.problem(at, format!("at most {} alternatives, these are {}", limits::GPU_ALTERNATIVES, items.len()));
        return None;
    }
    let mut requests = Vec::with_capacity(items.len());
    for item in &items {
        walk.spans.insert(item.path.clone(), item.value.span());
        requests.push(read_one(walk, item, 1)?);
    }
    if let Some((again, first)) = GpuRequest::repeated(&requests) {
        let message = format!("alternative {} asks for the same as alternative {}", again + 1, first + 1);
        walk.problem(&items[again], message).help("name each once, the one that is preferred first");
        return None;
    }
    Some(requests)
}

/// A number of GPUs from `least` on, or a table.
fn read_one(walk: &mut Walk<'_>, at: &At<'_, '_>, least: i64) -> Option<GpuRequest> {
    let mut request = flags::any_gpus(1);
    if at.as_table().is_none() {
        if at.as_integer().is_none() {
            let table = "a table such as { count = 2, model = \"H100\" }";
            let expected = match least {
                0 => format!("a number of GPUs, {table}, or a list of such"),
                _ => format!("a number of GPUs, or {table}"),
            };
            walk.wrong(at, &expected);
            return None;
        }
        return walk.integer(at, least, i64::from(limits::GPUS)).map(flags::any_gpus);
    }
    let entries = walk.table(at, "a table")?;
    for entry in walk.fields(entries, fields::GPU, "in `gpu`") {
        match entry.key {
            "count" => request.count = walk.integer(&entry.at, 1, i64::from(limits::GPUS))?,
            "model" => request.model = Some(walk.text(&entry.at, "the model in quotes")?),
            "memory" => request.min_memory_bytes = walk.quantity(&entry.at, SIZE, units::bytes)?,
            "share" => {
                let share = walk.quantity(&entry.at, "a part of a device such as 0.25", units::share_milli)?;
                request.share_milli = u32::try_from(share).unwrap_or(1_000);
            }
            "link" => request.link = Some(walk.choice(&entry.at, &flags::LINKS)?),
            _ => request.same_link_group = walk.boolean(&entry.at)?,
        }
    }
    if request.same_link_group && request.link.is_some() {
        walk.problem(at, "`link` and `same_link_group` are both said")
            .help("`same_link_group = true` is the same as `link = \"nvlink\"`; say only `link`");
        return None;
    }
    Some(flags::of_share(request))
}
