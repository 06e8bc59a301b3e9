//! Closing a machine to new work, emptying it, and forgetting it, through the command line.

mod common;

use common::{Running, Yard, until};
use serde_json::Value;

/// Flags of a task that runs until it is stopped at its first try, and ends well at its second.
const TWICE: &str = "if [ $FLOWYARD_ATTEMPT = 1 ]; then exec sleep 600; fi; echo second";

fn yard_with_a_node() -> (Yard, Running, String) {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    until("a node to be there", || !names(&yard).is_empty());
    let name = names(&yard).remove(0);
    (yard, dev, name)
}

fn names(yard: &Yard) -> Vec<String> {
    let nodes = yard.json(&["nodes"])["nodes"].clone();
    nodes.as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

fn node(yard: &Yard) -> Value {
    yard.json(&["nodes"])["nodes"][0].clone()
}

fn submit(yard: &Yard, script: &str) {
    yard.ok(&["submit", "--isolation", "process", "--kill-grace", "1s", "--", "sh", "-c", script]);
}

#[test]
fn a_drain_stops_what_runs_at_its_deadline_and_it_runs_again_without_a_retry() {
    let (yard, dev, name) = yard_with_a_node();
    submit(&yard, TWICE);
    yard.wait_running("1", &[]);
    let ran = yard.run(&["node", "drain", &name, "--deadline", "1s", "--reason", "new disk", "--wait"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    ran.says(&["1 allocation left, what is left is stopped in"]);
    assert!(ran.stdout.contains("is drained"), "{ran:#?}");
    let shown = node(&yard);
    assert_eq!(shown["scheduling"], "drained", "{shown}");
    assert_eq!(shown["closed"]["reason"], "new disk", "{shown}");
    assert!(shown["closed"]["by"].as_str().is_some_and(|by| !by.is_empty()), "{shown}");
    let job = yard.json(&["show", "1"]);
    assert_eq!(job["steps"][0]["tasks"]["ready"], 1, "{job}");
    assert_eq!(job["tasks_shown"][0]["attempts"][0]["outcome"], "preempted", "{job}");
    let why = yard.ok(&["why", "1"]);
    assert!(why.contains("takes no new work") && why.contains("drained") && why.contains("new disk"), "{why}");
    let text = yard.ok(&["nodes"]);
    assert!(text.contains("drained") && text.contains("new disk"), "{text}");

    yard.ok(&["node", "uncordon", &name]);
    // The step has no retry: had one been spent, it would have failed.
    assert_eq!(yard.run(&["wait", "1"]).code(), 0);
    assert_eq!(yard.ok(&["logs", "1"]), "second\n");
    assert_eq!(node(&yard)["scheduling"], "open");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_drain_without_a_deadline_waits_and_goes_on_when_whoever_waits_is_interrupted() {
    let (yard, dev, name) = yard_with_a_node();
    let gate = yard.path("gate");
    submit(&yard, &format!("until [ -e {} ]; do sleep 0.05; done", gate.display()));
    yard.wait_running("1", &[]);
    let mut waiting = yard.start(&["node", "drain", &name, "--wait"]);
    waiting.wait_until("it to say what is left", |waiting| waiting.stderr().contains("1 allocation left"));
    let ran = waiting.interrupt();
    assert_eq!(ran.code(), 116, "{ran:#?}");
    ran.says(&["the drain goes on"]);
    assert_eq!(node(&yard)["scheduling"], "draining");
    yard.refused(112, &["holds 1 running", "fctl node drain"], &["node", "remove", &name]);
    let waiting = yard.start(&["node", "drain", &name, "--wait"]);
    yard.write("gate", "");
    assert_eq!(waiting.wait().code(), 0);
    assert_eq!(yard.run(&["wait", "1"]).code(), 0, "it was left to end by itself");
    assert_eq!(dev.interrupt().code(), 0);
}

#[test]
fn nodes_are_cordoned_and_forgotten_and_errors_say_what_there_is() {
    let (yard, dev, name) = yard_with_a_node();
    yard.refused(113, &["there is no node `nowhere`", &name], &["node", "cordon", "nowhere"]);
    yard.refused(112, &["takes work; close it first"], &["node", "remove", &name]);
    let cordoned = yard.json(&["node", "cordon", &name, "--reason", "looks odd"]);
    assert_eq!((&cordoned["scheduling"], &cordoned["closed"]["reason"]), (&"cordoned".into(), &"looks odd".into()));
    yard.refused(112, &["reason"], &["node", "cordon", &name, "--reason", "a\u{1b}[2Jb"]);
    yard.refused(110, &["--deadline"], &["node", "drain", &name, "--deadline", "soon"]);
    let before = node(&yard)["node"].as_u64().unwrap();
    let removed = yard.run(&["node", "remove", &name]);
    assert_eq!(removed.code(), 0, "{removed:#?}");
    removed.says(&["its agent still runs"]);
    until("the agent to register anew", || node(&yard)["node"].as_u64().is_some_and(|now| now > before));
    assert_eq!(node(&yard)["scheduling"], "open");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}
