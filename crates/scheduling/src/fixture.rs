//! What tests begin with: a step that any machine can run, and a job of it.

use std::collections::{BTreeMap, BTreeSet};

use flowyard_model::{
    FanOut, Image, Isolation, JobSpec, NetworkMode, OnDisconnect, OnFailure, Resources, Retry, StepSpec,
};

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
