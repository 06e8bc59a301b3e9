//! A job goes into the archive, is read there, and leaves it.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    AttemptNumber, AttemptOutcome, AttemptReport, Blame, ClusterVersion, Command, End, Epoch, Incarnation, Logs,
    MemberKey, NodeId, Phase, PhaseTimes, Rank, Reason, Reply, ReportAttempts, StepIndex, TaskIndex, TaskKey,
};

use super::*;
use crate::Coordinator;
use crate::fixture;

async fn propose(coordinator: &Coordinator, command: Command) -> Reply {
    coordinator.shared().proposer.propose(&command).await.unwrap()
}

/// A job of one task that ran on `n1`, wrote `log` to its output and failed.
async fn failed_job(coordinator: &Coordinator, log: &[u8]) -> (JobId, Digest) {
    let shared = coordinator.shared();
    if shared.feed.view().nodes().next().is_none() {
        fixture::node(coordinator, "n1").await;
    }
    // It has no agent that gives signs of life.
    assert!(shared.heard.mark(NodeId(1), Incarnation(1)));
    let stdout = shared.durable.here().put_bytes(log.to_vec().into()).await.unwrap();
    let Reply::Submitted { job, .. } = propose(coordinator, fixture::submission("iris")).await else { panic!() };
    let task = TaskKey { job, step: StepIndex(0), task: TaskIndex(0) };
    let mut views = shared.feed.views();
    let view =
        views.wait_for(|view| view.task(task).is_some_and(|task| !task.attempts.is_empty())).await.unwrap().clone();
    let placed = &view.task(task).unwrap().attempts[0].members[0];
    let (node, incarnation) = (placed.node, placed.incarnation);
    let end = End {
        outcome: AttemptOutcome::Failed,
        reason: Reason::Exit,
        blame: Blame::User,
        exit_code: Some(3),
        signal: None,
        message: "the command exited with code 3".to_owned(),
        peak_memory_bytes: 0,
        cpu_us: 0,
        outputs: BTreeMap::new(),
        logs: Logs { stdout: Some(stdout), stderr: None },
    };
    let member = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
    let report = AttemptReport {
        member,
        phase: Phase::Ended,
        times: PhaseTimes::NONE,
        end: Some(Arc::new(end)),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    };
    let reports = ReportAttempts { node, incarnation, reports: vec![report] };
    propose(coordinator, Command::ReportAttempts(reports)).await;
    assert!(shared.feed.view().job(job).unwrap().ended.is_some(), "the job has ended");
    (job, stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_job_is_read_as_it_was_and_keeps_its_logs_until_its_time_is_over() {
    let (coordinator, _folder) = fixture::coordinator().await;
    propose(&coordinator, Command::RaiseVersion { version: ClusterVersion::ACCESS }).await;
    let (job, log) = failed_job(&coordinator, b"loss 0.3\n").await;
    let mut shared = coordinator.shared().clone();
    let before = shared.feed.view();

    retire(&shared, &shared.proposer, &[job]).await.unwrap();
    let view = shared.feed.view();
    assert!(view.job(job).is_none(), "the state has forgotten it");
    let archived = Archive::default().find(&shared.durable, &view, job).await.unwrap().unwrap();
    assert_eq!(archived.view.job(job), before.job(job));
    assert_eq!(archived.view.tasks_of(job).collect::<Vec<_>>(), before.tasks_of(job).collect::<Vec<_>>());
    assert_eq!(archived.view.nodes().next().map(|(_, node)| node.name.to_string()), Some("n1".to_owned()));

    let mut live = LiveBlobs::default();
    add_live(&shared.durable, &view, &mut live).await.unwrap();
    let manifest = Manifest::decode(&shared.durable.get_bytes(&live.manifests[0]).await.unwrap()).unwrap();
    assert!(manifest.blobs().any(|blob| blob == log), "its log is kept with it");

    // Once more changes nothing, as after a crash that lost the answer.
    retire(&shared, &shared.proposer, &[job]).await.unwrap();
    assert_eq!(shared.feed.view().archive_pages().map(|(_, page)| page.jobs).sum::<u32>(), 1);

    // With no time left it goes, and so does its page.
    drop_expired(&shared, &shared.proposer).await.unwrap();
    assert_eq!(shared.feed.view().archive_pages().count(), 1, "its time is not over");
    let config = crate::config::Retention { archive_ms: 1, ..shared.config.retention };
    shared.config = Arc::new(crate::Config { retention: config, ..(*shared.config).clone() });
    let (second, _) = failed_job(&coordinator, b"other\n").await;
    retire(&shared, &shared.proposer, &[second]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    drop_expired(&shared, &shared.proposer).await.unwrap();
    let view = shared.feed.view();
    let archive = Archive::default();
    assert!(archive.find(&shared.durable, &view, second).await.unwrap().is_none());
    assert!(archive.find(&shared.durable, &view, job).await.unwrap().is_some(), "the other one stays");
    coordinator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_archive_a_job_is_only_forgotten() {
    let (coordinator, _folder) = fixture::coordinator().await;
    propose(&coordinator, Command::RaiseVersion { version: ClusterVersion::ACCESS }).await;
    let (job, _) = failed_job(&coordinator, b"x").await;
    let mut shared = coordinator.shared().clone();
    let config = crate::config::Retention { archive_ms: 0, ..shared.config.retention };
    shared.config = Arc::new(crate::Config { retention: config, ..(*shared.config).clone() });
    retire(&shared, &shared.proposer, &[job]).await.unwrap();
    let view = shared.feed.view();
    assert!(view.job(job).is_none() && view.archive_pages().next().is_none());
    coordinator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_due_by_age_and_by_number() {
    let (coordinator, _folder) = fixture::coordinator().await;
    let (first, _) = failed_job(&coordinator, b"x").await;
    let (second, _) = failed_job(&coordinator, b"x").await;
    let view = coordinator.shared().feed.view();
    let ended = view.job(second).unwrap().ended.unwrap().at;
    let retention = crate::config::Retention { jobs: 10, age_ms: 1_000, archive_ms: 1 };
    let due = |retention, now| super::due::due(&view, retention, now);
    assert_eq!(due(retention, ended).0, []);
    assert_eq!(due(retention, ended.after(1_000)), (vec![first, second], None));
    let one = crate::config::Retention { jobs: 1, ..retention };
    assert_eq!(due(one, ended).0, [first], "the oldest goes first");
    coordinator.shutdown().await;
}
