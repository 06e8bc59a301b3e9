//! What agents observed. Reports may come late, twice and in disorder: the further phase wins, the first time wins, an end
//! is recorded once.

use std::sync::Arc;

use flowyard_model::{
    AttemptReport, Changed, ClusterVersion, Incarnation, Member, NodeId, Phase, PhaseTimes, Rejection, Reply,
    ReportAttempts,
};

use crate::attempt::end_member;
use crate::starting;
use crate::state::State;
use crate::task::edit_attempt;

/// Applies `ReportAttempts`. Those of another registration than the present one are void.
pub(crate) fn take(state: &mut State, changed: &mut Changed, wish: ReportAttempts) -> Reply {
    let Some(node) = state.node(wish.node) else {
        return Reply::Rejected(Rejection::UnknownNode { node: wish.node.to_string() });
    };
    if node.incarnation != wish.incarnation {
        return Reply::Done;
    }
    for report in wish.reports {
        if is_live(state, wish.node, wish.incarnation, &report) {
            take_one(state, changed, wish.node, report);
        }
    }
    Reply::Done
}

/// Applies `ReportMany`: as if each agent's had come alone, one after the other. An agent whose node is not there (any more) has been
/// told so by the end of its session.
pub(crate) fn take_many(state: &mut State, changed: &mut Changed, agents: Vec<ReportAttempts>) -> Reply {
    for wish in agents {
        take(state, changed, wish);
    }
    Reply::Done
}

fn is_live(state: &State, node: NodeId, incarnation: Incarnation, report: &AttemptReport) -> bool {
    let live = state.indexes.live.contains(&(node, report.member));
    debug_assert!(!live || member(state, report).incarnation == incarnation);
    // An end without a word about it says nothing; the agent will say it again.
    live && (report.phase == Phase::Ended) == report.end.is_some()
}

fn member<'a>(state: &'a State, report: &AttemptReport) -> &'a Member {
    let attempt = state.attempt(report.member.task, report.member.attempt).expect("a live member has an attempt");
    &attempt.members[report.member.rank.0 as usize]
}

fn take_one(state: &mut State, changed: &mut Changed, node: NodeId, report: AttemptReport) {
    let known = member(state, &report);
    let (before, times) = (known.phase, merged(known.times, report.times));
    let checkpoint = report.checkpoint;
    let stuck = report.stuck.filter(|_| state.version() >= ClusterVersion::ACCESS).or(known.stuck);
    let saved_at = report.saved_at.filter(|_| state.version() >= ClusterVersion::ACCESS);
    let observed = checkpoint.is_some() || saved_at.is_some() || stuck != known.stuck;
    if times != known.times || report.phase > known.phase || observed {
        edit_attempt(state, report.member, |attempt| {
            let member = &mut attempt.members[report.member.rank.0 as usize];
            member.times = times;
            member.stuck = stuck;
            if report.phase != Phase::Ended {
                member.phase = member.phase.max(report.phase);
            }
            let newer = checkpoint.filter(|new| attempt.checkpoint.is_none_or(|old| new.at > old.at));
            attempt.checkpoint = newer.or(attempt.checkpoint);
            attempt.saved_at = attempt.saved_at.max(saved_at);
        });
        changed.jobs.insert(report.member.task.job);
        let after = member(state, &report).phase;
        starting::moved(state, report.member.task, node, Some(before), after);
        // Somebody may start whom nothing else kept waiting.
        changed.placement |= !state.policy.throttle.is_none() && before < Phase::Running && after >= Phase::Running;
    }
    if let Some(end) = report.end {
        end_member(state, changed, node, report.member, Arc::unwrap_or_clone(end));
    }
}

fn merged(known: PhaseTimes, new: PhaseTimes) -> PhaseTimes {
    PhaseTimes {
        accepted: known.accepted.or(new.accepted),
        fetching: known.fetching.or(new.fetching),
        running: known.running.or(new.running),
        storing: known.storing.or(new.storing),
        ended: known.ended.or(new.ended),
    }
}
