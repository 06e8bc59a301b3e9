//! An explanation for programs and in sentences for people, without names that the caller may not see.

use flowyard_model::{NodeId, QueuePath, TaskKey, TimeMs};
use flowyard_proto::api;
use flowyard_scheduling::why::{BoundOn, BoundReached, Change, Explanation, Fix, KeptFree, Position, Start, overdue};

use super::changes;
use super::room::{self, HOLDERS, Sight};
use super::words::{count, duration};
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
        fixes: told
            .fixes
            .iter()
            .filter(|fix| may_see(sight, fix))
            .map(|fix| changes::fix(fix, names(&fix.nodes)))
            .collect(),
        rounds: told.rounds,
        cut: told.cut,
        alternative: told.alternative,
    }
}

/// Whoever may not look at a queue is not told that it might lend more.
fn may_see(sight: Sight<'_>, fix: &Fix) -> bool {
    fix.changes.iter().filter_map(Change::queue).all(|queue| sight.names(queue))
}

fn bound(sight: Sight<'_>, bound: &BoundReached) -> api::QueueBound {
    let named = bound.holders.iter().filter(|holder| sight.names_owners(&holder.queue)).take(HOLDERS);
    let holder = |it: &flowyard_scheduling::why::Holder| api::BoundHolder {
        queue: it.queue.to_string(),
        owner: it.owner.clone(),
        held: it.held,
    };
    let on = match &bound.on {
        BoundOn::Tasks => "tasks",
        BoundOn::Limit(_) => "limit",
        BoundOn::Borrow(_) => "borrow",
        BoundOn::NoPreempt(_) => "no_preempt",
        BoundOn::NoQuota(_) => "no_quota",
        BoundOn::Cluster(_) => "cluster",
    };
    let resource = room::resource_of(&bound.on).map_or_else(String::new, |resource| resource.column().field());
    let kept_for = bound.kept_for.iter().filter(|holder| sight.names_owners(&holder.queue)).take(HOLDERS);
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
        kept: bound.kept,
        kept_for: kept_for.map(holder).collect(),
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
        Start::At { at, .. } => at_time(sight, &told.start, *at, now_ms),
        Start::OnceRunning { starting } => {
            let text = match starting {
                0 => "once what is placed before it has begun to run; how long that takes is not known".to_owned(),
                1 => "as soon as the 1 member runs that is placed and does not yet; how long that takes is not known"
                    .to_owned(),
                starting => format!(
                    "as soon as enough run of the {starting} members that are placed and do not yet; how long that takes is not known"
                ),
            };
            api::StartEstimate { starting: *starting, ..estimate("once_running", None, text) }
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
                _ if at.0 <= now_ms => "not known: much is to start before it, and further was not looked".to_owned(),
                _ => format!("not known: {} ahead it still waits, and further was not looked", until(at.0)),
            };
            estimate("beyond", Some(at.0), text)
        }
    }
}

/// When, and what that rests on.
fn at_time(sight: Sight<'_>, start: &Start, at: TimeMs, now_ms: u64) -> api::StartEstimate {
    let &Start::At { joined, ends, unknown_followers, learned, runs, expected, throttled, .. } = start else {
        return api::StartEstimate::default();
    };
    let late = overdue(sight.state, TimeMs(now_ms)).len() as u64;
    let left = at.0.saturating_sub(now_ms);
    let text = match (late, left) {
        (0, _) | (_, 1..) => ahead(sight, start, left, late),
        (1, 0) => format!("once {} has ended, if nothing new comes", overrun(1)),
        (late, 0) => format!("once enough of the {} have ended, if nothing new comes", overrun(late)),
    };
    api::StartEstimate {
        kind: "at".to_owned(),
        at_ms: Some(at.0),
        joined,
        ends,
        unknown_followers,
        // As it was said before it was told apart: 0 for what was declared.
        runs: runs.or((expected > 0).then_some(0)),
        learned,
        expected,
        throttled,
        overdue: late,
        text,
        ..api::StartEstimate::default()
    }
}

/// How far ahead the start is, and what that rests on.
fn ahead(sight: Sight<'_>, start: &Start, left: u64, late: u64) -> String {
    let &Start::At { joined, ends, unknown_followers, learned, runs, expected, throttled, .. } = start else {
        return String::new();
    };
    let left = duration(left);
    let late = match late {
        0 => String::new(),
        1 => format!("; {} counts as if it ended now", overrun(1)),
        late => format!("; {} count as if they ended now", overrun(late)),
    };
    let begins = if throttled { "; how long what is placed takes to begin to run is not counted" } else { "" };
    let followers = match unknown_followers {
        true => "; what follows on lists that are not written yet is not counted",
        false => "",
    };
    if learned + expected > 0 {
        let of_runs = runs.map(|runs| {
            format!("from {} or more of {}", count(u64::from(runs), "earlier run"), count(learned, "attempt"))
        });
        let declared = (expected > 0).then(|| format!("from what is `expected` of {}", count(expected, "attempt")));
        let basis: Vec<_> = of_runs.into_iter().chain(declared).collect();
        return format!("in about {left}, {}, if nothing new comes{followers}{begins}{late}", basis.join(" and "));
    }
    let joined = if joined { "at most " } else { "" };
    let leaves = sight.state.nodes().any(|(id, _)| sight.state.leaving_on(id).is_some());
    let by = if leaves { "`timeout` or notice gives" } else { "`timeout` gives" };
    let what = match ends {
        1 => format!("the 1 attempt that ends before takes all the time that its {by} it"),
        ends => format!("the {ends} attempts that end before take all the time that their {by} them"),
    };
    format!("in {joined}{left}, if {what}, and nothing new comes{followers}{begins}{late}")
}

/// Attempts that should be over.
fn overrun(late: u64) -> String {
    format!("{} that should be over already", count(late, "attempt"))
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
