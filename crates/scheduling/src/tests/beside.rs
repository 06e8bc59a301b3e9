//! Steps that are spread, and that keep apart; and how much of a job, and on a node, starts at a time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Racks of two nodes of four CPUs, and a node without a rack.
fn yard(racks: u32) -> State {
    let mut state = State::new();
    perform(&mut state, Command::RaiseVersion { version: ClusterVersion::ACCESS });
    for rack in 0..racks {
        register(&mut state, 2 * rack + 1, Some(rack));
        register(&mut state, 2 * rack + 2, Some(rack));
    }
    register(&mut state, 2 * racks + 1, None);
    state
}

fn register(state: &mut State, at: u32, rack: Option<u32>) {
    let labels = rack.map(|rack| ("rack".parse().unwrap(), rack.to_string())).into_iter().collect();
    let inventory = Arc::new(Inventory { labels, ..inventory(4) });
    let known = state.node_named(&format!("n{at}").parse().unwrap()).map(|(id, node)| (id, node.incarnation));
    let wish = RegisterNode { name: format!("n{at}").parse().unwrap(), inventory, previous: known };
    assert!(matches!(perform(state, Command::RegisterNode(wish)), Reply::Registered { .. }));
}

fn send(state: &mut State, tags: &[&str], step: StepSpec) {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let spec = JobSpec { tags, ..fixture::spec("default", step) };
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "me".to_owned(), key: None };
    assert!(matches!(perform(state, Command::SubmitJob(wish)), Reply::Submitted { .. }));
}

fn spread(over: &str, at_most: Option<u32>) -> Placing {
    Placing { spread: Some(Spread { over: over.parse().unwrap(), at_most }), ..Placing::default() }
}

fn apart(tags: &[&str]) -> Placing {
    Placing { apart: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..Placing::default() }
}

/// Plans and commits until nothing more is placed; the nodes of the members by job, in order.
fn settle(scheduler: &mut Scheduler, state: &mut State) -> BTreeMap<u64, Vec<u64>> {
    let mut seats: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    loop {
        let plans = scheduler.round(state, state.time(), BOUND).plans;
        if plans.is_empty() {
            return seats;
        }
        for plan in plans {
            for placement in &plan.placements {
                let nodes = placement.members.iter().map(|seat| seat.node.0);
                seats.entry(placement.task.job.0).or_default().extend(nodes);
            }
            let taken = Reply::PlanCommitted { refused: vec![], refused_claims: vec![] };
            assert_eq!(perform(state, Command::CommitPlan(plan)), taken);
            check_all(state).unwrap();
        }
    }
}

pub(super) fn end(state: &mut State, node: NodeId, member: MemberKey) {
    let end = End {
        outcome: AttemptOutcome::Succeeded,
        reason: Reason::Exit,
        blame: Blame::User,
        exit_code: Some(0),
        signal: None,
        message: String::new(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: Default::default(),
        logs: Logs::NONE,
    };
    report(state, node, member, Phase::Ended, Some(end));
}

fn report(state: &mut State, node: NodeId, member: MemberKey, phase: Phase, end: Option<End>) {
    let report = AttemptReport {
        member,
        phase,
        times: PhaseTimes::NONE,
        end: end.map(Arc::new),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    };
    let incarnation = state.node(node).unwrap().incarnation;
    perform(state, Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
}

fn live(state: &State) -> Vec<(NodeId, MemberKey)> {
    state.nodes().flat_map(|(id, _)| state.live_members(id).map(move |(key, ..)| (id, key))).collect()
}

#[test]
fn tasks_of_a_step_go_to_every_rack_and_wait_where_no_more_may_be_in_one() {
    let mut state = yard(2);
    let mut scheduler = Scheduler::new(0);
    send(&mut state, &[], StepSpec { placing: spread("rack", Some(2)), ..step(9) });
    let mut nodes = settle(&mut scheduler, &mut state).remove(&1).unwrap();
    assert_eq!(nodes[..3].iter().map(|node| node.div_ceil(2)).collect::<BTreeSet<_>>().len(), 3, "one in each first");
    nodes.sort_unstable();
    let racks: Vec<u64> = nodes.iter().map(|node| node.div_ceil(2)).collect();
    assert_eq!(racks, [1, 1, 2, 2, 3, 3]);
    let (node, member) = live(&state)[0];
    end(&mut state, node, member);
    let next = settle(&mut scheduler, &mut state).remove(&1).unwrap();
    assert_eq!(next.iter().map(|node| node.div_ceil(2)).collect::<Vec<_>>(), [node.0.div_ceil(2)]);
    send(&mut state, &[], StepSpec { placing: spread("rack", Some(2)), ..step(1) });
    assert_eq!(settle(&mut scheduler, &mut state).len(), 1, "another job counts its own");
}

#[test]
fn a_node_has_one_member_of_a_step_at_a_time_and_a_gang_as_many_nodes_as_members() {
    let mut state = yard(1);
    let mut scheduler = Scheduler::new(0);
    let unique = Placing { unique_host: true, ..Placing::default() };
    send(&mut state, &[], StepSpec { placing: unique.clone(), ..step(5) });
    let mut nodes = settle(&mut scheduler, &mut state).remove(&1).unwrap();
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2, 3]);
    send(&mut state, &[], StepSpec { size: 3, placing: unique.clone(), ..step(2) });
    let mut nodes = settle(&mut scheduler, &mut state).remove(&2).unwrap();
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2, 3], "one gang; the other waits");
    assert!(!could_ever_run(&state, &StepSpec { size: 4, placing: unique, ..step(1) }), "there are three nodes");
    assert!(!could_ever_run(&state, &StepSpec { size: 5, placing: spread("rack", Some(2)), ..step(1) }));
    assert!(could_ever_run(&state, &StepSpec { size: 4, placing: spread("rack", Some(2)), ..step(1) }));
}

#[test]
fn what_keeps_apart_goes_elsewhere_and_keeps_others_away() {
    let mut state = yard(1);
    let mut scheduler = Scheduler::new(0);
    send(&mut state, &["loud"], step(2));
    let mut seats = settle(&mut scheduler, &mut state);
    send(&mut state, &[], StepSpec { placing: apart(&["loud"]), ..step(9) });
    send(&mut state, &["loud"], step(5));
    send(&mut state, &[], step(20));
    seats.extend(settle(&mut scheduler, &mut state));
    let of = |job: u64| seats[&job].iter().copied().collect::<BTreeSet<u64>>();
    assert!(of(1).is_disjoint(&of(2)) && of(3).is_disjoint(&of(2)), "{seats:?}");
    assert_eq!(
        seats[&2].len() + seats[&3].len() + seats.get(&4).map_or(0, Vec::len),
        10,
        "all room is used: {seats:?}"
    );
}

#[test]
fn nobody_is_kept_away_by_what_another_tenant_says_or_tags() {
    let mut state = yard(0);
    for path in ["lab", "lab/one", "lab/two", "other"] {
        put(&mut state, queue(path));
    }
    let send_to = |state: &mut State, queue: &str, tags: &[&str], step: StepSpec| {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let spec = JobSpec { tags, ..fixture::spec(queue, step) };
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "me".to_owned(), key: None };
        assert!(matches!(perform(state, Command::SubmitJob(wish)), Reply::Submitted { .. }));
    };
    let shy = || StepSpec { placing: apart(&["loud"]), ..step(1) };
    send_to(&mut state, "lab/one", &["loud"], step(1));
    let mut scheduler = Scheduler::new(0);
    assert_eq!(settle(&mut scheduler, &mut state).len(), 1);
    send_to(&mut state, "lab/two", &[], shy());
    send_to(&mut state, "other", &[], shy());
    send_to(&mut state, "other", &["loud"], step(1));
    let seats = settle(&mut scheduler, &mut state);
    assert_eq!(seats.keys().copied().collect::<Vec<_>>(), [3], "on the only node: {seats:?}");
    assert!(settle(&mut Scheduler::new(0), &mut state).is_empty(), "nor does one that knows nothing");
    end_all(&mut state);
    let seats = settle(&mut scheduler, &mut state);
    assert_eq!(seats.keys().copied().collect::<Vec<_>>(), [2, 4], "{seats:?}");
}

fn end_all(state: &mut State) {
    live(state).into_iter().for_each(|(node, member)| end(state, node, member));
}

#[test]
fn who_waits_for_a_tag_is_placed_once_the_last_with_it_has_ended() {
    let mut state = yard(0);
    let mut scheduler = Scheduler::new(0);
    send(&mut state, &["loud"], step(2));
    assert_eq!(settle(&mut scheduler, &mut state).len(), 1);
    send(&mut state, &["quiet"], StepSpec { placing: apart(&["loud"]), ..step(1) });
    for (left, placed) in [(1, 0), (0, 1)] {
        let (node, member) = live(&state)[0];
        end(&mut state, node, member);
        assert_eq!(live(&state).len(), left);
        assert_eq!(settle(&mut scheduler, &mut state).len(), placed);
    }
}

fn throttle(state: &mut State, per_job: Option<u32>, per_node: Option<u32>) {
    let policy = Policy { throttle: Throttle { per_job, per_node }, ..Policy::clone(state.policy()) };
    assert_eq!(perform(state, Command::PutPolicy(policy.into())), Reply::Done);
}

#[test]
fn what_waits_for_others_to_start_goes_on_as_soon_as_one_runs_and_holds_up_nobody() {
    let mut state = yard(1);
    let mut scheduler = Scheduler::new(0);
    throttle(&mut state, Some(2), None);
    send(&mut state, &[], step(4));
    send(&mut state, &[], step(1));
    let seats = settle(&mut scheduler, &mut state);
    assert_eq!((seats[&1].len(), seats[&2].len()), (2, 1));
    for _ in 0..2 {
        let (node, member) = *live(&state).iter().find(|(_, key)| key.task.job == JobId(1)).unwrap();
        report(&mut state, node, member, Phase::Running, None);
        let phase = |key: &MemberKey| state.attempt(key.task, key.attempt).unwrap().members[0].phase;
        assert_eq!(phase(&member), Phase::Running);
        end(&mut state, node, member);
        assert_eq!(settle(&mut scheduler, &mut state)[&1].len(), 1);
    }
    throttle(&mut state, None, Some(1));
    send(&mut state, &[], step(6));
    assert!(settle(&mut scheduler, &mut state).is_empty(), "on each node something is starting");
    let (node, member) = live(&state)[0];
    report(&mut state, node, member, Phase::Running, None);
    assert_eq!(settle(&mut scheduler, &mut state), [(3, vec![node.0])].into());
}

#[test]
fn the_steps_of_a_job_start_no_more_together_than_it_may() {
    let mut state = yard(1);
    let mut scheduler = Scheduler::new(0);
    throttle(&mut state, Some(3), None);
    let other = StepSpec { name: "b".parse().unwrap(), timeout_ms: Some(9), ..step(9) };
    let mut wide = other.clone();
    wide.resources.cpu_milli = 2_000;
    let spec = JobSpec { steps: vec![step(2), wide], ..fixture::spec("default", step(1)) };
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "me".to_owned(), key: None };
    assert!(matches!(perform(&mut state, Command::SubmitJob(wish)), Reply::Submitted { .. }));
    assert_eq!(settle(&mut scheduler, &mut state)[&1].len(), 3);
    // A gang that is larger goes where nothing else of its job is starting.
    send(&mut state, &[], StepSpec { size: 4, ..step(2) });
    assert_eq!(settle(&mut scheduler, &mut state)[&2].len(), 4);
}

#[test]
fn who_is_counted_in_a_rack_moves_with_its_node() {
    let mut state = yard(2);
    let mut scheduler = Scheduler::new(0);
    send(&mut state, &[], StepSpec { placing: spread("rack", Some(1)), ..step(9) });
    let nodes = settle(&mut scheduler, &mut state).remove(&1).unwrap();
    let first = *nodes.iter().find(|node| **node <= 2).unwrap();
    // It is in the other rack now, where there are two then, and nobody is in its own.
    register(&mut state, first as u32, Some(1));
    let next = settle(&mut scheduler, &mut state).remove(&1).unwrap();
    assert_eq!(next, [3 - first]);
}

/// A step that says something of what is beside it.
fn wish() -> impl Strategy<Value = (Vec<&'static str>, StepSpec)> {
    let tags = prop::sample::subsequence(vec!["a", "b"], 0..=2);
    let placing = prop_oneof![
        2 => Just(Placing::default()),
        2 => (prop::sample::select(vec!["rack", "host", "zone"]), prop::option::of(1u32..3))
            .prop_map(|(over, most)| spread(over, most.filter(|_| over != "zone"))),
        1 => Just(Placing { unique_host: true, ..spread("rack", Some(2)) }),
        2 => prop::sample::subsequence(vec!["a", "b", "c"], 1..=2).prop_map(|tags| apart(&tags)),
        1 => Just(Placing { pack: true, ..Placing::default() }),
    ];
    (tags, placing, 1u32..4, prop_oneof![3 => Just(1u32), 1 => 2u32..4], -1i32..2)
        .prop_map(|(tags, placing, tasks, size, priority)| (tags, StepSpec { placing, size, priority, ..step(tasks) }))
}

#[derive(Debug, Clone)]
enum Event {
    Send(Vec<&'static str>, Box<StepSpec>),
    End(usize),
    /// A node comes back with another label.
    Label(u32, Option<u32>),
    Cancel(u64),
    /// A plan that never comes into the log.
    Lose,
    /// One begins to run.
    Run(usize),
    Throttle(Option<u32>, Option<u32>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => wish().prop_map(|(tags, step)| Event::Send(tags, Box::new(step))),
        4 => (0usize..20).prop_map(Event::End),
        1 => (1u32..6, prop::option::of(0u32..3)).prop_map(|(at, rack)| Event::Label(at, rack)),
        1 => (1u64..9).prop_map(Event::Cancel),
        1 => Just(Event::Lose),
        4 => (0usize..20).prop_map(Event::Run),
        1 => (prop::option::of(1u32..5), prop::option::of(1u32..4)).prop_map(|(job, node)| Event::Throttle(job, node)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_a_scheduler_proposes_what_a_new_one_would_and_nothing_of_it_is_refused(
        events in prop::collection::vec(event(), 1..25),
    ) {
        let mut state = yard(2);
        let mut scheduler = Scheduler::new(0);
        for event in events {
            match event {
                Event::Send(tags, step) => send(&mut state, &tags, *step),
                Event::End(which) => {
                    let live = live(&state);
                    if !live.is_empty() {
                        let (node, member) = live[which % live.len()];
                        end(&mut state, node, member);
                    }
                }
                Event::Label(at, rack) => register(&mut state, at, rack),
                Event::Cancel(job) => drop(perform(&mut state, Command::CancelJob { job: JobId(job) })),
                Event::Run(which) => {
                    let live = live(&state);
                    if !live.is_empty() {
                        let (node, member) = live[which % live.len()];
                        report(&mut state, node, member, Phase::Running, None);
                    }
                }
                Event::Throttle(per_job, per_node) => throttle(&mut state, per_job, per_node),
                Event::Lose => drop(scheduler.round(&state, state.time(), BOUND)),
            }
            let proposal = scheduler.round(&state, state.time(), BOUND);
            prop_assert_eq!(&proposal, &Scheduler::new(0).round(&state, state.time(), BOUND));
            for plan in proposal.plans {
                let taken = Reply::PlanCommitted { refused: vec![], refused_claims: vec![] };
                prop_assert_eq!(perform(&mut state, Command::CommitPlan(plan)), taken);
            }
            prop_assert!(check_all(&state).is_ok(), "{:?}", check_all(&state));
        }
    }
}
