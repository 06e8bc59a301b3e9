//! A topology from the command line to a gang that needs it, on the embedded cluster.

mod common;

use common::Yard;
use serde_json::json;

const USAGE: i32 = 110;

fn flow(yard: &Yard, cpu: u32) {
    let step = format!("run = [\"true\"]\nisolation = \"process\"\ncpu = {cpu}\nmemory = \"64MiB\"");
    let gang = "gang = { size = 2, near = { level = \"rack\", need = true } }";
    yard.write("flow.toml", format!("name = \"near\"\n[steps.meet]\n{step}\n{gang}\n"));
}

#[test]
fn a_topology_is_declared_and_a_gang_is_placed_by_it() {
    let yard = Yard::new();
    yard.settings("[agent]\ncpu = \"4\"\n");
    let dev = yard.dev(&["--label", "block=b1", "--label", "rack=r1"]);
    flow(&yard, 1);
    let unknown = yard.run(&["submit", "flow.toml"]);
    assert_ne!(unknown.code(), 0);
    unknown.says(&["`rack` is no level of this cluster's topology"]);

    yard.write("policy.toml", "topology = [\"block\", \"rack\"]\n");
    assert_eq!(yard.ok(&["policy", "put", "policy.toml"]), "topology none -> block > rack\n");
    let again = yard.json(&["policy", "put", "policy.toml"]);
    assert_eq!((&again["change"], &again["after"]["topology"]), (&json!("unchanged"), &json!(["block", "rack"])));
    let level = |level: &str| json!({ "level": level, "domains": 1, "nodes": 1 });
    let shown = yard.json(&["policy", "show"]);
    assert_eq!(shown["levels"], json!([level("block"), level("rack")]), "{shown}");
    let text = yard.ok(&["policy", "show"]);
    assert!(text.lines().any(|line| line.split_whitespace().eq(["rack", "1", "1"])), "{text}");
    assert!(yard.json(&["policy", "show", "--stale"])["stale"]["revision"].is_u64());

    yard.ok(&["submit", "--wait", "flow.toml"]);
    flow(&yard, 3);
    let large = yard.run(&["submit", "flow.toml"]);
    assert_ne!(large.code(), 0);
    large.says(&["2 members all in one rack"]);
    assert_eq!(dev.interrupt().code(), 0);
}

#[test]
fn a_policy_file_that_is_wrong_is_refused_where_it_is() {
    let yard = Yard::new();
    yard.write("policy.toml", "topology = [\"rack\", \"rack\"]\n");
    let words = ["policy.toml:1:12", "`rack` is named twice"];
    yard.refused(USAGE, &words, &["policy", "put", "policy.toml", "--local"]);
}
