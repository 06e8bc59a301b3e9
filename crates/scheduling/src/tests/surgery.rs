//! Gangs that lost members, and who comes in their place.

use super::beside::end;
use super::near::{gang, register, yard};
use super::*;
use crate::why::reasons;

/// A gang that goes on without members for a minute.
fn lasting(size: u32, near: Option<Near>) -> StepSpec {
    gang(size, Placing { near, replace: Some(Replace { within_ms: 60_000 }), ..Placing::default() })
}

fn lose(state: &mut State, node: u64) {
    let incarnation = state.node(NodeId(node)).unwrap().incarnation;
    let health = Command::SetNodeHealth { node: NodeId(node), incarnation, health: Health::Down };
    assert_eq!(perform(state, health), Reply::Done);
}

fn return_anew(state: &mut State, node: u64) {
    let node = state.node(NodeId(node)).unwrap();
    let wish = RegisterNode { name: node.name.clone(), inventory: node.inventory.clone(), previous: None };
    perform(state, Command::RegisterNode(wish));
}

/// The nodes of ranks.
type Repaired = Vec<(u32, u64)>;

/// The nodes of jobs that are placed, and of ranks that somebody has again.
type Told = (Vec<(u64, Vec<u64>)>, Vec<(u64, Repaired)>);

/// What a round proposes, after which all of it is done: the nodes of the jobs that are placed, and of the ranks that somebody has again.
/// One that knows nothing would propose the same.
fn round(scheduler: &mut Scheduler, state: &mut State) -> Told {
    let proposal = scheduler.round(state, state.time(), BOUND);
    assert_eq!(proposal, Scheduler::new(0).round(state, state.time(), BOUND), "what is remembered makes no difference");
    let (mut placed, mut repaired) = (Vec::new(), Vec::new());
    for plan in proposal.plans {
        let seats = |it: &RepairWish| it.seats.iter().map(|(rank, seat)| (rank.0, seat.node.0)).collect();
        repaired.extend(plan.repairs.iter().map(|it| (it.task.job.0, seats(it))));
        let nodes = |it: &Placement| it.members.iter().map(|seat| seat.node.0).collect();
        placed.extend(plan.placements.iter().map(|it| (it.task.job.0, nodes(it))));
        let taken = Reply::PlanCommitted { refused: vec![], refused_claims: vec![] };
        assert_eq!(perform(state, Command::CommitPlan(plan)), taken);
        check_all(state).unwrap();
    }
    (placed, repaired)
}

fn open(state: &State) -> usize {
    let attempts = state.repairs().filter_map(|(_, key)| state.task(key)?.attempts.last()?.repair());
    attempts.map(|repair| repair.open.len()).sum()
}

#[test]
fn who_comes_is_as_near_to_the_others_as_there_is_room() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    submit(&mut state, "default", lasting(4, None));
    assert_eq!(round(&mut scheduler, &mut state).0, [(1, vec![1, 1, 2, 2])]);
    lose(&mut state, 2);
    // In the other rack of its block, though the node without a place in the topology is as free.
    assert_eq!(round(&mut scheduler, &mut state), (vec![], vec![(1, vec![(2, 3), (3, 3)])]));
    lose(&mut state, 1);
    return_anew(&mut state, 2);
    // Beside those that live now.
    assert_eq!(round(&mut scheduler, &mut state), (vec![], vec![(1, vec![(0, 4), (1, 4)])]));
    let attempt = state.repairs().next();
    assert_eq!(attempt, None, "it is whole");
}

#[test]
fn a_level_that_is_needed_is_needed_by_who_comes() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    let rack = Near { level: "rack".parse().unwrap(), need: true };
    submit(&mut state, "default", lasting(4, Some(rack)));
    assert_eq!(round(&mut scheduler, &mut state).0, [(1, vec![1, 1, 2, 2])]);
    lose(&mut state, 2);
    assert_eq!(round(&mut scheduler, &mut state), (vec![], vec![]), "its rack has no room");
    return_anew(&mut state, 2);
    assert_eq!(round(&mut scheduler, &mut state), (vec![], vec![(1, vec![(2, 2), (3, 2)])]));
}

#[test]
fn newcomers_do_not_take_the_place_however_urgent_they_are() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    let limit = QueueAmounts { cpu_milli: Some(14_000), ..QueueAmounts::default() };
    put(&mut state, Queue { limit, ..queue("default") });
    submit(&mut state, "default", lasting(14, None));
    assert_eq!(round(&mut scheduler, &mut state).0.len(), 1, "it fills all seven nodes");
    lose(&mut state, 3);
    put(&mut state, queue("other"));
    submit(&mut state, "default", StepSpec { priority: 100, ..step(50) });
    submit(&mut state, "other", StepSpec { priority: 100, ..step(50) });
    assert_eq!((round(&mut scheduler, &mut state), open(&state)), ((vec![], vec![]), 2), "there is no room");
    // A node of one CPU comes: one of the two ranks has it, before all others.
    register(&mut state, 8, &[("block", "b")]);
    let (placed, repaired) = round(&mut scheduler, &mut state);
    assert_eq!((placed, repaired.len(), open(&state)), (vec![], 1, 0));
    // What is left is for the others, as far as the bound of the queue goes.
    register(&mut state, 9, &[]);
    let (placed, repaired) = round(&mut scheduler, &mut state);
    let jobs: Vec<u64> = placed.iter().map(|(job, _)| *job).collect();
    assert_eq!((jobs, repaired.len()), (vec![3, 3], 0));
}

#[test]
fn a_queue_does_not_give_away_what_is_kept_for_an_open_rank() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    let limit = QueueAmounts { cpu_milli: Some(4_000), ..QueueAmounts::default() };
    put(&mut state, Queue { limit, ..queue("default") });
    let rack = Near { level: "rack".parse().unwrap(), need: true };
    submit(&mut state, "default", lasting(4, Some(rack)));
    round(&mut scheduler, &mut state);
    submit(&mut state, "default", step(3));
    lose(&mut state, 2);
    // There is room for the newcomers elsewhere, and none in the queue.
    assert_eq!((round(&mut scheduler, &mut state), open(&state)), ((vec![], vec![]), 2));
    let cancel = Command::CancelJob { job: JobId(1) };
    assert_eq!(perform(&mut state, cancel), Reply::Done);
    // Two are held by those that live until they have stopped, and two are free again.
    assert_eq!(round(&mut scheduler, &mut state).0.len(), 2);
}

#[test]
fn several_gangs_are_repaired_in_the_order_in_which_they_are_given_up() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    submit(&mut state, "default", lasting(3, None));
    submit(&mut state, "default", lasting(3, None));
    submit(&mut state, "default", step(8));
    round(&mut scheduler, &mut state);
    let member = |state: &State, job: u64, rank: usize| {
        let key = TaskKey { job: JobId(job), step: StepIndex(0), task: TaskIndex(0) };
        state.task(key).unwrap().attempts.last().unwrap().members[rank].node.0
    };
    // The younger loses a member first.
    for job in [2, 1] {
        let node = member(&state, job, 2);
        lose(&mut state, node);
    }
    assert_eq!(open(&state), 2, "each has lost one");
    register(&mut state, 8, &[]);
    let (_, repaired) = round(&mut scheduler, &mut state);
    assert_eq!(repaired.iter().map(|(job, _)| *job).collect::<Vec<_>>(), [2, 1]);
}

/// A gang that starts with as many as there is room for.
fn elastic(size: u32, least: u32) -> StepSpec {
    gang(size, Placing { min_size: Some(least), ..Placing::default() })
}

#[test]
fn a_gang_of_no_fixed_size_starts_with_as_many_as_there_is_room_for_and_not_with_fewer_than_its_least() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    submit(&mut state, "default", elastic(10, 4));
    submit(&mut state, "default", elastic(10, 4));
    submit(&mut state, "default", elastic(2, 1));
    let placed = round(&mut scheduler, &mut state).0;
    assert_eq!(placed.iter().map(|(job, nodes)| (*job, nodes.len())).collect::<Vec<_>>(), [(1, 10), (3, 2)]);
    // Two are left for the next, which needs four, until more come.
    assert_eq!(round(&mut scheduler, &mut state), (vec![], vec![]));
    register(&mut state, 8, &[]);
    register(&mut state, 9, &[]);
    let placed = round(&mut scheduler, &mut state).0;
    assert_eq!(placed.iter().map(|(job, nodes)| (*job, nodes.len())).collect::<Vec<_>>(), [(2, 6)]);
}

#[test]
fn a_gang_of_no_fixed_size_starts_with_as_many_as_its_queue_may_have() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    let limit = QueueAmounts { cpu_milli: Some(5_000), ..QueueAmounts::default() };
    put(&mut state, Queue { limit, ..queue("default") });
    submit(&mut state, "default", elastic(8, 2));
    let placed = round(&mut scheduler, &mut state).0;
    assert_eq!(placed.iter().map(|(job, nodes)| (*job, nodes.len())).collect::<Vec<_>>(), [(1, 5)]);
}

#[test]
fn what_could_start_with_its_least_is_not_refused() {
    let state = yard();
    assert!(could_ever_run(&state, &elastic(1_000, 14)));
    assert!(!could_ever_run(&state, &elastic(1_000, 15)));
}

#[test]
fn who_comes_keeps_to_what_may_be_beside_what() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    let lonely =
        |more: Placing| gang(3, Placing { unique_host: true, replace: Some(Replace { within_ms: 60_000 }), ..more });
    submit(&mut state, "default", lonely(Placing::default()));
    let (placed, _) = round(&mut scheduler, &mut state);
    let nodes = placed[0].1.clone();
    lose(&mut state, nodes[1]);
    let (_, repaired) = round(&mut scheduler, &mut state);
    let (rank, node) = repaired[0].1[0];
    assert_eq!((repaired[0].0, rank), (1, 1));
    assert!(!nodes.contains(&node), "a node of its own: {nodes:?} {node}");
    // The only nodes with room for one more have one of it, until another node comes.
    let mut state = yard();
    (3..=7).for_each(|node| lose(&mut state, node));
    register(&mut state, 8, &[("block", "a"), ("rack", "1")]);
    submit(&mut state, "default", lonely(Placing::default()));
    assert_eq!(round(&mut scheduler, &mut state).0.len(), 1);
    lose(&mut state, 8);
    assert_eq!((round(&mut scheduler, &mut state), open(&state)), ((vec![], vec![]), 1));
    return_anew(&mut state, 5);
    assert_eq!(round(&mut scheduler, &mut state).1.len(), 1);
}

#[test]
fn room_that_falls_free_in_pieces_is_kept_for_a_rank_that_needs_more() {
    let mut state = State::new();
    perform(&mut state, Command::RaiseVersion { version: ClusterVersion::ACCESS });
    (1..=3).for_each(|at| register(&mut state, at, &[]));
    let mut scheduler = Scheduler::new(0);
    let mut whole = lasting(2, None);
    whole.resources.cpu_milli = 2_000;
    submit(&mut state, "default", whole);
    round(&mut scheduler, &mut state);
    submit_for(&mut state, "default", "many", step(500));
    round(&mut scheduler, &mut state);
    // The gang has two of three nodes, and the third is full of small work, of which more waits.
    let gang: Vec<u64> = (1..=3).filter(|node| on(&state, *node).iter().all(|key| key.task.job == JobId(1))).collect();
    let third = (1..=3).find(|node| !gang.contains(node)).unwrap();
    assert_eq!((gang.len(), on(&state, third).len()), (2, 2));
    lose(&mut state, gang[1]);
    assert_eq!((round(&mut scheduler, &mut state), open(&state)), ((vec![], vec![]), 1));
    assert_eq!(
        crate::kept_for(&state, TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(0) }),
        [NodeId(third)]
    );
    for turn in 1..=2 {
        let small = on(&state, third)[0];
        end(&mut state, NodeId(third), small);
        let (placed, repaired) = round(&mut scheduler, &mut state);
        assert_eq!(placed, [], "nobody takes what falls free");
        assert_eq!(repaired, if turn < 2 { vec![] } else { vec![(1, vec![(1, third)])] });
    }
    return_anew(&mut state, gang[1]);
    assert_eq!(round(&mut scheduler, &mut state).0.len(), 2, "all else goes on");
}

fn on(state: &State, node: u64) -> Vec<MemberKey> {
    state.live_members(NodeId(node)).map(|(key, ..)| key).collect()
}

#[test]
fn what_is_kept_for_an_open_rank_is_no_room_for_a_gang_that_has_to_be_near() {
    let mut state = yard();
    let mut scheduler = Scheduler::new(0);
    let constraint = |label: &str, operator, values: &[&str]| Constraint {
        label: label.parse().unwrap(),
        operator,
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let mut lasting = lasting(2, None);
    lasting.resources.cpu_milli = 1_500;
    submit(&mut state, "default", lasting);
    assert_eq!(round(&mut scheduler, &mut state).0, [(1, vec![1, 2])]);
    // One each on all other nodes, so that 1.5 CPUs are free nowhere; in the second rack they are over soonest.
    let blocks = [
        constraint("block", ConstraintOperator::In, &["b"]),
        constraint("block", ConstraintOperator::Absent, &[]),
        constraint("rack", ConstraintOperator::In, &["2"]),
    ];
    for (constraint, (tasks, timeout_ms)) in blocks.into_iter().zip([(2, None), (1, None), (2, Some(1_000))]) {
        let placing = Placing { unique_host: true, ..Placing::default() };
        submit(&mut state, "default", StepSpec { constraints: vec![constraint], placing, timeout_ms, ..step(tasks) });
    }
    assert_eq!(round(&mut scheduler, &mut state).0.len(), 5);
    lose(&mut state, 2);
    assert_eq!((round(&mut scheduler, &mut state), open(&state)), ((vec![], vec![]), 1), "there is no room");
    let near = Some(Near { level: "rack".parse().unwrap(), need: true });
    let constraints = vec![constraint("block", ConstraintOperator::In, &["a"])];
    let asked = StepSpec { constraints, ..gang(2, Placing { near, ..Placing::default() }) };
    submit(&mut state, "default", asked);
    let task = TaskKey { job: JobId(5), step: StepIndex(0), task: TaskIndex(0) };
    let near = reasons(&state, task).unwrap().near.unwrap();
    assert_eq!(near.most, Some((vec!["a".to_owned(), "2".to_owned()], 1)), "the other CPU that is free there is kept");
}
