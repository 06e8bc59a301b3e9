//! A log applied again is what it was, at every index; plans that are made again are the same, and what cannot be compared is counted.

mod common;

use common::{Cluster, SECOND, arrival, history, machines};
use flowyard_history::{Change, Derived, Past, Policy, ReplayError, derive, recorded, replay, run};
use flowyard_model::*;
use flowyard_state::{State, apply};

/// A run of an hour in which most of the time somebody waits.
fn busy(depth: usize) -> Cluster {
    run_of(60, depth)
}

fn run_of(arrivals: u64, depth: usize) -> Cluster {
    let mut cluster = Cluster::new(&[machines(3, 16, 4)]);
    let arrivals: Vec<_> = (0..arrivals)
        .map(|at| {
            let mut it = arrival(at * 7, 20 + at * 13 % 90, (at % 5) as u32, ["ada", "bob", "eve"][at as usize % 3]);
            // More than one plan may place: the next ones are made while it is under way.
            it.count = if at % 10 == 0 { 12 } else { 1 + (at % 4) as u32 };
            it
        })
        .collect();
    cluster.run(&arrivals, 3_600, depth);
    cluster
}

#[test]
fn a_recorded_run_is_applied_again_to_the_same_state_at_every_index() {
    let cluster = run_of(20, 2);
    let history = cluster.history();
    assert!(cluster.entries.len() > 100);
    let whole = replay(&history, None, |_, _| {}).unwrap();
    assert!(whole.state == cluster.state);
    let mut fresh = State::new();
    for entry in &cluster.entries {
        apply(&mut fresh, entry.clone());
        let stopped = replay(&history, Some(entry.index), |_, _| {}).unwrap();
        assert!(stopped.state == fresh, "entry {}", entry.index);
    }
    // An entry of the log that holds no command changes nothing.
    let gap = cluster.entries.windows(2).find(|pair| pair[1].index.0 > pair[0].index.0 + 1).unwrap();
    let between = Revision(gap[0].index.0 + 1);
    assert_eq!(replay(&history, Some(between), |_, _| {}).unwrap().state.revision(), gap[0].index);
}

#[test]
fn snapshots_on_the_way_are_compared_and_an_older_one_is_what_a_cut_log_goes_on_from() {
    let cluster = busy(2);
    let (half, last) = (cluster.entries.len() / 2, cluster.entries.last().unwrap().index.0);
    let at = |count: usize| {
        let mut state = State::new();
        cluster.entries[..count].iter().for_each(|entry| drop(apply(&mut state, entry.clone())));
        state
    };
    let (base, later) = (at(half), at(half + 20));
    let first = base.revision().0 + 1;
    let mut past = Past::new();
    past.add_stretch(first, last, cluster.entries[half..].to_vec()).unwrap();
    past.add_snapshot(base.clone()).unwrap();
    past.add_snapshot(later.clone()).unwrap();
    let history = past.history().unwrap();
    let replayed = replay(&history, None, |_, _| {}).unwrap();
    assert!(replayed.state == cluster.state);
    assert_eq!((replayed.same, replayed.different), (vec![later.revision()], vec![]));
    let early = replay(&history, Some(Revision(3)), |_, _| {}).unwrap_err();
    assert_eq!(early, ReplayError::TooEarly { until: Revision(3), base: base.revision() });
    // A snapshot of another state at that revision is found out.
    let mut wrong = history.clone();
    wrong.snapshots.insert(later.revision().0, State::new());
    assert_eq!(replay(&wrong, None, |_, _| {}).unwrap().different, [later.revision()]);
}

#[test]
fn every_plan_of_a_recorded_run_is_made_again() {
    for depth in 0..4 {
        let cluster = busy(depth);
        let derived = derive(&cluster.history(), None).unwrap();
        assert!(derived.plans > 40, "{derived:?}");
        let all = Derived { plans: derived.plans, equal: derived.plans, ..Derived::default() };
        assert_eq!(derived, all, "with {depth} plans under way");
        assert_eq!(derive(&cluster.history(), None).unwrap(), derived);
    }
}

fn plans(entries: &mut [Entry]) -> Vec<&mut Plan> {
    let plan = |entry: &mut Entry| matches!(entry.command, Command::CommitPlan(_)).then_some(());
    let found = entries.iter_mut().filter_map(|entry| {
        plan(entry)?;
        match &mut entry.command {
            Command::CommitPlan(plan) => Some(plan),
            _ => None,
        }
    });
    found.collect()
}

#[test]
fn what_is_not_the_same_or_cannot_be_compared_is_told() {
    let cluster = busy(2);
    // Another seat for one task: that is not what the scheduler would do, whatever comes after.
    let mut entries = cluster.entries.clone();
    let two = plans(&mut entries).into_iter().find(|plan| plan.placements.len() >= 2);
    two.expect("some plan has two").placements.reverse();
    let derived = derive(&history(&entries), None).unwrap();
    assert_eq!(derived.different.len(), 1, "{derived:?}");
    assert_eq!(derived.equal + 1, derived.plans);

    let mut entries = cluster.entries.clone();
    plans(&mut entries).pop().unwrap().placer_version += 1;
    let numbers = |plan: &Plan| plan.made_from.clone().unwrap();
    let named = plans(&mut entries).into_iter().find_map(|plan| numbers(plan).under_way.first().copied());
    let named = named.expect("some plan was made while another was under way");
    let lost = plans(&mut entries).into_iter().find(|plan| numbers(plan).number == named);
    lost.unwrap().made_from = None;
    let derived = derive(&history(&entries), None).unwrap();
    assert_eq!((derived.other_version, derived.unnoted), (1, 1));
    assert!(derived.without_predecessor >= 1, "its number is not known any more: {derived:?}");
    assert!(derived.different.is_empty());
}

#[test]
fn what_a_newer_release_wrote_is_refused_before_it_is_applied() {
    let mut cluster = Cluster::new(&[machines(1, 4, 0)]);
    let mut entries = cluster.entries.clone();
    cluster.now += SECOND;
    let index = Revision(entries.last().unwrap().index.0 + 1);
    let version = ClusterVersion(ClusterVersion::NEWEST.0 + 1);
    entries.push(Entry { index, time: TimeMs(cluster.now), command: Command::RaiseVersion { version } });
    let refused = replay(&history(&entries), None, |_, _| {}).unwrap_err();
    assert_eq!(refused, ReplayError::Newer { index, version });
    let late = replay(&cluster.history(), Some(Revision(1_000)), |_, _| {}).unwrap_err();
    assert!(matches!(late, ReplayError::TooLate { .. }), "{late}");
}

/// Eight GPUs that one takes, until another wants the four it is promised.
fn taken_back() -> Cluster {
    let mut cluster = Cluster::new(&[machines(1, 64, 8)]);
    let contract = Some(Contract { min_run_ms: 60 * SECOND, ..Contract::DEFAULT });
    let reserve = QueueAmounts { gpu_milli: [(GpuClass::Any, 4_000)].into(), ..QueueAmounts::default() };
    let lab: QueuePath = "lab".parse().unwrap();
    for queue in [Queue { contract, ..Queue::new(QueuePath::fallback()) }, Queue { reserve, ..Queue::new(lab.clone()) }]
    {
        assert_eq!(cluster.perform(Command::PutQueue(queue.into())), Reply::Done);
    }
    let mut arrivals: Vec<_> = (0..8).map(|_| arrival(0, 1_000, 1, "ada")).collect();
    arrivals.push(flowyard_history::Arrival { queue: Some(lab), ..arrival(30, 50, 4, "bob") });
    cluster.run(&arrivals, 3_000, 1);
    cluster
}

#[test]
fn what_was_evicted_is_evicted_again_and_by_shares_alone_nobody_is() {
    let cluster = taken_back();
    let history = cluster.history();
    // Until those four may be evicted bob waits for their ends, with a reservation; it is given up for the claim.
    let mut entries = cluster.entries.clone();
    let claims: Vec<_> = plans(&mut entries).into_iter().flat_map(|plan| &plan.claims).collect();
    assert_eq!(claims.iter().map(|claim| claim.evictions.len()).collect::<Vec<_>>(), [0, 4]);
    let derived = derive(&history, None).unwrap();
    assert_eq!((derived.equal, derived.different.len()), (derived.plans, 0), "{derived:?}");
    let recorded = recorded(&history);
    let again = run(&recorded.workload, &Change { seed: 1, ..Change::default() });
    for measures in [&recorded.measures, &again.measures] {
        assert_eq!((measures.preemptions, measures.finished), (4, 9), "{measures:?}");
        assert!(measures.lost_ms.abs_diff(4 * 60 * SECOND) <= 2 * SECOND, "the contract was kept: {measures:?}");
    }
    assert_eq!(again.guessed, 4, "nobody saw how long their first attempts would have run");
    let shares = run(&recorded.workload, &Change { policy: Policy::Drf, seed: 1, ..Change::default() }).measures;
    assert_eq!((shares.preemptions, shares.finished), (0, 9), "{shares:?}");
    assert!(shares.waits.max_ms > 900 * SECOND, "bob waits until somebody has ended: {shares:?}");
}
