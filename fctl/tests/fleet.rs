//! A cluster of machines, as far as one machine can be several: three coordinators and two agents, each a process with a folder and
//! ports of its own, formed by the commands that an operator types.

mod common;

use std::collections::BTreeSet;

use common::fleet::Fleet;
use common::{Yard, until, upgrading};

/// Every attempt of every task of a job, and how many lines its tasks printed.
fn attempts(yard: &Yard, job: &str) -> Vec<usize> {
    let shown = yard.json(&["show", job]);
    let tasks = shown["tasks_shown"].as_array().unwrap().clone();
    tasks.iter().map(|task| task["attempts"].as_array().unwrap().len()).collect()
}

#[test]
fn three_coordinators_and_two_agents_lose_nothing_when_their_leader_and_an_agent_are_killed() {
    let mut fleet = Fleet::formed(None);
    fleet.grow();
    fleet.grow();
    fleet.add_agent("n1");
    fleet.add_agent("n2");
    let ann = fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    fleet.log_in(&ann);
    until("both nodes", || fleet.yard.json(&["nodes"])["nodes"].as_array().unwrap().len() == 2);
    // Its input travels from the client to the coordinators, to an agent, and back.
    fleet.yard.write("words.txt", "one two three\n");
    let copy = ["--input", "words=./words.txt", "--output", "out=out.txt", "--cpu", "0.1"];
    let copied = ["submit", "--wait", "--", "sh", "-c", "tr a-z A-Z < $FLOWYARD_INPUT_WORDS > out.txt; id -u"];
    let ran = fleet.yard.run(&[&copied[..2], &copy, &copied[2..]].concat());
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert_eq!(fleet.yard.ok(&["artifact", "cat", "1", "out"]), "ONE TWO THREE\n");
    assert_ne!(fleet.yard.ok(&["logs", "1"]).trim(), "0", "a task is not the machine's root");
    let owner = fleet.yard.json(&["show", "1"])["owner"].clone();
    assert_eq!(owner, "ann");

    // The leader is killed while tasks run and a client follows them.
    let script = "for i in 1 2 3 4 5 6 7 8; do echo $FLOWYARD_ITEM.$i; sleep 0.5; done";
    let many =
        ["submit", "--wait", "--follow", "--array", "0-3", "--cpu", "0.1", "--name", "many", "--", "sh", "-c", script];
    let following = fleet.yard.start(&many);
    until("all to run", || fleet.yard.run(&["show", "2"]).stdout.contains("4 active"));
    let leader = fleet.kill_leader();
    let ran = following.wait();
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let lines: Vec<&str> = ran.stdout.lines().filter_map(|line| line.split(" | ").last()).collect();
    let expected: BTreeSet<String> = (0..4).flat_map(|item| (1..9).map(move |i| format!("{item}.{i}"))).collect();
    assert_eq!(lines.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), expected, "{ran:#?}");
    assert_eq!(lines.len(), 32, "no line twice: {ran:#?}");
    assert_eq!(attempts(&fleet.yard, "2"), [1; 4], "nothing was run twice");
    fleet.run_coordinator(leader);
    until("it to answer again", || fleet.members().iter().all(|member| !member["about"].is_null()));

    // An agent is killed while its task runs; the next one takes the task up.
    let open = ["submit", "--on-disconnect", "keep", "--cpu", "0.1", "--name", "kept", "--", "sh", "-c"];
    let waits = "echo begun; while [ ! -e /tmp/gate ]; do sleep 0.1; done; echo ended";
    fleet.yard.ok(&[&open[..], &[waits]].concat());
    fleet.yard.wait_running("3", &[]);
    let shown = fleet.yard.json(&["show", "3"]);
    let node = shown["tasks_shown"][0]["attempts"][0]["node"].as_str().expect("a node").to_owned();
    let number = fleet.agents.iter().position(|(name, _)| *name == node).expect("an agent");
    fleet.agents[number].1.take().expect("it runs").kill();
    fleet.run_agent(number);
    let back = |node: &serde_json::Value| node["connected"] == true;
    until("its session", || fleet.yard.json(&["nodes"])["nodes"].as_array().unwrap().iter().all(back));
    fleet.yard.run(&["exec", "3", "--", "touch", "/tmp/gate"]).has_opened();
    assert_eq!(fleet.yard.run(&["wait", "3"]).code(), 0);
    assert_eq!(fleet.yard.ok(&["logs", "3"]), "begun\nended\n");
    assert_eq!(attempts(&fleet.yard, "3"), [1], "it was adopted");
    fleet.stop();
}

#[test]
fn a_cluster_is_reached_by_ipv6_and_so_are_its_parts_by_each_other() {
    let Some(mut fleet) = Fleet::over_ipv6() else { return };
    fleet.grow();
    fleet.grow();
    fleet.add_agent("n1");
    let ann = fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    fleet.log_in(&ann);
    assert!(fleet.members().iter().all(|member| member["address"].as_str().unwrap().starts_with("[::1]:")));
    fleet.yard.write("words.txt", "one two\n");
    let copy = "cat $FLOWYARD_INPUT_WORDS > out.txt; echo copied";
    let asked = ["submit", "--wait", "--input", "words=./words.txt", "--output", "out=out.txt", "--cpu", "0.1"];
    for job in ["1", "2"] {
        let ran = fleet.yard.run(&[&asked[..], &["--", "sh", "-c", copy]].concat());
        assert_eq!(ran.code(), 0, "{ran:#?}");
        assert_eq!(fleet.yard.ok(&["logs", job]), "copied\n");
        assert_eq!(fleet.yard.ok(&["artifact", "cat", job, "out"]), "one two\n");
        if job == "1" {
            fleet.kill_leader();
        }
    }
    fleet.stop();
}

/// The program's file is replaced under a running cluster. With another release, and its version, `cargo xtask upgrade-test` does the same.
#[test]
fn a_running_cluster_is_upgraded_one_by_one_and_nothing_that_runs_notices() {
    let mut fleet = upgrading::fleet();
    let next = fleet.yard.folder().join("fctl");
    std::fs::copy(common::program(), &next).unwrap();
    // Two are too few to stop one of, and that is said.
    let stopped = fleet.coordinators[2].take().map(common::Running::interrupt).unwrap();
    assert_eq!(stopped.code(), 0, "{stopped:#?}");
    let owner = fleet.owner(0);
    until("its silence to be noticed", || fleet.members().iter().any(|member| member["about"].is_null()));
    fleet.yard.refused(
        112,
        &["no coordinator should be stopped now", "does not answer"],
        &["cluster", "check", &owner],
    );
    fleet.run_coordinator(2);
    upgrading::upgrade(&mut fleet, &upgrading::Next { program: &next, is_release: false });
    fleet.stop();
}

#[test]
fn nobody_comes_in_uninvited_and_each_refusal_says_what_to_do() {
    let mut fleet = Fleet::formed(None);
    let yard = &fleet.yard;
    let (folder, other) = (fleet.at("c0"), fleet.at("other"));
    yard.refused(
        118,
        &["has a coordinator already", "fctl coordinator run"],
        &["coordinator", "init", "--cluster", "b", "--folder", &folder, "--address", "a:1"],
    );
    yard.refused(
        110,
        &["`a` is not an address", "HOST:PORT"],
        &["coordinator", "init", "--cluster", "b", "--folder", &other, "--address", "a"],
    );
    addresses_that_are_none_are_refused(yard, &other);
    yard.refused(118, &["has no coordinator", "fctl coordinator init"], &["coordinator", "run", "--folder", &other]);
    yard.refused(118, &["belongs to no cluster", "fctl agent join"], &["agent", "run", "--folder", &other]);
    yard.refused(110, &["the token", "fyt1-"], &["agent", "join", "nonsense", "--name", "n", "--folder", &other]);
    let owner = fleet.owner(0);
    yard.refused(110, &["--name", "whose"], &["token", "create", "--role", "viewer", &owner]);
    yard.refused(110, &["--queue"], &["token", "create", "--role", "submitter", "--name", "bob", &owner]);
    yard.refused(
        110,
        &["--queue", "leave it out"],
        &["token", "create", "--role", "admin", "--name", "bob", "--queue", "default", &owner],
    );
    let bob = ["token", "create", "--role", "submitter", "--name", "bob", "--queue", "lab/visoin", &owner];
    yard.refused(113, &["lab/visoin", "default"], &bob);
    yard.refused(112, &["at most 30 days"], &["token", "create", "--role", "agent", "--ttl", "31d", &owner]);
    yard.refused(113, &["there is no token 77"], &["token", "revoke", "77", &owner]);
    yard.refused(113, &["coordinator 9 is not a member", "fctl cluster status"], &["cluster", "promote", "9", &owner]);
    yard.refused(
        110,
        &["`x` is no number of a coordinator", "fctl cluster status"],
        &["cluster", "remove", "x", &owner],
    );
    yard.refused(112, &["only one that votes"], &["cluster", "remove", "1", &owner]);
    yard.refused(110, &["agent/NAME"], &["cluster", "revoke", "ann", &owner]);
    taken_address_costs_no_token(&fleet);
    // A join token is single-use, and no token of the API.
    let line = fleet.line("agent");
    let join = |name: &str| {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        yard.run(&[&line[..], &["--name", name, "--folder", &fleet.at(name)]].concat())
    };
    assert_eq!(join("n1").code(), 0);
    let spent = join("n2");
    assert_eq!(spent.code(), 118, "{spent:#?}");
    spent.says(&["did not let this machine in", "used as often as it may be"]);
    yard.refused(110, &["fya1-", "fctl token create"], &["login", line.last().unwrap()]);
    // What a viewer may not.
    let vic = fleet.token(&["--role", "viewer", "--name", "vic"]);
    fleet.log_in(&vic);
    yard.ok(&["jobs"]);
    yard.refused(112, &["vic (viewer) may not submit to queue `default`"], &["submit", "--", "true"]);
    yard.refused(112, &["may not see or change tokens", "an admin may"], &["token", "ls"]);
    let listed = yard.json(&["token", "ls", &owner])["tokens"].as_array().unwrap().clone();
    let number = listed.iter().find(|token| token["name"] == "vic").unwrap()["token"].to_string();
    yard.ok(&["token", "revoke", &number, &owner]);
    yard.refused(112, &["was revoked", "ask an administrator"], &["jobs"]);
    // A node that is shut out stays out.
    fleet.agents.push(("n1".to_owned(), None));
    fleet.run_agent(0);
    let connected = |fleet: &Fleet| fleet.yard.json(&["nodes", &fleet.owner(0)])["nodes"][0]["connected"].clone();
    until("the node to be connected", || connected(&fleet) == true);
    fleet.yard.ok(&["cluster", "revoke", "agent/n1", &owner]);
    until("the node to be cut off", || connected(&fleet) == false);
    fleet.stop();
}

fn addresses_that_are_none_are_refused(yard: &Yard, folder: &str) {
    let init = ["coordinator", "init", "--cluster", "b", "--folder", folder, "--address"];
    yard.refused(110, &["`http://a:1` is not an address", "HOST:PORT"], &[&init[..], &["http://a:1"]].concat());
    yard.refused(110, &["two ports"], &[&init[..], &["a:1", "--peer-address", "a:1"]].concat());
    yard.refused(
        110,
        &["write IP:PORT", "0.0.0.0 or [::]"],
        &[&init[..], &["a:1", "--listen", "localhost:1"]].concat(),
    );
}

/// Whoever mistypes an address is told, and may use the same line again.
fn taken_address_costs_no_token(fleet: &Fleet) {
    let taken = fleet.members()[0]["address"].as_str().unwrap().to_owned();
    let line = fleet.line("coordinator");
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let folder = fleet.at("mistyped");
    for _ in 0..2 {
        let join = [&line[..], &["--folder", &folder, "--address", &taken, "--peer-address", "127.0.0.1:1"]].concat();
        fleet.yard.refused(118, &[&format!("{taken} is an address of coordinator 1"), "fctl cluster remove 1"], &join);
    }
}

#[test]
fn the_service_manager_is_told_when_a_coordinator_is_ready_alive_and_stopping() {
    let mut fleet = Fleet::formed(None);
    drop(fleet.coordinators[0].take().map(common::Running::interrupt));
    let socket = fleet.yard.folder().join("notify.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut command = fleet.yard.command(&["coordinator", "run", "--folder", &fleet.at("c0")]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "300000");
    let running = fleet.yard.start_command(command);
    let heard = || {
        let mut bytes = [0; 4_096];
        let length = manager.recv(&mut bytes).expect("a word for the service manager");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let ready = heard();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=coordinator 1 of cluster lab"), "{ready}");
    for _ in 0..3 {
        assert!(heard().contains("WATCHDOG=1"));
    }
    assert_eq!(running.interrupt().code(), 0);
    while !heard().contains("STOPPING=1") {}
}

#[test]
fn unit_files_are_installed_for_this_program_and_pass_the_service_managers_own_check() {
    let yard = Yard::new();
    let units = yard.folder().display().to_string();
    let mut files = Vec::new();
    for service in ["coordinator", "agent"] {
        let ran = yard.run(&["install", service, "--folder", "/srv/yard", "--units", &units]);
        assert_eq!(ran.code(), 0, "{ran:#?}");
        ran.says(&["systemctl enable --now"]);
        let file = yard.folder().join(format!("flowyard-{service}.service"));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.contains(&format!("{} {service} run --folder /srv/yard\n", common::program().display())),
            "{text}"
        );
        files.push(file);
    }
    yard.refused(
        110,
        &["absolute path of letters"],
        &["install", "agent", "--folder", "/srv/a yard", "--units", &units],
    );
    let nowhere = yard.folder().join("nowhere").display().to_string();
    yard.refused(
        110,
        &["there is no folder", "nowhere for units", "--print"],
        &["install", "agent", "--units", &nowhere],
    );
    match std::process::Command::new("systemd-analyze").arg("verify").args(&files).output() {
        Ok(checked) => assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr)),
        Err(error) => flowyard_skip::skip(&format!("systemd-analyze cannot be run: {error}")),
    }
}
