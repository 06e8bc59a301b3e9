//! Queues through the command line, on the embedded cluster: put from a file, listed, shown, dropped; and files that are wrong.

mod common;

use std::path::Path;

use common::Yard;
use serde_json::{Value, json};

const USAGE: i32 = 110;
const UNREADABLE: i32 = 117;
const REFUSED: i32 = 112;
const NOT_FOUND: i32 = 113;

const QUEUES: &str = r#"
[queue.research]
weight = 3
limit = { cpu = 400 }

[queue."research/vision"]
max_active = 10
limit = { cpu = 200.5, memory = "2TiB", gpu = { any = 16, H100 = 8.125 }, tokens = { matlab = 5 } }
reserve = { cpu = 100, gpu = 8 }
lend = { cpu = 0 }

[queue."ops/nightly"]
"#;

/// The words of each line.
fn words(said: &str) -> Vec<Vec<&str>> {
    said.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn changes(answer: &Value) -> Vec<(&str, &str)> {
    let queues = answer["queues"].as_array().unwrap();
    queues.iter().map(|it| (it["queue"].as_str().unwrap(), it["change"].as_str().unwrap())).collect()
}

#[test]
fn a_file_of_queues_is_put_and_what_changes_is_said() {
    let yard = Yard::new();
    yard.write("queues.toml", QUEUES);
    let put = yard.ok(&["queue", "put", "queues.toml", "--local"]);
    let lines: Vec<&str> = put.lines().collect();
    assert_eq!(lines[0], "research         created    weight 3, limit.cpu 400");
    assert_eq!(lines[2], "ops/nightly      created    weight 1");
    let again = yard.json(&["queue", "put", "queues.toml", "--local"]);
    let unchanged = [("research", "unchanged"), ("research/vision", "unchanged"), ("ops/nightly", "unchanged")];
    assert_eq!((changes(&again), &again["refused"]), (unchanged.to_vec(), &Value::Null));
    yard.write("less.toml", "[queue.research]\nweight = 4\n[queue.new]\n");
    let less = yard.ok(&["queue", "put", "less.toml", "--local"]);
    let said = "research  changed    weight 3 -> 4, limit.cpu 400 -> none\nnew       created    weight 1\n";
    assert_eq!(less, said);
    yard.write("less.toml", "[queue.research]\nweight = 5\n");
    let changed = yard.json(&["queue", "put", "less.toml", "--local"]);
    let one = &changed["queues"][0];
    assert_eq!((&one["before"]["weight"], &one["after"]["weight"]), (&json!(4), &json!(5)));
    yard.nothing_is_left();
}

#[test]
fn queues_are_listed_shown_and_drawn_as_a_tree() {
    let yard = Yard::new();
    yard.write("queues.toml", QUEUES);
    yard.ok(&["queue", "put", "queues.toml", "--local"]);
    let flags = ["submit", "--local", "--isolation", "process", "--queue", "research/vision"];
    yard.ok(&[&flags[..], &["--", "true"]].concat());
    let listed = yard.json(&["queue", "ls", "--local"]);
    let paths: Vec<_> = listed["queues"].as_array().unwrap().iter().map(|it| it["queue"].as_str().unwrap()).collect();
    assert_eq!(paths, ["default", "ops/nightly", "research", "research/vision"]);
    let text = yard.ok(&["queue", "ls", "--local"]);
    let vision = words(&text).into_iter().find(|line| line[0] == "research/vision").unwrap();
    assert_eq!(vision[..4], ["research/vision", "1", "0/10", "0"], "{text}");

    let shown = yard.json(&["queue", "show", "research/vision", "--local"]);
    assert_eq!(shown["limit"]["gpu_milli"], json!({ "any": 16_000, "h100": 8_125 }));
    assert_eq!((&shown["limit"]["cpu_milli"], &shown["limit"]["memory_bytes"]), (&json!(200_500), &json!(1_u64 << 41)));
    assert_eq!((&shown["lend"]["cpu_milli"], &shown["borrow"]["cpu_milli"]), (&json!(0), &Value::Null));
    assert_eq!((&shown["limit"]["tokens"], &shown["max_active"]), (&json!({ "matlab": 5 }), &json!(10)));
    assert_eq!((&shown["above"][0]["queue"], &shown["jobs"]), (&json!("research"), &json!(0)));
    let text = yard.ok(&["queue", "show", "research/vision", "--local"]);
    assert!(text.contains("of at most 10") && text.contains("also bounded by research"), "{text}");
    let stale = yard.json(&["queue", "show", "research", "--stale", "--local"]);
    assert!(stale["stale"]["revision"].is_u64() && stale["below"] == json!(["research/vision"]), "{stale}");

    let tree = yard.json(&["queue", "tree", "--local"]);
    let ops = &tree["queues"][1];
    assert_eq!((&ops["queue"], &ops["exists"]), (&json!("ops"), &json!(false)), "{tree}");
    assert_eq!(ops["queues"][0]["queue"], "ops/nightly");
    assert_eq!(tree["queues"][2]["queues"][0]["queue"], "research/vision");
    let text = yard.ok(&["queue", "tree", "--local"]);
    assert!(text.lines().any(|line| line == "ops") && text.contains("\n  nightly  "), "{text}");
    yard.nothing_is_left();
}

#[test]
fn what_runs_is_held_by_its_queue_and_those_above_and_a_lower_limit_stops_nothing() {
    let yard = Yard::new();
    yard.write("queues.toml", QUEUES);
    let dev = yard.dev(&[]);
    yard.ok(&["queue", "put", "queues.toml"]);
    let flags =
        ["submit", "--isolation", "process", "--queue", "research/vision", "--cpu", "0.25", "--memory", "64MiB"];
    yard.ok(&[&flags[..], &["--", "sleep", "600"]].concat());
    yard.wait_running("1", &[]);
    for (path, own) in [("research/vision", 1), ("research", 0)] {
        let shown = yard.json(&["queue", "show", path]);
        let held = json!({
            "cpu_milli": 250, "memory_bytes": 64 << 20, "disk_bytes": 0, "gpu_milli": { "any": 0 }, "tokens": {},
        });
        assert_eq!((&shown["held"], &shown["jobs"], &shown["active"]), (&held, &json!(1), &json!(1)), "{path}");
        assert_eq!((&shown["own_jobs"], &shown["own_active"]), (&json!(own), &json!(own)), "{path}");
    }
    let text = yard.ok(&["queue", "ls"]);
    let vision = words(&text).into_iter().find(|line| line[0] == "research/vision").unwrap();
    assert_eq!(vision, ["research/vision", "1", "1/10", "1", "0.25/200.5", "64MiB/2TiB", "0/16"], "{text}");
    let shown = yard.ok(&["queue", "show", "research"]);
    assert!(shown.contains("1 task, 0 of the queue itself"), "{shown}");

    yard.write("less.toml", "[queue.\"research/vision\"]\nlimit = { cpu = 0 }\n");
    yard.ok(&["queue", "put", "less.toml"]);
    yard.ok(&["submit", "--isolation", "process", "--queue", "research/vision", "--", "true"]);
    let shown = yard.json(&["queue", "show", "research/vision"]);
    assert_eq!((&shown["active"], &shown["jobs"]), (&json!(1), &json!(2)), "what runs goes on: {shown}");
    assert_eq!(yard.json(&["show", "2"])["steps"][0]["tasks"]["ready"], 1, "and nothing more starts");
    assert_eq!(dev.interrupt().code(), 0);
}

#[test]
fn what_was_used_is_told_by_user_by_queue_and_by_model() {
    let yard = Yard::new();
    yard.write("queues.toml", "[queue.research]\n");
    let dev = yard.dev(&["--fake-gpus", "2"]);
    yard.ok(&["queue", "put", "queues.toml"]);
    let flags = ["submit", "--isolation", "process", "--cpu", "0.25", "--gpu", "1", "--wait", "--queue"];
    for queue in ["research", "default"] {
        yard.ok(&[&flags[..], &[queue, "--", "sleep", "1.2"]].concat());
    }
    let by_queue = yard.json(&["usage", "--by", "queue"]);
    let rows = by_queue["rows"].as_array().unwrap();
    let queues: std::collections::BTreeSet<_> = rows.iter().map(|row| row["queue"].as_str().unwrap()).collect();
    assert_eq!(queues, ["default", "research"].into(), "{by_queue}");
    for row in rows {
        let (cpu, gpus) = (row["cpu_milli_seconds"].as_u64().unwrap(), row["gpu_milli_seconds"].as_object().unwrap());
        assert!((250..60 * 250).contains(&cpu), "a quarter of a CPU for a second and more: {row}");
        assert!(gpus.len() == 1 && gpus.values().all(|milli| milli.as_u64().unwrap() >= 1_000), "{row}");
    }
    assert_eq!(by_queue["counted"], true);
    let by_user = yard.json(&["usage"]);
    assert_eq!(by_user["rows"].as_array().unwrap().len(), 1, "{by_user}");
    assert_eq!(by_user["all"], by_queue["all"]);
    let by_model = yard.json(&["usage", "--by", "gpu", "--since", "2d"]);
    assert_eq!(by_model["rows"][0]["gpu_milli_seconds"], by_model["all"]["gpu_milli_seconds"][model(&by_model)]);
    let text = yard.ok(&["usage", "--by", "queue"]);
    assert!(text.contains("QUEUE") && text.contains("GPU-HOURS") && text.contains("research"), "{text}");
    let nothing = yard.json(&["usage", "--since", "2d", "--until", "1d"]);
    assert_eq!(nothing["rows"], json!([]), "{nothing}");
    yard.refused(USAGE, &["--since", "not before --until"], &["usage", "--since", "1d", "--until", "2d"]);
    yard.refused(USAGE, &["--since", "is no day, such as"], &["usage", "--since", "2026-02-30"]);
    yard.refused(USAGE, &["--since", "has no unit"], &["usage", "--since", "7"]);
    yard.refused(USAGE, &["--by"], &["usage", "--by", "node"]);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

fn model(by_model: &Value) -> &str {
    by_model["rows"][0]["gpu"].as_str().unwrap()
}

#[test]
fn a_queue_is_dropped_unless_it_has_jobs_and_errors_say_what_there_is() {
    let yard = Yard::new();
    yard.write("queues.toml", QUEUES);
    let dev = yard.dev(&[]);
    yard.ok(&["queue", "put", "queues.toml"]);
    yard.ok(&["submit", "--isolation", "process", "--queue", "research", "--", "sleep", "600"]);
    yard.refused(REFUSED, &["queue `research/vision` is below `research`"], &["queue", "drop", "research"]);
    assert_eq!(yard.ok(&["queue", "drop", "research/vision"]), "queue research/vision is forgotten\n");
    yard.refused(REFUSED, &["queue `research` still has 1 active jobs"], &["queue", "drop", "research"]);
    yard.ok(&["cancel", "1"]);
    yard.run(&["wait", "1"]);
    yard.ok(&["queue", "drop", "research"]);
    let there = "there is no queue `vison`; there are: default, ops/nightly";
    yard.refused(NOT_FOUND, &[there], &["queue", "show", "vison"]);
    yard.refused(NOT_FOUND, &[there], &["queue", "drop", "vison"]);
    yard.refused(NOT_FOUND, &["only queues below it: ops/nightly"], &["queue", "show", "ops"]);
    yard.refused(REFUSED, &["`default` takes the jobs that name no queue"], &["queue", "drop", "default"]);
    yard.refused(USAGE, &["a name must not be empty"], &["queue", "show", "a//b"]);
    assert_eq!(yard.json(&["queue", "drop", "ops/nightly"]), json!({ "queue": "ops/nightly", "dropped": true }));
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_file_that_is_wrong_is_refused_whole_before_anything_begins() {
    let yard = Yard::new();
    let wrong: &[(&str, &[&str])] = &[
        ("", &["queues.toml:1:1: there is no queue in the file"]),
        ("[queue.a]\nlimit = { memory = 5 }\n", &["queues.toml:2:20", "has no unit", "5GiB"]),
        (
            "[queue.good]\n[queue.a]\nlimit = { cpu = 1 }\nreserve = { cpu = 2 }\n[queue.b]\nwieght = 1\n",
            &["queues.toml:4:19: the reserve of 2 is above the limit of 1", "4 | reserve", "did you mean `weight`?"],
        ),
        ("[queue.\"a\\u001b[2J\"]\n", &["cannot be the path of a queue", "\\u{1b}"]),
    ];
    for (text, words) in wrong {
        yard.write("queues.toml", text);
        yard.refused(USAGE, words, &["queue", "put", "queues.toml", "--local"]);
    }
    yard.write("queues.toml", b"[queue.a]\n# \xff\n");
    yard.refused(USAGE, &["queues.toml:2:3", "not UTF-8"], &["queue", "put", "queues.toml", "--local"]);
    yard.refused(
        UNREADABLE,
        &["cannot read the queue file", "No such file"],
        &["queue", "put", "none.toml", "--local"],
    );
    yard.write("queues.toml", vec![b'#'; 5 << 20]);
    yard.refused(USAGE, &["larger than 4 MiB"], &["queue", "put", "queues.toml", "--local"]);
    assert!(!yard.home().exists(), "something was begun");
}

#[test]
fn the_example_that_operators_read_is_accepted() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operators.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let example = guide.split("```toml\n").find(|part| part.starts_with("[queue")).expect("an example");
    let yard = Yard::new();
    yard.write("queues.toml", example.split("```").next().unwrap());
    let put = yard.json(&["queue", "put", "queues.toml", "--local"]);
    assert!(changes(&put).len() >= 3, "{put}");
}

#[test]
fn a_licence_is_declared_asked_for_and_never_given_out_twice() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    let submit = |token: &str, command: &[&str]| {
        let flags = ["submit", "--isolation", "process", "--cpu", "0.1", "--memory", "32MiB", "--token", token, "--"];
        yard.run(&[&flags[..], command].concat())
    };
    let unknown = submit("matlab", &["true"]);
    assert_eq!(unknown.code(), REFUSED);
    unknown.says(&["1 of the token `matlab`", "tokens that the policy gives to all nodes: none"]);
    yard.write("policy.toml", "tokens = { matlab = 2 }\n");
    assert_eq!(yard.ok(&["policy", "put", "policy.toml"]), "topology none -> none; tokens 2 matlab\n");
    let many = submit("matlab=3", &["true"]);
    assert_eq!(many.code(), REFUSED);
    many.says(&["a task asks for 3 of `matlab`, and the cluster has 2"]);

    assert_eq!(submit("matlab=2", &["sleep", "600"]).code(), 0);
    yard.wait_running("1", &[]);
    yard.write(
        "flow.toml",
        "name = \"licensed\"\n[steps.solve]\nrun = [\"true\"]\nisolation = \"process\"\ncpu = 0.1\nmemory = \"32MiB\"\n\
         tokens = { matlab = 1 }\n",
    );
    yard.ok(&["submit", "flow.toml"]);
    let answer = yard.json(&["why", "2"]);
    let bound = &answer["findings"][0]["explanation"]["bounds"][0];
    let told = [&bound["on"], &bound["queue"], &bound["resource"], &bound["held"], &bound["need"], &bound["most"]];
    assert_eq!(json!(told), json!(["cluster", null, "tokens.matlab", 2, 1, 2]), "{answer}");
    let text = yard.ok(&["why", "2"]);
    assert!(text.contains("2 of the 2 tokens.matlab that the cluster has are held, and a task needs 1"), "{text}");
    let shown = yard.json(&["policy", "show"]);
    assert_eq!((&shown["tokens"], &shown["tokens_held"]), (&json!({ "matlab": 2 }), &json!({ "matlab": 2 })));
    let text = yard.ok(&["policy", "show"]);
    assert!(words(&text).contains(&vec!["matlab", "2/2"]), "{text}");
    yard.ok(&["cancel", "1"]);
    yard.ok(&["wait", "2"]);
    assert_eq!(dev.interrupt().code(), 0);
}

#[test]
fn who_borrows_is_told_of_whom_and_when_it_may_have_to_go() {
    let yard = Yard::new();
    yard.write(
        "queues.toml",
        "[queue.lab]\nreserve = { gpu = 1 }\n\
         [queue.guest]\ncontract = { min_run = \"50m\", notice = \"20s\", kill_within = \"40s\" }\n",
    );
    let dev = yard.dev(&["--fake-gpus", "2"]);
    yard.ok(&["queue", "put", "queues.toml"]);
    let nothing = yard.json(&["queue", "show", "guest"]);
    assert_eq!((&nothing["borrowed"], &nothing["returns_from_ms"]), (&json!([]), &Value::Null));
    let guest = |gpus: &str| {
        let flags = ["submit", "--isolation", "process", "--cpu", "0.3", "--memory", "32MiB", "--queue", "guest"];
        yard.ok(&[&flags[..], &["--gpu", gpus, "--", "sleep", "600"]].concat());
    };
    guest("1");
    yard.wait_running("1", &[]);
    let shown = yard.json(&["queue", "show", "guest"]);
    assert_eq!((&shown["borrowed"], &shown["returns_from_ms"]), (&json!([]), &Value::Null), "the other one is free");
    yard.ok(&["cancel", "1"]);
    guest("2");
    yard.wait_running("2", &[]);
    let shown = yard.json(&["queue", "show", "guest"]);
    let borrowed = json!([{
        "resource": "gpu.any", "beyond": 2_000, "wanted": 1_000, "lenders": [{ "queue": "lab", "unused": 1_000 }], "unused_of_others": 0,
    }]);
    assert_eq!(shown["borrowed"], borrowed, "{shown}");
    assert!(shown["returns_from_ms"].as_u64().is_some_and(|at| at > 0), "{shown}");
    let text = yard.ok(&["queue", "show", "guest"]);
    let said = "borrowed gpu.any: 2 held beyond what is promised, of which 1 may be wanted back; unused: lab 1";
    assert!(text.contains(said), "{text}");
    let when = "the first attempt may be asked to leave for them in 49m";
    assert!(text.contains(when) && text.contains("with 20.0s of notice, killed within 40.0s"), "{text}");
    let why = yard.ok(&["why", "2"]);
    let said = "its queue holds 2 gpu.any beyond what it is promised, of which 1 may be wanted back by lab (1 unused)";
    assert!(why.contains(said) && why.contains("it may be asked to leave in 49m"), "{why}");
    assert_eq!(dev.interrupt().code(), 0);
}
