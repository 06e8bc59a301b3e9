//! What may be beside what, and how much starts at a time, from a file to what is said of it, on the embedded cluster.

mod common;

use common::Yard;
use serde_json::json;

const STEP: &str = "run = [\"sleep\", \"600\"]\nisolation = \"process\"\ncpu = 0.1\nmemory = \"64MiB\"\n";

fn flow(yard: &Yard, head: &str, step: &str) {
    yard.write("flow.toml", format!("name = \"beside\"\n{head}\n[steps.a]\n{STEP}{step}\n"));
}

#[test]
fn what_is_spread_or_kept_apart_waits_and_is_told_why_and_what_would_help() {
    let yard = Yard::new();
    let dev = yard.dev(&["--label", "rack=r1"]);
    flow(&yard, "", "spread = { over = \"rak\", at_most = 1 }");
    let unknown = yard.run(&["submit", "flow.toml"]);
    assert_ne!(unknown.code(), 0);
    unknown.says(&["steps.a.spread.over: no node has a label `rak`"]);

    flow(&yard, "tags = [\"loud\"]", "spread = { over = \"rack\", at_most = 1 }\nforeach = { range = [0, 2] }");
    yard.ok(&["submit", "flow.toml"]);
    yard.wait_running("1", &[]);
    let answer = yard.json(&["why", "1/a/1"]);
    let told = &answer["findings"][0]["explanation"];
    let rejection = &told["rejections"][0];
    assert_eq!((&rejection["kind"], &rejection["text"]), (&json!("spread"), &json!("1 of at most 1 in its rack")));
    let change = &told["fixes"][0]["changes"][0];
    assert_eq!((&change["what"], &change["value"]), (&json!("spread"), &json!("rack")), "{answer}");
    let text = yard.ok(&["why", "1/a/1"]);
    assert!(text.contains("would start now with: without spread over rack, at most 1 in one"), "{text}");

    flow(&yard, "", "apart = [\"loud\"]");
    yard.ok(&["submit", "flow.toml"]);
    let text = yard.ok(&["why", "2"]);
    assert!(text.contains("job 1, which has the tag loud, is there"), "{text}");
    assert!(text.contains("would start now with: without apart loud"), "{text}");
    yard.ok(&["cancel", "1"]);
    yard.wait_running("2", &[]);
    assert_eq!(dev.interrupt().code(), 0);
}

#[test]
fn a_throttle_is_put_and_shown_and_work_goes_on_under_it() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    yard.write("policy.toml", "throttle = { per_job = 1, per_node = 2 }\n");
    let put = yard.ok(&["policy", "put", "policy.toml"]);
    assert_eq!(put, "topology none -> none; throttle 1 per job, 2 per node\n");
    let shown = yard.json(&["policy", "show"]);
    assert_eq!(shown["throttle"], json!({ "per_job": 1, "per_node": 2 }));
    let text = yard.ok(&["policy", "show"]);
    assert!(text.contains("throttle 1 per job, 2 per node"), "{text}");
    yard.write(
        "flow.toml",
        format!("name = \"many\"\n[steps.a]\n{}foreach = {{ range = [0, 6] }}\n", STEP.replace("600", "0")),
    );
    yard.ok(&["submit", "--wait", "flow.toml"]);
    assert_eq!(dev.interrupt().code(), 0);
}
