//! What is held against nodes, added up from what happened, in another way than the state does it.

use std::collections::BTreeMap;

use flowyard_model::*;
use flowyard_state::{State, points_at};

/// What is known to be held against each node: so much, as of a time.
#[derive(Default)]
pub(crate) struct Reference {
    held: BTreeMap<NodeId, (u64, TimeMs)>,
}

impl Reference {
    /// An entry was applied.
    pub(crate) fn follow(&mut self, before: &State, now: &State, command: &Command) {
        self.held.retain(|id, _| now.node(*id).is_some());
        if let Command::ChangeNode(ChangeNode { node, change: NodeChange::Forgive, .. }) = command {
            self.held.remove(node);
        }
        if now.version() >= ClusterVersion::ACCESS && before.version() >= ClusterVersion::ACCESS {
            lost(before, now).into_iter().for_each(|id| self.add(id, 3_000, now.time()));
            ended(before, now).into_iter().for_each(|(id, milli)| self.add(id, milli, now.time()));
        }
        for (id, node) in now.nodes() {
            let (known, told) = (self.at(id, now.time()), node.discredit.as_deref());
            let told = told.map_or(0, |discredit| points_at(discredit, now.time()));
            // What is nearly nothing is forgotten; where it is added in another order, a thousandth may be cut off each time.
            assert!(
                known.abs_diff(told) <= 20 || (told == 0 && known < 520),
                "node {id}: {known} are held, not {told}"
            );
            if told == 0 {
                self.held.remove(&id);
            }
            let shunned = node.standing() == Standing::Shunned;
            assert!(!shunned || known + 20 >= 10_000 || told < 10_000, "node {id} is shunned for {known}");
        }
    }

    fn at(&self, id: NodeId, now: TimeMs) -> u64 {
        let (points_milli, at) = self.held.get(&id).copied().unwrap_or((0, now));
        let discredit = Discredit { points_milli, at, standing: Standing::Trusted, until: at, recent: vec![] };
        points_at(&discredit, now)
    }

    fn add(&mut self, id: NodeId, milli: u64, now: TimeMs) {
        let sum = (self.at(id, now) + milli).min(20_000);
        self.held.insert(id, (sum, now));
    }
}

/// Nodes open to new work that were lost, or what ran there.
fn lost(before: &State, now: &State) -> Vec<NodeId> {
    let was_lost = |(id, node): (NodeId, &std::sync::Arc<Node>)| {
        let old = before.node(id)?;
        let down = node.health == Health::Down && old.health != Health::Down;
        let forgot = node.incarnation != old.incarnation
            && before
                .live_members(id)
                .any(|(key, ..)| end_of(now, key).is_some_and(|end| end.reason == Reason::NodeLost));
        ((down || forgot) && old.scheduling == Scheduling::Open).then_some(id)
    };
    now.nodes().filter_map(was_lost).collect()
}

/// What members that ended count against their nodes.
fn ended(before: &State, now: &State) -> Vec<(NodeId, u64)> {
    let nodes = before.nodes().map(|(id, _)| id).collect::<Vec<_>>().into_iter();
    let of_node = |id: NodeId| {
        let live = before.live_members(id).filter(|(key, ..)| !was_given_up_for_others(now, *key));
        let ends = live.filter_map(|(key, ..)| end_of(now, key));
        let failed = ends.filter(|end| end.outcome >= AttemptOutcome::Failed && end.reason != Reason::NodeLost);
        let bad = failed.filter(|end| {
            !matches!(end.outcome, AttemptOutcome::Stopped | AttemptOutcome::Preempted) && end.blame != Blame::User
        });
        let counts = bad.map(|end| if end.blame == Blame::Hardware { 3_000 } else { 1_000 }).collect::<Vec<_>>();
        counts.into_iter().map(move |milli| (id, milli))
    };
    nodes.flat_map(of_node).collect()
}

/// Whether it had no part in its gang's being given up: some agent took nothing of it, but its own did.
fn was_given_up_for_others(state: &State, key: MemberKey) -> bool {
    let Some(attempt) = state.attempt(key.task, key.attempt) else { return false };
    let member = &attempt.members[key.rank.0 as usize];
    let stuck = member.end.as_ref().is_some_and(|end| end.reason == Reason::Stuck);
    stuck && attempt.desired == AttemptDesired::GiveUp && member.stuck.is_none()
}

fn end_of(state: &State, key: MemberKey) -> Option<&End> {
    state.attempt(key.task, key.attempt)?.members[key.rank.0 as usize].end.as_deref()
}
