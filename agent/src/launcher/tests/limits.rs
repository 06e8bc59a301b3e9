//! Limits in time, memory, processes and CPU.

use flowyard_model::StopSignal;

use super::*;

fn cgroup(yard: &Yard, held: impl Fn(&Enforcement) -> Enforced) -> bool {
    if held(&yard.enforcement) == Enforced::Cgroup {
        return true;
    }
    skipped("no cgroup controller for this limit may be used here");
    false
}

#[tokio::test]
async fn a_timeout_ends_what_runs_too_long() {
    let mut yard = Yard::open().await;
    let mut spec = yard.shell("sleep 1000");
    spec.timeout_ms = Some(150);
    let record = yard.run(spec).await;
    assert_eq!(record.cause, ExitCause::TimedOut { limit_ms: 150 });
    let ran_ms = record.ended_at_ms - record.started_at_ms.expect("started");
    assert!(ran_ms >= 150, "ended after {ran_ms} ms");
}

#[tokio::test]
async fn a_stop_is_gentle_first_and_then_is_not() {
    let mut yard = Yard::open().await;
    let gentle = yard.shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done");
    let mut deaf = yard.shell("trap '' TERM; echo up; while :; do sleep 0.02; done");
    deaf.kill_grace_ms = 300;
    let folders = [gentle.folder.clone(), deaf.folder.clone()];
    yard.start(gentle).await;
    yard.start(deaf).await;
    for folder in &folders {
        while stdout_of(folder) != "up" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        yard.client.stop(folder, Stopping::within(None)).await.expect("launcher");
    }
    let asked_at = flowyard_clock::monotonic();
    assert_eq!(yard.end_of(&folders[0]).await.cause, ExitCause::Stopped);
    assert!(flowyard_clock::elapsed(asked_at) < Duration::from_millis(290));
    assert_eq!(stdout_of(&folders[0]), "up\nbye");
    assert_eq!(yard.end_of(&folders[1]).await.cause, ExitCause::Stopped);
    assert!(flowyard_clock::elapsed(asked_at) >= Duration::from_millis(290));
}

/// Tasks that are evicted: one saves its work when it is given notice, one would not go by itself, one is of a step without notices.
/// The agent that asked them is gone before any of them has to leave.
#[tokio::test]
async fn what_is_evicted_is_given_notice_and_leaves_in_time_whoever_lives() {
    let mut yard = Yard::open().await;
    let specs = [yard.shell(SAVES), yard.shell(DEAF), yard.shell(SAVES)];
    evict_three(&mut yard, specs).await;
}

/// Saves what it has when it is noticed.
pub(super) const SAVES: &str =
    "trap 'echo saved; exit 0' USR1; trap 'echo stopped; exit 0' TERM; echo up; while :; do sleep 0.02; done";
/// Hears nothing.
pub(super) const DEAF: &str = "trap '' USR1 TERM; echo up; while :; do sleep 0.02; done";

/// Evicts two tasks of a step with a notice and one of a step without.
pub(super) async fn evict_three(yard: &mut Yard, mut specs: [LaunchSpec; 3]) {
    const NOTICE_MS: u64 = 3_000;
    specs[0].notice_signal = Some(StopSignal::Usr1);
    specs[1].notice_signal = Some(StopSignal::Usr1);
    let folders = [0, 1, 2].map(|at| specs[at].folder.clone());
    for spec in specs {
        yard.start(spec).await;
    }
    for folder in &folders {
        while stdout_of(folder) != "up" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let stopping = Stopping { notice_ms: Some(NOTICE_MS), grace_ms: Some(200) };
        yard.client.stop(folder, stopping).await.expect("launcher");
    }
    let asked_at = flowyard_clock::monotonic();
    // What was asked for is heard in order; what is still unheard when its asker leaves is lost, and asked for again by an agent.
    while stdout_of(&folders[2]) != "up\nstopped" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    yard.reconnect().await;
    for (folder, said) in [(&folders[0], "up\nsaved"), (&folders[2], "up\nstopped")] {
        assert_eq!((yard.ended_in(folder).await, stdout_of(folder)), (ExitCause::Stopped, said.to_owned()));
    }
    assert!(
        flowyard_clock::elapsed(asked_at) < Duration::from_millis(NOTICE_MS),
        "neither waited for its time to pass"
    );
    assert_eq!(yard.ended_in(&folders[1]).await, ExitCause::Stopped);
    let lasted = flowyard_clock::elapsed(asked_at);
    assert!(lasted >= Duration::from_millis(NOTICE_MS + 150), "{lasted:?}: it was killed before its time");
    assert!(lasted < Duration::from_secs(7), "{lasted:?}: it was given the grace of its step");
}

#[tokio::test]
async fn a_lease_holds_as_long_as_it_is_renewed() {
    let mut yard = Yard::open().await;
    let lease = yard.folder.path().join("lease");
    let write = |until: u64| std::fs::write(&lease, format!("{until}\n")).expect("lease");
    let begun = flowyard_clock::boot_ms();
    write(begun + 200);
    let mut spec = yard.shell("sleep 1000");
    spec.lease_file = Some(lease.clone());
    let folder = spec.folder.clone();
    yard.start(spec).await;
    write(begun + 600);
    assert_eq!(yard.end_of(&folder).await.cause, ExitCause::LeaseExpired);
    let lasted = flowyard_clock::boot_ms() - begun;
    assert!((600..3_000).contains(&lasted), "{lasted} ms");
    let mut spec = yard.shell("true");
    spec.lease_file = Some("/no/lease".into());
    assert!(matches!(yard.run(spec).await.cause, ExitCause::StartFailed { .. }));
}

#[tokio::test]
async fn too_much_memory_is_called_so() {
    let mut yard = Yard::open().await;
    if !cgroup(&yard, |held| held.memory) {
        return;
    }
    let limit_bytes = 48 << 20;
    // The task itself; a child whose death the task passes on; a child whose death does not matter to it.
    let hog = "dd if=/dev/zero of=/dev/null bs=300M count=1";
    for (script, expected) in [
        (format!("exec {hog}"), ExitCause::OutOfMemory { limit_bytes }),
        (format!("{hog}; exit $?"), ExitCause::OutOfMemory { limit_bytes }),
        (format!("{hog}; exit 1"), ExitCause::OutOfMemory { limit_bytes }),
        (format!("{hog}; exit 0"), exited(0)),
        // The slot is used again: an earlier kill must not count.
        ("exit 9".to_owned(), exited(9)),
    ] {
        let mut spec = yard.shell(&script);
        spec.limits.memory_bytes = limit_bytes;
        let record = yard.run(spec).await;
        assert_eq!(record.cause, expected, "{script}");
        if script.contains(hog) {
            assert!(record.peak_memory_bytes > limit_bytes / 2, "peak {}", record.peak_memory_bytes);
            assert!(record.peak_memory_bytes <= limit_bytes);
        }
    }
}

#[tokio::test]
async fn memory_is_watched_where_no_cgroup_bounds_it() {
    let mut yard = Yard::open_as_ordinary().await;
    if yard.enforcement.memory == Enforced::Cgroup {
        // An ordinary user with a cgroup of v2 delegated to it: the other test has shown the same.
        return;
    }
    assert_eq!(yard.enforcement.memory, Enforced::Watched);
    let limit_bytes = 48 << 20;
    // A child that holds its memory, as nobody reads what it writes.
    let mut spec = yard.shell("dd if=/dev/zero bs=200M count=1 | sleep 1000");
    spec.limits.memory_bytes = limit_bytes;
    let record = yard.run(spec).await;
    assert_eq!(record.cause, ExitCause::OutOfMemory { limit_bytes });
    assert!(record.peak_memory_bytes > limit_bytes);
    let mut modest = yard.shell("sleep 0.2; exit 3");
    modest.limits.memory_bytes = limit_bytes;
    assert_eq!(yard.run(modest).await.cause, exited(3));
}

#[tokio::test]
async fn a_fork_bomb_stays_within_its_bound() {
    let mut yard = Yard::open().await;
    if !cgroup(&yard, |held| held.pids) {
        return;
    }
    let mut spec = yard.shell("n=0; while [ $n -lt 200 ]; do sleep 1000 & n=$((n+1)); done; wait");
    spec.limits.pids = 16;
    spec.limits.memory_bytes = 256 << 20;
    spec.kill_grace_ms = 0;
    let folder = spec.folder.clone();
    yard.start(spec).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    yard.client.stop(&folder, Stopping::within(Some(0))).await.expect("launcher");
    let record = yard.end_of(&folder).await;
    let complaint = lines(&folder.join(crate::logs::STDERR_LOG));
    let refused = complaint.iter().any(|line| String::from_utf8_lossy(&line.bytes).contains("fork"));
    assert!(refused, "{:?} {complaint:?}", record.cause);
}

#[tokio::test]
async fn cpu_time_is_bounded_and_counted() {
    let mut yard = Yard::open().await;
    if !cgroup(&yard, |held| held.cpu) {
        return;
    }
    let mut spec = yard.shell("(while :; do :; done) & while :; do :; done");
    spec.limits.cpu_milli = 200;
    spec.timeout_ms = Some(1_000);
    spec.kill_grace_ms = 0;
    let record = yard.run(spec).await;
    assert_eq!(record.cause, ExitCause::TimedOut { limit_ms: 1_000 });
    assert!((50_000..450_000).contains(&record.cpu_us), "{} us of 200,000", record.cpu_us);
}
