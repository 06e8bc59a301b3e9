//! What tests of several modules begin with: a coordinator of its own, and a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_cas::Origin;
use flowyard_model::{
    Abilities, AttemptNumber, AttemptReport, Command, Digest, Entry, Epoch, FanOut, Image, Incarnation, Inventory,
    Isolation, JobId, JobSpec, MemberKey, NetworkMode, NodeId, OnDisconnect, OnFailure, Phase, PhaseTimes, PortRange,
    Rank, RegisterNode, Rendezvous, Reply, Resources, Retry, Revision, StepIndex, StepSpec, SubmitJob, TaskIndex,
    TaskKey, TimeMs,
};
use flowyard_state::State;
use tempfile::TempDir;

use crate::raft::engine::EngineKind;
use crate::{Config, Coordinator, LogKeeping, Retention, Timing};

/// A small machine.
pub(crate) fn inventory() -> Inventory {
    let abilities = Abilities {
        containers: true,
        process_isolation: true,
        host_image: true,
        private_networks: false,
        separation: String::new(),
        enforcement: String::new(),
        agent_version: String::new(),
        system: String::new(),
    };
    Inventory {
        cpu_milli: 4_000,
        memory_bytes: 1 << 30,
        disk_bytes: 0,
        gpus: vec![],
        tokens: BTreeMap::new(),
        labels: BTreeMap::new(),
        abilities,
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
    }
}

/// A registration of the machine `name`.
pub(crate) fn registration(name: &str) -> RegisterNode {
    RegisterNode { name: name.parse().unwrap(), inventory: Arc::new(inventory()), previous: None }
}

/// A coordinator that leads, in a folder of its own.
pub(crate) async fn coordinator() -> (Coordinator, TempDir) {
    coordinator_over(Origin::in_memory()).await
}

/// The same, with these blobs.
pub(crate) async fn coordinator_over(origin: Origin) -> (Coordinator, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        folder: folder.path().join("coordinator"),
        socket: folder.path().join("api.sock"),
        engine: EngineKind::default(),
        embedded: false,
        usual_network: flowyard_model::NetworkMode::Host,
        home: folder.path().to_owned(),
        timing: Timing::STANDARD,
        stuck: flowyard_model::StuckLimits::STANDARD,
        retention: Retention::STANDARD,
        log_keeping: LogKeeping::STANDARD,
        storage_budget_bytes: 0,
        call_rate: crate::CallRate::STANDARD,
        shared_origin: true,
        fleet: None,
    };
    (Coordinator::start(config, origin).await.unwrap(), folder)
}

/// A node of this coordinator.
pub(crate) async fn node(coordinator: &Coordinator, name: &str) -> (NodeId, Incarnation) {
    match coordinator.shared().propose(&Command::RegisterNode(registration(name))).await.unwrap() {
        Reply::Registered { node, incarnation } => (node, incarnation),
        other => panic!("a registration was answered with {other:?}"),
    }
}

/// A step of so many tasks, which any machine can run.
pub(crate) fn step(tasks: u32) -> StepSpec {
    StepSpec {
        name: "a".parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Process,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        fan_out: FanOut::Range { start: 0, count: tasks },
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 1_000,
            memory_bytes: 1,
            disk_bytes: 0,
            shm_bytes: 0,
            tokens: BTreeMap::new(),
            gpus: vec![],
        },
        size: 1,
        retry: Retry::plain(0, 0, []),
        timeout_ms: None,
        expected_ms: None,
        on_failure: OnFailure::Stop,
        max_parallel: None,
        constraints: vec![],
        network: NetworkMode::Host,
        mounts: vec![],
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

/// A job of one step.
pub(crate) fn spec(queue: &str, step: StepSpec) -> JobSpec {
    JobSpec {
        name: "j".parse().unwrap(),
        queue: queue.parse().unwrap(),
        priority: 0,
        tags: BTreeSet::new(),
        params: BTreeMap::new(),
        steps: vec![step],
        after: vec![],
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    }
}

/// A report of a member that nobody knows.
pub(crate) fn report() -> AttemptReport {
    let task = TaskKey { job: JobId(999), step: StepIndex(0), task: TaskIndex(0) };
    AttemptReport {
        member: MemberKey { task, attempt: AttemptNumber(1), rank: Rank(0), epoch: Epoch(0), replacement: 0 },
        phase: Phase::Running,
        times: PhaseTimes::NONE,
        end: None,
        checkpoint: None,
        stuck: None,
        saved_at: None,
    }
}

/// A state with one job.
pub(crate) fn job() -> (State, JobId) {
    let mut state = State::new();
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    let wish = SubmitJob { spec: Arc::new(spec("default", step(1))), spec_digest, owner: "me".to_owned(), key: None };
    let entry = Entry { index: Revision(1), time: TimeMs(1), command: Command::SubmitJob(wish) };
    match flowyard_state::apply(&mut state, entry).reply {
        Reply::Submitted { job, .. } => (state, job),
        other => panic!("a job was answered with {other:?}"),
    }
}

/// A job of one task, as it is submitted.
pub(crate) fn submission(name: &str) -> Command {
    let spec = JobSpec { name: name.parse().unwrap(), ..spec("default", step(1)) };
    let spec_digest = flowyard_cas::digest_bytes(name.as_bytes());
    Command::SubmitJob(SubmitJob { spec: Arc::new(spec), spec_digest, owner: "ada".to_owned(), key: None })
}
