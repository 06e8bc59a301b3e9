//! A ready task that waits until enough has ended on nodes where room is kept for it.

use std::collections::BTreeSet;

use flowyard_model::{Awaited, Claim, NodeId, Phase, QueuePath, TaskKey, TimeMs};
use flowyard_proto::api::Finding;
use flowyard_state::Basis;

use super::Scene;
use super::words::{Told, count, duration, finding as found};
use crate::api::reference;

/// Nodes and tasks that are named.
const NAMED: usize = 5;

/// Somebody whose end is waited for.
struct Ends {
    task: TaskKey,
    /// When it has ended, as far as that is known, and how.
    by: Option<(TimeMs, Basis)>,
    /// Whether all its members run, so that a `timeout` counts.
    runs: bool,
}

/// Where room is kept for it, from when, and for whom it waits.
pub(super) fn finding(scene: Scene<'_>, claim: &Claim, own: &QueuePath, subject: String) -> Finding {
    let ends = |awaited: &Awaited| {
        let attempt = scene.view.attempt(awaited.task, awaited.attempt)?;
        let mut live = attempt.members.iter().filter(|member| member.phase != Phase::Ended).peekable();
        live.peek()?;
        let runs = live.all(|member| member.times.running.is_some());
        Some(Ends { task: awaited.task, by: scene.view.ends_by(awaited.task), runs })
    };
    let awaited: Vec<Ends> = claim.awaits.iter().filter_map(ends).collect();
    let nodes: BTreeSet<NodeId> = claim.members.iter().map(|seat| seat.node).collect();
    let names = nodes.iter().map(|id| {
        let node = scene.view.node(*id);
        node.map_or_else(|| format!("node {id}"), |node| node.name.to_string())
    });
    let reason = format!("room is kept for it on {}; {}", listed(names.collect()), starts(&awaited, scene.now_ms));
    let until = match claim.starts_at.filter(|at| at.0 > scene.now_ms) {
        Some(_) => "until then only work is placed there that ends before, by its `timeout` or by what is known of it",
        None => "until then nothing else is placed there that needs the room",
    };
    let details = [basis(&awaited), not_begun(&awaited), unknown(scene, &awaited, own), Some(until.to_owned())];
    found(subject, "ready", reason).with_details(details.into_iter().flatten())
}

/// When it starts: by a bound, as is expected, or once something has ended of which that is not known, or that should
/// have already.
fn starts(awaited: &[Ends], now_ms: u64) -> String {
    let all = count(awaited.len() as u64, "attempt");
    let has = if awaited.len() == 1 { "has" } else { "have" };
    let Some(last) = awaited.iter().map(|it| it.by.map(|(at, _)| at.0)).max() else {
        return "all has ended there that it waited for, and it has its turn with the next plan".to_owned();
    };
    let late = awaited.iter().filter_map(|it| it.by).filter(|(at, _)| at.0 <= now_ms);
    let late: Vec<u64> = late.map(|(at, _)| now_ms - at.0).collect();
    if let Some(longest) = late.iter().max().map(|ms| duration(*ms)) {
        let whose = match (awaited.len(), late.len()) {
            (1, _) => format!("it should have {longest} ago"),
            (_, 1) => format!("1 of them should have {longest} ago"),
            (_, late) => format!("{late} of them should have already, the first {longest} ago"),
        };
        return format!("it starts once {all} there {has} ended: {whose}");
    }
    let is_bound = awaited.iter().all(|it| it.runs && matches!(it.by, Some((_, Basis::Bound))));
    match last.filter(|_| awaited.iter().all(|it| it.by.is_some())).map(|last| duration(last - now_ms)) {
        None => format!("it starts once {all} there {has} ended"),
        Some(left) if is_bound => {
            format!("it starts in {left} at the latest, when {all} there {has} to have ended")
        }
        Some(left) => format!("it is expected to start in {left}, when {all} there {has} ended"),
    }
}

/// What it rests on where it is an estimate.
fn basis(awaited: &[Ends]) -> Option<String> {
    let known = || awaited.iter().filter_map(|it| it.by.map(|(_, basis)| basis));
    let declared = known().filter(|basis| *basis == Basis::Declared).count() as u64;
    let runs: Vec<u32> = known().filter_map(|it| if let Basis::Runs(runs) = it { Some(runs) } else { None }).collect();
    let all = declared + runs.len() as u64;
    let fewest = runs.iter().min().map(|fewest| count((*fewest).into(), "earlier run"));
    let rests = match (declared, fewest, runs.len()) {
        (0, None, _) => return None,
        (1, None, _) => "what is `expected` of it".to_owned(),
        (_, None, _) => "what is `expected` of them".to_owned(),
        (0, Some(fewest), 1) => format!("{fewest} of it"),
        (0, Some(fewest), _) => format!("earlier runs, {fewest} of one of them and of no other fewer"),
        (_, Some(fewest), 1) => format!("what is `expected` of {declared} of them and {fewest} of the other"),
        (_, Some(fewest), _) => {
            format!(
                "what is `expected` of {declared} of them and earlier runs of the others, {fewest} at least of each"
            )
        }
    };
    Some(format!("that is an estimate: of {} there is no `timeout`, it rests on {rests}", count(all, "attempt")))
}

/// That bounds do not count yet, because what they bound does not run.
fn not_begun(awaited: &[Ends]) -> Option<String> {
    let waits = |it: &&Ends| !it.runs && matches!(it.by, Some((_, Basis::Bound)));
    let waiting = awaited.iter().filter(waits).count() as u64;
    let verb = if waiting == 1 { "does" } else { "do" };
    let whose = count(waiting, "attempt");
    (waiting > 0).then(|| format!("{whose} there {verb} not run yet, so that the `timeout` has not begun to count"))
}

/// Of whom it is not known when they will have ended.
fn unknown(scene: Scene<'_>, awaited: &[Ends], own: &QueuePath) -> Option<String> {
    let endless = awaited.iter().filter(|it| it.by.is_none()).map(|it| it.task);
    // Others are not named to who may not look at them.
    let seen = |task: &TaskKey| {
        scene.view.job(task.job).is_some_and(|job| job.spec.queue == *own || (scene.looks)(&job.spec.queue))
    };
    let (named, hidden): (Vec<_>, Vec<_>) = endless.partition(seen);
    let all = named.len() + hidden.len();
    let mut whose: Vec<_> = named.into_iter().map(|task| reference(scene.view, task)).collect();
    if !hidden.is_empty() {
        whose.push(format!("{} that you may not look at", count(hidden.len() as u64, "attempt")));
    }
    let verb = if all == 1 { "has" } else { "have" };
    let whose = listed(whose);
    (all > 0).then(|| format!("when is not known: {} {verb} no `timeout`: {whose}", count(all as u64, "attempt")))
}

/// The first of them, and how many more there are.
fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let listed = names.join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}
