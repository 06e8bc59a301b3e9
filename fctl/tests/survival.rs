//! The agent dies under running tasks, as nothing can be prepared for: they go on, and the next agent finds them again. No exit
//! code, no line of a log and no attempt is lost.

mod common;

use std::fs;
use std::path::Path;

use common::{Yard, until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Prints a line as often as it can until its gate is open, and ends with code 5.
fn counter(yard: &Yard) -> String {
    let gate = yard.path("gate").display().to_string();
    format!("i=0; until [ -e {gate} ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo end $i; exit 5")
}

/// Whether a blob is being written somewhere below.
fn half_written(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        entry.file_name().to_string_lossy().contains('#') || (path.is_dir() && half_written(&path))
    })
}

/// A yard whose containers may see its working directory.
fn yard() -> Yard {
    let yard = Yard::new();
    yard.settings(&format!("lease = \"4s\"\n[agent]\nallow_mounts = [{:?}]\n", yard.path("")));
    yard
}

fn submit(yard: &Yard, isolation: &str) -> u64 {
    let (mount, text) = (yard.path("").display().to_string(), counter(yard));
    let mount: &[&str] = if isolation == "container" { &["--mount", mount.trim_end_matches('/')] } else { &[] };
    let args = [&["submit", "--isolation", isolation, "--cpu", "0.1"], mount, &["--", "sh", "-c", &text]].concat();
    yard.json(&args)["job"].as_u64().unwrap()
}

fn attempts(yard: &Yard, job: u64) -> Vec<Value> {
    let shown = yard.json(&["show", &job.to_string()]);
    shown["tasks_shown"][0]["attempts"].as_array().unwrap().clone()
}

/// Every line from the first to the last is there, in order and once.
fn assert_whole_log(yard: &Yard, job: u64) {
    let log = yard.ok(&["logs", &job.to_string()]);
    let lines: Vec<&str> = log.lines().collect();
    let count = lines.len() - 1;
    for (at, line) in lines[..count].iter().enumerate() {
        assert_eq!(*line, format!("line {}", at + 1), "job {job}");
    }
    assert_eq!(lines[count], format!("end {count}"), "job {job}");
}

/// Exit records that lie in the folders of attempts.
fn exit_records(yard: &Yard) -> usize {
    let folders = fs::read_dir(yard.home().join("agent/attempts")).unwrap().flatten();
    folders.filter(|folder| folder.path().join("exit.json").exists()).count()
}

#[test]
fn running_tasks_are_adopted_by_the_next_agent_with_every_line_they_print() {
    let yard = yard();
    let mut dev = yard.dev(&[]);
    let jobs = ["container", "process"].map(|isolation| submit(&yard, isolation));
    for _ in 0..2 {
        for job in jobs {
            yard.wait_running(&job.to_string(), &[]);
            assert_eq!(attempts(&yard, job).len(), 1, "job {job}");
        }
        dev.kill();
        let before = yard.processes();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(exit_records(&yard), 0, "something died with its agent");
        dev = yard.dev(&[]);
        let after: Vec<_> = yard.processes().into_iter().map(|(pid, _)| pid).collect();
        let gone: Vec<_> = before.iter().filter(|(pid, line)| !after.contains(pid) && line.contains("fctl")).collect();
        assert!(gone.is_empty(), "not adopted: {gone:#?}");
    }
    yard.write("gate", "");
    for job in jobs {
        assert_eq!(yard.run(&["wait", &job.to_string()]).code(), 5);
        let attempts = attempts(&yard, job);
        assert_eq!((attempts.len(), &attempts[0]["attempt"], &attempts[0]["exit_code"]), (1, &1.into(), &5.into()));
        assert_whole_log(&yard, job);
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_task_that_ended_while_nobody_was_there_is_told_with_its_exit_code() {
    let yard = yard();
    let dev = yard.dev(&[]);
    let jobs = ["container", "process"].map(|isolation| submit(&yard, isolation));
    jobs.iter().for_each(|job| yard.wait_running(&job.to_string(), &[]));
    dev.kill();
    yard.write("gate", "");
    until("both to end", || exit_records(&yard) == 2);
    let dev = yard.dev(&[]);
    for job in jobs {
        assert_eq!(yard.run(&["wait", &job.to_string()]).code(), 5);
        assert_eq!(attempts(&yard, job).len(), 1);
        assert_whole_log(&yard, job);
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn without_an_agent_a_lease_ends_what_must_not_run_twice_and_nothing_else() {
    let yard = yard();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/survival/lease.toml");
    yard.write("flow.toml", fs::read(source).unwrap());
    let dev = yard.dev(&[]);
    let gate = format!("gate={}", yard.path("gate").display());
    assert_eq!(yard.json(&["submit", "flow.toml", "-P", &gate])["job"], 1);
    ["1/keeper", "1/stopper"].iter().for_each(|task| yard.wait_running(task, &[]));
    dev.kill();
    until("the lease to end", || exit_records(&yard) == 1);
    let record = yard.home().join("agent/attempts/1-1-0-1.0/exit.json");
    assert!(fs::read_to_string(record).unwrap().contains("lease_expired"));
    let dev = yard.dev(&[]);
    until("the stopped task to be tried again", || {
        let shown = yard.json(&["show", "1/stopper"]);
        shown["tasks_shown"][0]["attempts"][1]["phase"] == "running"
    });
    let shown = yard.json(&["show", "1/stopper"]);
    let first = &shown["tasks_shown"][0]["attempts"][0];
    assert_eq!((&first["reason"], &first["blame"]), (&"lease_expired".into(), &"platform".into()), "{shown}");
    yard.write("gate", "");
    assert_eq!(yard.run(&["wait", "1"]).code(), 0);
    assert_eq!(attempts(&yard, 1).len(), 1, "the keeper went on");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_cluster_that_is_stopped_in_order_takes_its_jobs_up_again() {
    let yard = yard();
    let dev = yard.dev(&[]);
    let job = submit(&yard, "process");
    yard.wait_running("1", &[]);
    let ran = dev.interrupt();
    ran.says(&["jobs that have not ended go on when the cluster is up again"]);
    yard.nothing_is_left();
    let dev = yard.dev(&[]);
    yard.wait_running("1", &[]);
    yard.write("gate", "");
    assert_eq!(yard.run(&["wait", "1"]).code(), 5);
    let attempts = attempts(&yard, job);
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn what_the_journal_lost_is_stopped_and_tried_again() {
    let yard = yard();
    let dev = yard.dev(&[]);
    let jobs = ["container", "process"].map(|isolation| submit(&yard, isolation));
    for job in jobs {
        yard.wait_running(&job.to_string(), &[]);
    }
    dev.kill();
    let tasks = |yard: &Yard| -> Vec<i32> {
        let all = yard.processes().into_iter();
        all.filter(|(_, line)| line.starts_with("sh -c i=0")).map(|(pid, _)| pid).collect()
    };
    let before = tasks(&yard);
    // A shell that is just about to start its `sleep` is there twice.
    assert!(before.len() >= 2, "{:#?}", yard.processes());
    let journal = yard.home().join("agent/journal");
    let kept = fs::read_to_string(&journal).unwrap();
    let kept: String =
        kept.lines().filter(|line| line.contains("registered")).map(|line| format!("{line}\n\n")).collect();
    fs::write(&journal, format!("{kept}{{\"accepted\":{{\"ke")).unwrap();
    let dev = yard.dev(&[]);
    let after = tasks(&yard);
    assert!(before.iter().all(|pid| !after.contains(pid)), "still there: {:#?}", yard.processes());
    yard.write("gate", "");
    for job in jobs {
        assert_eq!(yard.run(&["wait", &job.to_string()]).code(), 5);
        let attempts = attempts(&yard, job);
        assert_eq!(attempts.len(), 2, "{attempts:#?}");
        assert_eq!((&attempts[0]["outcome"], &attempts[0]["blame"]), (&"lost".into(), &"platform".into()));
    }
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn an_agent_of_another_cluster_is_refused() {
    let yard = yard();
    assert_eq!(yard.run(&["submit", "--local", "--isolation", "process", "--", "true"]).code(), 0);
    fs::remove_dir_all(yard.home().join("coordinator")).unwrap();
    yard.refused(
        118,
        &["the agent of", "does not connect", "this agent belongs to cluster", "an empty folder"],
        &["dev"],
    );
    fs::remove_dir_all(yard.home().join("agent")).unwrap();
    assert_eq!(yard.run(&["submit", "--local", "--isolation", "process", "--", "true"]).code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_submit_goes_on_when_whoever_runs_the_cluster_dies_under_its_upload() {
    const BYTES: usize = 96 << 20;
    let yard = yard();
    yard.write("large", vec![7; BYTES]);
    let host = yard.start(&["submit", "--local", "--isolation", "process", "--", "sh", "-c", &counter(&yard)]);
    yard.wait_running("1", &["--local"]);
    let input = format!("data={}", yard.path("large").display());
    let args = [
        "submit",
        "--local",
        "--isolation",
        "process",
        "--input",
        &input,
        "--",
        "sh",
        "-c",
        "wc -c <$FLOWYARD_INPUT_DATA",
    ];
    let guest = yard.start(&args);
    until("the upload to begin", || half_written(&yard.home().join("origin")));
    host.kill();
    yard.write("gate", "");
    let ran = guest.wait();
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let jobs = yard.json(&["jobs", "--local"]);
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(2), "{jobs}");
    assert!(yard.ok(&["logs", "2", "--local"]).contains(&BYTES.to_string()));
    yard.nothing_is_left();
}

#[test]
fn a_local_submit_whose_terminal_is_closed_cancels_its_job() {
    for signal in [Signal::SIGHUP, Signal::SIGTERM] {
        let yard = yard();
        let submit = yard.start(&["submit", "--local", "--isolation", "process", "--", "sleep", "1000"]);
        yard.wait_running("1", &["--local"]);
        submit.signal(signal);
        let ran = submit.wait();
        assert_eq!(ran.code(), 115, "{signal}: {ran:#?}");
        assert_eq!(yard.json(&["show", "1", "--local"])["outcome"], "cancelled");
        yard.nothing_is_left();
    }
}
