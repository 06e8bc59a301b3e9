//! Nodes on which much failed are given work last, or none, and are nodes like any other once that is long ago.

use super::*;

fn nodes(count: u64, cpus: u64) -> State {
    let mut state = cluster(cpus);
    for at in 1..count {
        let name = format!("n{at}").parse().unwrap();
        let wish = RegisterNode { name, inventory: Arc::new(inventory(cpus)), previous: None };
        perform(&mut state, Command::RegisterNode(wish));
    }
    state
}

/// Something ends on a node as the hardware's fault.
fn fail_on(state: &mut State, node: NodeId) {
    let (member, ..) = state.live_members(node).next().expect("something runs there");
    let end = End {
        outcome: AttemptOutcome::Failed,
        reason: Reason::Device,
        blame: Blame::Hardware,
        exit_code: None,
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    };
    let report = AttemptReport {
        member,
        phase: Phase::Ended,
        times: PhaseTimes::NONE,
        end: Some(Arc::new(end)),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    };
    let incarnation = state.node(node).unwrap().incarnation;
    perform(state, Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
    check_all(state).unwrap();
}

fn at(state: &mut State, time: TimeMs) {
    let index = Revision(state.revision().0 + 1);
    apply(state, Entry { index, time, command: Command::Tick });
}

/// A round of one that follows, which a new one would make alike; where each task went.
pub(super) fn next(scheduler: &mut Scheduler, state: &mut State) -> Vec<u64> {
    let mut proposed = scheduler.round(state, state.time(), BOUND).plans;
    let mut fresh = Scheduler::new(0).round(state, state.time(), BOUND).plans;
    proposed.iter_mut().chain(&mut fresh).for_each(|plan| plan.made_from = None);
    assert_eq!(proposed, fresh, "what is remembered makes no difference");
    let mut nodes = Vec::new();
    for plan in proposed {
        nodes.extend(plan.placements.iter().flat_map(|it| &it.members).map(|seat| seat.node.0));
        let taken = Reply::PlanCommitted { refused: vec![], refused_claims: vec![] };
        assert_eq!(perform(state, Command::CommitPlan(plan)), taken);
    }
    nodes.sort_unstable();
    nodes
}

#[test]
fn what_fits_elsewhere_is_not_placed_where_something_failed() {
    let (mut state, mut scheduler) = (nodes(3, 2), Scheduler::new(0));
    submit(&mut state, "default", step(3));
    assert_eq!(next(&mut scheduler, &mut state), [1, 2, 3], "they are spread");
    fail_on(&mut state, NodeId(1));
    assert_eq!(state.node(NodeId(1)).unwrap().standing(), Standing::Avoided);
    submit(&mut state, "default", step(2));
    assert_eq!(next(&mut scheduler, &mut state), [2, 3], "the empty node is avoided");
    submit(&mut state, "default", StepSpec { size: 2, ..step(1) });
    assert_eq!(next(&mut scheduler, &mut state), [1, 1], "and used where nothing else fits");
}

#[test]
fn a_gang_goes_to_nodes_that_are_trusted_although_it_would_be_together_on_one_that_is_not() {
    let (mut state, mut scheduler) = (nodes(3, 2), Scheduler::new(0));
    submit(&mut state, "default", step(3));
    assert_eq!(next(&mut scheduler, &mut state), [1, 2, 3]);
    fail_on(&mut state, NodeId(2));
    submit(&mut state, "default", StepSpec { size: 2, ..step(1) });
    assert_eq!(next(&mut scheduler, &mut state), [1, 3]);
}

#[test]
fn where_much_failed_nothing_is_placed_until_that_is_long_ago() {
    let (mut state, mut scheduler) = (nodes(4, 5), Scheduler::new(0));
    submit(&mut state, "default", step(20));
    assert_eq!(next(&mut scheduler, &mut state).len(), 20);
    (0..4).for_each(|_| fail_on(&mut state, NodeId(1)));
    assert_eq!(state.node(NodeId(1)).unwrap().standing(), Standing::Shunned);
    submit(&mut state, "default", step(1));
    // The tasks that failed wait for their next try, the other one for room.
    assert_eq!(next(&mut scheduler, &mut state), [] as [u64; 0]);
    // Points are halved after an hour; those that were tried are ready before.
    let until = state.node(NodeId(1)).unwrap().discredit.as_ref().unwrap().until;
    at(&mut state, TimeMs(until.0 - 1));
    assert_eq!(next(&mut scheduler, &mut state), [] as [u64; 0]);
    at(&mut state, until);
    assert_eq!(next(&mut scheduler, &mut state), [1, 1, 1, 1]);
}
