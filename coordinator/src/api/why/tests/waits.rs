//! What is said of a task that waits for room which others hold: by when it starts, and what that rests on.

use flowyard_model::Awaited;
use flowyard_scheduling::why::{Endless, Explanation, Question, Start, explain};

use super::*;
use crate::api::why::room::Sight;
use crate::api::why::told;

const NOW: u64 = 61_002;

impl Cluster {
    fn at(&self, now_ms: u64, key: TaskKey, looks: &dyn Fn(&QueuePath) -> bool) -> Finding {
        let (view, deep) = (self.state.view(), std::cell::Cell::new(true));
        let scene = Scene { view: &view, directory: &Directory::empty(), now_ms, looks, deep: &deep };
        task::finding(scene, &scene.view.job(key.job).unwrap(), key)
    }

    /// A task's process has begun.
    fn runs(&mut self, task: TaskKey) {
        let times = PhaseTimes { running: Some(self.state.time()), ..PhaseTimes::NONE };
        let member = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
        let report = AttemptReport {
            member,
            phase: Phase::Running,
            times,
            end: None,
            checkpoint: None,
            stuck: None,
            saved_at: None,
        };
        let (node, incarnation) = (NodeId(1), Incarnation(1));
        self.apply(Command::ReportAttempts(ReportAttempts { node, incarnation, reports: vec![report] }));
    }

    fn claim(&mut self, task: TaskKey, evictions: Vec<Eviction>, awaits: Vec<Awaited>) {
        let members = vec![Seat { node: NodeId(1), incarnation: Incarnation(1), gpus: Vec::new(), gpu_alternative: 0 }];
        let based_on = self.state.revision();
        self.apply(Command::CommitPlan(Plan {
            based_on,
            seed: 0,
            budget: 0,
            placer_version: 3,
            placements: vec![],
            accept_ms: None,
            claims: vec![ClaimWish { task, attempt: AttemptNumber(1), members, evictions, awaits }],
            drops: vec![],
            at: None,
            made_from: None,
            repairs: Vec::new(),
        }));
        assert!(self.state.claim(&task).is_some(), "it was taken");
    }
}

/// A node that one attempt fills, and a task for which room is kept there until that has ended.
fn reserved(filler: StepSpec, runs: bool) -> (Cluster, TaskKey) {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    cluster.apply(Command::PutQueue(Queue::new("secret".parse().unwrap()).into()));
    let filler = key(cluster.submit_to("secret", "mallory", vec![filler]), 0, 0);
    cluster.place(filler);
    if runs {
        cluster.runs(filler);
    }
    let task = key(cluster.submit(vec![step("wide", 1)], Vec::new()), 0, 0);
    cluster.claim(task, vec![], vec![Awaited { task: filler, attempt: AttemptNumber(1) }]);
    (cluster, task)
}

fn everything(_: &QueuePath) -> bool {
    true
}

#[test]
fn who_has_room_kept_is_told_by_when_it_starts_where_that_is_bounded() {
    let bounded = StepSpec { timeout_ms: Some(600_000), ..step("low", 1) };
    let (cluster, task) = reserved(bounded.clone(), true);
    let told = cluster.at(NOW, task, &everything);
    let (end, _) = cluster.state.ends_by(key(JobId(1), 0, 0)).unwrap();
    assert_eq!(end.0 / 1_000, 601, "it runs since the first second, and may for ten minutes");
    let reason = "room is kept for it on n1; it starts in 9m00s at the latest, when 1 attempt there has to have ended";
    assert_eq!(told.reason, reason);
    assert!(!told.details.iter().any(|it| it.contains("estimate")), "{told:?}");
    let until = "until then only work is placed there that ends before, by its `timeout` or by what is known of it";
    assert_eq!(told.details[0], until);
    // While it fetches what it needs, its time has not begun.
    let (cluster, task) = reserved(bounded, false);
    let told = cluster.at(NOW, task, &everything);
    assert_eq!(
        told.reason,
        "room is kept for it on n1; it is expected to start in 9m00s, when 1 attempt there has ended"
    );
    let begins = "1 attempt there does not run yet, so that the `timeout` has not begun to count";
    assert_eq!(told.details[0], begins);
}

#[test]
fn what_is_only_expected_is_no_bound_and_what_is_late_is_said_to_be() {
    let (cluster, task) = reserved(StepSpec { expected_ms: Some(600_000), ..step("low", 1) }, true);
    let told = cluster.at(NOW, task, &everything);
    assert_eq!(
        told.reason,
        "room is kept for it on n1; it is expected to start in 9m00s, when 1 attempt there has ended"
    );
    let basis = "that is an estimate: of 1 attempt there is no `timeout`, it rests on what is `expected` of it";
    assert_eq!(told.details[0], basis);
    let late = cluster.at(NOW + 600_000, task, &everything);
    let reason = "room is kept for it on n1; it starts once 1 attempt there has ended: it should have 59.9s ago";
    assert_eq!(late.reason, reason);
    let until = "until then nothing else is placed there that needs the room";
    assert_eq!(late.details[..2], [basis, until], "nothing ends before a time that has passed");
    let start = late.explanation.unwrap().start.unwrap();
    assert_eq!((start.kind.as_str(), start.overdue), ("at", 1));
    assert_eq!(start.text, "once 1 attempt that should be over already has ended, if nothing new comes");
}

#[test]
fn what_was_learned_is_said_with_the_number_of_runs() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let runs = 5;
    for job in 1..=runs {
        let before = key(cluster.submit(vec![step("low", 1)], Vec::new()), 0, 0);
        assert_eq!(before.job, JobId(job));
        cluster.place(before);
        cluster.end_as(before, AttemptOutcome::Succeeded, Reason::Exit);
    }
    let filler = key(cluster.submit(vec![step("low", 1)], Vec::new()), 0, 0);
    cluster.place(filler);
    let task = key(cluster.submit(vec![step("wide", 1)], Vec::new()), 0, 0);
    cluster.claim(task, vec![], vec![Awaited { task: filler, attempt: AttemptNumber(1) }]);
    let told = cluster.at(1_100, task, &everything);
    let basis = "that is an estimate: of 1 attempt there is no `timeout`, it rests on 5 earlier runs of it";
    assert_eq!(told.details[0], basis, "{told:?}");
    assert!(told.reason.contains("it is expected to start in"), "{told:?}");
}

#[test]
fn of_what_need_not_end_it_is_said_whose_it_is_to_who_may_know() {
    let (cluster, task) = reserved(step("low", 1), true);
    let told = cluster.at(NOW, task, &everything);
    assert_eq!(told.reason, "room is kept for it on n1; it starts once 1 attempt there has ended");
    assert_eq!(told.details[0], "when is not known: 1 attempt has no `timeout`: 1/low/0");
    let hidden = cluster.at(NOW, task, &|queue| queue.as_str() != "secret");
    assert_eq!(hidden.details[0], "when is not known: 1 attempt has no `timeout`: 1 attempt that you may not look at");
}

#[test]
fn others_of_the_step_that_have_room_kept_or_their_place_are_counted() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let filler = key(cluster.submit(vec![step("low", 1)], Vec::new()), 0, 0);
    cluster.place(filler);
    let job = cluster.submit(vec![step("wide", 3)], Vec::new());
    cluster.claim(key(job, 0, 0), vec![], vec![Awaited { task: filler, attempt: AttemptNumber(1) }]);
    let of_step = cluster.step(job, 0).pop().unwrap().details;
    assert!(
        of_step.contains(&"for 1 task of it room is kept, where others have to end first".to_owned()),
        "{of_step:?}"
    );
    let other = "for 1 other task of it room is kept, where others have to end first".to_owned();
    assert!(cluster.task(key(job, 0, 1)).details.contains(&other));
    let own = cluster.task(key(job, 0, 0)).details;
    assert!(own[0].starts_with("when is not known") && !own.contains(&other), "{own:?}");
}

/// Somebody who is asked to leave for a task of another queue that is promised the room.
fn claimed() -> (Cluster, TaskKey) {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let contract = Some(Contract { min_run_ms: 0, ..Contract::DEFAULT });
    cluster.apply(Command::PutQueue(Queue { contract, ..Queue::new("secret".parse().unwrap()) }.into()));
    let reserve = QueueAmounts { cpu_milli: Some(2_000), memory_bytes: Some(1 << 30), ..QueueAmounts::default() };
    cluster.apply(Command::PutQueue(Queue { reserve, ..Queue::new("lab".parse().unwrap()) }.into()));
    let low = StepSpec { kill_grace_ms: 10_000, ..step("low", 1) };
    let low = key(cluster.submit_to("secret", "mallory", vec![low]), 0, 0);
    cluster.place(low);
    let job = cluster.submit_to("lab", "ada", vec![step("owed", 2)]);
    let task = key(job, 0, 0);
    let kind = EvictionKind::Reclaim;
    cluster.claim(task, vec![Eviction { task: low, attempt: AttemptNumber(1), kind }], vec![]);
    (cluster, task)
}

#[test]
fn a_task_that_others_are_asked_to_leave_for_is_told_when_it_starts_as_well() {
    let (cluster, task) = claimed();
    let told = cluster.at(1_100, task, &everything);
    assert_eq!(told.reason, "1 attempt of queue secret was asked to leave for it; it starts once that is done");
    let details = told.details.concat();
    assert!(details.contains("the only node has no room for it now; it asks for cpu 1.5, memory 64MiB"), "{details}");
    assert!(details.contains("1 node: CPUs taken, such as n1: 0.5 of 2 free"), "{details}");
    assert!(!details.contains("may have to leave"), "they were asked: {details}");
    let explained = told.explanation.unwrap();
    assert_eq!(explained.position.unwrap().text, "it is first in line");
    let start = "in 10.0s, if the 1 attempt that ends before takes all the time that its `timeout` or notice gives \
                 it, and nothing new \
                 comes";
    assert_eq!(explained.start.unwrap().text, start);
    let smaller = explained.fixes.iter().find(|fix| fix.changes[0].what == "cpu_milli").unwrap();
    assert_eq!(smaller.changes[0].to, Some(500), "what is free now would do: {smaller:?}");
}

#[test]
fn whose_queue_it_is_that_is_left_is_not_told_to_who_may_not_know() {
    let (cluster, task) = claimed();
    let hidden = cluster.at(1_100, task, &|queue| queue.as_str() != "secret");
    let reason = "1 attempt of queues that you may not look at was asked to leave for it; it starts once that is done";
    assert_eq!(hidden.reason, reason);
    assert!(!format!("{hidden:?}").contains("mallory"), "{hidden:?}");
    let step = cluster.step(task.job, 0).pop().unwrap().details;
    assert!(step.contains(&"1 task of it has its place, which others are asked to leave".to_owned()), "{step:?}");
}

/// Each kind of start, and the sentence for it.
fn starts(filler: TaskKey) -> Vec<(Start, &'static str, &'static str)> {
    let known = |joined, ends, unknown_followers, (runs, learned, expected)| Start::At {
        at: TimeMs(NOW + 65_000),
        joined,
        ends,
        unknown_followers,
        learned,
        runs,
        expected,
        throttled: false,
    };
    let at = |joined, ends, unknown_followers| known(joined, ends, unknown_followers, (None, 0, 0));
    let endless = |all| Start::NoTimeout { whose: vec![Endless { task: filler, node: NodeId(1) }], all };
    vec![
        (Start::Now, "now", "with the next plan"),
        (
            at(false, 1, false),
            "at",
            "in 1m05s, if the 1 attempt that ends before takes all the time that its `timeout` gives it, and \
             nothing new comes",
        ),
        (
            at(true, 2, true),
            "at",
            "in at most 1m05s, if the 2 attempts that end before take all the time that their `timeout` gives \
             them, and \
             nothing new comes; what follows on lists that are not written yet is not counted",
        ),
        (
            known(false, 1, false, (None, 0, 1)),
            "at",
            "in about 1m05s, from what is `expected` of 1 attempt, if nothing new comes",
        ),
        (
            known(false, 1, false, (Some(1), 1, 0)),
            "at",
            "in about 1m05s, from 1 earlier run or more of 1 attempt, if nothing new comes",
        ),
        (
            known(true, 9, false, (Some(3), 7, 2)),
            "at",
            "in about 1m05s, from 3 earlier runs or more of 7 attempts and from what is `expected` of 2 attempts, if nothing new comes",
        ),
        (endless(1), "no_timeout", "not known, because it depends on what has no `timeout`: 1/low/0 of mallory"),
        (
            endless(4),
            "no_timeout",
            "not known, because it depends on what has no `timeout`: 1/low/0 of mallory, 3 tasks more",
        ),
        (Start::NotEvenThen, "never", "not even if everything ended that runs now"),
        (
            Start::StopsBefore(TimeMs(NOW + 5_000)),
            "stops_before",
            "its job is stopped before, in 5.0s, when one of its times passes",
        ),
        (
            Start::Beyond(TimeMs(NOW + 7_200_000)),
            "beyond",
            "not known: 2h00m ahead it still waits, and further was not looked",
        ),
    ]
}

/// The sentence for each kind of start, of a task that waits for another one.
#[test]
fn every_kind_of_start_is_told_with_what_it_rests_on() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    cluster.apply(Command::PutQueue(Queue::new("secret".parse().unwrap()).into()));
    let filler = key(cluster.submit_to("secret", "mallory", vec![step("low", 1)]), 0, 0);
    cluster.place(filler);
    let task = key(cluster.submit(vec![step("wide", 1)], Vec::new()), 0, 0);
    let base = explain(&cluster.state, &Question::Waiting(task), TimeMs(NOW)).unwrap();
    let own = QueuePath::fallback();
    let text = |start: Start, rounds: u32, looks: &dyn Fn(&QueuePath) -> bool| {
        let sight = Sight { state: &cluster.state, own: &own, looks };
        let told = Explanation { start, rounds, ..base.clone() };
        let wire = told::explanation(sight, &told, NOW).start.unwrap();
        (wire.kind, wire.text)
    };
    let endless = |all| Start::NoTimeout { whose: vec![Endless { task: filler, node: NodeId(1) }], all };
    for (start, kind, sentence) in starts(filler) {
        assert_eq!(text(start, 9, &everything), (kind.to_owned(), sentence.to_owned()));
    }
    let beyond = text(Start::Beyond(TimeMs(NOW)), 1, &everything).1;
    assert_eq!(beyond, "not known: the round that would say it is beyond what one question may cost");
    let hidden = text(endless(4), 9, &|queue| queue.as_str() != "secret").1;
    assert_eq!(hidden, "not known, because it depends on what has no `timeout`: 4 tasks");
}

#[test]
fn what_is_late_counts_as_ending_now_and_that_is_said() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let small = |name: &str, ms| {
        let mut small = StepSpec { expected_ms: Some(ms), ..step(name, 1) };
        small.resources.cpu_milli = 500;
        small
    };
    let late = key(cluster.submit(vec![small("late", 10_000)], Vec::new()), 0, 0);
    let other = key(cluster.submit(vec![small("other", 600_000)], Vec::new()), 0, 0);
    cluster.place(late);
    cluster.place(other);
    let mut whole = step("whole", 1);
    whole.resources.cpu_milli = 2_000;
    let task = key(cluster.submit(vec![whole], Vec::new()), 0, 0);
    let start = cluster.at(NOW, task, &everything).explanation.unwrap().start.unwrap();
    let text = "in about 9m00s, from what is `expected` of 2 attempts, if nothing new comes; 1 attempt that \
                should be over already \
                counts as if it ended now";
    assert_eq!((start.text.as_str(), start.overdue), (text, 1));
}

#[test]
fn a_job_whose_queue_ttl_runs_out_is_told_how_long_it_has_and_then_why_it_failed() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let filler = key(cluster.submit(vec![step("low", 1)], Vec::new()), 0, 0);
    cluster.place(filler);
    let job = cluster.submit(vec![step("waits", 1)], Vec::new());
    let mut spec = JobSpec::clone(&cluster.state.job(job).unwrap().spec);
    spec.queue_ttl_ms = Some(600_000);
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    let wish = SubmitJob { spec: Arc::new(spec), spec_digest, owner: "u".to_owned(), key: None };
    cluster.apply(Command::SubmitJob(wish));
    let job = cluster.state.jobs().next_back().unwrap().0;
    assert_eq!(cluster.job(job)[0].reason, "it fails if no task of it is placed in 9m00s (`queue_ttl`)");
    let index = Revision(cluster.state.revision().0 + 1);
    apply(&mut cluster.state, Entry { index, time: TimeMs(700_000), command: Command::Tick });
    let failed = &cluster.job(job)[0];
    assert_eq!(failed.reason, "no task of it could be placed for 10m00s, its `queue_ttl`");
    assert_eq!(failed.advice, ["fctl nodes"]);
    let task = cluster.task(key(job, 0, 0));
    assert_eq!(task.reason, "its job stopped because the job's `queue_ttl` had passed");
}
