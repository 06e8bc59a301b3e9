//! A ready task that waits until enough has ended on nodes where room is kept for it.

use std::collections::BTreeSet;

use flowyard_model::{Awaited, Claim, NodeId, Phase, QueuePath};
use flowyard_proto::api::Finding;
use flowyard_state::Basis;

use super::Scene;
use super::words::{Told, count, duration, finding as found};
use crate::api::reference;

/// Nodes and tasks that are named.
const NAMED: usize = 5;

/// Where room is kept for it, from when, and for whom it waits.
pub(super) fn finding(scene: Scene<'_>, claim: &Claim, own: &QueuePath, subject: String) -> Finding {
    let lives = |awaited: &&Awaited| {
        let attempt = scene.view.attempt(awaited.task, awaited.attempt);
        attempt.is_some_and(|attempt| attempt.members.iter().any(|member| member.phase != Phase::Ended))
    };
    let awaited: Vec<_> = claim.awaits.iter().filter(lives).collect();
    let nodes: BTreeSet<NodeId> = claim.members.iter().map(|seat| seat.node).collect();
    let names = nodes.iter().map(|id| {
        let node = scene.view.node(*id);
        node.map_or_else(|| format!("node {id}"), |node| node.name.to_string())
    });
    let place = listed(names.collect());
    let all = count(awaited.len() as u64, "attempt");
    let verb = if awaited.len() == 1 { "has" } else { "have" };
    let reason = match claim.starts_at {
        Some(at) => {
            let left = duration(at.0.saturating_sub(scene.now_ms));
            format!(
                "room is kept for it on {place}; it starts in {left} at the latest, when {all} there {verb} to have ended"
            )
        }
        None => format!("room is kept for it on {place}; it starts once {all} there {verb} ended"),
    };
    let about: Vec<_> = awaited.iter().filter_map(|it| Some(scene.view.ends_by(it.task)?.1)).collect();
    let runs = about.iter().filter_map(|basis| if let Basis::Runs(runs) = basis { Some(*runs) } else { None });
    let estimated = about.iter().filter(|basis| **basis != Basis::Bound).count();
    let about = (estimated > 0).then(|| {
        let runs = runs.min().map_or("what is `expected` of them".to_owned(), |runs| {
            format!("{} of them, or what is `expected`", count(runs.into(), "earlier run"))
        });
        format!(
            "that is an estimate: of {} there is no `timeout`, it rests on {runs}",
            count(estimated as u64, "attempt")
        )
    });
    let endless = awaited.iter().filter(|it| scene.view.ends_by(it.task).is_none()).map(|it| it.task);
    // Others are not named to who may not look at them.
    let seen = |task: &flowyard_model::TaskKey| {
        scene.view.job(task.job).is_some_and(|job| job.spec.queue == *own || (scene.looks)(&job.spec.queue))
    };
    let (named, hidden): (Vec<_>, Vec<_>) = endless.partition(seen);
    let all = named.len() + hidden.len();
    let mut whose: Vec<_> = named.into_iter().map(|task| reference(scene.view, task)).collect();
    if !hidden.is_empty() {
        whose.push(format!("{} that you may not look at", count(hidden.len() as u64, "attempt")));
    }
    let verb = if all == 1 { "has" } else { "have" };
    let unknown = (all > 0)
        .then(|| format!("when is not known: {} {verb} no `timeout`: {}", count(all as u64, "attempt"), listed(whose)));
    let until = match claim.starts_at {
        Some(_) => "until then only work is placed there that ends before, by its `timeout` or by what is known of it",
        None => "until then nothing else is placed there that needs the room",
    };
    found(subject, "ready", reason).with_details(about.into_iter().chain(unknown).chain([until.to_owned()]))
}

/// The first of them, and how many more there are.
fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let listed = names.join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}
