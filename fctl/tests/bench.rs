//! `fctl bench fleet` as an operator runs it: what it says is what happened, and nothing of it is left.

mod common;

use std::path::PathBuf;

use common::fleet::Fleet;
use common::{Yard, until};
use serde_json::Value;

const USAGE: i32 = 110;
const REFUSED: i32 = 112;
const INTERRUPTED: i32 = 130;

/// A place for its folder, which is empty afterwards.
fn place(yard: &Yard) -> (String, PathBuf) {
    let place = yard.folder().join("bench");
    std::fs::create_dir_all(&place).unwrap();
    (format!("--folder={}", place.display()), place)
}

fn is_empty(place: &PathBuf) -> bool {
    std::fs::read_dir(place).unwrap().next().is_none()
}

#[test]
fn a_hollow_fleet_runs_thousands_of_tasks_that_fail_and_leaves_nothing() {
    let yard = Yard::new();
    let (folder, place) = place(&yard);
    let told = yard.json(&[
        "bench",
        "fleet",
        "--nodes=50",
        "--tasks=3000",
        "--array=1000",
        "--failures=0.1",
        "--faults=0.01",
        "--shapes=2",
        &folder,
    ]);
    let number = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
    assert_eq!((number("nodes"), number("tasks"), number("jobs")), (50, 3_000, 3), "{told}");
    assert_eq!(told["problems"], Value::Array(vec![]), "{told}");
    let tried_again = number("failed_attempts") + number("broken_attempts") - number("failed_tasks");
    assert_eq!(number("attempts"), 3_000 + tried_again, "{told}");
    assert!((200..500).contains(&number("failed_attempts")), "a tenth of the attempts fail: {told}");
    assert!((10..70).contains(&number("broken_attempts")), "{told}");
    assert!(number("tasks_per_second") > 0 && number("took_ms") > 0, "{told}");
    assert!(number("placed_p50_ms") <= number("placed_p99_ms"), "{told}");
    assert!(number("peak_rss_bytes") > 1 << 20 && number("cpu_us_per_task") > 0, "{told}");
    assert_eq!(told["coordinators"].as_array().map(Vec::len), Some(3), "{told}");
    assert!(told["agents"]["cpu_us"].as_u64() > Some(0), "{told}");
    assert_eq!(told["tls"], true, "{told}");
    // Every coordinator waited for its disk, as it says itself; on tmpfs that means nothing.
    assert!(number("fsyncs") >= 3, "{told}");
    assert_eq!(told["fsync"], told["disk"] != "tmpfs", "{told}");
    // Each job is an entry, and so is at least one plan and one report; nothing takes an entry for each of its steps.
    assert!((5..10 * number("attempts")).contains(&number("entries")), "{told}");
    assert!((1..60_000).contains(&number("connect_ms")), "{told}");
    assert!(is_empty(&place), "its folder is left");
    yard.until_nothing_runs();
}

#[test]
fn nothing_is_lost_when_the_leader_is_killed_agents_lose_their_connections_and_a_limit_changes() {
    let yard = Yard::new();
    let (folder, place) = place(&yard);
    let told = yard.json(&[
        "bench",
        "fleet",
        "--nodes=60",
        "--slots=2",
        "--tasks=6000",
        "--array=2000",
        "--duration=30ms",
        "--failures=0.05",
        "--chaos=agents,leader,limit",
        "--backlog=50",
        "--backlog-distinct",
        &folder,
    ]);
    assert_eq!(told["problems"], Value::Array(vec![]), "{told}");
    assert_eq!(told["tasks"], 6_000, "those that wait are not among them: {told}");
    let faults: Vec<_> =
        told["chaos"].as_array().unwrap().iter().map(|fault| fault["fault"].as_str().unwrap()).collect();
    assert_eq!(faults, ["agents", "leader", "limit"], "{told}");
    for fault in told["chaos"].as_array().unwrap() {
        assert!(fault["over"].as_u64() < Some(6_000), "it met tasks that ran: {told}");
    }
    assert!(told["elections"].as_u64() >= Some(1), "the leader was killed: {told}");
    assert!(told["sessions_lost"].as_u64() >= Some(60), "all sessions were with it: {told}");
    assert_eq!(
        (&told["backlog"]["tasks"], &told["backlog"]["distinct"]),
        (&Value::from(50), &Value::from(true)),
        "{told}"
    );
    let backlog = |name: &str| told["backlog"][name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
    assert_eq!(backlog("bytes_per_task"), backlog("rss_bytes") / 50, "{told}");
    assert!(backlog("bytes_per_task") < 4 << 20, "a task that waits is no process: {told}");
    assert!(told["fsyncs"].as_u64() >= Some(3), "also one that was started again: {told}");
    assert!(is_empty(&place), "its folder is left");
    yard.until_nothing_runs();
}

#[test]
fn the_same_seed_draws_the_same_failures_for_jobs_that_all_differ() {
    let yard = Yard::new();
    let (folder, place) = place(&yard);
    let args = ["bench", "fleet", "--nodes=3", "--tasks=200", "--distinct", "--failures=0.3", "--retries=0", &folder];
    let told = yard.run(&[&args[..], &["--seed=5"]].concat());
    assert_eq!(told.code(), 0, "{told:#?}");
    let failed = |ran: &common::Ran| ran.stdout.lines().nth(1).map(str::to_owned);
    assert!(failed(&told).is_some_and(|line| line.starts_with("  jobs 200, attempts 200 (")), "{told:#?}");
    assert!(told.stdout.contains("every task ended as was drawn"), "{told:#?}");
    let again = yard.run(&[&args[..], &["--seed=5"]].concat());
    assert_eq!(failed(&again), failed(&told));
    assert!(is_empty(&place));
}

#[test]
fn a_bench_that_is_interrupted_takes_everything_away_again() {
    let yard = Yard::new();
    let (folder, place) = place(&yard);
    let mut bench = yard.start(&["bench", "fleet", "--nodes=5", "--tasks=5", "--duration=1h", "--keep", &folder]);
    bench.wait_until("its tasks to run", |bench| bench.stderr().contains("5 attempts begun, 0 over"));
    assert!(yard.processes().len() >= 5, "three coordinators, and the agents: {:#?}", yard.processes());
    let ran = bench.interrupt();
    assert_eq!(ran.code(), INTERRUPTED, "{ran:#?}");
    yard.until_nothing_runs();
    let kept = std::fs::read_dir(&place).unwrap().next().expect("it was to be kept").unwrap().path();
    ran.says(&[&kept.display().to_string()]);
    assert!(kept.join("c0/coordinator.toml").exists() && kept.join("agents.log").exists());
}

#[test]
fn a_trace_arrives_at_a_cluster_that_is_there_already_and_stays() {
    let fleet = Fleet::formed(None);
    let trace = fleet.yard.write(
        "trace.csv",
        "at_ms,duration_ms,cpu,memory,gpus,model,user,count\n100,50,1,1GiB,0,,ada,30\n200,0,2,,1,H100,,1\n300,10,,,,,bob,5\n",
    );
    let (folder, place) = place(&fleet.yard);
    let told = fleet.yard.json(&[
        "bench",
        "fleet",
        "--nodes=4",
        "--gpus=2,model=H100",
        "--gpus=0",
        "--trace",
        trace.to_str().unwrap(),
        "--tasks=80",
        &folder,
        &fleet.owner(0),
    ]);
    // It has 36 tasks, so it comes twice, and then the first 8.
    assert_eq!((&told["tasks"], &told["jobs"]), (&Value::from(80), &Value::from(7)), "{told}");
    for ours in ["peak_rss_bytes", "fsync", "fsyncs", "disk"] {
        assert_eq!(told[ours], Value::Null, "they are not ours: {told}");
    }
    assert!(is_empty(&place));
    let owner = fleet.owner(0);
    assert_eq!(fleet.yard.json(&["nodes", &owner])["nodes"], Value::Array(vec![]), "hollow nodes are left");
    let jobs = fleet.yard.json(&["jobs", &owner])["jobs"].clone();
    let owners: Vec<_> = jobs.as_array().unwrap().iter().map(|job| job["owner"].as_str().unwrap()).collect();
    assert_eq!(owners, ["ada", "bob", "bench", "ada", "bob", "bench", "ada"], "{jobs}");
    let tokens = fleet.yard.json(&["token", "ls", &owner])["tokens"].clone();
    assert!(tokens.as_array().unwrap().iter().all(|token| token["revoked"] == true), "{tokens}");
    fleet.stop();
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason_before_anything_begins() {
    let yard = Yard::new();
    let (folder, place) = place(&yard);
    yard.write("bad.csv", "at_ms,cpu\n0,1\n5,many\n");
    for (args, words) in [
        (&["--nodes=0"][..], &["--nodes"][..]),
        (&["--nodes=20000"], &["16000"]),
        (&["--failures=2"], &["--failures", "0.05"]),
        (&["--failures=0.6", "--faults=0.6"], &["more than 1 together"]),
        (&["--duration=5"], &["--duration", "5s"]),
        (&["--trace=bad.csv"], &["bad.csv:3", "cpu", "many"]),
        (&["--trace=bad.csv", "--array=5"], &["--trace", "--array"]),
        (&["--trace=bad.csv", "--tasks=0"], &["--tasks"]),
        (&["--distinct", "--array=5"], &["--distinct", "--array"]),
        (&["--gpus=many"], &["8,model=H100"]),
        (&["--chaos=weather"], &["--chaos", "leader", "agents", "limit"]),
        (&["--chaos=leader", "--endpoint=http://x:1"], &["--chaos", "--endpoint"]),
        (&["--backlog-distinct"], &["--backlog"]),
        (&["--local"], &["--local", "--endpoint"]),
        (&["--endpoint=nonsense://x"], &["nonsense"]),
    ] {
        yard.refused(USAGE, words, &[&["bench", "fleet", &folder], args].concat());
    }
    yard.refused(117, &["missing.csv"], &["bench", "fleet", "--trace=missing.csv", &folder]);
    yard.refused(USAGE, &["standard input"], &["bench", "agents"]);
    assert!(is_empty(&place));
    yard.until_nothing_runs();
}

#[test]
fn tasks_that_no_hollow_node_could_run_are_refused_as_the_cluster_refuses_them() {
    let yard = Yard::new();
    let (folder, place) = place(&yard);
    let ran = yard.refused(REFUSED, &["GPU"], &["bench", "fleet", "--nodes=1", "--tasks=1", "--task-gpus=1", &folder]);
    assert!(ran.stdout.is_empty(), "{ran:#?}");
    assert!(is_empty(&place));
    until("everything to be gone", || yard.processes().is_empty());
}
