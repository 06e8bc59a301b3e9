//! What is said of tasks that have failed.

use flowyard_model::{Retry, RetryOn, RetryRule};

use super::*;

fn member(task: TaskKey, rank: u32, outcome: AttemptOutcome, message: &str) -> AttemptReport {
    let end = End {
        outcome,
        reason: if outcome == AttemptOutcome::Failed { Reason::Exit } else { Reason::Cancelled },
        blame: Blame::User,
        exit_code: Some(3),
        signal: None,
        message: message.to_owned(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs::NONE,
    };
    AttemptReport {
        member: MemberKey { task, attempt: AttemptNumber(1), rank: Rank(rank), epoch: Epoch(0), replacement: 0 },
        phase: Phase::Ended,
        times: PhaseTimes::NONE,
        end: Some(Arc::new(end)),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    }
}

#[test]
fn of_a_gang_the_member_that_failed_is_told_and_not_the_one_that_was_stopped_for_it() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let mut gang = step("train", 1);
    (gang.size, gang.resources.cpu_milli) = (2, 500);
    let task = key(cluster.submit(vec![gang], Vec::new()), 0, 0);
    let seat = Seat { node: NodeId(1), incarnation: Incarnation(1), gpus: Vec::new(), gpu_alternative: 0 };
    let members = vec![seat.clone(), seat];
    cluster.commit(vec![Placement { task, attempt: AttemptNumber(1), members }]);
    let failed = member(task, 1, AttemptOutcome::Failed, "rank 1 has no more to say");
    let stopped = member(task, 0, AttemptOutcome::Stopped, "it was asked to stop");
    let reports = vec![failed, stopped];
    cluster.apply(Command::ReportAttempts(ReportAttempts { node: NodeId(1), incarnation: Incarnation(1), reports }));
    let told = cluster.task(task);
    assert_eq!(told.reason, "rank 1 has no more to say");
    assert!(told.details.iter().any(|it| it == "on node n1, rank 1 of 2"), "{told:?}");
}

#[test]
fn the_failure_that_is_not_tried_again_has_spent_no_retry() {
    let told = |retry: Retry| {
        let mut cluster = Cluster::with_one_node();
        cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
        let task = key(cluster.submit(vec![StepSpec { retry, ..step("train", 1) }], Vec::new()), 0, 0);
        cluster.place(task);
        cluster.end(task, Reason::Exit);
        cluster.task(task).details.concat()
    };
    let rule = |times| RetryRule {
        reasons: [Reason::Exit].into(),
        exit_codes: Default::default(),
        times: Some(times),
        backoff: None,
    };
    let ruled = told(Retry { rules: vec![rule(0)], ..Retry::plain(2, 0, [RetryOn::Failed]) });
    assert!(ruled.contains("0 of 2 retries spent, a rule of the step allows no more after such an end"), "{ruled}");
    let other = told(Retry::plain(2, 0, [RetryOn::Oom]));
    assert!(other.contains("0 of 2 retries spent, and `on` of its `retry` does not name such an end"), "{other}");
    assert!(told(Retry::plain(0, 0, [])).contains("the step allows no retry"));
}
