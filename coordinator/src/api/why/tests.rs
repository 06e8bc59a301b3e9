//! Findings about jobs that a small state went through.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowyard_model::{
    Abilities, AttemptNumber, AttemptOutcome, AttemptReport, Blame, ChangeNode, ClaimWish, ClusterVersion, Command,
    Constraint, ConstraintOperator, Contract, Digest, End, Entry, Epoch, Eviction, EvictionKind, FanOut, Image,
    Incarnation, Inventory, Isolation, JobId, JobSpec, Logs, MemberKey, Near, NeedKind, NetworkMode, NodeChange,
    NodeId, OnDisconnect, OnFailure, Phase, PhaseTimes, Placement, Plan, Policy, PortRange, Queue, QueueAmounts,
    QueuePath, Rank, Reason, RegisterNode, Rendezvous, ReportAttempts, Resources, Retry, Revision, Seat, StepIndex,
    StepSpec, SubmitJob, TaskIndex, TaskKey, TimeMs,
};
use flowyard_proto::api::Finding;
use flowyard_state::{State, apply};

use super::{Scene, of_job, of_step, task};
use crate::session::Directory;

mod ended;
mod lacks;
mod rules;
mod waits;

struct Cluster {
    state: State,
}

impl Cluster {
    /// A node with two CPUs and a GiB of memory.
    fn with_one_node() -> Self {
        Self::empty().with_node("n1", |_| {})
    }

    fn empty() -> Self {
        Self { state: State::new() }
    }

    /// One node more, with something of it changed.
    fn with_node(mut self, name: &str, change: impl FnOnce(&mut Inventory)) -> Self {
        let abilities = Abilities {
            containers: true,
            process_isolation: false,
            host_image: true,
            private_networks: false,
            separation: String::new(),
            enforcement: String::new(),
            agent_version: String::new(),
            system: String::new(),
        };
        let labels = [("zone".parse().unwrap(), "a".to_owned())].into();
        let mut inventory = Inventory {
            cpu_milli: 2_000,
            memory_bytes: 1 << 30,
            disk_bytes: 0,
            gpus: Vec::new(),
            tokens: BTreeMap::new(),
            labels,
            abilities,
            rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        };
        change(&mut inventory);
        let name = name.parse().unwrap();
        self.apply(Command::RegisterNode(RegisterNode { name, inventory: Arc::new(inventory), previous: None }));
        self
    }

    fn apply(&mut self, command: Command) {
        let index = Revision(self.state.revision().0 + 1);
        apply(&mut self.state, Entry { index, time: TimeMs(1_000 + index.0), command });
    }

    fn submit(&mut self, steps: Vec<StepSpec>, after: Vec<JobId>) -> JobId {
        self.submit_as((QueuePath::fallback(), "u"), steps, after)
    }

    fn submit_to(&mut self, queue: &str, owner: &str, steps: Vec<StepSpec>) -> JobId {
        self.submit_as((queue.parse().unwrap(), owner), steps, Vec::new())
    }

    fn submit_as(&mut self, (queue, owner): (QueuePath, &str), steps: Vec<StepSpec>, after: Vec<JobId>) -> JobId {
        let spec = JobSpec {
            name: "flow".parse().unwrap(),
            queue,
            priority: 0,
            tags: Default::default(),
            params: BTreeMap::new(),
            steps,
            after,
            retention_ms: None,
            deadline_ms: None,
            queue_ttl_ms: None,
        };
        let spec_digest = Digest { hash: [0; 32], length: 0 };
        let job = SubmitJob { spec: Arc::new(spec), spec_digest, owner: owner.to_owned(), key: None };
        self.apply(Command::SubmitJob(job));
        self.state.jobs().next_back().expect("a job was taken").0
    }

    fn place(&mut self, task: TaskKey) {
        let seat = Seat { node: NodeId(1), incarnation: Incarnation(1), gpus: Vec::new(), gpu_alternative: 0 };
        self.commit(vec![Placement { task, attempt: AttemptNumber(1), members: vec![seat] }]);
    }

    fn commit(&mut self, placements: Vec<Placement>) {
        let based_on = self.state.revision();
        self.apply(Command::CommitPlan(Plan {
            based_on,
            seed: 0,
            budget: 0,
            placer_version: 1,
            accept_ms: None,
            claims: vec![],
            drops: vec![],
            at: None,
            made_from: None,
            repairs: Vec::new(),
            placements,
        }));
    }

    fn end(&mut self, task: TaskKey, reason: Reason) {
        self.end_as(task, AttemptOutcome::Failed, reason);
    }

    fn end_as(&mut self, task: TaskKey, outcome: AttemptOutcome, reason: Reason) {
        let end = End {
            outcome,
            reason,
            blame: Blame::User,
            exit_code: None,
            signal: None,
            message: "it went wrong".to_owned(),
            peak_memory_bytes: 5 << 20,
            cpu_us: 0,
            outputs: BTreeMap::new(),
            logs: Logs::NONE,
        };
        let member = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
        let (phase, times, end) = (Phase::Ended, PhaseTimes::NONE, Some(Arc::new(end)));
        let report = AttemptReport { member, phase, times, end, checkpoint: None, stuck: None, saved_at: None };
        let reports = vec![report];
        self.apply(Command::ReportAttempts(ReportAttempts { node: NodeId(1), incarnation: Incarnation(1), reports }));
    }

    fn ask<T>(&self, about: impl FnOnce(Scene<'_>) -> T) -> T {
        let view = self.state.view();
        let (looks, deep) = (|_: &QueuePath| true, std::cell::Cell::new(false));
        about(Scene { view: &view, directory: &Directory::empty(), now_ms: 61_002, looks: &looks, deep: &deep })
    }

    fn job(&self, id: JobId) -> Vec<Finding> {
        self.ask(|scene| of_job(scene, id, &scene.view.job(id).unwrap()))
    }

    fn step(&self, id: JobId, index: u32) -> Vec<Finding> {
        let index = StepIndex(index);
        self.ask(|scene| of_step(scene, id, &scene.view.job(id).unwrap(), index, &scene.view.step(id, index).unwrap()))
    }

    fn task(&self, key: TaskKey) -> Finding {
        self.ask(|scene| task::finding(scene, &scene.view.job(key.job).unwrap(), key))
    }
}

fn step(name: &str, count: u32) -> StepSpec {
    StepSpec {
        name: name.parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Container,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        fan_out: if count == 1 { FanOut::Single } else { FanOut::Range { start: 0, count } },
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 1_500,
            memory_bytes: 64 << 20,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: Vec::new(),
        },
        size: 1,
        retry: Retry::plain(0, 0, []),
        timeout_ms: None,
        expected_ms: None,
        on_failure: OnFailure::Stop,
        max_parallel: None,
        constraints: Vec::new(),
        network: NetworkMode::Host,
        mounts: Vec::new(),
        kill_grace_ms: 0,
        stop_signal: Default::default(),
        on_disconnect: OnDisconnect::Keep,
        secrets: vec![],
        preemptible: true,
        notice: None,
        placing: Default::default(),
        priority: 0,
    }
}

fn key(job: JobId, step: u32, task: u32) -> TaskKey {
    TaskKey { job, step: StepIndex(step), task: TaskIndex(task) }
}

#[test]
fn a_full_node_is_named_with_what_is_free_of_it() {
    let mut cluster = Cluster::with_one_node();
    let job = cluster.submit(vec![step("train", 3)], Vec::new());
    cluster.place(key(job, 0, 0));
    let findings = cluster.step(job, 0);
    assert_eq!(findings[0].state, "active");
    assert!(
        findings[0].details[0].contains("1/train/0#1 is placed on n1 (not connected now) for 59.9s"),
        "{findings:?}"
    );
    assert_eq!(findings[1].state, "ready");
    assert!(findings[1].reason.contains("asks for cpu 1.5, memory 64MiB"), "{findings:?}");
    assert_eq!(findings[1].details, ["1 node: CPUs taken, such as n1: 0.5 of 2 free"]);
}

#[test]
fn steps_that_are_not_told_about_are_counted() {
    let mut cluster = Cluster::with_one_node();
    let steps = (0..15).map(|at| step(&format!("s{at}"), 1)).collect();
    let job = cluster.submit(steps, Vec::new());
    let findings = cluster.job(job);
    assert_eq!(findings.len(), 13, "twelve, and that there are more: {findings:?}");
    assert_eq!((&*findings[11].subject, &*findings[12].state), ("1/s11/0", "more"), "{findings:?}");
    assert_eq!(findings[12].reason, "3 more steps of it have not ended either and are not told about here");
    let few = cluster.submit((0..12).map(|at| step(&format!("s{at}"), 1)).collect(), Vec::new());
    assert!(cluster.job(few).iter().all(|finding| finding.state != "more"));
}

#[test]
fn limits_come_before_room() {
    let mut cluster = Cluster::with_one_node();
    let mut narrow = step("train", 3);
    narrow.max_parallel = Some(1);
    let job = cluster.submit(vec![narrow], Vec::new());
    cluster.place(key(job, 0, 0));
    let ready = cluster.step(job, 0).pop().unwrap();
    assert!(ready.reason.contains("`max_parallel` is 1"), "{ready:?}");
}

#[test]
fn bounds_of_queues_are_named_with_their_numbers() {
    let cpus = |milli| QueueAmounts { cpu_milli: Some(milli), ..QueueAmounts::default() };
    let queue = |path: &str| Queue::new(path.parse().unwrap());
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let job = cluster.submit(vec![step("train", 3)], Vec::new());
    let reason = |cluster: &Cluster| cluster.step(job, 0).pop().unwrap().reason;
    let keeps = Queue { reserve: cpus(1_000), lend: cpus(0), ..queue("keep") };
    cluster.apply(Command::PutQueue(keeps.into()));
    let kept =
        "1 of the 2 cpu that are free are kept for queues that do not lend them, such as keep, and a task needs 1.5";
    assert_eq!(reason(&cluster), kept);
    cluster.apply(Command::DropQueue { path: "keep".parse().unwrap() });
    cluster.place(key(job, 0, 0));
    cluster.apply(Command::PutQueue(Queue { limit: cpus(2_500), ..queue("default") }.into()));
    assert_eq!(reason(&cluster), "queue default holds 1.5 of its limit of 2.5 cpu, and a task needs 1.5");
    let borrows = Queue { reserve: cpus(1_000), borrow: cpus(1_500), ..queue("default") };
    cluster.apply(Command::PutQueue(borrows.into()));
    let borrowed =
        "queue default holds 1.5 cpu, a task needs 1.5, and with what it may borrow beyond its reserve it may hold 2.5";
    assert_eq!(reason(&cluster), borrowed);
    cluster.apply(Command::PutQueue(Queue { max_active: Some(1), ..queue("default") }.into()));
    assert_eq!(reason(&cluster), "queue default has as many active tasks as it may: 1 of 1");
}

#[test]
fn a_gang_that_needs_a_level_is_told_how_much_room_there_is_so_near() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let policy = |levels: &[&str]| {
        let topology = levels.iter().map(|level| level.parse().unwrap()).collect();
        Command::PutPolicy(Policy { topology, ..Policy::default() }.into())
    };
    cluster.apply(policy(&["zone", "rack"]));
    let mut gang = step("train", 1);
    gang.size = 2;
    gang.resources.cpu_milli = 1_000;
    gang.placing.near = Some(Near { level: "zone".parse().unwrap(), need: true });
    let mut large = gang.clone();
    large.size = 3;
    let small = cluster.submit(vec![step("other", 1), gang], Vec::new());
    let large = cluster.submit(vec![large], Vec::new());
    let reason = |cluster: &Cluster, job, step| cluster.step(job, step).pop().unwrap().reason;
    assert!(reason(&cluster, small, 1).starts_with("1 of 1 node has room"), "{}", reason(&cluster, small, 1));
    cluster.place(key(small, 0, 0));
    let short = "it needs all 2 members in one zone; the only zone that it may go to has room for 0 now; 2 would fit in one if \
                 nothing ran";
    assert_eq!(reason(&cluster, small, 1), short);
    let never = "it needs all 3 members in one zone; the only zone that it may go to has room for 0 now; none would hold more \
                 than 2 if nothing ran, so that it waits for more nodes";
    assert_eq!(reason(&cluster, large, 0), never);
    cluster.apply(policy(&["rack"]));
    let gone = "it needs all 2 members in one zone, and that is no level of the topology any more; there are: rack";
    assert_eq!(reason(&cluster, small, 1), gone);
}

#[test]
fn who_has_to_leave_for_a_task_is_said_and_when_the_first_may_be_asked_to() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let low = cluster.submit(vec![step("low", 2)], Vec::new());
    cluster.place(key(low, 0, 0));
    let urgent = StepSpec { priority: 1, ..step("urgent", 1) };
    let task = key(cluster.submit(vec![urgent], Vec::new()), 0, 0);
    let waits = "1 attempt may have to leave for it, the first in 9m00s";
    assert_eq!(cluster.task(task).details.last().map(String::as_str), Some(waits));
    assert_eq!(cluster.task(key(low, 0, 1)).details.len(), 1, "it has a right to nobody");
    let contract = Some(Contract { min_run_ms: 0, ..Contract::DEFAULT });
    cluster.apply(Command::PutQueue(Queue { contract, ..Queue::new(QueuePath::fallback()) }.into()));
    let members = vec![Seat { node: NodeId(1), incarnation: Incarnation(1), gpus: Vec::new(), gpu_alternative: 0 }];
    let kind = EvictionKind::Priority;
    let evictions = vec![Eviction { task: key(low, 0, 0), attempt: AttemptNumber(1), kind }];
    cluster.apply(Command::CommitPlan(Plan {
        based_on: cluster.state.revision(),
        seed: 0,
        budget: 0,
        placer_version: 3,
        placements: vec![],
        accept_ms: None,
        claims: vec![ClaimWish { task, attempt: AttemptNumber(1), members, evictions, awaits: vec![] }],
        drops: vec![],
        at: None,
        made_from: None,
        repairs: Vec::new(),
    }));
    let leaves = cluster.task(key(low, 0, 0)).details.concat();
    let asked = "ago to make room for a task, one with a higher priority in its queue; it spends no retry by that";
    assert!(leaves.contains(asked), "{leaves}");
    let claimed = cluster.task(task);
    assert_eq!(claimed.reason, "1 attempt of queue default was asked to leave for it; it starts once that is done");
    let kept = "its place is kept for it for 5m30s at the latest; after that it is looked for anew";
    assert_eq!(claimed.details[..2], ["1 of 1 attempt still there", kept]);
    let step = cluster.step(task.job, 0).pop().expect("something is said of the step");
    assert!(step.details.iter().any(|it| it == "1 of 1 attempt still there"), "{step:?}");
}

#[test]
fn who_runs_on_what_others_are_promised_is_told_whose_it_is_and_when_it_may_have_to_go() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let promise = |cpu_milli: u64| {
        let reserve = QueueAmounts { cpu_milli: Some(cpu_milli), ..QueueAmounts::default() };
        Command::PutQueue(Queue { reserve, ..Queue::new("lab".parse().unwrap()) }.into())
    };
    cluster.apply(promise(500));
    let task = key(cluster.submit(vec![step("guest", 1)], Vec::new()), 0, 0);
    cluster.place(task);
    assert_eq!(cluster.task(task).details, [""; 0], "as much as the lab is promised is free");
    cluster.apply(promise(1_000));
    let details = cluster.task(task).details;
    let lent = "its queue holds 1.5 cpu beyond what it is promised, of which 0.5 may be wanted back by lab (1 unused)";
    let terms = "if that is wanted back it may be asked to leave in 9m00s at the earliest; it has 30.0s of notice then and is killed \
                 1m00s after that, and is placed again when there is room";
    assert_eq!(details, [lent, terms]);
    let view = cluster.state.view();
    let looks = |queue: &QueuePath| queue.as_str() != "lab";
    let deep = std::cell::Cell::new(false);
    let scene = Scene { view: &view, directory: &Directory::empty(), now_ms: 61_002, looks: &looks, deep: &deep };
    let hidden = task::finding(scene, &view.job(task.job).unwrap(), task).details;
    assert!(hidden[0].ends_with("of which 0.5 may be wanted back by others"), "{hidden:?}");
    let kept = StepSpec { preemptible: false, ..step("kept", 1) };
    let no_preempt = QueueAmounts { cpu_milli: Some(2_000), memory_bytes: Some(1 << 30), ..QueueAmounts::default() };
    let own = Queue { no_preempt: no_preempt.clone(), reserve: no_preempt, ..Queue::new("own".parse().unwrap()) };
    cluster.apply(Command::PutQueue(own.into()));
    cluster.end_as(task, AttemptOutcome::Succeeded, Reason::Exit);
    let kept = key(cluster.submit_to("own", "u", vec![kept]), 0, 0);
    cluster.place(kept);
    assert_eq!(cluster.task(kept).details, [""; 0], "nobody can ask it to");
}

#[test]
fn what_a_node_lacks_is_said_with_what_it_has() {
    let mut cluster = Cluster::with_one_node();
    let mut elsewhere = step("train", 1);
    let values = vec!["b".to_owned()];
    elsewhere.constraints =
        vec![Constraint { label: "zone".parse().unwrap(), operator: ConstraintOperator::In, values }];
    let job = cluster.submit(vec![elsewhere], Vec::new());
    assert_eq!(
        cluster.task(key(job, 0, 0)).details,
        ["1 node: other labels, such as n1: `zone == b` does not hold: zone = a"]
    );
    let mut bare = step("train", 1);
    bare.isolation = Isolation::Process;
    let job = cluster.submit(vec![bare], Vec::new());
    let lack = cluster.task(key(job, 0, 0)).details;
    assert!(lack[0].contains("isolation process is not allowed"), "{lack:?}");
}

#[test]
fn a_blocked_task_names_what_it_needs_with_counts() {
    let mut cluster = Cluster::with_one_node();
    let mut join = step("join", 1);
    join.needs = [(StepIndex(0), NeedKind::All)].into();
    let job = cluster.submit(vec![step("train", 3), join], Vec::new());
    cluster.place(key(job, 0, 0));
    let blocked = cluster.task(key(job, 1, 0));
    assert_eq!((blocked.subject.as_str(), blocked.state.as_str()), ("1/join/0", "blocked"));
    assert_eq!(blocked.details, ["needs 1/train, all of it: 0 of 3 done (1 active, 2 ready)"]);
    let later = cluster.submit(vec![step("train", 1)], vec![job]);
    let waits = cluster.job(later);
    assert_eq!(waits[0].reason, "it waits for 1 other job");
    assert_eq!(waits[0].details, ["job 1 `flow` is active"]);
}

#[test]
fn a_failure_is_told_with_reason_blame_and_what_to_do() {
    let mut cluster = Cluster::with_one_node();
    let job = cluster.submit(vec![step("train", 2)], Vec::new());
    cluster.place(key(job, 0, 0));
    cluster.end(key(job, 0, 0), Reason::Oom);
    let failed = cluster.job(job);
    assert_eq!((failed.len(), failed[0].subject.as_str()), (1, "1/train/0"));
    assert_eq!(failed[0].reason, "it went wrong");
    let expected = [
        "reason oom, blame user",
        "on node n1",
        "used at most 5MiB of 64MiB of memory",
        "1 attempt; the step allows no retry",
    ];
    assert_eq!(failed[0].details, expected);
    assert_eq!(failed[0].advice[0], "give step train more memory: `memory` is 64MiB now");
    let sibling = cluster.task(key(job, 0, 1));
    assert_eq!(sibling.reason, "its job stopped because another task failed for good");
    let late = cluster.submit(vec![step("train", 1)], vec![job]);
    assert_eq!(cluster.job(late)[0].details, ["job 1 failed; see fctl why 1"]);
}

#[test]
fn a_cancelled_job_says_so() {
    let mut cluster = Cluster::with_one_node();
    let job = cluster.submit(vec![step("train", 1)], Vec::new());
    cluster.apply(Command::CancelJob { job });
    assert_eq!(cluster.job(job)[0].reason, "somebody cancelled it");
    assert_eq!(cluster.task(key(job, 0, 0)).reason, "its job was cancelled");
}

#[test]
fn a_job_that_succeeded_without_some_tasks_says_which_failed() {
    let mut cluster = Cluster::with_one_node();
    let mut lenient = step("train", 2);
    lenient.on_failure = OnFailure::Continue;
    lenient.resources.cpu_milli = 500;
    let mut join = step("pick", 1);
    join.needs = [(StepIndex(0), NeedKind::All)].into();
    let job = cluster.submit(vec![lenient, join], Vec::new());
    for task in 0..2 {
        cluster.place(key(job, 0, task));
        cluster.end(key(job, 0, task), Reason::Exit);
    }
    cluster.place(key(job, 1, 0));
    cluster.end_as(key(job, 1, 0), AttemptOutcome::Succeeded, Reason::Exit);
    let findings = cluster.job(job);
    assert_eq!((findings.len(), findings[0].state.as_str()), (2, "succeeded"), "{findings:?}");
    assert!(
        findings[0].reason.starts_with("2 tasks failed, in a step with `on_failure = \"continue\"`"),
        "{findings:?}"
    );
    assert_eq!(findings[1].subject, "1/train/0", "{findings:?}");
}

#[test]
fn nodes_that_are_left_out_because_they_are_closed_are_told_with_who_and_why() {
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    let job = cluster.submit(vec![step("a", 1)], Vec::new());
    let told = |cluster: &mut Cluster, change: NodeChange| {
        let (by, reason) = ("ada".to_owned(), "new disk".to_owned());
        cluster.apply(Command::ChangeNode(ChangeNode { node: NodeId(1), change, by, reason }));
        cluster.job(job).iter().map(words).collect::<Vec<_>>().join("\n")
    };
    let cordoned = told(&mut cluster, NodeChange::Cordon);
    assert!(cordoned.contains("the only node takes no new work"), "{cordoned}");
    assert!(cordoned.contains("1 node: cordoned, such as n1: ada closed it to new work (new disk)"), "{cordoned}");
    assert!(cordoned.contains("fctl node uncordon"), "{cordoned}");
    cluster.apply(Command::ChangeNode(ChangeNode {
        node: NodeId(1),
        change: NodeChange::Uncordon,
        by: String::new(),
        reason: String::new(),
    }));
    cluster.place(TaskKey { job, step: StepIndex(0), task: TaskIndex(0) });
    let other = cluster.submit(vec![step("b", 1)], Vec::new());
    told(&mut cluster, NodeChange::Drain { deadline: None });
    let draining = cluster.job(other).iter().map(words).collect::<Vec<_>>().join("\n");
    assert!(draining.contains("1 node: draining, such as n1: ada closed it"), "{draining}");
}

#[test]
fn who_may_not_look_at_a_queue_is_told_amounts_and_no_names() {
    let cpus = |milli| QueueAmounts { cpu_milli: Some(milli), ..QueueAmounts::default() };
    let queue = |path: &str| Queue::new(path.parse().unwrap());
    let mut cluster = Cluster::with_one_node();
    cluster.apply(Command::RaiseVersion { version: ClusterVersion::ACCESS });
    cluster.apply(Command::PutQueue(Queue { limit: cpus(2_500), ..queue("lab") }.into()));
    cluster.apply(Command::PutQueue(Queue { reserve: cpus(400), lend: cpus(0), ..queue("lab/secret") }.into()));
    cluster.apply(Command::PutQueue(queue("lab/mine").into()));
    let hidden = cluster.submit_to("lab/secret", "mallory", vec![step("train", 1)]);
    cluster.place(key(hidden, 0, 0));
    cluster.submit_to("lab/secret", "mallory", vec![step("train", 1)]);
    let mine = cluster.submit_to("lab/mine", "ada", vec![step("train", 1)]);
    let told = |looks: &dyn Fn(&QueuePath) -> bool| {
        let (view, deep) = (cluster.state.view(), std::cell::Cell::new(true));
        let scene = Scene { view: &view, directory: &Directory::empty(), now_ms: 61_002, looks, deep: &deep };
        let findings = of_job(scene, mine, &view.job(mine).unwrap());
        assert!(findings[0].explanation.is_some(), "{findings:?}");
        format!("{findings:?}")
    };
    let (all, some) = (told(&|_| true), told(&|queue| queue.as_str() == "lab/mine"));
    for name in ["mallory", "lab/secret"] {
        assert!(all.contains(name), "{name} is told to who may look: {all}");
        assert!(!some.contains(name), "{name} is told to who may not: {some}");
    }
    assert!(all.contains("held in lab: mallory 1.5 in lab/secret"), "{all}");
    assert!(some.contains("held in lab: others 1.5"), "{some}");
    assert!(!some.contains(&format!("{hidden}/train/0")), "nor that there is this task: {some}");
}

fn words(finding: &Finding) -> String {
    format!("{} {} {:?} {:?}", finding.state, finding.reason, finding.details, finding.advice)
}
