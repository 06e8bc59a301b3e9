//! Whole jobs on the embedded cluster, through the command line, and nothing left running behind them.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Yard, until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A script that goes on once the test has opened its gate.
fn gate(yard: &Yard, name: &str) -> String {
    format!("until [ -e {} ]; do sleep 0.05; done", yard.path(name).display())
}

fn open(yard: &Yard, name: &str) {
    yard.write(name, "");
}

/// `submit --local --isolation process` of a shell script.
fn script<'a>(flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["submit", "--local", "--isolation", "process"], flags, &["--", "sh", "-c", script]].concat()
}

#[test]
fn the_iris_flow_runs_in_containers_and_as_processes_and_prints_its_best_model() {
    let yard = Yard::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/iris");
    for entry in fs::read_dir(examples).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        yard.write(entry.file_name().to_str().unwrap(), fs::read(entry.path()).unwrap());
    }
    let flow = fs::read_to_string(yard.path("flow.toml")).unwrap();
    yard.write("process.toml", flow.replace("image = \"host\"", "isolation = \"process\""));
    for (job, file) in [("1", "flow.toml"), ("2", "process.toml")] {
        let ran = yard.run(&["submit", "--local", file, "-P", "folds=2"]);
        assert_eq!(ran.code(), 0, "{ran:#?}");
        ran.says(&[
            "packaged",
            "train: 12 succeeded",
            "pick: 1 succeeded",
            &format!("fctl artifact cat {job}/pick best --local"),
        ]);
        let best = yard.ok(&["artifact", "cat", &format!("{job}/pick"), "best", "--local"]);
        let best: Value = serde_json::from_str(&best).unwrap();
        assert!(best.to_string().contains("confusion"), "{best}");
        yard.nothing_is_left();
    }
}

#[test]
fn answers_for_programs_have_the_promised_fields() {
    let yard = Yard::new();
    let ran = yard.run(&script(&["-o", "json", "--name", "one", "--tag", "x"], "echo out; echo err >&2; exit 3"));
    assert_eq!(ran.code(), 3, "{ran:#?}");
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["job"], 1);
    assert_eq!((&lines[1]["outcome"], &lines[1]["exit_code"]), (&"failed".into(), &3.into()));
    let shown = yard.json(&["show", "1", "--local"]);
    for field in ["job", "name", "owner", "queue", "state", "outcome", "tags", "submitted_ms", "ended_ms", "steps"] {
        assert!(!shown[field].is_null(), "{field}: {shown}");
    }
    assert_eq!((&shown["state"], &shown["outcome"]), (&"done".into(), &"failed".into()));
    assert_eq!((&shown["steps"][0]["name"], &shown["steps"][0]["tasks"]["failed"]), (&"one".into(), &1.into()));
    let attempt = &shown["tasks_shown"][0]["attempts"][0];
    let expected: [(&str, Value); 4] =
        [("attempt", 1.into()), ("exit_code", 3.into()), ("reason", "exit".into()), ("blame", "user".into())];
    for (field, value) in expected {
        assert_eq!(attempt[field], value, "{field}: {shown}");
    }
    for field in ["node", "peak_memory_bytes", "message"] {
        assert!(!attempt[field].is_null(), "{field}: {shown}");
    }
    for phase in ["placed_ms", "accepted_ms", "fetching_ms", "running_ms", "storing_ms", "ended_ms"] {
        assert!(attempt["times"][phase].is_u64(), "{phase}: {shown}");
    }
    assert_eq!(yard.json(&["jobs", "--local"])["jobs"][0]["job"], 1);
    assert_eq!(yard.json(&["nodes", "--local"])["nodes"][0]["name"], "local");
    assert!(yard.json(&["why", "1", "--local"]).to_string().contains("exit"));
    let refused = yard.run(&["show", "9", "--local", "-o", "json"]);
    let said: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert!(said["error"].as_str().unwrap().contains("no job 9"), "{refused:#?}");
}

#[test]
fn a_job_of_one_task_ends_as_its_task_does() {
    let yard = Yard::new();
    let cases: &[(&[&str], &str, i32, &[&str])] = &[
        (&[], "exit 0", 0, &["job 1 succeeded"]),
        (&[], "echo before; echo last >&2; exit 3", 3, &["exited with code 3", "| last", "fctl why 2/sh/0 --local"]),
        (&[], "kill -TERM $$", 128 + 15, &["signal 15 (SIGTERM)", "reason: signal"]),
        (&["--timeout", "300ms"], "sleep 1000", 114, &["longer than its `timeout` of 300ms", "reason: timeout"]),
    ];
    for (flags, text, code, words) in cases {
        yard.refused(*code, words, &script(flags, text));
    }
    let container = ["submit", "--local", "--", "sh", "-c", "echo in >&2; exit 7"];
    yard.refused(7, &["exited with code 7", "| in"], &container);
    yard.nothing_is_left();
}

#[test]
fn a_task_above_its_memory_ends_as_out_of_memory_and_names_its_limit() {
    let yard = Yard::new();
    let program = "x = bytearray(400 << 20); print(len(x))";
    for isolation in ["container", "process"] {
        let flags =
            ["submit", "--local", "--isolation", isolation, "--memory", "64MiB", "--", "python3", "-c", program];
        yard.refused(128 + 9, &["reason: oom, blame: user", "limit of 64MiB", "`memory`"], &flags);
    }
    let attempt = &yard.json(&["show", "1", "--local"])["tasks_shown"][0]["attempts"][0];
    assert!(attempt["peak_memory_bytes"].as_u64().unwrap() > 32 << 20, "{attempt}");
    yard.nothing_is_left();
}

#[test]
fn a_failed_task_is_tried_again_and_each_try_keeps_its_log() {
    let yard = Yard::new();
    let flags = ["--retry", "times=2,backoff=10ms"];
    let text = "echo try $FLOWYARD_ATTEMPT; test $FLOWYARD_ATTEMPT = 3";
    assert_eq!(yard.run(&script(&flags, text)).code(), 0);
    assert_eq!(yard.ok(&["logs", "1", "--local"]), "try 3\n");
    assert_eq!(yard.ok(&["logs", "1/sh/0#1", "--local"]), "try 1\n");
    let attempts = yard.json(&["show", "1", "--local"])["tasks_shown"][0]["attempts"].clone();
    assert_eq!(attempts.as_array().map(Vec::len), Some(3), "{attempts}");
    let ran = yard.refused(
        4,
        &["exited with code 4", "after 3 attempts"],
        &script(&["--retry", "times=2,backoff=500ms"], "exit 4"),
    );
    assert!(ran.stderr.contains("to be tried again, see `fctl why 2/sh`"), "{ran:#?}");
}

#[test]
fn siblings_of_a_failed_task_go_on_and_a_join_sees_what_is_missing() {
    let yard = Yard::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/local/fan.toml");
    yard.write("flow.toml", fs::read(source).unwrap());
    let ran = yard.run(&["submit", "--local", "flow.toml"]);
    let shown = yard.json(&["show", "1", "--local"]);
    let counts = |step: usize, state: &str| shown["steps"][step]["tasks"][state].as_u64().unwrap();
    assert_eq!((counts(1, "succeeded"), counts(1, "failed")), (2, 1), "{shown}");
    assert_eq!((counts(2, "succeeded"), counts(3, "succeeded")), (2, 1), "{shown} {ran:#?}");
    assert_eq!(yard.ok(&["artifact", "cat", "1/pick", "seen", "--local"]).trim(), "0 2");
    assert_eq!(yard.ok(&["artifact", "cat", "1/check/2", "checked", "--local"]).trim(), "{\"rate\":3}");
    let listed = yard.json(&["artifact", "ls", "1/train", "--local"]);
    assert_eq!(listed["artifacts"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn jobs_wait_for_jobs_and_are_found_by_what_they_are() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    let submit = |flags: &[&str], text: &str| {
        let args = [&["submit", "--isolation", "process"], flags, &["--", "sh", "-c", text]].concat();
        yard.json(&args)["job"].as_u64().unwrap()
    };
    let first = submit(&["--tag", "night", "--name", "first"], &gate(&yard, "go"));
    let second = submit(&["--after", "1", "--tag", "night", "--tag", "late"], "true");
    let third = submit(&["--queue", "default"], "exit 1");
    yard.refused(
        113,
        &["there is no queue `lab/vision`", "default"],
        &["submit", "--queue", "lab/vision", "--", "true"],
    );
    assert_eq!((first, second, third), (1, 2, 3));
    assert_eq!(yard.run(&["wait", "3"]).code(), 1);
    let shown = yard.json(&["show", "2"]);
    assert_eq!((&shown["tasks"]["blocked"], &shown["after"]), (&1.into(), &vec![1].into()), "{shown}");
    assert!(yard.ok(&["why", "2"]).contains("waits for 1 other job"));
    open(&yard, "go");
    assert_eq!(yard.run(&["wait", "2"]).code(), 0);
    let found = |flags: &[&str]| {
        let listed = yard.json(&[&["jobs"], flags].concat());
        listed["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found(&["--tag", "night"]), [2, 1]);
    assert_eq!(found(&["--tag", "night", "--tag", "late"]), [2]);
    assert_eq!(found(&["--state", "failed"]), [3]);
    assert_eq!(found(&["--queue", "default", "--since", "1d"]), [3, 2, 1]);
    assert_eq!(found(&["--queue", "lab/vision"]), [0_u64; 0]);
    assert_eq!(found(&["--limit", "1", "--before", "3"]), [2]);
    assert_eq!(found(&["--owner", "nobody-of-that-name"]), [0_u64; 0]);
    // What was to wait for a job that fails never runs.
    assert_eq!(submit(&["--after", "3"], "true"), 4);
    let ran = yard.run(&["wait", "4"]);
    assert_eq!(ran.code(), 114, "{ran:#?}");
    ran.says(&["job 4 failed", "fctl why 4"]);
    assert!(yard.ok(&["why", "4"]).contains("job 3"), "it says which");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn other_processes_follow_watch_wait_for_and_cancel_what_dev_runs() {
    let yard = Yard::new();
    let dev = yard.dev(&["--fake-gpus", "2", "--label", "rack=r1"]);
    // A cluster that says it is up has its node.
    let nodes = yard.json(&["nodes"]);
    assert_eq!(nodes["nodes"][0]["name"], "local", "{nodes}");
    assert_eq!(nodes["nodes"][0]["gpus"][1]["fake"], true, "{nodes}");
    assert_eq!(nodes["nodes"][0]["labels"]["rack"], "r1", "{nodes}");
    let text = format!("echo begun; {}; echo over", gate(&yard, "go"));
    let submit = ["submit", "--isolation", "process", "--gpu", "1", "--label", "rack=r1", "--", "sh", "-c", &text];
    assert_eq!(yard.json(&submit)["job"], 1);
    let mut logs = yard.start(&["logs", "-f", "1"]);
    let mut watch = yard.start(&["watch", "1"]);
    let wait = yard.start(&["wait", "1"]);
    logs.wait_until("the first line", |logs| logs.stdout() == "begun\n");
    watch.wait_until("the running task", |watch| watch.stderr().contains("1 active"));
    open(&yard, "go");
    assert_eq!(logs.wait().stdout, "begun\nover\n");
    assert_eq!(wait.wait().code(), 0);
    let watched = watch.wait();
    assert!(watched.code() == 0 && watched.stdout.contains("job 1 succeeded"), "{watched:#?}");
    assert_eq!(yard.json(&["submit", "--", "sleep", "1000"])["job"], 2);
    yard.wait_running("2", &[]);
    let waiting = yard.start(&["wait", "2"]);
    assert!(yard.ok(&["cancel", "2"]).contains("job 2 is "));
    assert_eq!(waiting.wait().code(), 115);
    dev.signal(Signal::SIGTERM);
    assert_eq!(dev.wait().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn of_two_local_submits_the_second_joins_and_takes_over_when_the_first_ends() {
    let yard = Yard::new();
    let (first_gate, second_gate) = (gate(&yard, "one"), format!("echo a; {}; echo b", gate(&yard, "two")));
    let first = yard.start(&script(&["--name", "first"], &first_gate));
    until("the first to run", || yard.run(&["show", "1", "--local"]).stdout.contains("1 active"));
    let second = yard.start(&script(&["--name", "second"], &second_gate));
    yard.wait_running("2", &["--local"]);
    open(&yard, "one");
    let ran = first.wait();
    assert_eq!(ran.code(), 0, "{ran:#?}");
    until("the second to take over", || yard.run(&["show", "2", "--local"]).stdout.contains("1 active"));
    open(&yard, "two");
    let ran = second.wait();
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert_eq!(yard.ok(&["logs", "2", "--local"]), "a\nb\n");
    let attempts = yard.json(&["show", "2", "--local"])["tasks_shown"][0]["attempts"].clone();
    assert_eq!(attempts.as_array().map(Vec::len), Some(1), "it was adopted: {attempts}");
    yard.nothing_is_left();
}

#[test]
fn artifacts_come_back_as_they_were_given() {
    let yard = Yard::new();
    yard.write("data/deep/a.txt", "alpha\n");
    let program = yard.write("data/run.sh", "#!/bin/sh\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("deep/a.txt", yard.path("data/link")).unwrap();
    for isolation in ["process", "container"] {
        let args = ["submit", "--local", "--isolation", isolation, "--input", "data=./data", "--output", "out=out"];
        let copy = "cp -a $FLOWYARD_INPUT_DATA/. out && cat $FLOWYARD_INPUT_DATA/link";
        let ran = yard.run(&[&args[..], &["--", "sh", "-c", copy]].concat());
        assert_eq!(ran.code(), 0, "{ran:#?}");
    }
    let digests: Vec<_> =
        ["1", "2"].map(|job| yard.json(&["artifact", "ls", job, "--local"])["artifacts"][0]["digest"].clone()).into();
    assert_eq!(digests[0], digests[1], "the same content has the same digest");
    let put = yard.json(&["artifact", "put", "./data", "--local"]);
    assert_eq!((&put["digest"], &put["sent_blobs"]), (&digests[0], &0.into()), "it is stored once: {put}");
    assert_eq!(yard.ok(&["artifact", "cat", "1", "out", "deep/a.txt", "--local"]), "alpha\n");
    yard.ok(&["artifact", "get", "1", "out", "--to", "got", "--local"]);
    assert_eq!(fs::read_to_string(yard.path("got/deep/a.txt")).unwrap(), "alpha\n");
    assert_eq!(fs::read_link(yard.path("got/link")).unwrap(), Path::new("deep/a.txt"));
    assert_ne!(fs::metadata(yard.path("got/run.sh")).unwrap().permissions().mode() & 0o111, 0);
    yard.refused(110, &["got exists", "--to"], &["artifact", "get", "1", "out", "--to", "got", "--local"]);
}

/// A docker archive with one static program, or why it cannot be made.
fn image(yard: &Yard) -> Result<(), String> {
    let source = "#include <stdio.h>\n#include <unistd.h>\nint main(void) {\n  FILE *out = fopen(\"said\", \"w\");\n  \
                  fprintf(out, \"etc %d\\n\", access(\"/etc\", F_OK));\n  puts(\"from the image\");\n  return fclose(out);\n}\n";
    yard.write("hello.c", source);
    let run = |program: &str, args: &[&str]| {
        let out = Command::new(program).args(args).current_dir(yard.path("")).output();
        let out = out.map_err(|error| format!("{program}: {error}"))?;
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            false => Err(format!("{program} {} failed", args.join(" "))),
        }
    };
    run("cc", &["-static", "-o", "hello", "hello.c"])?;
    run("tar", &["-cf", "layer.tar", "--owner=0", "--group=0", "hello"])?;
    let digest = run("sha256sum", &["layer.tar"])?;
    let digest = digest.split_whitespace().next().unwrap_or_default();
    let rootfs = format!("{{\"type\": \"layers\", \"diff_ids\": [\"sha256:{digest}\"]}}");
    yard.write("config.json", format!("{{\"architecture\": \"amd64\", \"os\": \"linux\", \"rootfs\": {rootfs}}}"));
    yard.write(
        "manifest.json",
        "[{\"Config\": \"config.json\", \"RepoTags\": [\"hello:1\"], \"Layers\": [\"layer.tar\"]}]",
    );
    run("tar", &["-cf", "image.tar", "manifest.json", "config.json", "layer.tar"]).map(drop)
}

#[test]
fn an_image_of_the_user_runs_and_sees_nothing_of_the_host() {
    let yard = Yard::new();
    if let Err(reason) = image(&yard) {
        return flowyard_skip::skip(&format!("no image can be made here: {reason}"));
    }
    let args = ["submit", "--local", "--follow", "--image", "./image.tar", "--output", "said=said", "--", "/hello"];
    let ran = yard.run(&args);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert!(ran.stdout.contains("from the image"), "{ran:#?}");
    // The host's /etc holds passwd; the image has none of its own.
    let absent = ["submit", "--local", "--image", "./image.tar", "--", "/bin/sh"];
    yard.refused(127, &["command `/bin/sh` not found"], &absent);
    yard.nothing_is_left();
}

#[test]
fn reading_commands_run_nothing() {
    let yard = Yard::new();
    let submit = yard.start(&script(&[], "sleep 1000"));
    yard.wait_running("1", &["--local"]);
    submit.kill();
    yard.kill_everything();
    for args in [&["show", "1"][..], &["jobs"], &["nodes"], &["why", "1"], &["storage"], &["artifact", "ls", "1"]] {
        yard.ok(&[args, &["--local"]].concat());
        assert!(yard.processes().is_empty(), "{args:?} runs {:#?}", yard.processes());
    }
    assert_eq!(yard.json(&["show", "1", "--local"])["state"], "active");
    yard.ok(&["cancel", "1", "--local"]);
}

#[test]
fn a_submit_beside_a_command_that_only_reads_brings_its_own_agent() {
    let yard = Yard::new();
    let submit = yard.start(&script(&[], &gate(&yard, "go")));
    yard.wait_running("1", &["--local"]);
    submit.kill();
    yard.kill_everything();
    let mut watch = yard.start(&["watch", "1", "--local"]);
    watch.wait_until("it to be shown", |watch| watch.stdout().contains("active"));
    let ran = yard.run(&script(&[], "true"));
    assert_eq!(ran.code(), 0, "{ran:#?}");
    open(&yard, "go");
    let ran = yard.run(&["wait", "1", "--local"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert_eq!(watch.wait().code(), 0);
    yard.nothing_is_left();
}
