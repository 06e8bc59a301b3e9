//! A pending task of an array costs less than 16 bytes, and submitting an array does not depend on its size. Counted by
//! allocation, not by the clock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flowyard_model::*;
use flowyard_state::{State, apply};

struct Counting;

static LIVE_BYTES: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: both calls are passed on to the system's allocator as they are; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn array(count: u32) -> SubmitJob {
    let resources = Resources {
        cpu_milli: 1,
        memory_bytes: 1,
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
        fan_out: FanOut::Range { start: 0, count },
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
        priority: 0,
    };
    let spec = JobSpec {
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
    };
    let spec_digest = Digest { hash: [0; 32], length: 0 };
    SubmitJob { spec: Arc::new(spec), spec_digest, owner: "me".to_owned(), key: None }
}

/// Bytes kept and allocations made by submitting, and then cancelling, an array of this size.
fn cost(count: u32) -> (u64, u64) {
    let mut state = State::new();
    let (bytes, allocations) = (LIVE_BYTES.load(Ordering::Relaxed), ALLOCATIONS.load(Ordering::Relaxed));
    let entry = |index, command| Entry { index: Revision(index), time: TimeMs(0), command };
    apply(&mut state, entry(1, Command::SubmitJob(array(count))));
    let kept = LIVE_BYTES.load(Ordering::Relaxed) - bytes;
    apply(&mut state, entry(2, Command::CancelJob { job: JobId(1) }));
    assert!(state.job(JobId(1)).unwrap().ended.is_some());
    (kept, ALLOCATIONS.load(Ordering::Relaxed) - allocations)
}

#[test]
fn a_million_pending_tasks_are_one_record() {
    cost(1);
    let (small, few) = cost(10);
    let (large, many) = cost(1_000_000);
    assert!(large < 16 * 1_000, "{large} bytes for a million tasks");
    assert_eq!((small, few), (large, many), "neither depends on the number of tasks");
}
