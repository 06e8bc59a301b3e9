//! The past with nothing changed is what it was; with something changed, what that must do.

mod common;

use common::{Cluster, arrival, machines, named_machines};
use flowyard_history::{
    Arrival, Change, Measures, Policy, Profile, Recorded, Run, Synthetic, of_arrivals, recorded, run, synthesize,
};
use flowyard_model::*;

fn plain() -> Change {
    Change { seed: 1, ..Change::default() }
}

fn with(policy: Policy) -> Change {
    Change { policy, ..plain() }
}

fn dice(arrivals: u64, seed: u64) -> Vec<Arrival> {
    let mut at = seed;
    let mut next = |below: u64| {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (at >> 33) % below
    };
    let mut all: Vec<_> = (0..arrivals)
        .map(|_| {
            arrival(next(1_500), 1 + next(120), [0, 1, 1, 2, 4][next(5) as usize], ["ada", "bob"][next(2) as usize])
        })
        .collect();
    all.sort_by_key(|it| it.at_ms);
    all
}

fn within(one: u64, other: u64, by: u64) -> bool {
    one.abs_diff(other) <= by
}

#[test]
fn with_nothing_changed_the_waits_are_those_that_were_recorded() {
    let mut cluster = Cluster::new(&[machines(2, 16, 4)]);
    cluster.run(&dice(120, 3), 4_000, 2);
    let recorded = recorded(&cluster.history());
    let was = &recorded.measures;
    assert!(was.waits.mean_ms > 5_000, "somebody waited: {was:?}");
    assert_eq!((was.jobs, was.finished, was.waiting, was.running), (120, 120, 0, 0));
    // The cluster that was recorded acts every tenth of a second.
    let run = run(&recorded.workload, &plain());
    let again = &run.measures;
    assert_eq!((run.guessed, run.unknown, run.refused.len(), run.stuck.len()), (0, 0, 0, 0));
    assert_eq!((again.jobs, again.finished, again.succeeded), (120, 120, 120));
    assert!(within(again.waits.mean_ms, was.waits.mean_ms, 200), "{again:?} {was:?}");
    assert!(within(again.waits.p99_ms, was.waits.p99_ms, 1_000), "{again:?} {was:?}");
    assert!(within(again.makespan_ms, was.makespan_ms, 200), "{again:?} {was:?}");
    assert!(within(again.utilisation.gpu.unwrap(), was.utilisation.gpu.unwrap(), 2_000), "{again:?} {was:?}");
    assert!(within(again.jain, was.jain, 2_000), "{again:?} {was:?}");
    assert_eq!(again.waits.count, was.waits.count);
}

#[test]
fn a_record_that_begins_and_ends_in_the_middle_loses_nothing() {
    let mut cluster = Cluster::new(&[machines(2, 16, 4)]);
    cluster.run(&dice(120, 3), 700, 2);
    let history = cluster.history();
    let whole = recorded(&history).measures;
    assert!(whole.running > 0 && whole.waiting > 0, "{whole:?}");
    assert_eq!(whole.jobs, whole.finished + whole.running + whole.waiting, "each job is one task");
    let run = run(&recorded(&history).workload, &plain());
    let again = run.measures;
    assert_eq!(again.jobs, whole.jobs);
    assert_eq!(again.jobs, again.finished + again.running + again.waiting);
    assert!(again.finished.abs_diff(whole.finished) <= 2, "{again:?} {whole:?}");
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let trace = dice(200, 9);
    let workload = of_arrivals(&trace, &[machines(2, 16, 4)], &[]).unwrap();
    for policy in Policy::ALL {
        assert_eq!(run(&workload, &with(policy)), run(&workload, &with(policy)), "{policy}");
    }
}

#[test]
fn more_machines_never_finish_less() {
    for seed in 0..12 {
        let workload = of_arrivals(&dice(80, seed), &[machines(1, 16, 4)], &[]).unwrap();
        let mut before: Option<Measures> = None;
        for more in [0, 1, 2, 4] {
            let them = named_machines("more-", more, 16, 4);
            let add = them.names.iter().map(|name| (name.clone(), them.inventory.clone())).collect();
            let now = run(&workload, &Change { add, ..plain() }).measures;
            assert_eq!(now.finished, 80);
            if let Some(before) = &before {
                assert!(now.makespan_ms <= before.makespan_ms, "seed {seed}, {more} more: {now:?} {before:?}");
                assert!(now.waits.mean_ms <= before.waits.mean_ms, "seed {seed}, {more} more: {now:?} {before:?}");
            }
            before = Some(now);
        }
    }
}

#[test]
fn without_a_machine_what_could_run_nowhere_is_named() {
    let mut trace = dice(20, 5);
    trace.push(arrival(50, 10, 8, "eve"));
    trace.sort_by_key(|it| it.at_ms);
    let large = 1 + trace.iter().position(|it| it.gpus == 8).unwrap() as u64;
    let fleet = [machines(2, 16, 4), named_machines("large-", 1, 16, 8)];
    let workload = of_arrivals(&trace, &fleet, &[]).unwrap();
    assert!(run(&workload, &plain()).stuck.is_empty());
    let drain = ["large-1".parse::<Name>().unwrap()].into();
    let Run { measures, stuck, .. } = run(&workload, &Change { drain, ..plain() });
    assert_eq!((measures.finished, measures.waiting), (20, 1));
    assert_eq!(stuck.iter().map(|it| (it.job.0, it.tasks)).collect::<Vec<_>>(), [(large, 1)]);
}

#[test]
fn a_machine_that_is_emptied_gives_back_what_ran_there_to_be_run_again() {
    let mut cluster = Cluster::new(&[machines(2, 16, 4)]);
    let half: Vec<_> = (0..8).map(|_| arrival(0, 100, 1, "ada")).collect();
    cluster.run(&half, 10, 0);
    // State time is that of the last entry.
    cluster.perform(Command::Tick);
    let base = cluster.state.clone();
    cluster.run(&[], 400, 0);
    let mut history = cluster.history();
    history.entries.retain(|entry| entry.index > base.revision());
    history.base = base;
    let recorded = recorded(&history);
    assert_eq!(recorded.measures.finished, 8);
    let drain = ["n1".parse::<Name>().unwrap()].into();
    let run = run(&recorded.workload, &Change { drain, ..plain() });
    assert_eq!(run.measures.preemptions, 4, "{run:?}");
    assert!(run.measures.lost_ms >= 4 * 9_000, "what they had run is lost: {run:?}");
    assert_eq!(run.guessed, 4, "their second attempts take as long as their first did");
    assert_eq!((run.measures.finished, run.measures.running), (8, 0), "they begin anew as the others end: {run:?}");
    assert!(run.measures.makespan_ms >= 200_000, "and take as long again: {run:?}");
}

/// One machine of four GPUs: three are taken, then somebody wants all four, then come small ones, short and long.
fn line() -> Vec<Arrival> {
    let mut trace = vec![arrival(0, 1_000, 3, "ada"), arrival(10, 100, 4, "bob")];
    trace.push(arrival(20, 60, 1, "short"));
    trace.push(arrival(30, 5_000, 1, "long"));
    trace
}

fn turnaround(policy: Policy, users: &[&str]) -> u64 {
    let workload = of_arrivals(&line(), &[machines(1, 64, 4)], &[]).unwrap();
    let all = run(&workload, &with(policy)).measures;
    assert_eq!(all.finished, 4, "{policy}");
    let kept: Vec<_> = line().into_iter().filter(|it| users.contains(&it.user.as_str())).collect();
    assert!(!kept.is_empty());
    all.waits.max_ms
}

#[test]
fn first_come_first_served_waits_and_backfill_lets_only_those_by_that_do_no_harm() {
    // The whole machine is free after 1,000 s; the short one is bounded by ten minutes, the long one by hours.
    let fifo = turnaround(Policy::Fifo, &["short"]);
    assert!(within(fifo, 1_080_000, 500), "the short one waits for the wide one: {fifo}");
    let workload = of_arrivals(&line(), &[machines(1, 64, 4)], &[]).unwrap();
    let easy = run(&workload, &with(Policy::Easy)).measures;
    let ours = run(&workload, &with(Policy::Ours)).measures;
    // The wide one waits until the declared bound of the first at most; it ends sooner, after 1,000 s.
    assert!(easy.waits.mean_ms < 1_100_000 * 3 / 4, "{easy:?}");
    assert!(within(easy.waits.p50_ms, 0, 200), "the short one goes by: {easy:?}");
    assert!(within(easy.waits.max_ms, 1_070_000, 500), "the long one waits for the wide one: {easy:?}");
    assert_eq!(ours.finished, 4);
}

#[test]
fn what_is_wider_than_a_machine_is_a_gang_of_whole_machines() {
    let trace = vec![arrival(0, 100, 8, "ada"), arrival(1, 100, 4, "bob")];
    for policy in Policy::ALL {
        let workload = of_arrivals(&trace, &[machines(2, 64, 4)], &[]).unwrap();
        let measures = run(&workload, &with(policy)).measures;
        assert_eq!((measures.finished, measures.waits.count), (2, 2), "{policy}: {measures:?}");
        assert!(within(measures.waits.max_ms, 99_000, 500), "{policy}: {measures:?}");
        assert!(within(measures.utilisation.gpu.unwrap(), 750_000, 5_000), "{policy}: {measures:?}");
    }
}

#[test]
fn queues_that_are_changed_are_kept_to() {
    let trace: Vec<_> = (0..16).map(|_| arrival(0, 100, 1, "ada")).collect();
    let workload = of_arrivals(&trace, &[machines(2, 64, 4)], &[]).unwrap();
    let limit = QueueAmounts { gpu_milli: [(GpuClass::Any, 2_000)].into(), ..QueueAmounts::default() };
    let queue = Queue { limit, ..Queue::new(QueuePath::fallback()) };
    let change = Change { queues: vec![queue.into()], ..plain() };
    let (free, bound) = (run(&workload, &plain()).measures, run(&workload, &change).measures);
    assert!(within(free.makespan_ms, 200_000, 1_000), "eight at a time: {free:?}");
    assert!(within(bound.makespan_ms, 800_000, 2_000), "two at a time: {bound:?}");
}

#[test]
fn a_synthetic_trace_runs_by_every_policy_and_loses_nobody() {
    let wanted =
        Synthetic { profile: Profile::Helios, jobs: 400, days: 1, people: 10, queues: 3, most_gpus: 16, seed: 4 };
    let workload = of_arrivals(&synthesize(&wanted), &[machines(4, 96, 8)], &[]).unwrap();
    for policy in Policy::ALL {
        let measures = run(&workload, &with(policy)).measures;
        assert_eq!((measures.jobs, measures.finished, measures.people), (400, 400, 10), "{policy}");
        assert!(measures.utilisation.gpu.unwrap() <= 1_000_000 && measures.jain <= 1_000_000);
    }
}

/// Twenty tasks of a hundred seconds on two machines of four GPUs, of which one has none for two hundred seconds.
fn without_some_devices(out: impl Fn(&mut Cluster, bool) -> Vec<Command>) -> Recorded {
    let mut cluster = Cluster::new(&[machines(2, 16, 4)]);
    out(&mut cluster, true).into_iter().for_each(|command| drop(cluster.perform(command)));
    let all: Vec<_> = (0..20).map(|_| arrival(0, 100, 1, "ada")).collect();
    cluster.run(&all, 195, 0);
    out(&mut cluster, false).into_iter().for_each(|command| drop(cluster.perform(command)));
    cluster.run(&[], 300, 0);
    recorded(&cluster.history())
}

#[test]
fn devices_that_were_out_are_out_again_and_come_back_when_they_did() {
    let faulty = |cluster: &mut Cluster, out: bool| {
        let state = if out { DeviceState::Faulty } else { DeviceState::Healthy };
        vec![cluster.find(NodeId(1), &[0, 1, 2, 3], state)]
    };
    let taken = |_: &mut Cluster, out: bool| {
        let (by, reason) = ("op".to_owned(), String::new());
        let one = |at| ChangeDevice {
            node: NodeId(1),
            device: format!("fake-{at}"),
            out,
            by: by.clone(),
            reason: reason.clone(),
        };
        (0..4).map(|at| Command::ChangeDevice(one(at))).collect()
    };
    let more = named_machines("more-", 1, 16, 4);
    let add: Vec<_> = more.names.iter().map(|name| (name.clone(), more.inventory.clone())).collect();
    for (what, record) in [("faulty", without_some_devices(faulty)), ("taken out", without_some_devices(taken))] {
        // Four at a time from 0 and from 100, four more from 195, the next from 200, the last from 295.
        assert!(within(record.measures.makespan_ms, 395_000, 1_000), "{what}: {:?}", record.measures);
        let again = run(&record.workload, &plain());
        assert_eq!((again.measures.finished, again.guessed, again.refused.len()), (20, 0, 0), "{what}");
        assert!(within(again.measures.makespan_ms, 395_000, 1_000), "{what}: {again:?}");
        // With four more: eight from 0 and from 100, and four on those that are back at 195.
        let changed = run(&record.workload, &Change { add: add.clone(), ..plain() });
        assert!(within(changed.measures.makespan_ms, 295_000, 1_000), "{what}: {changed:?}");
    }
}

#[test]
fn what_holds_a_device_that_fails_loses_it_again() {
    let mut cluster = Cluster::new(&[machines(2, 16, 4)]);
    let all: Vec<_> = (0..8).map(|_| arrival(0, 100, 1, "ada")).collect();
    cluster.run(&all, 50, 0);
    let fails = cluster.find(NodeId(1), &[0], DeviceState::Faulty);
    cluster.perform(fails);
    cluster.run(&[], 300, 0);
    let record = recorded(&cluster.history());
    assert!(within(record.measures.makespan_ms, 200_000, 1_000), "one begins anew: {:?}", record.measures);
    let again = run(&record.workload, &plain());
    // Another one may be the one that holds it now.
    assert_eq!((again.measures.finished, again.measures.succeeded), (8, 8), "{again:?}");
    assert!((1..=2).contains(&again.guessed), "the first attempt of who lost it was not recorded: {again:?}");
    assert!(within(again.measures.makespan_ms, 200_000, 1_000), "{again:?}");
}

#[test]
fn a_gang_that_goes_on_without_a_device_that_failed_does_so_again() {
    // The first two ranks are where there is room for two.
    let mut cluster = Cluster::new(&[named_machines("two-", 1, 16, 2), named_machines("one-", 1, 16, 1)]);
    cluster.submit_gang(3, 2, 100_000);
    cluster.run(&[], 50, 0);
    let task = TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(0) };
    assert_eq!(cluster.state.task(task).unwrap().attempts[0].members[2].node, NodeId(2));
    let fails = cluster.find(NodeId(2), &[0], DeviceState::Faulty);
    cluster.perform(fails);
    cluster.run(&[], 300, 0);
    let record = recorded(&cluster.history());
    assert_eq!((record.measures.finished, record.measures.succeeded), (1, 1), "{:?}", record.measures);
    assert!(within(record.measures.makespan_ms, 100_000, 1_000), "its first members ran on: {:?}", record.measures);
    let again = run(&record.workload, &plain()).measures;
    assert_eq!((again.finished, again.succeeded, again.running), (1, 1, 0), "{again:?}");
    assert!(within(again.makespan_ms, 100_000, 1_000), "{again:?}");
}

#[test]
fn what_was_saved_is_not_lost_again() {
    let mut cluster = Cluster::new(&[machines(2, 16, 4)]);
    let all: Vec<_> = (0..8).map(|_| arrival(0, 100, 1, "ada")).collect();
    cluster.run(&all, 30, 0);
    cluster.save();
    cluster.run(&[], 30, 0);
    let change = NodeChange::Drain { deadline: Some(TimeMs(cluster.now)) };
    let (by, reason) = ("op".to_owned(), String::new());
    cluster.perform(Command::ChangeNode(ChangeNode { node: NodeId(1), change, by, reason }));
    cluster.perform(Command::Tick);
    // Those that had to go run again from 100 on, and save after 30 seconds as before.
    cluster.run(&[], 70, 0);
    cluster.save();
    cluster.run(&[], 200, 0);
    let record = recorded(&cluster.history());
    let was = record.measures;
    assert_eq!((was.finished, was.preemptions), (8, 4), "{was:?}");
    assert!(within(was.lost_ms, 4 * 30_000, 1_000), "they had saved half of it: {was:?}");
    let again = run(&record.workload, &plain()).measures;
    assert_eq!((again.finished, again.preemptions), (8, 4), "{again:?}");
    assert!(within(again.lost_ms, was.lost_ms, 1_000), "{again:?}");
}
