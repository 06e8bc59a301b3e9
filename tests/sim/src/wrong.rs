//! What apply would do if it were wrong: the state is public to read only, so it is made wrong beside the real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::*;
use flowyard_state::State;

use crate::mutation::Mutation;
use crate::outside::Outside;

/// Applies an entry, or does it wrong.
pub(crate) fn apply(state: &mut State, entry: Entry, outside: &mut Outside) -> Effects {
    let again = match &entry.command {
        Command::RegisterNode(wish) if outside.mutation == Some(Mutation::ReuseIncarnation) => {
            state.node_named(&wish.name).map(|(id, node)| (id, node.incarnation))
        }
        _ => None,
    };
    let mut effects = flowyard_state::apply(state, entry);
    if let (Some((id, before)), Reply::Registered { node, .. }) = (again, &effects.reply) {
        outside.mutates(Mutation::ReuseIncarnation);
        effects.reply = Reply::Registered { node: *node, incarnation: before };
        let records: Vec<_> = state.records().map(|record| with_incarnation(record, id, before)).collect();
        *state = State::from_records(records).expect("the records of a state make one");
    }
    effects
}

/// The record, with what is registered as this node under this incarnation.
fn with_incarnation(record: Record, id: NodeId, incarnation: Incarnation) -> Record {
    match record {
        Record::Node(node, mut it) if node == id => {
            Arc::make_mut(&mut it).incarnation = incarnation;
            Record::Node(node, it)
        }
        Record::Task(key, mut task) => {
            for attempt in &mut Arc::make_mut(&mut task).attempts {
                let live = |member: &&mut Member| member.node == id && member.phase != Phase::Ended;
                attempt.members.iter_mut().filter(live).for_each(|member| member.incarnation = incarnation);
            }
            Record::Task(key, task)
        }
        record => record,
    }
}

/// The reports of members that were replaced, as if they were of those that have their ranks now.
pub(crate) fn unreplaced(state: &State, wish: &ReportAttempts) -> Vec<ReportAttempts> {
    let mut astray: BTreeMap<(NodeId, Incarnation), Vec<AttemptReport>> = BTreeMap::new();
    for report in &wish.reports {
        let key = report.member;
        let Some(attempt) = state.attempt(key.task, key.attempt) else { continue };
        let Some(member) = attempt.members.get(key.rank.0 as usize) else { continue };
        if key.replacement < member.replacement && member.phase != Phase::Ended {
            let key = attempt.member_key(key.task, key.rank);
            let reports = astray.entry((member.node, member.incarnation)).or_default();
            reports.push(AttemptReport { member: key, ..report.clone() });
        }
    }
    astray.into_iter().map(|((node, incarnation), reports)| ReportAttempts { node, incarnation, reports }).collect()
}

/// The reports of attempts that are over, as if they were of the one that their task has now.
pub(crate) fn unfenced(state: &State, wish: &ReportAttempts) -> Vec<ReportAttempts> {
    let mut astray: BTreeMap<(NodeId, Incarnation), Vec<AttemptReport>> = BTreeMap::new();
    for report in &wish.reports {
        let Some(attempt) = state.task(report.member.task).and_then(|task| task.attempts.last()) else { continue };
        let Some(member) = attempt.members.get(report.member.rank.0 as usize) else { continue };
        if attempt.number != report.member.attempt && member.phase != Phase::Ended {
            let key = MemberKey { attempt: attempt.number, epoch: attempt.epoch, ..report.member };
            let reports = astray.entry((member.node, member.incarnation)).or_default();
            reports.push(AttemptReport { member: key, ..report.clone() });
        }
    }
    astray.into_iter().map(|((node, incarnation), reports)| ReportAttempts { node, incarnation, reports }).collect()
}
