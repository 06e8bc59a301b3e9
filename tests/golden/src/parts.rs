//! Specs, inventories and reports that the script is written with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flowyard_model::*;

/// A name; the script has only good ones.
pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name of the script is a name")
}

/// A digest that stands for some blob.
pub(crate) fn blob(of: &str) -> Digest {
    Digest { hash: *blake3::hash(of.as_bytes()).as_bytes(), length: of.len() as u64 }
}

/// A step that runs `true` once in the host image.
pub(crate) fn step(name_: &str) -> StepSpec {
    StepSpec {
        name: name(name_),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Container,
        code: None,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        fan_out: FanOut::Single,
        needs: BTreeMap::new(),
        env: BTreeMap::new(),
        resources: Resources {
            cpu_milli: 500,
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
        network: NetworkMode::Private,
        mounts: Vec::new(),
        kill_grace_ms: 10_000,
        stop_signal: StopSignal::Term,
        on_disconnect: OnDisconnect::Keep,
        secrets: vec![],
        preemptible: true,
        notice: None,
        placing: Default::default(),
        priority: 0,
    }
}

/// A job of these steps.
pub(crate) fn job(name_: &str, steps: Vec<StepSpec>) -> JobSpec {
    JobSpec {
        name: name(name_),
        queue: QueuePath::fallback(),
        priority: 0,
        tags: BTreeSet::new(),
        params: BTreeMap::new(),
        steps,
        after: Vec::new(),
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    }
}

/// The flow that reads a list, trains per item on a GPU, and joins: every kind of field has a value somewhere.
pub(crate) fn sweep() -> JobSpec {
    let (split, train) = (StepIndex(0), StepIndex(1));
    let mut steps = vec![step("split"), train_step(split), step("eval"), step("pick")];
    steps[0].code = Some(blob("code"));
    steps[0].inputs.insert(name("data"), Input::Stored { manifest: blob("iris.csv") });
    steps[0].outputs.insert(name("grid"), "grid.json".to_owned());
    steps[0].isolation = Isolation::Process;
    steps[2].fan_out = FanOut::Each { step: train };
    steps[2].needs.insert(train, NeedKind::Each);
    steps[2].network = NetworkMode::None;
    steps[3].needs.insert(train, NeedKind::All);
    steps[3].needs.insert(StepIndex(2), NeedKind::All);
    steps[3].inputs.insert(name("models"), Input::Output { step: train, output: name("model") });
    steps[3].image = Image::Stored { manifest: blob("image"), source: "./image.tar".to_owned() };
    JobSpec {
        queue: "research/vision".parse().expect("a path"),
        priority: 5,
        tags: ["nightly".to_owned()].into(),
        params: [(name("folds"), "10".to_owned())].into(),
        retention_ms: Some(86_400_000),
        ..job("sweep", steps)
    }
}

fn train_step(split: StepIndex) -> StepSpec {
    let gpu = GpuRequest {
        count: 1,
        model: Some("a100".to_owned()),
        min_memory_bytes: 1 << 30,
        same_link_group: false,
        share_milli: 500,
        memory_bytes: 0,
        link: None,
    };
    let mut train = step("train");
    train.fan_out = FanOut::Output { step: split, output: name("grid") };
    train.needs.insert(split, NeedKind::All);
    train.outputs.insert(name("model"), "model.json".to_owned());
    train.env.insert("EPOCHS".to_owned(), "3".to_owned());
    train.resources.gpus = vec![gpu];
    train.resources.tokens.insert(name("licence"), 1);
    train.resources.shm_bytes = 1 << 20;
    train.retry = Retry::plain(2, 5_000, [RetryOn::Failed, RetryOn::Oom]);
    train.timeout_ms = Some(600_000);
    train.on_failure = OnFailure::Continue;
    train.max_parallel = Some(8);
    train.constraints =
        vec![Constraint { label: name("zone"), operator: ConstraintOperator::In, values: vec!["a".to_owned()] }];
    train.mounts = vec![HostMount { path: "/data".to_owned(), read_only: true }];
    train.on_disconnect = OnDisconnect::Stop;
    train.priority = 1;
    train
}

/// A machine with two GPUs.
pub(crate) fn inventory() -> Inventory {
    let gpu = |at: u32| Gpu {
        id: format!("fake-{at}"),
        model: "A100".to_owned(),
        memory_bytes: 40 << 30,
        numa_node: Some(0),
        link_group: Some(at / 2),
        pcie_group: None,
        healthy: true,
        fake: true,
        part: None,
    };
    Inventory {
        cpu_milli: 16_000,
        memory_bytes: 64 << 30,
        disk_bytes: 1 << 40,
        gpus: vec![gpu(0), gpu(1)],
        tokens: [(name("licence"), 4)].into(),
        labels: [(name("zone"), "a".to_owned())].into(),
        rendezvous: Some(Rendezvous { address: "127.0.0.1".to_owned(), ports: PortRange::USUAL }),
        abilities: Abilities {
            containers: true,
            process_isolation: true,
            host_image: true,
            private_networks: false,
            separation: String::new(),
            enforcement: "cpu: cgroup, memory: cgroup".to_owned(),
            agent_version: "0.1.0".to_owned(),
            system: "Linux 6.1".to_owned(),
        },
    }
}

/// An end with an exit code.
pub(crate) fn end(exit_code: i32) -> End {
    let outcome = if exit_code == 0 { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
    End {
        outcome,
        reason: Reason::Exit,
        blame: Blame::User,
        exit_code: Some(exit_code),
        signal: None,
        message: if exit_code == 0 { String::new() } else { format!("exited with code {exit_code}") },
        peak_memory_bytes: 12 << 20,
        cpu_us: 48_000,
        outputs: BTreeMap::new(),
        logs: Logs { stdout: Some(blob("stdout")), stderr: None },
    }
}

/// A report of the only member of an attempt.
pub(crate) fn report(task: TaskKey, attempt: u32, phase: Phase, end: Option<End>) -> AttemptReport {
    AttemptReport {
        member: MemberKey { task, attempt: AttemptNumber(attempt), rank: Rank(0), epoch: Epoch(0), replacement: 0 },
        phase,
        times: PhaseTimes::NONE,
        end: end.map(Arc::new),
        checkpoint: None,
        stuck: None,
        saved_at: None,
    }
}
