//! Jobs for tests of this crate.

use flowyard_model::{
    FanOut, Image, Isolation, JobSpec, NetworkMode, OnDisconnect, OnFailure, QueuePath, Resources, Retry, StepSpec,
};

/// A job of one step: of a single task if `count` is 0. Jobs of another `memory` have another shape.
pub(crate) fn job(count: u32, memory: u64) -> JobSpec {
    let resources = Resources {
        cpu_milli: 1,
        memory_bytes: memory,
        disk_bytes: 0,
        shm_bytes: 0,
        tokens: Default::default(),
        gpus: vec![],
    };
    let step = StepSpec {
        name: "a".parse().unwrap(),
        command: vec!["true".to_owned()],
        image: Image::Host,
        isolation: Isolation::Process,
        code: None,
        inputs: Default::default(),
        outputs: Default::default(),
        fan_out: if count == 0 { FanOut::Single } else { FanOut::Range { start: 3, count } },
        needs: Default::default(),
        env: Default::default(),
        resources,
        size: 1,
        retry: Retry::plain(0, 0, []),
        timeout_ms: None,
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
        expected_ms: None,
        priority: 0,
    };
    JobSpec {
        name: "j".parse().unwrap(),
        queue: QueuePath::fallback(),
        priority: 0,
        tags: Default::default(),
        params: Default::default(),
        steps: vec![step],
        after: vec![],
        retention_ms: None,
        deadline_ms: None,
        queue_ttl_ms: None,
    }
}
