//! Terraform, with hosts that are reached by SSH: a cluster is formed, upgraded host by host, made smaller and taken away, by the modules of
//! `deploy/terraform` as they are, and by the real program.

mod common;
#[path = "terraform/rack.rs"]
mod rack;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::until;
use rack::{Rack, lacks};
use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// No provider can be had: none is needed.
const SETTINGS: &str =
    "disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = \"/nonexistent\"\n  }\n}\n";

fn rack(names: &[&str]) -> Option<Rack> {
    if let Some(reason) = lacks() {
        flowyard_skip::skip(&reason);
        return None;
    }
    let made = Rack::of(names);
    made.inspect_err(|reason| flowyard_skip::skip(reason)).ok()
}

impl Rack {
    fn terraform(&self, args: &[&str]) -> Output {
        fs::write(self.path("cli.tfrc"), SETTINGS).unwrap();
        let mut command = self.operator("terraform", args);
        command.env("TF_CLI_CONFIG_FILE", self.path("cli.tfrc")).env("TF_IN_AUTOMATION", "1");
        command.output().unwrap()
    }

    fn terraform_ok(&self, args: &[&str]) -> String {
        let out = self.terraform(args);
        let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "terraform {args:?}: {said}{errors}");
        said.into_owned()
    }

    /// What is wanted of the cluster.
    fn want(&self, hosts: &[Value], program: &Path) {
        let wanted = json!({ "hosts": hosts, "program": program });
        fs::write(self.path("terraform.tfvars.json"), wanted.to_string()).unwrap();
    }

    fn apply(&self) -> String {
        self.terraform_ok(&["apply", "-auto-approve", "-no-color"])
    }

    fn coordinator(&self, name: &str) -> Value {
        json!({ "name": name, "role": "coordinator", "ssh": name, "address": self.address(name) })
    }

    /// The SHA-256 of what a host's service runs.
    fn runs(&self, host: &str, role: &str) -> String {
        let pid = format!("systemctl show --property=MainPID --value flowyard-{role}.service");
        let sum = self.on(host, &format!("sha256sum < /proc/$({pid})/exe"));
        sum.split(' ').next().unwrap().to_owned()
    }

    fn sum(&self, file: &Path) -> String {
        let out = self.operator("sha256sum", &[&file.display().to_string()]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap().to_owned()
    }

    /// The nodes of attempts of each task of job 1, and how they ended.
    fn attempts(&self) -> Vec<Vec<(String, String)>> {
        let shown = self.json("c1", "show 1");
        let attempt = |attempt: &Value| {
            let word = |name: &str| attempt[name].as_str().unwrap_or_default().to_owned();
            (word("node"), word("outcome"))
        };
        let of_task = |task: &Value| task["attempts"].as_array().unwrap().iter().map(attempt).collect();
        shown["tasks_shown"].as_array().unwrap().iter().map(of_task).collect()
    }

    /// Nothing of the product is left on a host.
    fn is_bare(&self, host: &str) {
        let files = "find /usr/local/bin /usr/local/lib /etc/systemd/system /var/lib -type f -o -type s";
        let left = self.on(host, &format!("{files}; ps -e -o comm= | grep fctl || true"));
        assert_eq!(left, "", "{host}");
    }
}

fn agent(name: &str, rack: &str) -> Value {
    json!({ "name": name, "role": "agent", "ssh": name, "rack": rack, "labels": { "kind": "bare" } })
}

fn configuration(rack: &Rack) -> String {
    format!(
        "variable \"hosts\" {{ type = any }}\nvariable \"program\" {{ type = string }}\nmodule \"cluster\" {{\n  source = \
         \"{ROOT}//deploy/terraform/bare-metal\"\n  cluster = \"lab\"\n  hosts = var.hosts\n  program = var.program\n  agent_settings = \
         \"cpu = \\\"2\\\"\"\n  ssh_config = \"{}\"\n  drain_deadline = \"1s\"\n  patience_seconds = 60\n  settle_seconds = 1\n}}\n\
         output \"coordinators\" {{ value = module.cluster.coordinators }}\n",
        rack.path("ssh_config").display()
    )
}

#[test]
fn a_cluster_on_bare_hosts_is_formed_upgraded_one_by_one_made_smaller_and_destroyed() {
    let Some(rack) = rack(&["c1", "c2", "c3", "n1", "n2"]) else { return };
    let modules = format!("{ROOT}/deploy/terraform");
    rack.terraform_ok(&["fmt", "-check", "-diff", "-recursive", &modules]);
    fs::write(rack.path("main.tf"), configuration(&rack)).unwrap();
    rack.terraform_ok(&["init", "-no-color"]);
    rack.terraform_ok(&["validate", "-no-color"]);
    let mut hosts: Vec<Value> = ["c1", "c2", "c3"].map(|name| rack.coordinator(name)).to_vec();
    hosts.extend([agent("n1", "r1"), agent("n2", "r2")]);

    let first = common::program();
    rack.want(&hosts, &first);
    let said = rack.apply();
    formed(&rack, &said);
    rack.terraform_ok(&["plan", "-detailed-exitcode", "-no-color"]);
    rack.services();
    rack.fctl("c1", "submit --array 0-1 --cpu 1.5 --name two -- sh -c 'until [ -e /tmp/gate ]; do sleep 0.2; done'");
    until("both tasks to run", || rack.fctl("c1", "show 1").contains("2 active"));

    bad_program_is_stopped_at_the_first_host(&rack, &hosts);
    let second = rack.path("fctl-2");
    fs::write(&second, [fs::read(&first).unwrap(), b"2".to_vec()].concat()).unwrap();
    upgraded_one_by_one(&rack, &hosts, &second);

    // A node that is working and the coordinator that leads.
    let members = rack.json("c1", "cluster status")["members"].as_array().unwrap().clone();
    let leads = members.iter().find(|member| member["leads"] == true).unwrap()["address"].as_str().unwrap().to_owned();
    let leads = ["c1", "c2", "c3"].into_iter().find(|name| leads.starts_with(&rack.address(name))).unwrap();
    let gone = if leads == "c1" { "c3" } else { leads };
    hosts.retain(|host| host["name"] != "n2" && host["name"] != gone);
    rack.want(&hosts, &second);
    made_smaller(&rack, gone);

    let said = rack.terraform_ok(&["destroy", "-auto-approve", "-no-color"]);
    let kept = said.lines().find_map(|line| line.split_once("what the coordinator kept is in ")).expect("its past").1;
    let (last, other) =
        if said.contains("c1: what the coordinator kept") { ("c1", kept) } else { (survivor(gone), kept) };
    assert!(rack.on(last, &format!("ls {other}")).contains("authority.pem"));
    rack.on(last, &format!("rm -r {other}"));
    ["c1", survivor(gone), "n1"].iter().for_each(|host| rack.is_bare(host));
    no_token_was_written(&rack);
}

/// The coordinator beside c1 that stays.
fn survivor(gone: &str) -> &'static str {
    if gone == "c2" { "c3" } else { "c2" }
}

fn formed(rack: &Rack, said: &str) {
    assert!(said.contains("c1: forms cluster lab") && said.contains("n2: runs as agent, and is well"), "{said}");
    let status = rack.json("c2", "cluster status");
    let members = status["members"].as_array().unwrap();
    assert!(members.len() == 3 && members.iter().all(|member| member["votes"] == true), "{status}");
    let nodes = rack.json("c1", "nodes");
    let labels = |at: usize| (&nodes["nodes"][at]["name"], &nodes["nodes"][at]["labels"]);
    assert_eq!(labels(0), (&json!("n1"), &json!({ "kind": "bare", "rack": "r1" })));
    assert_eq!(labels(1), (&json!("n2"), &json!({ "kind": "bare", "rack": "r2" })));
    assert_eq!(nodes["nodes"][0]["offered"]["cpu_milli"], 2_000, "settings are followed");
    let tokens = rack.json("c1", "token ls")["tokens"].as_array().unwrap().clone();
    assert_eq!(tokens.len(), 4);
    for token in &tokens {
        assert_eq!(token["uses_left"], 0, "each token let one host in: {token}");
        let lasts = token["expires_at_ms"].as_u64().unwrap() - token["created_at_ms"].as_u64().unwrap();
        assert_eq!(lasts, 600_000, "ten minutes");
    }
}

fn no_token_was_written(rack: &Rack) {
    let written = rack.written();
    assert!(written.iter().any(|(name, text)| name == "terraform.tfstate.backup" && text.contains("FLOWYARD_NAME")));
    let with_token: Vec<_> = written.iter().filter(|(_, text)| text.contains("fyt1-")).map(|(name, _)| name).collect();
    assert!(with_token.is_empty(), "{with_token:?}");
}

/// It answers when asked for its version and does not serve: the first host says so, and nothing else is touched.
fn bad_program_is_stopped_at_the_first_host(rack: &Rack, hosts: &[Value]) {
    let bad = rack.path("fctl-bad");
    let script = "#!/bin/sh\n[ \"$1 $2\" != 'coordinator run' ] || exit 1\n/usr/local/bin/fctl.previous \"$@\" | sed s/fctl.previous/fctl/\n";
    fs::write(&bad, script).unwrap();
    fs::set_permissions(&bad, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    rack.want(hosts, &bad);
    let out = rack.terraform(&["apply", "-auto-approve", "-no-color"]);
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        !out.status.success() && said.contains("c1 was not started; the hosts after it are left as they were"),
        "{said}"
    );
    assert_eq!(rack.services(), ["c1 stop coordinator", "c1 start coordinator"]);
    assert!(rack.fctl("c2", "jobs").contains("two"), "the cluster goes on");
}

fn upgraded_one_by_one(rack: &Rack, hosts: &[Value], program: &Path) {
    rack.want(hosts, program);
    let said = rack.apply();
    let mut expected = vec!["c1 start coordinator".to_owned()];
    for (host, role) in [("c2", "coordinator"), ("c3", "coordinator"), ("n1", "agent"), ("n2", "agent")] {
        expected.extend(["stop", "start"].map(|verb| format!("{host} {verb} {role}")));
    }
    assert_eq!(rack.services(), expected, "one is up again before the next is stopped");
    let well: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("(local-exec): ")).map(|line| line.1).collect();
    let at = |words: &str| well.iter().position(|line| *line == words).unwrap_or_else(|| panic!("{words}: {said}"));
    assert!(at("c1: runs as coordinator, and is well") < at("c2: the program"), "{said}");
    assert!(at("n1: runs as agent, and is well") < at("n2: the program"), "{said}");
    let sum = rack.sum(program);
    for (host, role) in [("c1", "coordinator"), ("c3", "coordinator"), ("n2", "agent")] {
        assert_eq!(rack.runs(host, role), sum, "{host}");
    }
    let tries: Vec<usize> = rack.attempts().iter().map(Vec::len).collect();
    assert_eq!(tries, [1, 1], "what runs goes on under the upgrade");
}

fn made_smaller(rack: &Rack, gone: &str) {
    let said = rack.apply();
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words}: {said}"));
    assert!(
        at("n2: waits until nothing runs there, 1s at most") < at("node n2 is drained; nothing runs there"),
        "{said}"
    );
    assert!(at("node n2 is drained; nothing runs there") < at("n2: is no agent any more"), "{said}");
    assert!(said.contains(&format!("{gone}: is no coordinator any more")), "{said}");
    ["n2", gone].iter().for_each(|host| rack.is_bare(host));
    let nodes = rack.json("c1", "nodes")["nodes"].as_array().unwrap().clone();
    assert_eq!(nodes.iter().map(|node| &node["name"]).collect::<Vec<_>>(), ["n1"]);
    assert_eq!(rack.json("c1", "cluster status")["members"].as_array().unwrap().len(), 2);
    // What ran there runs again on the other node, once there is room for it, and lost no retry.
    let moved = rack.attempts().iter().position(|attempts| attempts[0].1 == "preempted").expect("one was stopped");
    rack.fctl("c1", &format!("exec 1/two/{} -- touch /tmp/gate", 1 - moved));
    until("it to run again", || rack.attempts()[moved].len() == 2);
    until("its gate to be opened", || {
        let open = format!(
            "cd /tmp; fctl --endpoint unix:///var/lib/flowyard/coordinator/api.sock exec 1/two/{moved} -- touch /tmp/gate"
        );
        rack.ssh("c1", &open).status.success()
    });
    rack.fctl("c1", "wait 1");
}

/// What cloud-init does with it: files are written, then commands run.
fn first_boot(rack: &Rack, host: &str, user_data: &str) {
    let text = user_data.strip_prefix("#cloud-config\n").expect("it says what it is");
    let config: Value = serde_json::from_str(text).expect("JSON, which is YAML");
    for file in config["write_files"].as_array().unwrap() {
        let word = |name: &str| file[name].as_str().unwrap();
        assert_eq!((word("owner"), word("encoding")), ("root:root", "b64"));
        let (path, mode, content) = (word("path"), word("permissions"), word("content"));
        rack.on(host, &format!("mkdir -p $(dirname {path}); echo {content} | base64 -d > {path}; chmod {mode} {path}"));
    }
    for command in config["runcmd"].as_array().unwrap() {
        let words: Vec<&str> = command.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        rack.on(host, &words.join(" "));
    }
}

fn user_data(rack: &Rack, wanted: &str) -> Output {
    let program = common::program();
    let address = rack.address(rack::OPERATOR);
    let text = format!(
        "module \"machine\" {{\n  source = \"{ROOT}//deploy/terraform/user-data\"\n  cluster = \"lab\"\n  program_url = \
         \"http://{address}:8000/{}\"\n  program_sha256 = \"{}\"\n{wanted}\n}}\noutput \"user_data\" {{\n  value = \
         module.machine.user_data\n  sensitive = true\n}}\n",
        program.file_name().unwrap().display(),
        rack.sum(&program),
    );
    fs::write(rack.path("main.tf"), text).unwrap();
    rack.terraform_ok(&["init", "-no-color"]);
    rack.terraform(&["apply", "-auto-approve", "-no-color"])
}

#[test]
fn machines_of_a_cloud_become_members_at_their_first_boot() {
    let Some(rack) = rack(&["c1", "n1"]) else { return };
    let folder = common::program().parent().unwrap().display().to_string();
    let serve = ["-m", "http.server", "8000", "--directory", &folder];
    let mut server = rack.operator("python3", &serve);
    let mut server = server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let address = rack.address("c1");
    let made = |wanted: &str| {
        let out = user_data(&rack, wanted);
        assert!(out.status.success(), "{out:?}");
        let shown = String::from_utf8_lossy(&out.stdout).into_owned();
        (rack.terraform_ok(&["output", "-raw", "user_data"]), shown)
    };
    let refused = user_data(&rack, "  role = \"agent\"");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("An agent needs a token"), "{refused:?}");

    let (first, _) = made(&format!("  role = \"coordinator\"\n  address = \"{address}:7400\""));
    first_boot(&rack, "c1", &first);
    let status = "fctl --endpoint unix:///var/lib/flowyard/coordinator/api.sock cluster status";
    until("it to answer", || rack.ssh("c1", status).status.success());
    assert_eq!(rack.json("c1", "cluster status")["name"], "lab");
    let line = rack.fctl("c1", "token create --role agent --ttl 10m");
    let token = line.trim().rsplit(' ').next().unwrap();
    let (second, shown) =
        made(&format!("  role = \"agent\"\n  token = \"{token}\"\n  rack = \"r7\"\n  labels = {{ zone = \"b\" }}"));
    assert!(!shown.contains("fyt1-"), "{shown}");
    first_boot(&rack, "n1", &second);
    until("the node", || rack.json("c1", "nodes")["nodes"][0]["connected"] == true);
    let node = rack.json("c1", "nodes")["nodes"][0].clone();
    assert_eq!((&node["name"], &node["labels"]), (&json!("n1"), &json!({ "rack": "r7", "zone": "b" })));
    assert_eq!(
        rack.on("n1", "ls /usr/local/lib/flowyard"),
        "config.toml\nfirst-boot.env\nfirst-boot.sh\nhost.sh\nplaced\n"
    );
    // What was run once may be run again.
    rack.on("n1", "sh /usr/local/lib/flowyard/first-boot.sh");
    assert_eq!(rack.services(), ["c1 start coordinator", "n1 start agent"]);
    server.kill().unwrap();
    server.wait().unwrap();
}
