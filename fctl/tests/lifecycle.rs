//! The life of a job from its limits in time to the archive: through the command line, as a user sees it.

mod common;

use common::{Yard, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[test]
fn a_forgotten_job_is_read_from_the_archive_with_its_log() {
    let yard = Yard::new();
    // Space, and the past, are looked after at the end of a command that brought its own cluster.
    yard.settings("[retention]\nage = \"1ms\"\n");
    let run = "echo loss 0.3; exit 3";
    let ran = yard.run(&["submit", "--local", "--isolation", "process", "--name", "one", "--", "sh", "-c", run]);
    assert_eq!(ran.code(), 3, "{ran:#?}");
    assert_eq!(yard.json(&["jobs", "--local"])["jobs"].as_array().unwrap().len(), 0, "it is forgotten");
    let archived = yard.json(&["jobs", "--archived", "--local"]);
    assert_eq!((&archived["jobs"][0]["job"], &archived["jobs"][0]["outcome"]), (&1.into(), &"failed".into()));

    let shown = yard.ok(&["show", "1", "--local"]);
    assert!(shown.contains("read from the archive") && shown.contains("the command exited with code 3"), "{shown}");
    let shown = yard.json(&["show", "1/one", "--local"]);
    assert!(shown["archived_ms"].is_u64(), "{shown}");
    let attempt = &shown["tasks_shown"][0]["attempts"][0];
    assert_eq!((&attempt["exit_code"], &attempt["node"]), (&3.into(), &"local".into()), "{shown}");
    assert_eq!(yard.ok(&["logs", "1/one/0", "--local"]), "loss 0.3\n");
    assert!(yard.ok(&["why", "1", "--local"]).contains("the command exited with code 3"));
    let storage = yard.json(&["storage", "--local"]);
    assert_eq!(storage["archived_jobs"], 1, "{storage}");
    yard.refused(113, &["there is no job 2"], &["show", "2", "--local"]);
}

#[test]
fn a_deadline_stops_a_job_with_the_signal_it_chose_and_says_so() {
    let yard = Yard::new();
    let script = "trap 'echo told to stop; exit 0' INT; echo begun; while :; do sleep 0.05; done";
    let flags = ["submit", "--local", "--isolation", "process", "--name", "slow"];
    let limits = ["--deadline", "3s", "--stop-signal", "SIGINT", "--", "sh", "-c", script];
    let ran = yard.run(&[&flags[..], &limits[..]].concat());
    assert_eq!(ran.code(), 114, "{ran:#?}");
    ran.says(&["its deadline had passed"]);
    let shown = yard.json(&["show", "1", "--local"]);
    assert_eq!((&shown["overdue"], &shown["deadline_ms"]), (&"deadline".into(), &3_000.into()), "{shown}");
    assert_eq!(shown["steps"][0]["policy"]["stop_signal"], "SIGINT");
    assert!(yard.ok(&["why", "1", "--local"]).contains("had not ended 3.0s after its submission, its `deadline`"));
    let log = yard.ok(&["logs", "1/slow", "--local"]);
    assert_eq!(log, "begun\ntold to stop\n");
}

#[test]
fn an_attempt_whose_process_does_not_start_is_given_up_and_costs_no_retry() {
    let yard = Yard::new();
    yard.settings("[stuck]\nstarting = \"500ms\"\nstopping = \"500ms\"\n");
    let _dev = yard.dev(&[]);
    // Once the launcher has run something it is there, and answers.
    let ran = yard.run(&["submit", "--wait", "--isolation", "process", "--", "true"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let launcher = yard.processes().into_iter().find(|(_, line)| line.contains("launcher --folder")).unwrap().0;
    kill(Pid::from_raw(launcher), Signal::SIGSTOP).unwrap();
    // A signal of its choice makes the cluster keep what only its newest version knows, as the phase in which it is stuck.
    let flags = ["submit", "--isolation", "process", "--name", "late", "--stop-signal", "SIGINT", "--", "true"];
    let submitted = yard.json(&flags);
    assert_eq!(submitted["job"], 2);
    // What was asked for is not gone: it is said that it cannot be stopped, and its room is held.
    until("the attempt to be undying", || {
        let nodes = yard.json(&["nodes"]);
        nodes["nodes"][0]["undying"][0] == "2/late/0#1" && nodes["nodes"][0]["used"]["members"] == 1
    });
    assert!(yard.ok(&["why", "2"]).contains("its room is held"), "{}", yard.ok(&["why", "2"]));
    kill(Pid::from_raw(launcher), Signal::SIGCONT).unwrap();
    let ran = yard.run(&["wait", "2"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let shown = yard.json(&["show", "2"]);
    let attempts = shown["tasks_shown"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{shown}");
    let first = &attempts[0];
    let expected: [(&str, Value); 4] = [
        ("outcome", "failed".into()),
        ("reason", "stuck".into()),
        ("blame", "platform".into()),
        ("stuck", "starting".into()),
    ];
    for (field, value) in expected {
        assert_eq!(first[field], value, "{field}: {shown}");
    }
}
