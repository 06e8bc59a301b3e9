//! Attempts that make room for others, between real processes: they are warned, may save, and begin anew without a retry being spent.

mod common;

use common::{Yard, until};
use serde_json::{Value, json};

/// Counts up until it is warned, then saves; the next attempt goes on from there.
const SAVES: &str = r#"
import os, signal, sys, time
state = os.environ["STATE"]
begun = int(open(state).read()) if os.path.exists(state) else 0
print("from", begun, flush=True)
def save(*_):
    open(state, "w").write(str(begun + 1))
    open(os.environ["FLOWYARD_SAVED"], "w").close()
    open(os.environ["FLOWYARD_OUTPUT_DONE"], "w").write("of the attempt that was evicted")
    sys.exit(0)
signal.signal(signal.SIGUSR1, save)
while begun == 0:
    time.sleep(0.05)
open(os.environ["FLOWYARD_OUTPUT_DONE"], "w").write("of the one after")
"#;

fn attempts(yard: &Yard, job: &str) -> Vec<Value> {
    yard.json(&["show", job])["tasks_shown"][0]["attempts"].as_array().unwrap().clone()
}

fn outcome(attempt: &Value) -> &str {
    attempt["outcome"].as_str().unwrap_or("none yet")
}

#[test]
fn whoever_borrowed_is_warned_saves_makes_room_and_goes_on_later() {
    let yard = Yard::new();
    yard.settings("[agent]\ncpu = \"1\"\n");
    let dev = yard.dev(&[]);
    let contract = "contract = { min_run = \"1s\", notice = \"30s\", kill_within = \"30s\" }";
    yard.write("queues.toml", format!("[queue.guest]\n{contract}\n[queue.lab]\nreserve = {{ cpu = 1 }}\n"));
    yard.ok(&["queue", "put", "queues.toml"]);
    yard.write("saves.py", SAVES);
    let state = yard.path("state");
    let step = format!(
        "run = [\"python3\", \"saves.py\"]\ncode = \".\"\nisolation = \"process\"\ncpu = 1\noutputs = {{ done = \"done\" }}\n\
         notice = {{ signal = \"SIGUSR1\", time = \"30s\" }}\nenv = {{ STATE = \"{}\" }}",
        state.display()
    );
    yard.write("flow.toml", format!("name = \"borrows\"\nqueue = \"guest\"\n[steps.work]\n{step}\n"));
    yard.ok(&["submit", "flow.toml"]);
    yard.wait_running("1", &[]);
    until("it to count", || yard.ok(&["logs", "1"]).contains("from 0"));
    let flags = ["submit", "--queue", "lab", "--isolation", "process", "--cpu", "1"];
    yard.ok(&[&flags[..], &["--", "true"]].concat());
    let took = yard.run(&["wait", "2"]);
    assert_eq!(took.code(), 0, "whoever was promised room has it: {took:#?}");
    assert_eq!(yard.run(&["wait", "1"]).code(), 0);

    let shown = attempts(&yard, "1");
    assert_eq!(shown.iter().map(outcome).collect::<Vec<_>>(), ["preempted", "succeeded"], "{shown:#?}");
    let why = &shown[0]["preempted"];
    assert_eq!((&why["kind"], &why["job"], &why["task"]), (&json!("reclaim"), &json!(2), &json!(0)), "{shown:#?}");
    let text = yard.ok(&["show", "1/work/0"]);
    assert!(text.contains("to make room for task 0 of step 1 of job 2") && text.contains("\n  saved  "), "{text}");
    assert_eq!(yard.ok(&["logs", "1/work/0#2"]), "from 1\n", "it went on from what was saved");
    assert_eq!(yard.ok(&["artifact", "cat", "1/work", "done"]), "of the one after");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn urgent_work_takes_the_place_of_what_may_be_evicted_and_of_nothing_else() {
    let yard = Yard::new();
    yard.settings("[agent]\ncpu = \"2\"\n");
    let dev = yard.dev(&[]);
    let contract = "contract = { min_run = \"1s\", notice = \"0s\", kill_within = \"10s\" }";
    yard.write(
        "queues.toml",
        format!("[queue.lab]\n{contract}\nreserve = {{ cpu = 1, memory = \"1GiB\" }}\nno_preempt = {{ cpu = 1, memory = \"1GiB\" }}\n"),
    );
    yard.ok(&["queue", "put", "queues.toml"]);
    let flow = |more: &str| {
        let step = format!("run = [\"sleep\", \"600\"]\nisolation = \"process\"\ncpu = 1\nmemory = \"64MiB\"\n{more}");
        yard.write("flow.toml", format!("name = \"sleeps\"\nqueue = \"lab\"\n[steps.sleep]\n{step}\n"));
        yard.ok(&["submit", "flow.toml"]);
    };
    flow("");
    yard.wait_running("1", &[]);
    // It began later, so it has less to lose; but it must not be evicted.
    flow("preemptible = false\n");
    yard.wait_running("2", &[]);
    let flags = ["submit", "--queue", "lab", "--priority", "1", "--isolation", "process", "--cpu", "1"];
    yard.ok(&[&flags[..], &["--", "true"]].concat());
    let took = yard.run(&["wait", "3"]);
    assert_eq!(took.code(), 0, "{took:#?}");
    until("the first to run again", || attempts(&yard, "1").len() == 2);
    let shown = attempts(&yard, "1");
    assert_eq!((outcome(&shown[0]), &shown[0]["preempted"]["kind"]), ("preempted", &json!("priority")), "{shown:#?}");
    assert_eq!(attempts(&yard, "2").len(), 1, "what may not be evicted runs on");
    yard.ok(&["cancel", "1"]);
    yard.ok(&["cancel", "2"]);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}
