//! Why a task waits, and what a submission would come to, through the command line, on the embedded cluster.

mod common;

use common::Yard;
use serde_json::{Value, json};

const USAGE: i32 = 110;
const REFUSED: i32 = 112;
const NOT_FOUND: i32 = 113;

/// The one finding of an answer.
fn only(answer: &Value) -> &Value {
    let findings = answer["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{answer}");
    &findings[0]
}

/// `submit` of a process with so many GPUs, with these flags before.
fn with_gpus<'a>(flags: &[&'a str], count: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    let process = ["--isolation", "process", "--cpu", "0.1", "--memory", "64MiB", "--gpu", count, "--"];
    [&["submit"][..], flags, &process[..], command].concat()
}

#[test]
fn a_waiting_job_is_told_what_would_let_it_start_and_that_does() {
    let yard = Yard::new();
    let dev = yard.dev(&["--fake-gpus", "3"]);
    yard.ok(&with_gpus(&["--timeout", "1h"], "1", &["sleep", "600"]));
    yard.wait_running("1", &[]);
    yard.ok(&with_gpus(&[], "3", &["sleep", "600"]));
    let answer = yard.json(&["why", "2/sleep/0"]);
    let told = &only(&answer)["explanation"];
    assert_eq!((&only(&answer)["state"], &told["nodes"]), (&json!("ready"), &json!([])), "{answer}");
    let rejection = &told["rejections"][0];
    assert_eq!((&rejection["kind"], &rejection["nodes"]), (&json!("gpus_taken"), &json!(1)), "{answer}");
    assert_eq!((&rejection["example"], &rejection["text"]), (&json!("local"), &json!("2 of 3 free and healthy")));
    assert_eq!((&told["position"]["before"], &told["position"]["exact"]), (&json!(0), &json!(true)), "{answer}");
    assert_eq!((&told["start"]["kind"], &told["start"]["ends"]), (&json!("at"), &json!(1)), "{answer}");
    let fix = &told["fixes"][0];
    assert_eq!((&fix["changes"][0]["what"], &fix["nodes"]), (&json!("gpus"), &json!(["local"])), "{answer}");
    assert_eq!((&fix["changes"][0]["from"], &fix["changes"][0]["to"]), (&json!(3), &json!(2)), "{answer}");
    let text = yard.ok(&["why", "2"]);
    assert!(text.contains("would start now with: 1 GPU fewer (2 instead of 3) (then on local)"), "{text}");
    assert!(text.contains("place in line: it is first in line"), "{text}");
    yard.ok(&["cancel", "2"]);
    yard.ok(&with_gpus(&[], "2", &["sleep", "600"]));
    yard.wait_running("3", &[]);
    assert_eq!(dev.interrupt().code(), 0);
}

#[test]
fn a_bound_is_told_with_who_holds_it_and_raised_as_told() {
    let yard = Yard::new();
    yard.write("queues.toml", "[queue.lab]\nlimit = { cpu = 0.3 }\n");
    let dev = yard.dev(&[]);
    yard.ok(&["queue", "put", "queues.toml"]);
    let flags = ["submit", "--isolation", "process", "--queue", "lab", "--cpu", "0.2", "--memory", "64MiB", "--"];
    yard.ok(&[&flags[..], &["sleep", "600"]].concat());
    yard.wait_running("1", &[]);
    yard.ok(&[&flags[..], &["sleep", "600"]].concat());
    let answer = yard.json(&["why", "2"]);
    let told = &only(&answer)["explanation"];
    let bound = &told["bounds"][0];
    let numbers = [&bound["queue"], &bound["on"], &bound["resource"], &bound["held"], &bound["need"], &bound["most"]];
    assert_eq!(json!(numbers), json!(["lab", "limit", "cpu", 200, 200, 300]), "{answer}");
    assert_eq!((&bound["holders"][0]["held"], &bound["held_by_others"]), (&json!(200), &json!(0)), "{answer}");
    assert_eq!(told["start"]["kind"], "no_timeout", "{answer}");
    assert_eq!(told["start"]["endless"], json!(["1/sleep/0"]), "{answer}");
    let text = yard.ok(&["why", "2"]);
    assert!(text.contains("would start now with: limit.cpu of queue lab +0.1 (0.4 instead of 0.3)"), "{text}");
    yard.write("queues.toml", "[queue.lab]\nlimit = { cpu = 0.4 }\n");
    yard.ok(&["queue", "put", "queues.toml"]);
    yard.wait_running("2", &[]);
    assert_eq!(dev.interrupt().code(), 0);
}

#[test]
fn a_dry_run_says_what_would_come_of_a_submission_and_nothing_comes_of_it() {
    let yard = Yard::new();
    let dev = yard.dev(&["--fake-gpus", "2"]);
    let before = yard.json(&["storage"]);
    let taken = yard.json(&with_gpus(&["--dry-run"], "1", &["true"]));
    let told = only(&taken);
    assert_eq!((&told["subject"], &told["state"]), (&json!("true"), &json!("starts")), "{taken}");
    assert_eq!((&told["explanation"]["nodes"], &taken["existing"]), (&json!(["local"]), &Value::Null), "{taken}");
    yard.write("code/main.sh", "true\n");
    yard.write("flow.toml", FLOW);
    let flow = yard.json(&["submit", "--dry-run", "flow.toml"]);
    let states: Vec<_> = flow["findings"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["starts", "blocked"], "{flow}");
    assert_eq!(flow["findings"][0]["reason"], "4 of its 4 tasks would start now");
    assert_eq!(flow["findings"][1]["reason"], "it would wait for first");
    assert_eq!(yard.json(&["jobs"])["jobs"], json!([]), "no job was made");
    let step = |at: usize| format!("[steps.s{at}]\nrun = [\"true\"]\nisolation = \"process\"\n");
    let many: String = (0..53).map(step).collect();
    yard.write("many.toml", format!("name = \"many\"\n{many}"));
    let many = yard.json(&["submit", "--dry-run", "many.toml"]);
    let last = many["findings"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["subject"], &last["state"]), (&json!("many"), &json!("more")), "{many}");
    assert_eq!(last["reason"], "3 more steps of it are not told about here", "{many}");
    assert_eq!(yard.json(&["storage"])["origin_blobs"], before["origin_blobs"], "and nothing was uploaded");

    yard.ok(&with_gpus(&["--key", "once"], "1", &["sleep", "600"]));
    yard.wait_running("1", &[]);
    let waits = yard.json(&with_gpus(&["--dry-run"], "2", &["true"]));
    assert_eq!(only(&waits)["state"], "waits", "{waits}");
    assert_eq!(only(&waits)["explanation"]["fixes"][0]["changes"][0]["to"], 1, "{waits}");
    let text = yard.ok(&with_gpus(&["--dry-run"], "2", &["true"]));
    assert!(text.starts_with("true  waits\n") && text.contains("would start now with: 1 GPU fewer"), "{text}");
    let again = yard.json(&with_gpus(&["--dry-run", "--key", "once"], "1", &["sleep", "600"]));
    assert_eq!((&again["existing"], &again["findings"]), (&json!(1), &json!([])), "{again}");
    assert_eq!(yard.json(&["jobs"])["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(dev.interrupt().code(), 0);
}

const FLOW: &str = r#"
name = "two"
[steps.first]
run = ["sh", "main.sh"]
code = "code"
isolation = "process"
foreach = { range = [0, 4] }
cpu = 0.1
memory = "32MiB"
[steps.second]
run = ["true"]
isolation = "process"
needs = ["first"]
"#;

#[test]
fn a_dry_run_refuses_what_a_submission_would_be_refused_for() {
    let yard = Yard::new();
    let submit =
        |flags: &[&'static str]| [&["submit", "--dry-run", "--local", "--isolation", "process"][..], flags].concat();
    yard.refused(REFUSED, &["GPU"], &submit(&["--gpu", "64", "--", "true"]));
    yard.refused(NOT_FOUND, &["nowhere"], &submit(&["--queue", "nowhere", "--", "true"]));
    yard.write("nonsense.toml", "name = \"x\"\n[steps.a]\nrun = 5\nrum = []\n");
    yard.refused(USAGE, &["nonsense.toml"], &["submit", "--dry-run", "--local", "nonsense.toml"]);
    yard.refused(USAGE, &["--wait"], &submit(&["--wait", "--", "true"]));
    let local = yard.json(&submit(&["--cpu", "0.1", "--memory", "32MiB", "--", "true"]));
    assert_eq!(only(&local)["state"], "starts", "{local}");
    assert_eq!(yard.json(&["jobs", "--local"])["jobs"], json!([]));
    yard.nothing_is_left();
}
