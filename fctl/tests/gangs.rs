//! Gangs: tasks of several members that reach each other, on one machine and on two, and end as one.

mod common;

use common::fleet::Fleet;
use common::{Yard, until};
use serde_json::Value;

/// Rank 0 waits for a line of every other rank at the port it was given, then says to all that they may go.
const MEET: &str = r#"
import os, socket
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
where = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
mine = "%s of %s, %s of %s on node %s of %s" % tuple(os.environ["FLOWYARD_" + name] for name in
    ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "NODE_RANK", "NODES"))
said = [mine]
if rank == 0:
    server = socket.create_server(where, reuse_port=False)
    others = [server.accept()[0] for _ in range(size - 1)]
    said += [other.makefile().readline().strip() for other in others]
    for other in others:
        other.sendall(b"go\n")
    with open(os.environ["FLOWYARD_OUTPUT_MET"], "w") as out:
        out.write("\n".join(sorted(said)) + "\n" + open(os.environ["FLOWYARD_HOSTFILE"]).read())
else:
    for _ in range(600):
        try:
            rank0 = socket.create_connection(where, timeout=30)
            break
        except OSError:
            import time; time.sleep(0.05)
    rank0.sendall((mine + "\n").encode())
    assert rank0.makefile().readline() == "go\n"
print("rank", rank, "met the others")
"#;

fn flow(yard: &Yard, size: u32, more: &str) {
    yard.write("meet.py", MEET);
    let step =
        format!("code = \".\"\nrun = [\"python3\", \"meet.py\"]\noutputs = {{ met = \"met\" }}\ncpu = 1\n{more}");
    yard.write("flow.toml", format!("name = \"meet\"\n[steps.meet]\n{step}\ngang = {{ size = {size} }}\n"));
}

fn attempts(yard: &Yard, reference: &str, local: &[&str]) -> Vec<Value> {
    let shown = yard.json(&[&["show", reference], local].concat());
    shown["tasks_shown"][0]["attempts"].as_array().unwrap().clone()
}

#[test]
fn the_members_of_a_gang_meet_at_the_port_they_are_told() {
    let yard = Yard::new();
    yard.settings("[agent]\ncpu = \"4\"\n");
    for (job, size, isolation) in [("1", 2, "process"), ("2", 4, "container")] {
        flow(&yard, size, &format!("isolation = \"{isolation}\""));
        let ran = yard.run(&["submit", "--local", "flow.toml"]);
        assert_eq!(ran.code(), 0, "{ran:#?}");
        let met = yard.ok(&["artifact", "cat", &format!("{job}/meet"), "met", "--local"]);
        let ranks = (0..size).map(|rank| format!("{rank} of {size}, {rank} of {size} on node 0 of 1\n"));
        assert_eq!(met, ranks.collect::<String>() + &format!("127.0.0.1 slots={size}\n"));
        // Each member is shown, and has logs of its own.
        let shown = attempts(&yard, job, &["--local"]);
        assert_eq!(
            shown.iter().map(|one| one["rank"].as_u64().unwrap()).collect::<Vec<_>>(),
            (0..size.into()).collect::<Vec<u64>>()
        );
        let last = format!("{job}/meet/0#1.{}", size - 1);
        assert_eq!(yard.ok(&["logs", &last, "--local"]), format!("rank {} met the others\n", size - 1));
        let text = yard.ok(&["show", &format!("{job}/meet/0"), "--local"]);
        assert!(text.contains(&format!("{job}/meet/0#1.0")) && text.contains(&last), "{text}");
    }
    yard.nothing_is_left();
}

#[test]
fn a_gang_fails_as_one_and_is_tried_again_as_a_whole() {
    let yard = Yard::new();
    yard.settings("[agent]\ncpu = \"3\"\n");
    // The second member of the first attempt fails while the others would run for ever.
    let script = "[ $FLOWYARD_ATTEMPT = 2 ] && exit 0; [ $FLOWYARD_RANK = 1 ] && exit 7; sleep 1000";
    let step = format!(
        "run = [\"sh\", \"-c\", \"{script}\"]\nretry = {{ times = 1, backoff = \"0s\" }}\ngang = {{ size = 3 }}"
    );
    yard.write("flow.toml", format!("name = \"one\"\n[steps.one]\nisolation = \"process\"\n{step}\n"));
    let ran = yard.run(&["submit", "--local", "flow.toml"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let shown = attempts(&yard, "1", &["--local"]);
    let ends: Vec<_> =
        shown.iter().map(|one| (one["attempt"].as_u64().unwrap(), one["outcome"].as_str().unwrap())).collect();
    let (first, second) = (["stopped", "failed", "stopped"], ["succeeded"; 3]);
    let expected: Vec<_> = first.map(|end| (1, end)).into_iter().chain(second.map(|end| (2, end))).collect();
    assert_eq!(ends, expected, "{shown:#?}");
    yard.nothing_is_left();
}

#[test]
fn a_gang_that_could_never_be_is_refused_with_what_to_do() {
    let yard = Yard::new();
    yard.settings("[agent]\ncpu = \"3\"\n");
    let submit = |more: &str| {
        flow(&yard, 4, more);
        yard.run(&["submit", "--local", "flow.toml"])
    };
    let ran = submit("isolation = \"process\"");
    ran.says(&["4 times at once, for a gang"]);
    assert_ne!(ran.code(), 0, "{ran:#?}");
    submit("network = \"none\"").says(&["members of a gang must reach each other"]);
    flow(&yard, 1_001, "");
    yard.run(&["submit", "--local", "flow.toml"]).says(&["a whole number from 1 to 1000"]);
}

#[test]
fn a_gang_of_no_fixed_size_starts_with_as_many_as_there_is_room_for() {
    let yard = Yard::new();
    yard.settings("[agent]\ncpu = \"3\"\n");
    let step = "run = [\"sh\", \"-c\", \"echo $FLOWYARD_RANK of $FLOWYARD_SIZE\"]\nisolation = \"process\"\ncpu = 1";
    let flow = |least: u32| {
        let gang = format!("gang = {{ size = 8, min_size = {least} }}");
        yard.write("flow.toml", format!("name = \"few\"\n[steps.few]\n{step}\n{gang}\n"));
        yard.run(&["submit", "--local", "flow.toml"])
    };
    let ran = flow(2);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let said: String = (0..3).map(|rank| yard.ok(&["logs", &format!("1/few/0#1.{rank}"), "--local"])).collect();
    assert_eq!(said, "0 of 3\n1 of 3\n2 of 3\n");
    assert_eq!(attempts(&yard, "1", &["--local"]).len(), 3, "no more than there is room for");
    let refused = flow(4);
    assert_ne!(refused.code(), 0, "with fewer than its least it never starts: {refused:#?}");
    yard.nothing_is_left();
}

#[test]
fn a_gang_over_two_nodes_counts_its_ranks_through_them() {
    let mut fleet = Fleet::formed(None);
    fleet.add_agent_with("n1", "[agent]\ncpu = \"2\"\nfilter = false\ngang_ports = \"28500-28599\"\n");
    fleet.add_agent_with(
        "n2",
        "[agent]\ncpu = \"2\"\nfilter = false\naddress = \"localhost\"\ngang_ports = \"28600-28699\"\n",
    );
    let ann = fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    fleet.log_in(&ann);
    until("both nodes", || fleet.yard.json(&["nodes"])["nodes"].as_array().unwrap().len() == 2);
    flow(&fleet.yard, 4, "");
    let ran = fleet.yard.run(&["submit", "--wait", "flow.toml"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let met = fleet.yard.ok(&["artifact", "cat", "1/meet", "met"]);
    let places = [(0, 0), (1, 0), (0, 1), (1, 1)];
    let ranks =
        places.iter().enumerate().map(|(rank, (local, node))| format!("{rank} of 4, {local} of 2 on node {node} of 2"));
    let lines: Vec<&str> = met.lines().collect();
    assert_eq!(lines[..4], ranks.collect::<Vec<_>>()[..], "{met}");
    // By what each is reached: as it is configured, else as it reaches the coordinator.
    let mut hosts = lines[4..].to_vec();
    hosts.sort_unstable();
    assert_eq!(hosts, ["127.0.0.1 slots=2", "localhost slots=2"], "{met}");
    let nodes: Vec<_> =
        attempts(&fleet.yard, "1", &[]).iter().map(|one| one["node"].as_str().unwrap().to_owned()).collect();
    assert!(nodes[0] == nodes[1] && nodes[1] != nodes[2] && nodes[2] == nodes[3], "{nodes:?}");
    fleet.stop();
}

/// Rank 0 says which generations of its gang it saw, and goes once the other rank has come again; that one waits to be ended, the first time.
const GO_ON: &str = r#"
import json, os, sys, time
rank, begun = int(os.environ["FLOWYARD_RANK"]), int(os.environ["FLOWYARD_GANG_GENERATION"])
print("rank", rank, "began in generation", begun, "in attempt", os.environ["FLOWYARD_ATTEMPT"], flush=True)
if rank == 1 and begun == 0:
    time.sleep(1000)
while True:
    gang = json.load(open(os.environ["FLOWYARD_GANG_FILE"]))
    if gang["generation"] == 1:
        break
    time.sleep(0.1)
print("now", gang["size"], "on", [member["node"] for member in gang["members"]], flush=True)
if rank == 0:
    open(os.environ["FLOWYARD_OUTPUT_MET"], "w").write(str(os.getpid()))
"#;

#[test]
fn a_gang_goes_on_when_an_agent_is_killed_and_another_takes_its_member() {
    let mut fleet = Fleet::watching(None, "suspect = \"4s\"\ndown = \"20s\"\nlease = \"4s\"");
    for name in ["n1", "n2"] {
        fleet.add_agent_with(name, "[agent]\ncpu = \"1\"\nfilter = false\n");
    }
    let ann = fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    fleet.log_in(&ann);
    until("both nodes", || fleet.yard.json(&["nodes"])["nodes"].as_array().unwrap().len() == 2);
    fleet.yard.write("on.py", GO_ON);
    let step = "code = \".\"\nrun = [\"python3\", \"on.py\"]\noutputs = { met = \"met\" }\ncpu = 1\n";
    let gang = "gang = { size = 2, replace = { within = \"2m\" } }\n";
    fleet.yard.write("flow.toml", format!("name = \"on\"\n[steps.on]\n{step}{gang}"));
    fleet.yard.ok(&["submit", "flow.toml"]);
    let phases = |yard: &Yard| -> Vec<_> {
        attempts(yard, "1", &[]).iter().map(|one| one["phase"].as_str().unwrap().to_owned()).collect()
    };
    until("both members to run", || phases(&fleet.yard) == ["running", "running"]);
    let lost = attempts(&fleet.yard, "1", &[])[1]["node"].as_str().unwrap().to_owned();
    let number = usize::from(lost == "n2");
    fleet.agents[number].1.take().expect("it runs").kill();
    until("its node to be given up", || !attempts(&fleet.yard, "1", &[])[0]["repairing_until_ms"].is_null());
    assert_eq!(phases(&fleet.yard), ["running", "ended"], "the other goes on");
    fleet.add_agent_with("n3", "[agent]\ncpu = \"1\"\nfilter = false\n");
    let ran = fleet.yard.run(&["wait", "1"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    // One attempt, in which rank 1 was replaced.
    let shown = attempts(&fleet.yard, "1", &[]);
    let facts = |one: &Value| {
        (
            one["rank"].as_u64(),
            one["replaced"].as_bool(),
            one["attempt"].as_u64(),
            one["outcome"].as_str().map(str::to_owned),
        )
    };
    let end = |rank, replaced, outcome: &str| (Some(rank), Some(replaced), Some(1), Some(outcome.to_owned()));
    let expected = [end(1, true, "lost"), end(0, false, "succeeded"), end(1, false, "succeeded")];
    assert_eq!(shown.iter().map(facts).collect::<Vec<_>>(), expected, "{shown:#?}");
    assert_eq!(shown[2]["node"], "n3");
    let survivor = shown[1]["node"].as_str().unwrap();
    let first = fleet.yard.ok(&["logs", "1/on/0#1.0"]);
    assert_eq!(first, format!("rank 0 began in generation 0 in attempt 1\nnow 2 on ['{survivor}', 'n3']\n"));
    let second = fleet.yard.ok(&["logs", "1/on/0#1.1"]);
    assert_eq!(second, format!("rank 1 began in generation 1 in attempt 1\nnow 2 on ['{survivor}', 'n3']\n"));
    // What was replaced still waits beside its dead agent; the next one stops it.
    let waits = |yard: &Yard| yard.processes().iter().filter(|(_, line)| line.contains("flowyard-init")).count();
    assert_eq!(waits(&fleet.yard), 1, "{:#?}", fleet.yard.processes());
    fleet.run_agent(number);
    until("it to be stopped", || waits(&fleet.yard) == 0);
    fleet.stop();
}
