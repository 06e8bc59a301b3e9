//! How many no-op attempts per second; run by hand: `cargo test --release -p flowyard-agent rate -- --ignored --nocapture`.

use super::*;

const ATTEMPTS: usize = 10_000;
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement"]
async fn no_op_attempts_beside_bare_spawning() {
    let floor = spawn_floor();
    let mut yard = Yard::open().await;
    let specs: Vec<LaunchSpec> = (0..ATTEMPTS).map(|_| no_op(&mut yard)).collect();
    let begun = flowyard_clock::monotonic();
    let mut running = 0;
    let mut ended = 0;
    let mut specs = specs.into_iter();
    while ended < ATTEMPTS {
        while running < AT_ONCE {
            let Some(spec) = specs.next() else { break };
            yard.client.start(spec).await.expect("launcher");
            running += 1;
        }
        if let Event::Ended { record, .. } = yard.events.recv().await.expect("launcher") {
            assert_eq!(record.cause, exited(0));
            running -= 1;
            ended += 1;
        }
    }
    let rate = ATTEMPTS as f64 / flowyard_clock::elapsed(begun).as_secs_f64();
    let text = format!("{rate:.0} attempts/s, floor {floor:.0}/s, ratio {:.2}, {:?}", rate / floor, yard.enforcement);
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn no_op(yard: &mut Yard) -> LaunchSpec {
    let mut spec = yard.spec(&["/bin/true"]);
    spec.limits = Limits { cpu_milli: 1_000, memory_bytes: 256 << 20, pids: 512, shm_bytes: 0, disk_bytes: 0 };
    spec
}

/// A spawn and wait loop on as many threads as cores.
fn spawn_floor() -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = flowyard_clock::monotonic();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..ATTEMPTS / threads / 2 {
                    assert!(std::process::Command::new("/bin/true").status().expect("spawn").success());
                }
            });
        }
    });
    (ATTEMPTS / threads / 2 * threads) as f64 / flowyard_clock::elapsed(begun).as_secs_f64()
}
