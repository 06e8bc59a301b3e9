//! What would let a task start now, for programs and in sentences.

use flowyard_model::Column;
use flowyard_proto::api;
use flowyard_scheduling::why::{Change, Fix};

use super::words::{count, cpu};

/// Changes to be made together, and where the task is placed then.
pub(super) fn fix(fix: &Fix, nodes: Vec<String>) -> api::StartFix {
    let changes: Vec<_> = fix.changes.iter().map(change).collect();
    let texts: Vec<_> = changes.iter().map(|change| change.text.as_str()).collect();
    let less = if fix.smallest { "" } else { "; perhaps less would do" };
    let mut places = nodes.clone();
    places.dedup();
    let on = match places.len() {
        0 => String::new(),
        1 => format!(" (then on {})", places[0]),
        several => format!(" (then on {} and {} more)", places[0], several - 1),
    };
    api::StartFix { text: format!("{}{on}{less}", texts.join(", and ")), changes, nodes, smallest: fix.smallest }
}

fn change(change: &Change) -> api::StartChange {
    let (alternative, queue, resource) = place(change);
    let (from, to) = amounts(change).unzip();
    let number = |number: i128| i64::try_from(number).unwrap_or(i64::MAX);
    api::StartChange {
        what: what(change).to_owned(),
        alternative,
        queue,
        resource,
        from: from.map(number),
        to: to.map(number),
        value: value(change),
        text: sentence(change),
    }
}

fn what(change: &Change) -> &'static str {
    match change {
        Change::Gpus { .. } => "gpus",
        Change::Model { .. } => "gpu_model",
        Change::Unlinked { .. } => "gpu_link",
        Change::Cpu { .. } => "cpu_milli",
        Change::Memory { .. } => "memory_bytes",
        Change::Disk { .. } => "disk_bytes",
        Change::Members { is_least: true, .. } => "min_size",
        Change::Members { .. } => "size",
        Change::Tokens { .. } => "tokens",
        Change::Share { .. } => "gpu_share",
        Change::ShareMemory { .. } => "gpu_share_memory",
        Change::GpuMemory { .. } => "gpu_memory",
        Change::NotNear(_) => "near",
        Change::Preemptible => "preemptible",
        Change::Without(_) => "constraint",
        Change::NotSpread(_) => "spread",
        Change::NotUnique => "unique_host",
        Change::NotApart(_) => "apart",
        Change::Priority { .. } => "priority",
        Change::MaxParallel { .. } => "max_parallel",
        Change::MaxActive { .. } => "max_active",
        Change::Limit { .. } => "limit",
        Change::Borrow { .. } => "borrow",
        Change::Lend { .. } => "lend",
    }
}

/// Of which alternative, which queue and which resource it is.
fn place(change: &Change) -> (Option<u32>, String, String) {
    let queue = change.queue().map_or_else(String::new, ToString::to_string);
    match change {
        Change::Gpus { alternative, .. }
        | Change::Model { alternative, .. }
        | Change::Unlinked { alternative, .. }
        | Change::Share { alternative, .. }
        | Change::ShareMemory { alternative, .. }
        | Change::GpuMemory { alternative, .. } => (Some(*alternative), queue, String::new()),
        Change::Tokens { name, .. } => (None, queue, Column::Token(name).field()),
        Change::Limit { resource, .. } | Change::Borrow { resource, .. } | Change::Lend { resource, .. } => {
            (None, queue, resource.column().field())
        }
        _ => (None, queue, String::new()),
    }
}

/// As it is, and as it might be.
fn amounts(change: &Change) -> Option<(i128, i128)> {
    match change {
        Change::Gpus { from, to, .. }
        | Change::Members { from, to, .. }
        | Change::Tokens { from, to, .. }
        | Change::Share { from, to, .. }
        | Change::MaxParallel { from, to }
        | Change::MaxActive { from, to, .. } => Some(((*from).into(), (*to).into())),
        Change::Cpu { from, to }
        | Change::Memory { from, to }
        | Change::Disk { from, to }
        | Change::ShareMemory { from, to, .. }
        | Change::GpuMemory { from, to, .. }
        | Change::Limit { from, to, .. }
        | Change::Borrow { from, to, .. }
        | Change::Lend { from, to, .. } => Some(((*from).into(), (*to).into())),
        Change::Priority { from, to } => Some(((*from).into(), (*to).into())),
        _ => None,
    }
}

/// What is no number.
fn value(change: &Change) -> String {
    match change {
        Change::Model { to, .. } => to.clone(),
        Change::Unlinked { from, .. } => from.as_str().to_owned(),
        Change::NotNear(level) => level.to_string(),
        Change::Without(constraint) => constraint.to_string(),
        Change::NotSpread(spread) => spread.over.to_string(),
        Change::NotApart(tags) => tags.join(", "),
        _ => String::new(),
    }
}

fn sentence(change: &Change) -> String {
    let way = |alternative: u32| match alternative {
        0 => String::new(),
        other => format!(" in alternative {}", other + 1),
    };
    let bytes = |number: u64| flowyard_model::ByteCount(number).to_string();
    match change {
        Change::Gpus { alternative, from, to } => {
            let fewer = count((from - to).into(), "GPU");
            format!("{fewer} fewer ({to} instead of {from}){}", way(*alternative))
        }
        Change::Model { alternative, from, to } => {
            format!("GPUs of model {to} instead of {from}{}", way(*alternative))
        }
        Change::Unlinked { alternative, from } => {
            format!("GPUs without link {}{}", from.as_str(), way(*alternative))
        }
        Change::Members { from, to, is_least: false } => {
            format!("{} fewer (size {to} instead of {from})", count((from - to).into(), "member"))
        }
        Change::Members { from, to, .. } => format!("min_size {to} instead of {from}"),
        Change::Tokens { name, from, to } => format!("{to} of {name} instead of {from}"),
        Change::Share { alternative, from, to } => {
            format!("share {} instead of {}{}", cpu((*to).into()), cpu((*from).into()), way(*alternative))
        }
        Change::ShareMemory { alternative, from, to } => {
            format!("{} of each GPU's memory instead of {}{}", bytes(*to), bytes(*from), way(*alternative))
        }
        Change::GpuMemory { alternative, to: 0, from } => {
            format!("GPUs of any memory instead of at least {}{}", bytes(*from), way(*alternative))
        }
        Change::GpuMemory { alternative, from, to } => {
            format!("GPUs with at least {} instead of {}{}", bytes(*to), bytes(*from), way(*alternative))
        }
        Change::NotNear(level) => format!("without the need of one {level}"),
        Change::Preemptible => "if it might be evicted (`preemptible`)".to_owned(),
        Change::Cpu { from, to } => format!("cpu {} instead of {}", cpu(*to), cpu(*from)),
        Change::Memory { from, to } => format!("memory {} instead of {}", bytes(*to), bytes(*from)),
        Change::Disk { from, to } => format!("disk {} instead of {}", bytes(*to), bytes(*from)),
        Change::Without(constraint) => format!("without the constraint `{constraint}`"),
        Change::NotSpread(spread) => format!("without spread {spread}"),
        Change::NotUnique => "without unique_host".to_owned(),
        Change::NotApart(tags) => format!("without apart {}", tags.join(", ")),
        Change::Priority { from, to } => format!("priority {to} instead of {from}"),
        Change::MaxParallel { from, to } => format!("max_parallel {to} instead of {from}"),
        Change::MaxActive { queue, from, to } => {
            format!("max_active of queue {queue} +{} ({to} instead of {from})", to - from)
        }
        Change::Limit { queue, resource, from, to }
        | Change::Borrow { queue, resource, from, to }
        | Change::Lend { queue, resource, from, to } => {
            let name = match change {
                Change::Limit { .. } => "limit",
                Change::Lend { .. } => "lend",
                _ => "borrow",
            };
            let column = resource.column();
            let (more, from, to) = (column.amount(to - from), column.amount(*from), column.amount(*to));
            format!("{name}.{} of queue {queue} +{more} ({to} instead of {from})", column.field())
        }
    }
}
