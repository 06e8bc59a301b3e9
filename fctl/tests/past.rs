//! The past of a real cluster: backed up with its log, applied again, its plans made again, and run with something changed. And traces.

mod common;

use common::Yard;
use nix::sys::signal::Signal;
use serde_json::Value;

const USAGE: i32 = 110;

/// Runs a few dozen tasks on the embedded cluster, and backs it up with its log.
fn recorded(yard: &Yard) -> String {
    let dev = yard.dev(&["--fake-gpus", "4"]);
    for at in 0..6 {
        let name = format!("job{at}");
        let submit = ["submit", "--local", "--isolation", "process", "--cpu", "0.1", "--gpu", "1", "--name", &name];
        yard.ok(&[&submit[..], &["--array", "0-4", "--", "sleep", "0.5"]].concat());
    }
    yard.ok(&["submit", "--local", "--isolation", "process", "--cpu", "0.1", "--gpu", "4", "--wait", "--", "true"]);
    (1..=6).for_each(|job| drop(yard.ok(&["wait", &job.to_string(), "--local"])));
    let file = yard.path("past.fybackup").display().to_string();
    let made = yard.json(&["cluster", "backup", &file, "--log", "--without-blobs", "--local"]);
    assert_eq!((&made["with_log"], &made["with_blobs"]), (&true.into(), &false.into()), "{made}");
    dev.signal(Signal::SIGTERM);
    dev.wait();
    file
}

fn number(told: &Value, path: &str) -> u64 {
    told.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {told}"))
}

#[test]
fn a_real_cluster_is_replayed_to_the_same_state_and_every_plan_is_made_again() {
    let yard = Yard::new();
    let file = recorded(&yard);
    let whole = yard.json(&["replay", "--from", &file, "--plans"]);
    assert_eq!(whole["snapshots_same"].as_array().unwrap().len(), 1, "the state in the backup: {whole}");
    assert_eq!(whole["snapshots_different"], Value::Array(vec![]), "{whole}");
    assert_eq!((number(&whole, "/jobs/succeeded"), number(&whole, "/tasks/succeeded")), (7, 31), "{whole}");
    let plans = number(&whole, "/plans/plans");
    assert!(plans > 0 && number(&whole, "/plans/equal") == plans, "{whole}");

    // Somewhere in the middle, where some had ended and others had not; what is dumped there is that state.
    let until = (number(&whole, "/base_revision")..number(&whole, "/last_index")).find(|until| {
        let then = yard.json(&["replay", "--from", &file, "--until", &until.to_string()]);
        number(&then, "/tasks/succeeded") >= 10
    });
    let until = until.expect("it went through there").to_string();
    let dump = yard.path("then.fybackup").display().to_string();
    let then = yard.json(&["replay", "--from", &file, "--until", &until, "--dump", &dump]);
    let succeeded = number(&then, "/tasks/succeeded");
    assert!((10..31).contains(&succeeded), "{then}");
    let checked = yard.json(&["cluster", "verify-backup", &dump]);
    assert_eq!((&checked["revision"], &checked["with_log"]), (&then["revision"], &false.into()), "{checked}");
    let text = yard.ok(&["replay", "--from", &file, "--until", &until]);
    assert!(
        text.contains(then["digest"].as_str().unwrap()) && text.contains(&format!("{succeeded} succeeded")),
        "{text}"
    );

    // With what it was in the middle in the same folder, it is compared there, too.
    let folder = yard.json(&["replay", "--from", &yard.path("").display().to_string()]);
    assert_eq!(folder["snapshots_same"].as_array().unwrap().len(), 2, "{folder}");
    yard.refused(USAGE, &["is behind what is known"], &["replay", "--from", &file, "--until", "999999"]);
    yard.refused(USAGE, &["there is no log in it", "--log"], &["replay", "--from", &dump]);
}

#[test]
fn the_past_with_nothing_changed_is_what_it_was_and_a_machine_more_makes_it_shorter() {
    let yard = Yard::new();
    let file = recorded(&yard);
    yard.write("more.toml", "[machines.more]\ncount = 4\ncpu = 8\nmemory = \"64GiB\"\ndisk = \"1TiB\"\ngpus = 8\n");
    let told = yard.json(&["whatif", "--from", &file, "--add-nodes", "more.toml"]);
    let [was, again, changed] = ["recorded", "same_again", "changed"].map(|run| &told[run]);
    assert_eq!((number(was, "/finished"), number(again, "/finished")), (7, 7), "{told}");
    let (waited, waits) = (number(was, "/waits/mean_ms"), number(again, "/waits/mean_ms"));
    assert!(waited > 50 && waited.abs_diff(waits) <= 100 + waited / 4, "{waited} {waits}: {told}");
    assert!(number(changed, "/waits/mean_ms") < waits / 2, "{told}");
    assert_eq!(told, yard.json(&["whatif", "--from", &file, "--add-nodes", "more.toml"]), "the same again");
    let text = yard.ok(&["whatif", "--from", &file, "--drain", "local"]);
    assert!(text.contains("RECORDED") && text.contains("SAME AGAIN"), "{text}");
    queues_that_would_have_been(&yard, &file, &told);
    let drained = yard.run(&["whatif", "--from", &file, "--drain", "local"]);
    drained.says(&["no machine could run 5 tasks of job 1"]);
}

/// One GPU at a time, where there are four; and what a queue refuses is said.
fn queues_that_would_have_been(yard: &Yard, file: &str, before: &Value) {
    yard.write("one.toml", "[queue.default]\nlimit = { gpu = 1 }\n");
    let told = yard.json(&["whatif", "--from", file, "--queues", "one.toml"]);
    let [again, changed] = ["same_again", "changed"].map(|run| &told[run]);
    assert_eq!(again, &before["same_again"], "it is the same again");
    // Thirty tasks of half a second one after another, where four run at a time; the one that wants four never starts.
    assert_eq!((number(changed, "/finished"), number(changed, "/waiting")), (6, 1), "{told}");
    assert!(number(changed, "/waits/mean_ms") > 2 * number(again, "/waits/mean_ms"), "{told}");
    assert!(number(changed, "/gpu_ppm") < number(again, "/gpu_ppm"), "a quarter is held: {told}");
    assert_eq!((number(changed, "/preemptions"), number(changed, "/lost_ms")), (0, 0), "{told}");
    assert_eq!(changed["refused"], Value::Array(vec![]), "{told}");

    let ran = yard.run(&["whatif", "--from", file, "--queues", "one.toml"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    for (word, path, shown) in [
        ("GPUs held", "/gpu_ppm", percent as fn(u64) -> String),
        ("Jain's index over people", "/jain_ppm", |ppm| format!("{}.{:03}", ppm / 1_000_000, ppm / 1_000 % 1_000)),
        ("attempts stopped to make room", "/preemptions", |count| count.to_string()),
        ("tasks that wait at the end", "/waiting", |count| count.to_string()),
        ("jobs finished", "/finished", |count| count.to_string()),
    ] {
        let line = ran.stdout.lines().find(|line| line.trim_start().starts_with(word)).unwrap_or_default();
        let cells = line.trim_start().strip_prefix(word).unwrap_or_default().replace(" %", "%");
        let cells: Vec<_> = cells.split_whitespace().map(str::to_owned).collect();
        let figures = ["recorded", "same_again", "changed"].map(|run| shown(number(&told[run], path)));
        assert_eq!(cells, figures, "{word}: {ran:#?}");
    }

    // What contradicts itself is not taken, and it is told which.
    yard.write("odd.toml", "[queue.a]\nlimit = { gpu = 1 }\n[queue.\"a/b\"]\nreserve = { gpu = 2 }\n");
    let ran = yard.run(&["whatif", "--from", file, "--queues", "odd.toml"]);
    ran.says(&["changed: refused: queue a/b"]);
    let told = yard.json(&["whatif", "--from", file, "--queues", "odd.toml"]);
    let refused = told["changed"]["refused"].as_array().unwrap();
    assert!(refused.len() == 1 && refused[0].as_str().unwrap().starts_with("queue a/b: "), "{told}");
}

fn percent(ppm: u64) -> String {
    format!("{}.{}%", ppm / 10_000, ppm / 1_000 % 10)
}

#[test]
fn what_is_no_record_or_was_cut_off_is_refused_with_what_is_wrong() {
    let yard = Yard::new();
    let file = recorded(&yard);
    let whole = std::fs::read(&file).unwrap();
    let mut newer = whole.clone();
    newer[6] = b'9';
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    for (name, bytes, told) in [
        ("cut", &whole[..whole.len() / 2], "cut off"),
        ("damaged", &damaged, "damaged"),
        ("newer", &newer, "a newer release of Flowyard wrote this backup (format 9"),
        ("foreign", b"PK\x03\x04 something else", "no backup of a Flowyard cluster"),
    ] {
        let path = yard.write(name, bytes).display().to_string();
        yard.refused(USAGE, &[told], &["replay", "--from", &path]);
        if name != "foreign" {
            yard.refused(USAGE, &[told], &["whatif", "--from", &path]);
        }
    }
    let foreign = yard.path("foreign").display().to_string();
    yard.refused(USAGE, &["no backup", "--fleet"], &["whatif", "--from", &foreign]);
    yard.write("fleet.toml", "[machines.a]\ncpu = 1\nmemory = \"1GiB\"\n");
    yard.refused(USAGE, &["foreign:1"], &["whatif", "--from", &foreign, "--fleet", "fleet.toml"]);
    yard.refused(USAGE, &["a record has its machines"], &["whatif", "--from", &file, "--fleet", "fleet.toml"]);
    let empty = yard.path("empty");
    std::fs::create_dir(&empty).unwrap();
    yard.refused(USAGE, &["no backup in it"], &["replay", "--from", &empty.display().to_string()]);
}

#[test]
fn a_trace_by_the_dice_runs_by_every_policy() {
    let yard = Yard::new();
    let made = yard.json(&["bench", "trace", "week.csv", "--jobs", "200", "--days", "1", "--people", "5"]);
    assert_eq!(number(&made, "/jobs"), 200);
    yard.refused(117, &["week.csv"], &["bench", "trace", "week.csv"]);
    assert_eq!(yard.ok(&["bench", "trace", "-", "--jobs", "200", "--days", "1", "--people", "5"]).lines().count(), 201);
    yard.write("fleet.toml", "[machines.gpu]\ncount = 8\ncpu = 96\nmemory = \"1TiB\"\ngpus = \"8,model=A100\"\n");
    for policy in ["ours", "drf", "fifo", "easy"] {
        let told = yard.json(&["whatif", "--from", "week.csv", "--fleet", "fleet.toml", "--policy", policy]);
        let run = if policy == "ours" { &told["same_again"] } else { &told["changed"] };
        assert_eq!((number(run, "/finished"), number(run, "/people")), (200, 5), "{policy}: {told}");
        assert_eq!(told["recorded"], Value::Null);
    }
    let wrong = ["whatif", "--from", "week.csv", "--fleet", "fleet.toml", "--policy", "best"];
    yard.refused(USAGE, &["no such policy", "easy"], &wrong);
}
