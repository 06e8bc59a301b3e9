//! The quick start for operators, typed as `docs/fleet.md` has it into three hosts; and the loss of the coordinator that leads while a flow
//! runs, which changes nothing about the flow's result.

mod common;
#[path = "quick_start/document.rs"]
mod document;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::Command;

use common::network::Network;
use common::{Ran, Running, Yard, is_root, program, until};
use document::{Typed, blocks, likewise, section};
use flowyard_clock::wall_ms;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const HOST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/quick_start/host.sh");
const HOSTS: [&str; 3] = ["c1", "c2", "c3"];
/// Where the document leaves the choice.
const ANNS: &str = "c3";
/// A parameter of the flow that is documented in it, and makes it shorter.
const SHORTER: &str = " -P folds=2";
/// What the flow's last step prints where nothing disturbs it: `fctl submit --local examples/iris/flow.toml -P folds=2; fctl logs 1/pick`.
const RESULT: &str = include_str!("quick_start/result.txt");

/// Three hosts, and what was typed on them.
struct Desk {
    network: Network,
    yard: Yard,
    /// First processes, by host.
    hosts: BTreeMap<String, Running>,
    /// What runs in the foreground of a terminal, by host and part.
    services: BTreeMap<(String, String), Running>,
    /// The last line that a command printed on its own.
    printed: String,
}

impl Desk {
    fn of(network: Network) -> Self {
        let yard = Yard::new();
        fs::create_dir_all(yard.home()).unwrap();
        let lines = HOSTS.map(|host| format!("{} {host}\n", network.address(host)));
        fs::write(yard.home().join("hosts"), format!("127.0.0.1 localhost\n{}", lines.concat())).unwrap();
        let mut desk =
            Self { network, yard, hosts: BTreeMap::new(), services: BTreeMap::new(), printed: String::new() };
        HOSTS.iter().for_each(|host| desk.switch_on(host));
        desk
    }

    fn switch_on(&mut self, host: &str) {
        let home = self.yard.home();
        fs::create_dir_all(home.join(host)).unwrap();
        let mut command = Command::new("setpriv");
        // It ends with the test, however that ends.
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--uts", "sh", HOST, host]).arg(&home);
        let mut running = self.yard.start_command(self.network.on(host, &command));
        running.wait_until("the host to be up", |_| home.join(format!("{host}.on")).exists());
        self.hosts.insert(host.to_owned(), running);
    }

    /// A line as a shell of a host takes it, in a checkout of the repository.
    fn shell(&self, host: &str, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        let first = self.hosts[host].pid().to_string();
        command.args(["--target", &first, "--mount", "--uts", "--net", "--", "sh", "-c"]);
        command.arg(format!("cd '{ROOT}' && {line}"));
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", program().parent().unwrap().display());
        command.env_clear().env("PATH", path).env("HOME", self.yard.home().join(format!("{host}.home")));
        command.stdin(std::process::Stdio::null());
        command
    }

    fn start(&self, host: &str, line: &str) -> Running {
        self.yard.start_command(self.shell(host, line))
    }

    fn ok(&self, host: &str, line: &str) -> String {
        let ran = self.start(host, line).wait();
        assert_eq!(ran.code(), 0, "on {host}: {line}: {ran:#?}");
        ran.stdout
    }

    fn json(&self, host: &str, line: &str) -> Value {
        serde_json::from_str(&self.ok(host, &format!("{line} -o json"))).unwrap()
    }

    /// Types one command of the document.
    fn type_in(&mut self, typed: &Typed) {
        let host = if typed.host == "ann's machine" { ANNS } else { &typed.host };
        assert!(HOSTS.contains(&host), "there is no host {host}");
        let words: Vec<&str> = typed.command.split(' ').collect();
        match words[..] {
            ["fctl", part, "run"] => {
                let mut running = self.start(host, &format!("exec {}", typed.command));
                running.wait_until("it to run", |it| it.stderr().contains(" runs; "));
                self.services.insert((host.to_owned(), part.to_owned()), running);
            }
            ["fctl", _, "join", ..] => {
                let line = self.line_that_was_printed(&typed.command);
                self.ok(host, &line);
            }
            ["fctl", "login"] => self.log_in(host),
            ["fctl", "submit", ..] => drop(self.ok(host, &(typed.command.clone() + SHORTER))),
            ["fctl", ..] => self.printed = self.ok(host, &typed.command).trim().to_owned(),
            _ => panic!("`{}` is no command of the program", typed.command),
        }
    }

    /// What the document has with `fyt1-...` is what was printed, with more words at its end.
    fn line_that_was_printed(&self, written: &str) -> String {
        let (before, after) = written.split_once("fyt1-...").expect("a line with a token");
        assert!(self.printed.starts_with(&format!("{before}fyt1-")), "`{}` was printed, not `{before}`", self.printed);
        format!("{}{after}", self.printed)
    }

    fn log_in(&self, host: &str) {
        let pasted = self.yard.write("pasted", &self.printed);
        let mut command = self.shell(host, "fctl login");
        command.stdin(File::open(pasted).unwrap());
        let ran: Ran = self.yard.start_command(command).wait();
        assert_eq!((ran.code(), ran.stdout.as_str()), (0, "commands use cluster lab from now on\n"), "{ran:#?}");
    }

    /// A host with a coordinator that runs.
    fn answers(&self) -> &str {
        let running = self.services.keys().find(|(_, part)| part == "coordinator");
        &running.expect("a coordinator").0
    }

    /// The hosts of the coordinators that lead, or that vote.
    fn members(&self, role: &str) -> Vec<String> {
        let status = self.json(self.answers(), "fctl cluster status");
        let members = status["members"].as_array().unwrap().iter().filter(|member| member[role] == true);
        members.map(|member| member["address"].as_str().unwrap().replace(":7400", "")).collect()
    }

    /// How many tasks of a step of the job run.
    fn active(&self, step: &str) -> u64 {
        let shown = self.json(ANNS, "fctl show 1");
        let steps = shown["steps"].as_array().unwrap();
        steps.iter().find(|one| one["name"] == step).and_then(|step| step["tasks"]["active"].as_u64()).unwrap_or(0)
    }

    /// The attempts of each task of the job.
    fn attempts(&self) -> Vec<Vec<Value>> {
        let shown = self.json(ANNS, "fctl show 1");
        let of_task = |task: &Value| task["attempts"].as_array().unwrap().clone();
        shown["tasks_shown"].as_array().unwrap().iter().map(of_task).collect()
    }
}

/// Hosts, where the machine can have them.
fn desk() -> Option<Desk> {
    if !is_root() {
        flowyard_skip::skip("hosts with networks of their own need root");
        return None;
    }
    let network = Network::of(&HOSTS);
    network.inspect_err(|reason| flowyard_skip::skip(reason)).ok().map(Desk::of)
}

/// What the document shows below `$ fctl cluster status` has these columns.
fn status_is_as_shown(desk: &Desk, section: &str) {
    let shown = section.split_once("$ fctl cluster status\n").expect("it is shown").1;
    let columns = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("COORDINATOR")).expect("a heading").to_owned();
        line.split("  ").map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(columns(&desk.ok("c2", "fctl cluster status")), columns(shown));
}

#[test]
fn the_quick_start_as_it_stands_gives_a_cluster_that_survives_its_leader_in_the_middle_of_a_flow() {
    let Some(mut desk) = desk() else { return };
    let document = fs::read_to_string(format!("{ROOT}/docs/fleet.md")).unwrap();
    let section = section(&document, "Form it");
    let blocks = blocks(section);
    let (last, forming) = blocks.split_last().expect("commands");
    for block in forming {
        block.iter().for_each(|typed| desk.type_in(typed));
        // "Do the same for `c3`".
        if block.iter().any(|typed| typed.host == "c2") {
            likewise(block, "c2", "c3").iter().for_each(|typed| desk.type_in(typed));
        }
    }
    last.iter().for_each(|typed| desk.type_in(typed));
    let parts: Vec<String> = desk.services.keys().map(|(host, part)| format!("{host} {part}")).collect();
    assert_eq!(parts, ["c1 coordinator", "c2 agent", "c2 coordinator", "c3 agent", "c3 coordinator"]);
    until("all coordinators to vote", || desk.members("votes") == HOSTS);
    status_is_as_shown(&desk, section);

    let waiting = desk.start(ANNS, "exec fctl wait 1");
    let leader = desk.members("leads").remove(0);
    until("models to be trained", || desk.active("train") > 0);
    let killed_ms = wall_ms();
    desk.services.remove(&(leader.clone(), "coordinator".to_owned())).expect("it runs").kill();
    let ran = waiting.wait();
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert_eq!(desk.ok(ANNS, "fctl logs 1/pick"), RESULT);
    let attempts = desk.attempts();
    assert_eq!(attempts.iter().map(Vec::len).collect::<Vec<_>>(), [1; 14], "nothing was run again");
    let at = |attempt: &Value, when: &str| attempt["times"][when].as_u64().expect("a time");
    let went_on = |attempt: &&Value| at(attempt, "placed_ms") < killed_ms && killed_ms < at(attempt, "ended_ms");
    assert!(attempts.iter().flatten().find(went_on).is_some(), "it was killed in the middle: {attempts:#?}");
    assert!(desk.members("leads").iter().all(|host| *host != leader));
}

#[test]
fn a_block_says_where_each_of_its_commands_is_typed() {
    let text = "\n## One\n\n    # on a\n    x y\n    # on b\n    z\n\nwords\n\n    # instead of x\n    w\n\n## Two\n\n    # on c\n    v\n";
    let typed = |host: &str, command: &str| Typed { host: host.to_owned(), command: command.to_owned() };
    assert_eq!(blocks(section(text, "One")), [vec![typed("a", "x y"), typed("b", "z")]]);
    assert_eq!(likewise(&[typed("b", "z b:1")], "b", "c"), [typed("c", "z c:1")]);
}
