//! A pending task of an array costs less than 16 bytes, and submitting an array does not depend on its size; a pending job of one task
//! costs less than 400. Counted by allocation, not by the clock.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use flowyard_model::*;
use flowyard_state::{State, apply};

struct Counting;

/// One test counts at a time.
static ALONE: Mutex<()> = Mutex::new(());
static LIVE_BYTES: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// What the usual allocator takes for so many bytes: eight of its own, in steps of 16.
fn taken(layout: Layout) -> u64 {
    (layout.size() as u64 + 8).next_multiple_of(16).max(32)
}

// SAFETY: both calls are passed on to the system's allocator as they are; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(taken(layout), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(taken(layout), Ordering::Relaxed);
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

/// A job of one task that no other is like: words that are its own, and one of some shapes.
fn own_job(number: u64, shapes: u64) -> SubmitJob {
    let SubmitJob { spec, spec_digest, owner, .. } = array(1);
    let mut spec = JobSpec::clone(&spec);
    let step = &mut spec.steps[0];
    step.fan_out = FanOut::Single;
    step.resources.memory_bytes = 1 + number % shapes;
    step.command = ["python3", "/srv/app/train.py"].map(str::to_owned).to_vec();
    step.command.push(format!("--item={number:09}"));
    let output = format!("/data/run-7/items/{number:09}");
    step.env = [("OUTPUT", output), ("SEED", format!("{number:09}"))].map(|(name, it)| (name.to_owned(), it)).into();
    let words = step.command.iter().map(String::len).sum::<usize>();
    let words = words + step.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    assert!((80..=120).contains(&words), "{words} bytes of command and environment");
    spec.tags.insert("sweep-7".to_owned());
    let key = Some(format!("8c9bd1f0-93c5-4d1e-8d0a-{number:012x}"));
    SubmitJob { spec: Arc::new(spec), spec_digest, owner, key }
}

#[test]
fn a_pending_job_that_no_other_is_like_costs_less_than_400_bytes() {
    let _alone = ALONE.lock().unwrap();
    let (jobs, shapes) = (20_000, 200);
    let mut state = State::new();
    let bytes = LIVE_BYTES.load(Ordering::Relaxed);
    for number in 0..jobs {
        let command = Command::SubmitJob(own_job(number, shapes));
        let effects = apply(&mut state, Entry { index: Revision(number + 1), time: TimeMs(number), command });
        assert_eq!(effects.reply, Reply::Submitted { job: JobId(number + 1), existing: false });
        if number % 1_000 == 0 {
            // Views are taken all the time, and what they share is copied.
            drop(state.view());
        }
    }
    let each = (LIVE_BYTES.load(Ordering::Relaxed) - bytes) / jobs;
    assert!(each < 400, "{each} bytes for each job");
    let last = own_job(jobs - 1, shapes);
    assert_eq!(state.job(JobId(jobs)).unwrap().spec, last.spec, "nothing of it is lost");
    let restored = State::from_records(state.records()).unwrap();
    assert!(restored == state);
    drop(state);
    let again = (LIVE_BYTES.load(Ordering::Relaxed) - bytes) / jobs;
    assert!(again < 400, "{again} bytes for each job, after a start from records");
}

#[test]
fn a_million_pending_tasks_are_one_record() {
    let _alone = ALONE.lock().unwrap();
    cost(1);
    let (small, few) = cost(10);
    let (large, many) = cost(1_000_000);
    assert!(large < 16 * 1_000, "{large} bytes for a million tasks");
    assert_eq!((small, few), (large, many), "neither depends on the number of tasks");
}
