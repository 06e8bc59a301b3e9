//! Bounds, starts and changes in words.

use std::cell::Cell;

use flowyard_model::{ClusterVersion, Command, NodeId, Policy, Queue, QueueAmounts, QueuePath, TaskKey, Throttle};
use flowyard_proto::api::Finding;
use flowyard_scheduling::why::{BoundOn, BoundReached, Change, Fix, Holder, Resource};

use super::super::{Scene, changes, room, task};
use super::{Cluster, key, step};
use crate::session::Directory;

/// What is said of a task at length.
fn explained(cluster: &Cluster, key: TaskKey) -> Finding {
    let view = cluster.state.view();
    let (looks, deep, directory) = (|_: &QueuePath| true, Cell::new(true), Directory::empty());
    let scene = Scene { view: &view, directory: &directory, now_ms: 1_100, looks: &looks, deep: &deep };
    task::finding(scene, &view.job(key.job).unwrap(), key)
}

fn reached(on: BoundOn, (held, kept): (u64, u64), need: u64, most: u64) -> String {
    let queue = "lab".parse().unwrap();
    let holder = Holder { queue: "lab/one".parse().unwrap(), owner: "ada".to_owned(), held: kept };
    let (holders, kept_for) = (vec![], vec![holder]);
    room::bound(&BoundReached { alternative: 0, queue, on, held, kept, need, most, holders, kept_for })
}

#[test]
fn a_bound_says_what_is_kept_for_others_beside_what_is_held() {
    let devices = || Resource::Gpu(flowyard_model::GpuClass::Any);
    assert_eq!(
        reached(BoundOn::Limit(devices()), (4_000, 4_000), 1_000, 8_000),
        "queue lab holds 4 of its limit of 8 gpu.any, 4 more are kept for who has a place already, and a task needs 1"
    );
    assert_eq!(
        reached(BoundOn::Limit(devices()), (8_000, 0), 1_000, 8_000),
        "queue lab holds 8 of its limit of 8 gpu.any, and a task needs 1"
    );
    assert_eq!(
        reached(BoundOn::Tasks, (3, 1), 1, 4),
        "queue lab may have 4 active tasks: 3 are, and 1 more will be that have their place already"
    );
    assert_eq!(
        reached(BoundOn::NoQuota(Resource::Cpu), (0, 0), 3_000, 0),
        "it must not be evicted and needs 3 cpu, of which neither queue lab nor one above it keeps any from eviction: \
         it is never placed so"
    );
}

#[test]
fn each_change_of_a_gang_of_parts_and_of_others_is_said() {
    let said = |change: Change| {
        let fix = Fix { changes: vec![change], nodes: vec![NodeId(1)], smallest: true };
        let told = changes::fix(&fix, vec!["n1".to_owned()]);
        (told.changes[0].what.clone(), told.text)
    };
    let lab = || "lab".parse().unwrap();
    let expected = [
        (Change::Members { from: 8, to: 6, is_least: false }, "size", "2 members fewer (size 6 instead of 8)"),
        (Change::Members { from: 8, to: 6, is_least: true }, "min_size", "min_size 6 instead of 8"),
        (Change::NotNear("rack".parse().unwrap()), "near", "without the need of one rack"),
        (Change::Tokens { name: "matlab".parse().unwrap(), from: 4, to: 2 }, "tokens", "2 of matlab instead of 4"),
        (Change::Share { alternative: 0, from: 500, to: 400 }, "gpu_share", "share 0.4 instead of 0.5"),
        (Change::Preemptible, "preemptible", "if it might be evicted (`preemptible`)"),
        (
            Change::Lend { queue: lab(), resource: Resource::Cpu, from: 1_000, to: 2_500 },
            "lend",
            "lend.cpu of queue lab +1.5 (2.5 instead of 1)",
        ),
    ];
    for (change, what, text) in expected {
        assert_eq!(said(change), (what.to_owned(), format!("{text} (then on n1)")));
    }
}

#[test]
fn who_waits_for_a_throttle_is_told_that_it_starts_once_something_runs() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let throttle = Throttle { per_job: Some(1), per_node: None };
    cluster.apply(Command::PutPolicy(Policy { throttle, ..Policy::default() }.into()));
    let mut small = step("train", 2);
    small.resources.cpu_milli = 500;
    let job = cluster.submit(vec![small], Vec::new());
    cluster.place(key(job, 0, 0));
    let told = explained(&cluster, key(job, 0, 1));
    assert!(told.reason.starts_with("1 member of its job is placed and does not run yet"), "{}", told.reason);
    let start = told.explanation.unwrap().start.unwrap();
    assert_eq!((start.kind.as_str(), start.starting, start.at_ms), ("once_running", 1, None));
    let text = "as soon as the 1 member runs that is placed and does not yet; how long that takes is not known";
    assert_eq!(start.text, text);
}

#[test]
fn a_quota_that_was_taken_away_is_said_of_what_must_not_be_evicted() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let quota = QueueAmounts { cpu_milli: Some(2_000), memory_bytes: Some(1 << 30), ..QueueAmounts::default() };
    let default = || Queue::new("default".parse().unwrap());
    cluster.apply(Command::PutQueue(Queue { reserve: quota.clone(), no_preempt: quota, ..default() }.into()));
    let mut kept = step("train", 1);
    kept.preemptible = false;
    let job = cluster.submit(vec![kept], Vec::new());
    cluster.apply(Command::PutQueue(default().into()));
    let told = explained(&cluster, key(job, 0, 0));
    assert!(told.reason.starts_with("it must not be evicted and needs 1.5 cpu"), "{}", told.reason);
    let fixes: Vec<_> = told.explanation.unwrap().fixes.into_iter().map(|fix| fix.text).collect();
    assert_eq!(fixes, ["if it might be evicted (`preemptible`) (then on n1)"]);
}
