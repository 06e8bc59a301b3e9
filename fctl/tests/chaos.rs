//! Chaos: three coordinators and three agents as real processes on hosts with networks of their own. Processes are killed and
//! paused, cables pulled, directions cut, one node lost for good, while jobs are submitted. Afterwards every job that was acknowledged is there and has
//! succeeded, no task published twice, and nothing is left running.
//!
//! `FLOWYARD_CHAOS_SEED=7 FLOWYARD_CHAOS_SECONDS=600` chooses the faults and how long they last.
#![allow(clippy::print_stdout, reason = "whoever looks for a fault wants to know what was done")]

mod common;

use std::time::Duration;

use common::fleet::{CLIENT, Fleet};
use common::network::Network;
use common::{is_root, until};
use flowyard_clock::{elapsed, monotonic};
use nix::sys::signal::Signal;

/// The splitmix64 generator (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

const COORDINATORS: u64 = 3;
/// Agents that come back; one more is lost for good.
const AGENTS: u64 = 2;
const LOST: usize = 2;
/// A node is given up within the test.
const NODES: &str = "suspect = \"4s\"\ndown = \"20s\"\nlease = \"4s\"";

/// What is broken now. At most one coordinator is, so that a majority is left.
enum Broken {
    Coordinator(usize),
    PausedCoordinator(usize),
    CutCoordinator(usize),
    OneWay(usize, usize),
    Agent(usize),
    PausedAgent(usize),
    CutAgent(usize),
}

fn chaos(fleet: &mut Fleet, dice: &mut Dice) -> Broken {
    let (coordinator, agent) = (dice.roll(COORDINATORS) as usize, dice.roll(AGENTS) as usize);
    let network = fleet.network.as_ref().expect("a network");
    let (leader, node) = (format!("c{coordinator}"), format!("n{agent}"));
    match dice.roll(8) {
        0 | 1 => {
            fleet.coordinators[coordinator].take().expect("it runs").kill();
            println!("killed {leader}");
            Broken::Coordinator(coordinator)
        }
        2 => {
            fleet.coordinators[coordinator].as_ref().expect("it runs").signal(Signal::SIGSTOP);
            println!("paused {leader}");
            Broken::PausedCoordinator(coordinator)
        }
        3 => {
            network.connect(&leader, false);
            println!("cut {leader} off");
            Broken::CutCoordinator(coordinator)
        }
        4 => {
            let other = (coordinator + 1 + dice.roll(COORDINATORS - 1) as usize) % COORDINATORS as usize;
            network.reach(&leader, &format!("c{other}"), false);
            println!("c{other} hears nothing from {leader}");
            Broken::OneWay(coordinator, other)
        }
        5 => {
            fleet.agents[agent].1.take().expect("it runs").kill();
            println!("killed the agent of {node}");
            Broken::Agent(agent)
        }
        6 => {
            fleet.agents[agent].1.as_ref().expect("it runs").signal(Signal::SIGSTOP);
            println!("paused the agent of {node}");
            Broken::PausedAgent(agent)
        }
        _ => {
            network.connect(&node, false);
            println!("cut {node} off");
            Broken::CutAgent(agent)
        }
    }
}

fn heal(fleet: &mut Fleet, broken: &Broken) {
    let network = fleet.network.as_ref().expect("a network");
    match *broken {
        Broken::Coordinator(number) => fleet.run_coordinator(number),
        Broken::PausedCoordinator(number) => {
            fleet.coordinators[number].as_ref().expect("it runs").signal(Signal::SIGCONT);
        }
        Broken::CutCoordinator(number) => network.connect(&format!("c{number}"), true),
        Broken::OneWay(from, to) => network.reach(&format!("c{from}"), &format!("c{to}"), true),
        Broken::Agent(number) => fleet.run_agent(number),
        Broken::PausedAgent(number) => fleet.agents[number].1.as_ref().expect("it runs").signal(Signal::SIGCONT),
        Broken::CutAgent(number) => network.connect(&format!("n{number}"), true),
    }
}

/// The attempts of a job's tasks.
fn attempts(fleet: &Fleet, job: &str) -> Vec<serde_json::Value> {
    let shown = fleet.client(&["show", job, "-o", "json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    let tasks = shown["tasks_shown"].as_array().cloned().unwrap_or_default();
    tasks.iter().flat_map(|task| task["attempts"].as_array().cloned().unwrap_or_default()).collect()
}

/// Loses a node for good, while it runs a task of this job and key.
fn lose(fleet: &mut Fleet) -> (String, String) {
    let key = "while n2 is lost".to_owned();
    let mut job = None;
    until("a job", || {
        // More than two nodes of two CPUs hold, so that the third gets some.
        job = submit_tasks(fleet, &key, ["0-11", "0.4", "4"]);
        job.is_some()
    });
    let job = job.expect("it was just submitted");
    let on_it = |attempt: &serde_json::Value| attempt["node"] == "n2" && attempt["phase"] == "running";
    until("a task on n2", || attempts(fleet, &job).iter().any(on_it));
    // With what runs there, which nobody hears of any more.
    fleet.network.as_ref().expect("a network").connect("n2", false);
    fleet.agents[LOST].1.take().expect("it runs").kill();
    println!("lost n2 for good, with a task of job {job}");
    (key, job)
}

/// Submits a job under a key; its number, if the cluster said that it took it.
fn submit(fleet: &Fleet, key: &str) -> Option<String> {
    submit_tasks(fleet, key, ["0-2", "0.05", "0.3"])
}

fn submit_tasks(fleet: &Fleet, key: &str, [array, cpu, seconds]: [&str; 3]) -> Option<String> {
    let script = format!("echo $FLOWYARD_JOB.$FLOWYARD_ITEM > out; sleep {seconds}; echo done");
    let args = ["submit", "--key", key, "--array", array, "--cpu", cpu, "--memory", "32MiB", "--output", "out=out"];
    let ran = fleet.client(&[&args[..], &["--", "sh", "-c", &script]].concat());
    // A refusal would be a fault: the wish is good.
    assert!(matches!(ran.code(), 0 | 111), "{ran:#?}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let job = said.split("job ").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
    job.filter(|_| ran.code() == 0)
}

/// That the job succeeded, each of its tasks published once, and no retry was spent.
fn check(fleet: &Fleet, job: &str) {
    let ran = fleet.client(&["wait", job]);
    assert_eq!(ran.code(), 0, "job {job}: {ran:#?}");
    let shown = fleet.client(&["show", job, "-o", "json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let tasks = shown["tasks_shown"].as_array().unwrap();
    for task in tasks {
        let attempts = task["attempts"].as_array().unwrap();
        let ended_well = attempts.iter().filter(|attempt| attempt["outcome"] == "succeeded").count();
        assert_eq!(ended_well, 1, "a task of job {job} did not end well once: {task:#}");
    }
    let artifacts = fleet.client(&["artifact", "ls", job, "-o", "json"]).stdout;
    let artifacts: serde_json::Value = serde_json::from_str(&artifacts).unwrap();
    assert_eq!(artifacts["artifacts"].as_array().unwrap().len(), tasks.len(), "job {job} published {artifacts:#}");
}

#[test]
fn nothing_acknowledged_is_lost_whatever_is_killed_paused_or_cut_off() {
    if !is_root() {
        return flowyard_skip::skip("only root may make networks");
    }
    let hosts = ["c0", "c1", "c2", "n0", "n1", "n2", CLIENT];
    let network = match Network::of(&hosts) {
        Ok(network) => network,
        Err(reason) => return flowyard_skip::skip(&format!("no network can be made here: {reason}")),
    };
    let (seed, seconds) = (number("FLOWYARD_CHAOS_SEED", 1), number("FLOWYARD_CHAOS_SECONDS", 20));
    let mut dice = Dice(seed);
    let mut fleet = Fleet::watching(Some(network), NODES);
    fleet.grow();
    fleet.grow();
    for node in ["n0", "n1", "n2"] {
        fleet.add_agent(node);
    }
    let token = fleet.token(&["--role", "submitter", "--queue", "default", "--name", "ann"]);
    fleet.log_in(&token);
    let (start, mut taken, mut faults, mut unsaid) = (monotonic(), Vec::new(), 0, 0);
    while elapsed(start) < Duration::from_secs(seconds) {
        if elapsed(start) > Duration::from_secs(seconds / 3) && fleet.agents[LOST].1.is_some() {
            taken.push(lose(&mut fleet));
        }
        let broken = chaos(&mut fleet, &mut dice);
        faults += 1;
        let until_healed = Duration::from_millis(300 + dice.roll(2_500));
        let broke = monotonic();
        loop {
            let key = format!("k{}-{}", taken.len(), unsaid);
            match submit(&fleet, &key) {
                Some(job) => taken.push((key, job)),
                None => unsaid += 1,
            }
            if elapsed(broke) > until_healed {
                break;
            }
        }
        heal(&mut fleet, &broken);
        std::thread::sleep(Duration::from_millis(dice.roll(700)));
    }
    println!("seed {seed}: {faults} faults, {} jobs acknowledged, {unsaid} submissions not answered", taken.len());
    assert!(taken.len() > faults, "the cluster was of no use meanwhile");
    until("all coordinators to answer", || fleet.members().iter().all(|member| !member["about"].is_null()));
    let lost = taken.iter().find(|(key, _)| key.contains("lost")).expect("n2 was to be lost").1.clone();
    for (key, job) in &taken {
        if *job != lost {
            assert_eq!(submit(&fleet, key).as_ref(), Some(job), "the submission {key} became another job");
        }
        check(&fleet, job);
    }
    let ended = attempts(&fleet, &lost);
    let on_it: Vec<_> = ended.iter().filter(|attempt| attempt["outcome"] == "lost").collect();
    assert!(on_it.iter().any(|attempt| attempt["node"] == "n2"), "what ran on n2 was not given up: {ended:#?}");
    let revision = |member: &serde_json::Value| member["about"]["applied"].as_u64();
    until("all coordinators to know the same", || {
        let members = fleet.members();
        members.iter().all(|member| revision(member).is_some() && revision(member) >= revision(&members[0]))
    });
    fleet.stop();
}
