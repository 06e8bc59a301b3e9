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

fn configuration(ssh_config: &Path, cluster: &str) -> String {
    format!(
        "variable \"hosts\" {{ type = any }}\nvariable \"program\" {{ type = string }}\nmodule \"cluster\" {{\n  source = \
         \"{ROOT}//deploy/terraform/bare-metal\"\n  cluster = \"{cluster}\"\n  hosts = var.hosts\n  program = var.program\n  agent_settings = \
         \"cpu = \\\"2\\\"\"\n  ssh_config = \"{}\"\n  drain_deadline = \"1s\"\n  patience_seconds = 60\n  settle_seconds = 0\n}}\n\
         output \"coordinators\" {{ value = module.cluster.coordinators }}\n",
        ssh_config.display()
    )
}

#[test]
fn a_cluster_on_bare_hosts_is_formed_upgraded_one_by_one_made_smaller_and_destroyed() {
    // The first is not the first of the alphabet: it is the order of the list that counts.
    let Some(rack) = rack(&["c3", "c1", "c2", "n2", "n1"]) else { return };
    let modules = format!("{ROOT}/deploy/terraform");
    rack.terraform_ok(&["fmt", "-check", "-diff", "-recursive", &modules]);
    fs::write(rack.path("main.tf"), configuration(&rack.path("ssh_config"), "lab")).unwrap();
    rack.terraform_ok(&["init", "-no-color"]);
    rack.terraform_ok(&["validate", "-no-color"]);
    let mut hosts: Vec<Value> = ["c3", "c1", "c2"].map(|name| rack.coordinator(name)).to_vec();
    hosts.extend([agent("n2", "r2"), agent("n1", "r1")]);

    let first = rack.program();
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
    assert!(said.contains("c3: forms cluster lab") && said.contains("n1: runs as agent, and is well"), "{said}");
    let status = rack.json("c2", "cluster status");
    let members = status["members"].as_array().unwrap();
    assert!(members.len() == 3 && members.iter().all(|member| member["votes"] == true), "{status}");
    let nodes = rack.json("c1", "nodes");
    let labels = |at: usize| (&nodes["nodes"][at]["name"], &nodes["nodes"][at]["labels"]);
    assert_eq!(labels(0), (&json!("n2"), &json!({ "kind": "bare", "rack": "r2" })));
    assert_eq!(labels(1), (&json!("n1"), &json!({ "kind": "bare", "rack": "r1" })));
    assert_eq!(nodes["nodes"][0]["offered"]["cpu_milli"], 2_000, "settings are followed");
    let tokens = rack.json("c1", "token ls")["tokens"].as_array().unwrap().clone();
    assert_eq!(tokens.len(), 4);
    for token in &tokens {
        assert_eq!(token["uses_left"], 0, "each token let one host in: {token}");
        let lasts = token["expires_at_ms"].as_u64().unwrap() - token["created_at_ms"].as_u64().unwrap();
        assert!((599_000..=600_000).contains(&lasts), "ten minutes from when it was asked for: {lasts}");
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
        !out.status.success() && said.contains("c3 was not started; the hosts after it are left as they were"),
        "{said}"
    );
    assert_eq!(rack.services(), ["c3 stop coordinator", "c3 start coordinator"]);
    assert!(rack.fctl("c2", "jobs").contains("two"), "the cluster goes on");
}

fn upgraded_one_by_one(rack: &Rack, hosts: &[Value], program: &Path) {
    rack.want(hosts, program);
    let said = rack.apply();
    let mut expected = vec!["c3 start coordinator".to_owned()];
    for (host, role) in [("c1", "coordinator"), ("c2", "coordinator"), ("n2", "agent"), ("n1", "agent")] {
        expected.extend(["stop", "start"].map(|verb| format!("{host} {verb} {role}")));
    }
    assert_eq!(rack.services(), expected, "one is up again before the next is stopped");
    let well: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("(local-exec): ")).map(|line| line.1).collect();
    let at = |words: &str| well.iter().position(|line| *line == words).unwrap_or_else(|| panic!("{words}: {said}"));
    assert!(at("c3: runs as coordinator, and is well") < at("c1: the program"), "{said}");
    assert!(at("n2: runs as agent, and is well") < at("n1: the program"), "{said}");
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

/// Whatever ended in the middle is put right by the next apply, or it is said what stands against it.
#[test]
fn what_was_interrupted_is_put_right_by_the_next_apply() {
    let Some(rack) = rack(&["c1", "c2"]) else { return };
    let named =
        |cluster: &str| fs::write(rack.path("main.tf"), configuration(&rack.path("ssh_config"), cluster)).unwrap();
    named("lab");
    rack.terraform_ok(&["init", "-no-color"]);
    let program = rack.program();
    // One host has both roles.
    let node = json!({ "name": "n1", "role": "agent", "ssh": "c1" });
    rack.want(&[rack.coordinator("c1"), node.clone()], &program);
    rack.apply();
    assert_eq!(rack.on("c1", "ls /usr/local/bin"), "fctl\n", "the program was placed once");

    // A coordinator is let in, and its host does not hear the answer.
    let line = rack.fctl("c1", "token create --role coordinator");
    let (program_there, address) = (program.display(), rack.address("c2"));
    let join = line.trim().strip_prefix("fctl").unwrap();
    rack.on("c2", &format!("{program_there}{join} --address {address}:7400 && rm -r /var/lib/flowyard"));
    // A node was being removed when Terraform was killed, and stays after all.
    rack.fctl("c1", "node drain n1 --reason 'it is removed' --wait");
    std::os::unix::fs::symlink(ended_process(), rack.path(".flowyard-lab.lock.pid")).unwrap();
    rack.want(&[rack.coordinator("c1"), rack.coordinator("c2"), node.clone()], &program);
    let said = rack.apply();
    assert!(
        said.contains("was let in and never came; it is taken out") && said.contains("node n1 takes work"),
        "{said}"
    );
    let members = rack.json("c1", "cluster status")["members"].as_array().unwrap().clone();
    assert_eq!(members.iter().map(|member| &member["votes"]).collect::<Vec<_>>(), [true, true]);
    assert_eq!(rack.json("c1", "nodes")["nodes"][0]["scheduling"], "open");

    // What somebody else has closed stays closed.
    rack.fctl("c1", "node cordon n1 --reason 'a new disk'");
    rack.on("c1", "sh /usr/local/lib/flowyard/host.sh drain n1 1s");
    rack.terraform_ok(&["apply", "-auto-approve", "-no-color", "-replace=module.cluster.terraform_data.cluster"]);
    assert_eq!(rack.json("c1", "nodes")["nodes"][0]["scheduling"], "drained");
    two_bad_programs_leave_the_way_back(&rack);
    named("other");
    refused(
        &rack,
        "c1 has a coordinator of a cluster that is called lab, not other; if nothing of it is needed any more,",
    );
    named("lab");
    earlier_epochs_are_refused(&rack);
    a_host_is_taken_out_by_what_it_is(&rack, &node, &program);
    nodes_of_another_cluster_are_refused(&rack, &program);
}

/// The number of a process that has ended.
fn ended_process() -> String {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id().to_string()
}

fn two_bad_programs_leave_the_way_back(rack: &Rack) {
    let good = rack.on("c1", "sha256sum </usr/local/bin/fctl");
    for bad in ["one", "two"] {
        let place = "sh /usr/local/lib/flowyard/host.sh place $(sha256sum </tmp/bad | cut -d ' ' -f 1) </tmp/bad";
        rack.on("c1", &format!("cd /tmp; printf '#!/bin/sh\\n# {bad}\\n' >/tmp/bad; {place}; rm /tmp/bad"));
        assert_eq!(rack.on("c1", "sha256sum </usr/local/bin/fctl.previous"), good, "after {bad}");
    }
    rack.on("c1", "mv /usr/local/bin/fctl.previous /usr/local/bin/fctl");
}

/// The next apply fails, and says why.
fn refused(rack: &Rack, words: &str) {
    let out = rack.terraform(&["apply", "-auto-approve", "-no-color"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(!out.status.success() && said.contains(words), "{words}: {said}");
}

/// As after c1 was told to go on alone: what c2 kept is of the history before that.
fn earlier_epochs_are_refused(rack: &Rack) {
    let epoch = |from: u32, to: u32| {
        let settings = "/var/lib/flowyard/coordinator/coordinator.toml";
        rack.on("c1", &format!("sed -i 's/^epoch = {from}$/epoch = {to}/' {settings}"));
    };
    epoch(0, 1);
    refused(rack, "c2 has a coordinator of epoch 0, and the cluster is in epoch 1: it must not be started again");
    epoch(1, 0);
}

/// Its address in the list was changed before it was taken out of the list.
fn a_host_is_taken_out_by_what_it_is(rack: &Rack, node: &Value, program: &Path) {
    let moved = json!({ "name": "c2", "role": "coordinator", "ssh": "c2", "address": "10.77.0.99" });
    rack.want(&[rack.coordinator("c1"), moved, node.clone()], program);
    refused(rack, "the coordinator on c2 is reached at");
    rack.want(&[rack.coordinator("c1"), node.clone()], program);
    let said = rack.apply();
    assert!(said.contains("is out, for good") && said.contains("c2: is no coordinator any more"), "{said}");
    assert_eq!(rack.json("c1", "cluster status")["members"].as_array().unwrap().len(), 1);
}

fn nodes_of_another_cluster_are_refused(rack: &Rack, program: &Path) {
    let other_labels = json!({ "name": "n1", "role": "agent", "ssh": "c1", "labels": { "kind": "bare" } });
    rack.want(&[rack.coordinator("c1"), other_labels], program);
    rack.services();
    rack.on("c1", "sh /usr/local/lib/flowyard/host.sh clear coordinator");
    refused(rack, ", of which none of these hosts is a coordinator; if nothing of it is needed any more, on n1:");
    let started: Vec<String> = rack.services().into_iter().filter(|line| line.contains("start")).collect();
    assert!(started.is_empty(), "nothing was begun: {started:?}");
}

/// The module's lock, taken by several at once from one who is dead.
#[test]
fn one_script_at_a_time_changes_a_cluster_also_after_one_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    std::os::unix::fs::symlink(ended_process(), folder.path().join("lock.pid")).unwrap();
    let script =
        ". \"$(dirname \"$0\")/lib.sh\"; lock; mkdir \"$1\"; sleep 0.05; rmdir \"$1\"; echo once >>\"$1.done\"";
    let inside = folder.path().join("inside");
    let start = |_| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).arg(format!("{ROOT}/deploy/terraform/bare-metal/scripts/sh")).arg(&inside);
        command.env("FLOWYARD_LOCK", &lock).spawn().unwrap()
    };
    let all: Vec<std::process::Child> = (0..8).map(start).collect();
    for mut one in all {
        assert!(one.wait().unwrap().success(), "two were in it at the same time");
    }
    assert_eq!(fs::read_to_string(folder.path().join("inside.done")).unwrap().lines().count(), 8);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["inside.done"]);
}

/// Stands for ssh: writes down whom it is told to reach and what to run there. Hosts have nothing, and none can form a cluster.
const SSH: &str = "#!/bin/sh\necho \"$*\" >>\"${0%/*}/asked\"\ncase $* in *\"'form'\"*) exit 1 ;; esac\n";

#[test]
fn hundreds_of_hosts_are_asked_and_addresses_may_be_of_ipv6() {
    if std::process::Command::new("terraform").arg("-version").output().is_err() {
        return flowyard_skip::skip("terraform is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let first = json!({ "name": "c1", "role": "coordinator", "ssh": "[fd00::1]" });
    // More than one variable of the environment can hold.
    let agents = (1..=110).map(|number| {
        json!({ "name": format!("h{number}"), "role": "agent", "ssh": format!("h{number}"), "labels": { "long": "x".repeat(1_000) } })
    });
    let hosts: Vec<Value> = std::iter::once(first).chain(agents).collect();
    fs::write(at("terraform.tfvars.json"), json!({ "hosts": hosts, "program": at("ssh") }).to_string()).unwrap();
    fs::write(at("main.tf"), configuration(Path::new(""), "lab")).unwrap();
    fs::write(at("cli.tfrc"), SETTINGS).unwrap();
    fs::write(at("ssh"), SSH).unwrap();
    fs::set_permissions(at("ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let terraform = |args: &[&str]| {
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = std::process::Command::new("terraform");
        command.args(args).current_dir(folder.path()).env("PATH", path).env("TF_CLI_CONFIG_FILE", at("cli.tfrc"));
        command.output().unwrap()
    };
    assert!(terraform(&["init", "-no-color"]).status.success());
    let out = terraform(&["apply", "-auto-approve", "-no-color"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("c1: forms cluster lab"), "{said}{}", String::from_utf8_lossy(&out.stderr));
    let asked = fs::read_to_string(at("asked")).unwrap();
    assert!((1..=110).all(|number| asked.contains(&format!("-l root h{number} "))), "{asked}");
    assert!(asked.contains("-l root fd00::1 ") && asked.contains("'form' 'lab' '[fd00::1]:7400'"), "{asked}");
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
    let program = rack.program();
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
    let folder = rack.program().parent().unwrap().display().to_string();
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
        "config.toml\nfirst-boot.env\nfirst-boot.sh\nhost.sh\nplaced\nwell\n"
    );
    // What was run once may be run again.
    rack.on("n1", "sh /usr/local/lib/flowyard/first-boot.sh");
    assert_eq!(rack.services(), ["c1 start coordinator", "n1 start agent"]);
    server.kill().unwrap();
    server.wait().unwrap();
}
