//! What queues are promised, against what those above them have to promise.
//!
//! A reserve is cut out of that of the queue above: what the queues directly below are promised together may not be more than it
//! has reserved itself. Where it reserves nothing of a resource, it may still not be more than its limit, since more could never
//! be held. A queue that names no reserve passes on what those below it are promised. What nodes there are is not looked at.

use std::collections::BTreeMap;

use std::sync::Arc;

use flowyard_model::{Column, GpuClass, Queue, QueueAmounts, QueuePath};
use imbl::OrdMap;

use crate::queue::below;

/// What is promised too often at this path or below it, for people; `None` if nothing is.
pub(crate) fn fault(queues: &OrdMap<QueuePath, Arc<Queue>>, top: &str) -> Option<String> {
    let mut tree: Vec<_> = queues.get(top).into_iter().chain(below(queues, top)).collect();
    tree.sort_by_key(|queue| std::cmp::Reverse(queue.path.levels().count()));
    let mut sums: BTreeMap<&str, QueueAmounts> = BTreeMap::new();
    for queue in tree {
        let promised = sums.remove(queue.path.as_str()).unwrap_or_default();
        if let Some(message) = over(queue, &promised) {
            return Some(message);
        }
        let above = queue.path.levels().rev().skip(1).find_map(|level| queues.get_key_value(level));
        if let Some((path, _)) = above {
            add(sums.entry(path.as_str()).or_default(), &passed_on(queue, promised));
        }
    }
    None
}

fn over(queue: &Queue, promised: &QueueAmounts) -> Option<String> {
    let named = [("reserve", &queue.reserve), ("limit", &queue.limit)];
    let reserved = |field: &str, column| field == "limit" && queue.reserve.get(column).is_some();
    let bounds = named.into_iter().flat_map(|(field, it)| it.named().map(move |(column, most)| (field, column, most)));
    let mut bounds = bounds.filter(|(field, column, _)| !reserved(field, *column));
    let (field, column, most) = bounds.find(|(_, column, most)| promised.promised(*column) > *most)?;
    let (sum, most) = (words(column, promised.promised(column)), words(column, most));
    let path = &queue.path;
    Some(format!(
        "the queues directly below `{path}` would be promised {sum} of {column} together, but the {field} of `{path}` is {most}; \
         lower a reserve below it, or raise its {field}"
    ))
}

/// What counts as promised to a queue for the one above.
fn passed_on(queue: &Queue, below: QueueAmounts) -> QueueAmounts {
    let named = |named: Option<u64>, below: Option<u64>| named.or(below);
    let QueueAmounts { cpu_milli, memory_bytes, disk_bytes, mut gpu_milli, mut tokens } = below;
    let any_below = gpu_milli.remove(&GpuClass::Any);
    gpu_milli.extend(queue.reserve.gpu_milli.clone());
    tokens.extend(queue.reserve.tokens.clone());
    // Devices of a model are devices.
    let of_models = gpu_milli.values().fold(0, |sum: u64, milli| sum.saturating_add(*milli));
    gpu_milli.entry(GpuClass::Any).or_insert(of_models.max(any_below.unwrap_or(0)));
    QueueAmounts {
        cpu_milli: named(queue.reserve.cpu_milli, cpu_milli),
        memory_bytes: named(queue.reserve.memory_bytes, memory_bytes),
        disk_bytes: named(queue.reserve.disk_bytes, disk_bytes),
        gpu_milli,
        tokens,
    }
}

fn add(sum: &mut QueueAmounts, more: &QueueAmounts) {
    let added = |sum: Option<u64>, more: Option<u64>| match (sum, more) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    };
    sum.cpu_milli = added(sum.cpu_milli, more.cpu_milli);
    sum.memory_bytes = added(sum.memory_bytes, more.memory_bytes);
    sum.disk_bytes = added(sum.disk_bytes, more.disk_bytes);
    for (class, milli) in &more.gpu_milli {
        let sum = sum.gpu_milli.entry(class.clone()).or_default();
        *sum = sum.saturating_add(*milli);
    }
    for (name, count) in &more.tokens {
        let sum = sum.tokens.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
}

/// An amount as people write it.
fn words(column: Column<'_>, amount: u64) -> String {
    match column {
        Column::Cpu | Column::Gpu(_) if amount.is_multiple_of(1_000) => (amount / 1_000).to_string(),
        Column::Cpu | Column::Gpu(_) => {
            format!("{}.{:03}", amount / 1_000, amount % 1_000).trim_end_matches('0').to_owned()
        }
        Column::Memory | Column::Disk => format!("{amount} bytes"),
        Column::Token(_) => amount.to_string(),
    }
}
