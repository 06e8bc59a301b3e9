//! What is said for whoever looks for a fault: the debug bundle and the log of what goes on inside; and what must not be said there.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use common::fleet::Fleet;
use common::{Yard, until};
use serde_json::Value;

/// The files of a bundle by their names in it.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().strip_prefix("flowyard-bundle").unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

/// Keeps a secret.
fn keep_secret(yard: &Yard, owner: &str, name: &str, value: &str) {
    let mut command = yard.command(&["secret", "put", name, owner]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Each file of a whole bundle is there, and says what it is for.
fn says_how_everything_is(files: &BTreeMap<String, String>) {
    for (name, word) in [
        ("README.txt", "Nothing is missing."),
        ("fctl.json", "release"),
        ("cluster/status.json", "\"leads\": true"),
        ("cluster/nodes.json", "\"n1\""),
        ("cluster/jobs.json", "\"wary\""),
        ("audit.jsonl", "\"Secrets/Put\""),
        ("coordinators/1/about.json", "\"leader\""),
        ("coordinators/1/settings.txt", "suspect_ms: 8000"),
        ("coordinators/1/state.json", "\"jobs_finished\": "),
        ("coordinators/1/metrics.txt", "flowyard_coordinator_leader 1.0"),
        ("coordinators/1/log.jsonl", "\"message\":\"an agent connected\""),
        ("agents/n1/settings.txt", "log_limit_bytes"),
        ("agents/n1/inventory.txt", "cpu_milli: 2000"),
        ("agents/n1/metrics.txt", "flowyard_agent_connected 1.0"),
        ("agents/n1/log.jsonl", "\"part\":\"agent\",\"name\":\"n1\""),
    ] {
        let text = files.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", files.keys()));
        assert!(text.contains(word), "`{word}` is not in {name}: {text}");
    }
}

#[test]
fn a_bundle_says_how_everything_is_also_when_much_is_down_and_never_a_secret() {
    let mut fleet = Fleet::formed(None);
    fleet.grow();
    fleet.add_agent("n1");
    let (yard, owner) = (&fleet.yard, fleet.owner(0));
    until("the node", || yard.json(&["nodes", &owner])["nodes"].as_array().unwrap().len() == 1);
    let token = fleet.token(&["--role", "operator", "--name", "ann"]);
    keep_secret(yard, &owner, "API_KEY", "canary-of-a-secret");
    yard.write(
        "flow.toml",
        "name = \"wary\"\n[params]\nword = { type = \"string\", default = \"canary-of-a-parameter\" }\n[steps.a]\ncpu = 0.1\n\
         run = [\"sh\", \"-c\", \"echo canary-of-output; : canary-of-command\"]\n\
         env = { KEY = { secret = \"API_KEY\" }, PLAIN = \"canary-of-a-variable\" }\n",
    );
    assert_eq!(yard.run(&["submit", &owner, "--wait", "flow.toml"]).code(), 0);
    // Somebody pastes a token where a name belongs.
    yard.run(&["submit", &owner, "--wait", "--cpu", "0.1", "--tag", &token, "--", "true"]);

    let path = yard.path("whole.tar.gz");
    let ran = yard.run(&["debug", "bundle", &owner, path.to_str().unwrap()]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let files = unpacked(&path);
    says_how_everything_is(&files);
    let other = files.keys().filter(|name| name.ends_with("/about.json")).count();
    assert_eq!(other, 2, "both coordinators say how they are: {:?}", files.keys());
    let key = std::fs::read_to_string(Path::new(&fleet.at("c0")).join("authority.pem")).unwrap();
    let key: Vec<&str> = key.lines().filter(|line| line.len() > 40).collect();
    assert!(!key.is_empty());
    let secrets = token.split('-').filter(|part| part.len() > 20).chain(key);
    let canaries: Vec<&str> = secrets.chain(["canary-of-"]).collect();
    for (name, text) in &files {
        let said: Vec<_> = canaries.iter().filter(|canary| text.contains(**canary)).collect();
        assert!(said.is_empty(), "{said:?} in {name}: {text}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    yard.refused(110, &["is there already", "--overwrite"], &["debug", "bundle", &owner, path.to_str().unwrap()]);

    // One of two coordinators is gone: nobody leads, and what there is to say is said all the same.
    fleet.coordinators[1].take().unwrap().kill();
    let (yard, path) = (&fleet.yard, fleet.yard.path("half.tar.gz"));
    let ran = yard.run(&["debug", "bundle", &owner, path.to_str().unwrap()]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    ran.says(&["missing: coordinators/"]);
    let files = unpacked(&path);
    assert!(files["README.txt"].contains("Missing:\n"), "{}", files["README.txt"]);
    for name in ["coordinators/1/about.json", "coordinators/1/log.jsonl", "cluster/jobs.json"] {
        assert!(files.contains_key(name), "no {name}: {:?}", files.keys());
    }
    // Nobody answers at all.
    fleet.coordinators[0].take().unwrap().kill();
    let (yard, path) = (&fleet.yard, fleet.yard.path("none.tar.gz"));
    let ran = yard.run(&["debug", "bundle", &owner, path.to_str().unwrap()]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert!(unpacked(&path)["README.txt"].contains("Missing:\n"));
}

#[test]
fn who_may_not_look_into_the_cluster_gets_no_bundle_of_its_parts() {
    let fleet = Fleet::formed(None);
    let vic = fleet.token(&["--role", "viewer", "--name", "vic"]);
    fleet.log_in(&vic);
    let path = fleet.yard.path("b.tar.gz");
    let ran = fleet.yard.run(&["debug", "bundle", path.to_str().unwrap()]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    ran.says(&["may not read what the parts say of themselves", "an operator may"]);
    let files = unpacked(&path);
    assert!(files.contains_key("cluster/status.json") && !files.keys().any(|name| name.starts_with("coordinators/")));
    fleet.stop();
}

#[test]
fn the_log_of_what_goes_on_inside_is_one_object_per_line_without_secrets() {
    let yard = Yard::new();
    yard.refused(110, &["--log-level", "write error, warn"], &["jobs", "--local", "--log-level", "flowyard=loud"]);
    let dev = yard.dev(&["--log-format", "json", "--log-level", "debug"]);
    let endpoint = format!("--endpoint=unix://{}/api.sock", yard.home().display());
    keep_secret(&yard, &endpoint, "API_KEY", "canary-of-a-secret");
    yard.write(
        "flow.toml",
        "name = \"wary\"\n[steps.a]\nrun = [\"true\"]\n\
         env = { KEY = { secret = \"API_KEY\" }, PLAIN = \"canary-of-a-variable\" }\n",
    );
    assert_eq!(yard.run(&["submit", &endpoint, "--wait", "flow.toml"]).code(), 0);
    let said = dev.stderr();
    let lines: Vec<Value> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let told = lines.iter().find(|line| line["message"] == "an agent connected").expect("it is told");
    assert!(told["at_ms"].is_u64() && told["level"] == "info" && told["node"] == "1", "{told}");
    assert_eq!(
        (&told["part"], &told["target"]),
        (&"embedded".into(), &"flowyard_coordinator::session::service".into())
    );
    assert!(!said.contains("canary-of-"), "{said}");
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}
