//! Gangs in a cluster with a declared topology.

use super::*;
use crate::NearRoom;
use crate::why::reasons;

/// A cluster of two blocks: racks of two nodes, and a node that says nothing of where it is. Each node has two CPUs.
///
/// | block | rack | nodes |
/// |---|---|---|
/// | a | 1, 2 | 1 2, 3 4 |
/// | b | 1 | 5 6 |
/// | | | 7 |
pub(super) fn yard() -> State {
    let mut state = State::new();
    perform(&mut state, Command::RaiseVersion { version: ClusterVersion::ACCESS });
    declare(&mut state, &["block", "rack"]);
    for (at, (block, rack)) in (1..).zip([("a", "1"), ("a", "1"), ("a", "2"), ("a", "2"), ("b", "1"), ("b", "1")]) {
        register(&mut state, at, &[("block", block), ("rack", rack)]);
    }
    register(&mut state, 7, &[]);
    state
}

fn declare(state: &mut State, levels: &[&str]) {
    let topology = levels.iter().map(|level| level.parse().unwrap()).collect();
    assert_eq!(perform(state, Command::PutPolicy(Policy { topology, ..Policy::default() }.into())), Reply::Done);
}

pub(super) fn register(state: &mut State, at: u32, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(name, value)| (name.parse().unwrap(), (*value).to_owned())).collect();
    let inventory = Arc::new(Inventory { labels, ..inventory(2) });
    let wish = RegisterNode { name: format!("n{at}").parse().unwrap(), inventory, previous: None };
    perform(state, Command::RegisterNode(wish));
}

fn near(level: &str, need: bool) -> Placing {
    Placing { near: Some(Near { level: level.parse().unwrap(), need }), ..Placing::default() }
}

pub(super) fn gang(size: u32, placing: Placing) -> StepSpec {
    StepSpec { size, placing, ..step(1) }
}

/// The nodes of the members that a round places, in the order of their ranks, by job.
fn seats(scheduler: &mut Scheduler, state: &mut State) -> BTreeMap<u64, Vec<u64>> {
    let mut seats = BTreeMap::new();
    for plan in scheduler.round(state, state.time(), BOUND).plans {
        for placement in &plan.placements {
            seats.insert(placement.task.job.0, placement.members.iter().map(|seat| seat.node.0).collect());
        }
        assert_eq!(
            perform(state, Command::CommitPlan(plan)),
            Reply::PlanCommitted { refused: vec![], refused_claims: vec![] }
        );
    }
    seats
}

#[test]
fn gangs_go_to_the_lowest_domain_that_holds_them() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    submit(&mut state, "default", gang(4, Placing::default()));
    assert_eq!(seats(&mut scheduler, &mut state), [(1, vec![1, 1, 2, 2])].into(), "one rack of four");
    submit(&mut state, "default", gang(5, Placing::default()));
    let wide = seats(&mut scheduler, &mut state);
    assert_eq!(wide, [(2, vec![3, 3, 4, 4, 7])].into(), "no block holds five any more: most of them in one");
}

#[test]
fn a_gang_waits_for_the_level_that_it_needs_and_does_not_for_one_that_it_prefers() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    // One of each rack is taken.
    for labels in [[("block", "a"), ("rack", "1")], [("block", "a"), ("rack", "2")], [("block", "b"), ("rack", "1")]] {
        let constraint = |(label, value): (&str, &str)| Constraint {
            label: label.parse().unwrap(),
            operator: ConstraintOperator::In,
            values: vec![value.to_owned()],
        };
        submit(&mut state, "default", StepSpec { constraints: labels.map(constraint).into(), ..step(1) });
    }
    assert_eq!(round(&mut scheduler, &mut state).len(), 3);
    submit(&mut state, "default", gang(4, near("rack", true)));
    submit(&mut state, "default", gang(4, near("rack", false)));
    submit(&mut state, "default", gang(4, near("block", true)));
    let placed = seats(&mut scheduler, &mut state);
    assert_eq!(placed.keys().copied().collect::<Vec<_>>(), [5], "only what does not insist: {placed:?}");
    assert!(placed[&5].iter().all(|node| *node <= 4), "and that in one block: {placed:?}");
    // Room is kept for the first that waits, which does not keep that one out.
    let first = TaskKey { job: JobId(4), step: StepIndex(0), task: TaskIndex(0) };
    assert!(state.claim(&first).is_some(), "room is kept for it");
    let room = reasons(&state, first).unwrap().near.unwrap();
    assert_eq!((room.level.as_str(), room.domains, room.most_when_empty), ("rack", 4, 4));
    let (domain, members) = room.most.unwrap();
    assert!(members == 3 && domain == ["b", "1"], "{domain:?} {members}");
}

#[test]
fn what_a_level_is_may_change_while_work_waits() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    submit(&mut state, "default", gang(6, near("rack", true)));
    submit(&mut state, "default", gang(5, near("block", true)));
    assert_eq!(seats(&mut scheduler, &mut state).keys().copied().collect::<Vec<_>>(), [2]);
    let waiting = state.job(JobId(1)).unwrap().spec.steps[0].clone();
    assert!(!could_ever_run(&state, &waiting), "no rack is so large");
    assert!(
        could_ever_run(&state, &gang(8, near("block", true))) && !could_ever_run(&state, &gang(9, near("block", true)))
    );
    // All that say of a rack that it is number 1 are in one domain now.
    declare(&mut state, &["rack"]);
    assert!(could_ever_run(&state, &waiting));
    declare(&mut state, &[]);
    let gone = NearRoom { level: "rack".parse().unwrap(), domains: 0, most: None, most_when_empty: 0 };
    let first = TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(0) };
    assert_eq!(reasons(&state, first).unwrap().near, Some(gone), "nobody says what a rack is");
    assert!(seats(&mut scheduler, &mut state).is_empty());
    declare(&mut state, &["rack"]);
    let fresh = Scheduler::new(0).round(&state, state.time(), BOUND);
    assert_eq!(scheduler.round(&state, state.time(), BOUND), fresh);
    declare(&mut state, &["zone", "rack"]);
    assert_eq!(scheduler.round(&state, state.time(), BOUND).plans, []);
}

#[test]
fn nodes_that_come_later_are_where_their_labels_say() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    submit(&mut state, "default", gang(6, near("rack", true)));
    assert!(seats(&mut scheduler, &mut state).is_empty());
    register(&mut state, 8, &[("block", "b"), ("rack", "1")]);
    assert_eq!(seats(&mut scheduler, &mut state), [(1, vec![5, 5, 6, 6, 8, 8])].into());
}

#[test]
fn work_of_one_member_goes_where_it_would_rather_be_as_long_as_there_is_room() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    let prefer = [("block", "b", 50), ("block", "a", 10), ("rack", "2", 60)].map(|(label, value, weight)| {
        let (label, values) = (label.parse().unwrap(), vec![value.to_owned()]);
        Preference { constraint: Constraint { label, operator: ConstraintOperator::In, values }, weight }
    });
    let placing = Placing { prefer: prefer.into(), ..Placing::default() };
    submit(&mut state, "default", StepSpec { placing, ..step(13) });
    let mut nodes = Vec::new();
    for plan in scheduler.round(&state, state.time(), BOUND).plans {
        nodes.extend(plan.placements.iter().map(|placement| placement.members[0].node.0));
    }
    // Rack 2 of block a has 70, block b 50, rack 1 of block a 10, and where nothing is said there is nothing to like.
    nodes[..12].as_chunks_mut::<4>().0.iter_mut().for_each(|four| four.sort_unstable());
    assert_eq!(nodes, [3, 3, 4, 4, 5, 5, 6, 6, 1, 1, 2, 2, 7]);
    register(&mut state, 8, &[("block", "b"), ("rack", "2")]);
    let fresh = Scheduler::new(0).round(&state, state.time(), BOUND);
    assert_eq!(scheduler.round(&state, state.time(), BOUND), fresh);
    assert_eq!(fresh.plans[0].placements[0].members[0].node.0, 8, "it likes this one most");
}
