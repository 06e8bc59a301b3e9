//! A few chains of every workload; `cargo xtask crash` runs many.

use flowyard_coordinator::raft::engine::EngineKind;
use flowyard_crash::writers::Workload;
use flowyard_crash::{Chain, End, missing};

/// Runs chains of seeds 1 to `runs`; what was refused as damaged. Nothing is ever silently wrong.
fn run(workload: Workload, runs: u64) -> Option<Vec<String>> {
    if let Some(reason) = missing() {
        flowyard_skip::skip(&reason);
        return None;
    }
    let (mut cuts, mut acks, mut refused) = (0, 0, Vec::new());
    for seed in 1..=runs {
        let chain = Chain { program: env!("CARGO_BIN_EXE_crash").into(), workload, seed, writers: 4 };
        let report = chain.run().expect("the chain runs");
        (cuts, acks) = (cuts + report.cuts, acks + report.acks);
        match report.end {
            End::Whole => {}
            End::Refused(text) => refused.push(format!("seed {seed}: {text}")),
            End::Wrong(text) => panic!("{} seed {seed}: {text}", workload.name()),
        }
    }
    assert!(cuts > 0 && acks > runs, "{cuts} cuts and {acks} promises are no test");
    Some(refused)
}

fn all_whole(workload: Workload, runs: u64) {
    let refused = run(workload, runs).unwrap_or_default();
    assert!(refused.is_empty(), "refused after an ordinary power cut: {refused:#?}");
}

#[test]
fn a_log_in_the_journal_keeps_its_promises_through_power_cuts() {
    all_whole(Workload::Log(EngineKind::Journal), 8);
}

#[test]
fn a_replica_in_the_journal_keeps_its_promises_through_power_cuts() {
    all_whole(Workload::Replica(EngineKind::Journal), 5);
}

#[test]
fn a_log_in_redb_keeps_its_promises_through_power_cuts() {
    all_whole(Workload::Log(EngineKind::Redb), 8);
}

#[test]
fn a_replica_in_redb_keeps_its_promises_through_power_cuts() {
    all_whole(Workload::Replica(EngineKind::Redb), 5);
}

#[test]
fn an_origin_keeps_its_promises_through_power_cuts() {
    all_whole(Workload::Origin, 8);
}

#[test]
fn a_store_of_a_node_serves_nothing_wrong_after_power_cuts() {
    all_whole(Workload::Local, 8);
}

/// sled may refuse what a power cut left (docs/decisions/0002), but it never goes on with less than it promised.
#[test]
fn a_log_in_sled_is_whole_or_refused_after_power_cuts() {
    run(Workload::Log(EngineKind::Sled), 5);
}
