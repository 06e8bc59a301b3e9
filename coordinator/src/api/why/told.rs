//! An explanation for programs and in sentences for people, without names that the caller may not see.

use flowyard_model::{NodeId, QueuePath, TaskKey};
use flowyard_proto::api;
use flowyard_scheduling::why::{BoundOn, BoundReached, Change, Explanation, Fix, KeptFree, Position, Start};

use super::room::{self, HOLDERS, Sight};
use super::words::{count, cpu, duration};
use crate::api::reference;

/// Groups of the line that are named.
const GROUPS: usize = 3;

/// What the caller is told.
pub(in crate::api) fn explanation(sight: Sight<'_>, told: &Explanation, now_ms: u64) -> api::Explanation {
    let names = |nodes: &[NodeId]| nodes.iter().map(|node| sight.node(*node)).collect::<Vec<_>>();
    let reasons = &told.reasons;
    let rejections = reasons.nodes.rejections.iter().map(|rejection| api::NodeRejection {
        kind: rejection.kind.to_owned(),
        nodes: rejection.nodes,
        example: sight.node(rejection.example),
        text: room::lack(sight, rejection),
    });
    api::Explanation {
        nodes: told.placed.as_deref().map(names).unwrap_or_default(),
        placed_of_step: told.placed_of_step,
        bounds: reasons.bounds.iter().map(|bound| self::bound(sight, bound)).collect(),
        kept: reasons.kept.iter().map(|kept| self::kept(sight, kept)).collect(),
        rejections: rejections.collect(),
        nodes_all: reasons.nodes.all,
        nodes_closed: reasons.nodes.closed,
        nodes_fitting: reasons.nodes.fitting,
        seats: reasons.seats,
        position: told.position.as_ref().map(|at| position(sight, at)),
        start: Some(start(sight, told, now_ms)),
        fixes: told.fixes.iter().map(|fix| self::fix(fix, names(&fix.nodes))).collect(),
        rounds: told.rounds,
        cut: told.cut,
    }
}

fn bound(sight: Sight<'_>, bound: &BoundReached) -> api::QueueBound {
    let named = bound.holders.iter().filter(|holder| sight.names_owners(&holder.queue)).take(HOLDERS);
    let holder = |it: &flowyard_scheduling::why::Holder| api::BoundHolder {
        queue: it.queue.to_string(),
        owner: it.owner.clone(),
        held: it.held,
    };
    let (on, resource) = match &bound.on {
        BoundOn::Tasks => ("tasks", String::new()),
        BoundOn::Limit(resource) => ("limit", resource.column().field()),
        BoundOn::Borrow(resource) => ("borrow", resource.column().field()),
        BoundOn::NoPreempt(resource) => ("no_preempt", resource.column().field()),
        BoundOn::Cluster(resource) => ("cluster", resource.column().field()),
    };
    let queue = if matches!(bound.on, BoundOn::Cluster(_)) { String::new() } else { bound.queue.to_string() };
    api::QueueBound {
        alternative: bound.alternative,
        queue,
        on: on.to_owned(),
        resource,
        held: bound.held,
        need: bound.need,
        most: bound.most,
        held_by_others: bound.held.saturating_sub(named.clone().map(|holder| holder.held).sum()),
        holders: named.map(holder).collect(),
    }
}

fn kept(sight: Sight<'_>, kept: &KeptFree) -> api::KeptFree {
    let keepers = kept.keepers.iter().filter(|(queue, _)| sight.names(queue));
    let keeper = |(queue, kept): &(QueuePath, u64)| api::BoundHolder {
        queue: queue.to_string(),
        owner: String::new(),
        held: *kept,
    };
    api::KeptFree {
        resource: kept.resource.column().field(),
        need: kept.need,
        free: kept.free,
        kept: kept.kept,
        keepers: keepers.map(keeper).collect(),
    }
}

fn position(sight: Sight<'_>, position: &Position) -> api::LinePosition {
    let named = position.ahead.iter().filter(|group| sight.names_owners(&group.queue));
    let shown: Vec<_> = named.clone().take(GROUPS).collect();
    let mut parts: Vec<_> =
        shown.iter().map(|group| format!("{} of {} in {}", group.tasks, group.owner, group.queue)).collect();
    let rest = position.before.saturating_sub(shown.iter().map(|group| group.tasks).sum());
    parts.extend((rest > 0).then(|| format!("{rest} of others")));
    let tasks = match position.exact {
        true => count(position.before, "task"),
        false => format!("more than {}", count(position.before, "task")),
    };
    let text = match (position.before, position.exact) {
        (0, true) => "it is first in line".to_owned(),
        (0, false) => "how many would be placed before it was not found out".to_owned(),
        _ => format!("{tasks} would be placed before it if there were room for all: {}", parts.join(", ")),
    };
    let group = |group: &flowyard_scheduling::why::Group| api::LineGroup {
        queue: group.queue.to_string(),
        owner: group.owner.clone(),
        priority: group.priority,
        tasks: group.tasks,
    };
    api::LinePosition { before: position.before, exact: position.exact, ahead: named.map(group).collect(), text }
}

fn start(sight: Sight<'_>, told: &Explanation, now_ms: u64) -> api::StartEstimate {
    let until = |at: u64| duration(at.saturating_sub(now_ms));
    let estimate = |kind: &str, at_ms: Option<u64>, text: String| api::StartEstimate {
        kind: kind.to_owned(),
        at_ms,
        text,
        ..api::StartEstimate::default()
    };
    match &told.start {
        Start::Now => estimate("now", None, "with the next plan".to_owned()),
        Start::At { at, joined, ends, unknown_followers, runs: None } => {
            let joined_text = if *joined { "at most " } else { "" };
            let (what, take) = match ends {
                1 => ("the 1 attempt that ends before".to_owned(), "takes all the time that its `timeout` gives it"),
                ends => (
                    format!("the {ends} attempts that end before"),
                    "take all the time that their `timeout` gives them",
                ),
            };
            let followers =
                if *unknown_followers { "; what follows on lists that are not written yet is not counted" } else { "" };
            let text = format!("in {joined_text}{}, if {what} {take}, and nothing new comes{followers}", until(at.0));
            let estimate = estimate("at", Some(at.0), text);
            api::StartEstimate { joined: *joined, ends: *ends, unknown_followers: *unknown_followers, ..estimate }
        }
        Start::At { at, joined, ends, unknown_followers, runs: Some(runs) } => {
            let basis = match runs {
                0 => "from what is `expected` of what ends before".to_owned(),
                runs => format!("from {} of what ends before", count(u64::from(*runs), "earlier run")),
            };
            let text = format!("in about {}, {basis}, if nothing new comes", until(at.0));
            let estimate = estimate("at", Some(at.0), text);
            api::StartEstimate {
                joined: *joined,
                ends: *ends,
                unknown_followers: *unknown_followers,
                runs: Some(*runs),
                ..estimate
            }
        }
        Start::NoTimeout { whose, all } => {
            let named: Vec<_> = whose.iter().filter_map(|it| named(sight, it.task)).collect();
            let rest = all.saturating_sub(named.len() as u64);
            let more = (rest > 0).then(|| match named.is_empty() {
                true => count(rest, "task"),
                false => format!("{} more", count(rest, "task")),
            });
            let who = named.iter().cloned().chain(more).collect::<Vec<_>>().join(", ");
            let text = format!("not known, because it depends on what has no `timeout`: {who}");
            let endless = whose.iter().filter(|it| named_owner(sight, it.task)).map(|it| task(sight, it.task));
            let endless = endless.collect();
            api::StartEstimate { endless, endless_all: *all, ..estimate("no_timeout", None, text) }
        }
        Start::NotEvenThen => estimate("never", None, "not even if everything ended that runs now".to_owned()),
        Start::StopsBefore(at) => {
            let text = format!("its job is stopped before, in {}, when one of its times passes", until(at.0));
            estimate("stops_before", Some(at.0), text)
        }
        Start::Beyond(at) => {
            let text = match told.rounds {
                1 => "not known: the round that would say it is beyond what one question may cost".to_owned(),
                _ => format!("not known: {} ahead it still waits, and further was not looked", until(at.0)),
            };
            estimate("beyond", Some(at.0), text)
        }
    }
}

fn named_owner(sight: Sight<'_>, task: TaskKey) -> bool {
    sight.state.outline(task.job).is_some_and(|job| sight.names_owners(&job.spec.queue))
}

/// A task with its owner, if the caller may know of it.
fn named(sight: Sight<'_>, key: TaskKey) -> Option<String> {
    let job = sight.state.outline(key.job).filter(|job| sight.names_owners(&job.spec.queue))?;
    Some(format!("{} of {}", task(sight, key), job.owner))
}

fn task(sight: Sight<'_>, key: TaskKey) -> String {
    reference(sight.state, key)
}

fn fix(fix: &Fix, nodes: Vec<String>) -> api::StartFix {
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
    let text = sentence(change);
    let number = |number: u64| Some(i64::try_from(number).unwrap_or(i64::MAX));
    let amounts = |what: &str, from: u64, to: u64| api::StartChange {
        what: what.to_owned(),
        from: number(from),
        to: number(to),
        text: text.clone(),
        ..api::StartChange::default()
    };
    let valued = |what: &str, value: String| api::StartChange {
        what: what.to_owned(),
        value,
        text: text.clone(),
        ..api::StartChange::default()
    };
    match change {
        Change::Gpus { alternative, from, to } => {
            api::StartChange { alternative: Some(*alternative), ..amounts("gpus", (*from).into(), (*to).into()) }
        }
        Change::Model { alternative, to, .. } => {
            api::StartChange { alternative: Some(*alternative), ..valued("gpu_model", to.clone()) }
        }
        Change::Unlinked { alternative, from } => {
            api::StartChange { alternative: Some(*alternative), ..valued("gpu_link", from.as_str().to_owned()) }
        }
        Change::Cpu { from, to } => amounts("cpu_milli", *from, *to),
        Change::Memory { from, to } => amounts("memory_bytes", *from, *to),
        Change::Disk { from, to } => amounts("disk_bytes", *from, *to),
        Change::Without(constraint) => valued("constraint", constraint.to_string()),
        Change::NotSpread(spread) => valued("spread", spread.over.to_string()),
        Change::NotUnique => valued("unique_host", String::new()),
        Change::NotApart(tags) => valued("apart", tags.join(", ")),
        Change::Priority { from, to } => {
            let signed = |number: &i32| Some(i64::from(*number));
            api::StartChange { from: signed(from), to: signed(to), ..valued("priority", String::new()) }
        }
        Change::MaxParallel { from, to } => amounts("max_parallel", (*from).into(), (*to).into()),
        Change::MaxActive { queue, from, to } => {
            api::StartChange { queue: queue.to_string(), ..amounts("max_active", (*from).into(), (*to).into()) }
        }
        Change::Limit { queue, resource, from, to } => {
            let (queue, resource) = (queue.to_string(), resource.column().field());
            api::StartChange { queue, resource, ..amounts("limit", *from, *to) }
        }
        Change::Borrow { queue, resource, from, to } => {
            let (queue, resource) = (queue.to_string(), resource.column().field());
            api::StartChange { queue, resource, ..amounts("borrow", *from, *to) }
        }
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
        Change::Limit { queue, resource, from, to } | Change::Borrow { queue, resource, from, to } => {
            let (column, name) =
                (resource.column(), if matches!(change, Change::Limit { .. }) { "limit" } else { "borrow" });
            let (more, from, to) = (column.amount(to - from), column.amount(*from), column.amount(*to));
            format!("{name}.{} of queue {queue} +{more} ({to} instead of {from})", column.field())
        }
    }
}
