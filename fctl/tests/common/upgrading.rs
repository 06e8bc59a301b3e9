//! A running cluster is upgraded as an operator does it: coordinators one by one, then agents under what they run.

use std::path::{Path, PathBuf};

use super::fleet::Fleet;
use super::{Running, until};

/// What a task waits for, so that it lasts as long as the upgrade.
const WAITS: &str = "echo begun; while [ ! -e /tmp/gate ]; do sleep 0.1; done; echo ended";

/// The program that the cluster is upgraded to.
pub struct Next<'a> {
    pub program: &'a Path,
    /// Whether it is another release, which knows the next cluster version.
    pub is_release: bool,
}

/// Three coordinators and two agents of the program under test.
pub fn fleet() -> Fleet {
    let mut fleet = Fleet::formed(None);
    fleet.grow();
    fleet.grow();
    fleet.add_agent("n1");
    fleet.add_agent("n2");
    until("both nodes", || fleet.yard.json(&["nodes", &fleet.owner(0)])["nodes"].as_array().unwrap().len() == 2);
    let ann = fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    fleet.log_in(&ann);
    fleet
}

/// Tasks that run until their gates are opened; one of them must not run twice.
pub fn submit_long_ones(fleet: &Fleet) -> Vec<String> {
    let submit = |rule: &str| {
        let words = ["submit", "--on-disconnect", rule, "--cpu", "0.1", "--output", "out=out.txt", "--", "sh", "-c"];
        let script = format!("{WAITS}; echo kept > out.txt");
        fleet.yard.json(&[&words[..], &[&script]].concat())["job"].to_string()
    };
    let jobs: Vec<String> = ["keep", "stop", "keep"].map(submit).into();
    jobs.iter().for_each(|job| fleet.yard.wait_running(job, &[]));
    jobs
}

/// The cluster's version, as coordinator 0 tells it.
pub fn version(fleet: &Fleet) -> u64 {
    fleet.yard.json(&["cluster", "status", &fleet.owner(0)])["version"].as_u64().unwrap()
}

/// The releases that all coordinators say they are of; none while one is silent.
fn releases(fleet: &Fleet) -> Vec<String> {
    let about = |member: &serde_json::Value| member["about"]["release"].as_str().map(str::to_owned);
    fleet.members().iter().map(about).collect::<Option<_>>().unwrap_or_default()
}

/// Waits until the leader has heard of all coordinators which release they are of. It has decided on the version by then.
pub fn until_releases(fleet: &Fleet, expected: [&str; 3]) {
    until("every coordinator to say its release", || {
        let mut releases = releases(fleet);
        releases.sort();
        releases == expected
    });
}

/// Stops a coordinator in order once that is safe, and starts it with another program.
pub fn upgrade_coordinator(fleet: &mut Fleet, number: usize, program: &Path) {
    fleet.yard.ok(&["cluster", "check", "--wait", "50s", &fleet.owner(number)]);
    let stopped = fleet.coordinators[number].take().map(Running::interrupt).expect("it runs");
    assert_eq!(stopped.code(), 0, "{stopped:#?}");
    fleet.yard.run_with(program);
    fleet.run_coordinator(number);
}

/// Work of the cluster as it is now, from a client of this program.
pub fn works(fleet: &mut Fleet, client: &Path) {
    fleet.yard.run_with(client);
    let ran = fleet.yard.run(&["submit", "--wait", "--cpu", "0.1", "--", "echo", "still at work"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let jobs = fleet.yard.json(&["jobs"])["jobs"].as_array().unwrap().clone();
    let last = jobs.iter().filter_map(|job| job["job"].as_u64()).max().unwrap().to_string();
    assert_eq!(fleet.yard.ok(&["logs", &last]), "still at work\n");
}

/// Replaces the program of an agent under what it runs.
pub fn upgrade_agent(fleet: &mut Fleet, number: usize, program: &Path) {
    let stopped = fleet.agents[number].1.take().map(Running::interrupt).expect("it runs");
    assert_eq!(stopped.code(), 0, "{stopped:#?}");
    fleet.yard.run_with(program);
    fleet.run_agent(number);
    let back = |node: &serde_json::Value| node["connected"] == true;
    let owner = fleet.owner(0);
    until("its session", || fleet.yard.json(&["nodes", &owner])["nodes"].as_array().unwrap().iter().all(back));
}

/// Opens the gates: everything that ran through the upgrade ends well, in its first attempt, with every line.
pub fn end_long_ones(fleet: &Fleet, jobs: &[String]) {
    for job in jobs {
        fleet.yard.run(&["exec", job, "--", "touch", "/tmp/gate"]).has_opened();
        assert_eq!(fleet.yard.run(&["wait", job]).code(), 0, "job {job}");
        assert_eq!(fleet.yard.ok(&["logs", job]), "begun\nended\n");
        assert_eq!(fleet.yard.ok(&["artifact", "cat", job, "out"]), "kept\n");
        let attempts = fleet.yard.json(&["show", job])["tasks_shown"][0]["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, 1, "job {job} ran on");
    }
}

/// The settings of a coordinator, with this line among the first or without.
pub fn set_line(fleet: &Fleet, number: usize, line: &str, there: bool) {
    let path = PathBuf::from(fleet.at(&format!("c{number}"))).join("coordinator.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let without = text.replace(&format!("{line}\n"), "");
    let text = if there { without.replace("\n[api]", &format!("\n{line}\n\n[api]")) } else { without };
    std::fs::write(&path, text).unwrap();
}

/// The whole of it. What is asked for stands on work that goes on meanwhile, and on clients of both programs.
pub fn upgrade(fleet: &mut Fleet, next: &Next<'_>) {
    let old = super::program();
    let long = submit_long_ones(fleet);
    let before = version(fleet);
    for number in 0..3 {
        upgrade_coordinator(fleet, number, next.program);
        // Old and new coordinators side by side serve old and new clients, and agents that are old.
        works(fleet, if number == 1 { next.program } else { &old });
        if next.is_release && number < 2 {
            assert_eq!(version(fleet), before, "a coordinator is left that does not know the next version");
        }
    }
    if next.is_release {
        until("the cluster's version to be raised", || version(fleet) == before + 1);
    }
    for number in 0..fleet.agents.len() {
        works(fleet, next.program);
        upgrade_agent(fleet, number, next.program);
    }
    works(fleet, &old);
    fleet.yard.run_with(next.program);
    end_long_ones(fleet, &long);
}
