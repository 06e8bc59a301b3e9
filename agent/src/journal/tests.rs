//! What comes back after an agent's death.

use flowyard_model::{
    AttemptNumber, Epoch, FanOut, Image, Isolation, NetworkMode, OnDisconnect, OnFailure, Phase, Rank, Resources,
    Retry, StepSpec, TaskIndex, TaskKey,
};

use super::*;

pub(crate) fn context() -> Arc<StepContext> {
    let spec = StepSpec {
        name: "train".parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Process,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        fan_out: FanOut::Single,
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 1_000,
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
    };
    Arc::new(StepContext {
        job: JobId(1),
        step: StepIndex(0),
        job_name: "flow".parse().unwrap(),
        lists: Default::default(),
        params: BTreeMap::new(),
        owner: "u".to_owned(),
        spec,
    })
}

pub(crate) fn member(task: u32) -> DesiredMember {
    let task = TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(task) };
    let key = MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 };
    DesiredMember {
        key,
        gpus: Vec::new(),
        gpu_alternative: 0,
        inputs: BTreeMap::new(),
        item: None,
        known: Phase::Placed,
        gang: None,
    }
}

fn tasks(remembered: &Remembered) -> Vec<u32> {
    remembered.members.keys().map(|key| key.task.task.0).collect()
}

#[test]
fn what_was_taken_and_not_forgotten_comes_back_with_its_step_and_registration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = Journal::open(&path).unwrap();
    let registration = Registration { cluster: "c".to_owned(), epoch: 2, node: NodeId(7), incarnation: Incarnation(3) };
    journal.registered(registration.clone());
    for task in 0..3 {
        journal.accepted(&context(), &member(task)).unwrap();
    }
    journal.forgotten(member(1).key);
    let (_, remembered) = Journal::open(&path).unwrap();
    assert_eq!(tasks(&remembered), [0, 2]);
    assert_eq!(remembered.registered, Some(registration));
    assert_eq!(remembered.steps.len(), 1);
}

#[test]
fn what_was_asked_to_stop_is_remembered_with_the_last_that_it_was_asked_and_forgotten_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = Journal::open(&path).unwrap();
    for task in 0..3 {
        journal.accepted(&context(), &member(task)).unwrap();
    }
    let evicted = StopTerms { notice_ms: Some(20_000), kill_within_ms: Some(60_000) };
    journal.stopping(member(0).key, evicted);
    journal.stopping(member(1).key, evicted);
    journal.stopping(member(1).key, StopTerms::default());
    journal.stopping(member(2).key, evicted);
    journal.forgotten(member(2).key);
    let expected = BTreeMap::from([(member(0).key, evicted), (member(1).key, StopTerms::default())]);
    assert_eq!(Journal::open(&path).unwrap().1.stopping, expected);
    assert_eq!(Journal::open(&path).unwrap().1.stopping, expected, "it was rewritten");
}

/// What the release before was running is taken up by this one: as it wrote it, with what it knew in it.
#[test]
fn the_journal_of_the_release_before_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    std::fs::write(&path, include_str!("testdata/0.1.0.jsonl")).unwrap();
    let (_, remembered) = Journal::open(&path).unwrap();
    assert_eq!(tasks(&remembered), [0, 1]);
    assert_eq!(remembered.registered.map(|it| it.node), Some(NodeId(1)));
    let spec = &remembered.steps.values().next().unwrap().spec;
    assert_eq!((spec.retry.times, spec.kill_grace_ms, spec.network), (2, 3_000, NetworkMode::None));
    assert_eq!((spec.stop_signal, spec.secrets.len()), (Default::default(), 0));
}

#[test]
fn a_line_torn_by_a_full_disk_costs_no_other_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = Journal::open(&path).unwrap();
    journal.accepted(&context(), &member(0)).unwrap();
    // Half of a record came onto the disk, and the rest was refused.
    journal.file.write_all(b"{\"accepted\":{\"key").unwrap();
    journal.torn = true;
    journal.accepted(&context(), &member(1)).unwrap();
    let (_, remembered) = Journal::open(&path).unwrap();
    assert_eq!(tasks(&remembered), [0, 1]);
}

#[test]
fn a_disk_without_room_is_told_to_whoever_would_begin() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(&folder.path().join("journal")).unwrap();
    journal.file = full;
    let refused = journal.accepted(&context(), &member(0)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert!(journal.torn);
}

#[test]
fn a_member_whose_step_is_lost_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    std::fs::write(&path, line(&Record::Accepted(member(0)))).unwrap();
    let (_, remembered) = Journal::open(&path).unwrap();
    assert!(remembered.members.is_empty());
}

#[test]
fn a_long_life_does_not_make_a_long_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, _) = Journal::open(&path).unwrap();
    journal.accepted(&context(), &member(0)).unwrap();
    for task in 1..20_000 {
        journal.accepted(&context(), &member(task)).unwrap();
        journal.forgotten(member(task).key);
    }
    let lines = std::fs::read_to_string(&path).unwrap().lines().count() as u64;
    assert!(lines <= LINES_MIN + 3, "{lines} lines");
    assert_eq!(tasks(&Journal::open(&path).unwrap().1), [0]);
}
