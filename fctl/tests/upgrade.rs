//! Upgrades between releases: a home that the release 0.1.0 wrote, with tasks that run, is taken over by this program; and a cluster of
//! this program, under running tasks, by the release after it, which knows the next cluster version.
//!
//! `cargo xtask upgrade-test` builds both and says where they are; the tests are run by it alone. 0.1.0 has no clusters of several
//! machines, so the release after stands for what an upgrade of one is: this tree with the next cluster version and another number.

mod common;

use std::path::PathBuf;

use common::upgrading::{self, Next};
use common::{Running, Yard, until};

/// The program of the release 0.1.0, and that of the release after this one.
const OLD: &str = "FLOWYARD_OLD_PROGRAM";
const NEXT: &str = "FLOWYARD_NEXT_PROGRAM";

fn built(name: &str) -> PathBuf {
    std::env::var_os(name).map(PathBuf::from).expect("`cargo xtask upgrade-test` builds it and says where it is")
}

fn submit(yard: &Yard, isolation: &str) -> String {
    let gate = yard.path("gate").display().to_string();
    let script = format!("echo begun; until [ -e {gate} ]; do sleep 0.1; done; echo ended > out.txt; echo ended");
    let work = yard.path("").display().to_string();
    let mount: &[&str] = if isolation == "container" { &["--mount", work.trim_end_matches('/')] } else { &[] };
    let submit = ["submit", "--isolation", isolation, "--cpu", "0.1", "--output", "out=out.txt"];
    yard.json(&[&submit[..], mount, &["--", "sh", "-c", &script]].concat())["job"].to_string()
}

/// What a client of either release asks the cluster of the other.
fn asks(yard: &Yard, done: &str) {
    assert_eq!(yard.ok(&["logs", done]), "done before\n");
    assert_eq!(yard.json(&["show", done])["outcome"], "succeeded");
    let ran = yard.run(&["submit", "--wait", "--cpu", "0.1", "--", "echo", "across releases"]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    assert!(yard.json(&["jobs"])["jobs"].as_array().is_some_and(|jobs| jobs.len() > 2));
}

#[test]
fn a_home_of_the_release_before_is_taken_over_with_what_runs_in_it() {
    let old = built(OLD);
    let mut yard = Yard::new();
    yard.settings(&format!("[agent]\nallow_mounts = [{:?}]\n", yard.path("")));
    yard.run_with(&old);
    let dev = yard.dev(&[]);
    let done = yard.json(&["submit", "--cpu", "0.1", "--", "echo", "done before"])["job"].to_string();
    assert_eq!(yard.run(&["wait", &done]).code(), 0);
    let jobs = ["container", "process"].map(|isolation| submit(&yard, isolation));
    jobs.iter().for_each(|job| yard.wait_running(job, &[]));
    // A client of this program is served by that cluster.
    yard.run_with(&common::program());
    asks(&yard, &done);
    yard.write("newer.toml", "name = \"newer\"\ndeadline = \"1h\"\n[steps.a]\nrun = [\"true\"]\n");
    yard.refused(112, &["of an older release", "deadlines", "upgrade it"], &["submit", "newer.toml"]);
    // Its agent and coordinator go; what runs goes on under its launcher.
    dev.kill();
    let dev = yard.dev(&[]);
    assert_eq!(yard.ok(&["logs", &done]), "done before\n", "what it kept is kept");
    // The launcher of before still serves.
    let signal = ["submit", "--wait", "newer.toml"];
    yard.write("newer.toml", "name = \"newer\"\n[steps.a]\nrun = [\"true\"]\nstop_signal = \"SIGINT\"\n");
    let asked = yard.run(&signal);
    assert_eq!(asked.code(), 1, "{asked:#?}");
    asked.says(&["neither secrets nor stop signals", "its launcher"]);
    yard.write("gate", "");
    for job in &jobs {
        assert_eq!(yard.run(&["wait", job]).code(), 0, "job {job}");
        assert_eq!(yard.ok(&["logs", job]), "begun\nended\n");
        assert_eq!(yard.ok(&["artifact", "cat", job, "out"]), "ended\n");
        let attempts = yard.json(&["show", job])["tasks_shown"][0]["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, 1, "job {job} was adopted");
    }
    // And a client of that release by this cluster.
    yard.run_with(&old);
    asks(&yard, &done);
    yard.run_with(&common::program());
    // A home has one coordinator, which waits for nobody's upgrade.
    assert_eq!(yard.json(&["cluster", "status"])["version"], 2);
    assert_eq!(dev.interrupt().code(), 0);
    // From then on the release before does not touch it.
    yard.run_with(&old);
    let before = yard.run(&["jobs", "--local"]);
    assert_ne!(before.code(), 0, "{before:#?}");
    assert!(before.stderr.contains("must be upgraded"), "{before:#?}");
    yard.run_with(&common::program());
    assert_eq!(yard.ok(&["logs", &done, "--local"]), "done before\n", "nothing is lost by it");
    until("nothing to run", || yard.processes().is_empty());
}

/// Whoever watches a job of a home that nobody serves runs its coordinator, and whoever waits for one its agent: so the two may be of
/// different releases.
#[test]
fn an_agent_of_the_release_before_works_for_this_coordinator() {
    let old = built(OLD);
    let mut yard = Yard::new();
    yard.run_with(&old);
    let dev = yard.dev(&[]);
    let [job, other] = ["gate", "other"].map(|gate| {
        let gate = yard.path(gate).display().to_string();
        let script = format!("until [ -e {gate} ]; do sleep 0.1; done; echo ended > out.txt; echo ended");
        let submit = ["submit", "--isolation", "process", "--cpu", "0.1", "--output", "out=out.txt", "--", "sh", "-c"];
        yard.json(&[&submit[..], &[&script]].concat())["job"].to_string()
    });
    assert_eq!(dev.interrupt().code(), 0, "the jobs are not ended with their cluster");
    // It watches a job that goes on: where it left first, the release before would serve the home, which it does not any more.
    yard.run_with(&common::program());
    let mut coordinator = yard.start(&["watch", &other, "--local", "-o", "json"]);
    coordinator.wait_until("the job to be seen", |it| it.stdout().contains("\"state\""));
    yard.run_with(&old);
    let agent = yard.start(&["wait", &job, "--local"]);
    until("the job to run", || yard.run(&["show", &job, "-o", "json"]).stdout.contains("\"phase\":\"running\""));
    yard.write("gate", "");
    let waited = agent.wait();
    assert_eq!(waited.code(), 0, "{waited:#?}");
    yard.run_with(&common::program());
    assert_eq!(yard.ok(&["artifact", "cat", &job, "out", "--local"]), "ended\n");
    // What the old agent began and left is taken up by one of this release.
    yard.write("other", "");
    assert_eq!(yard.run(&["wait", &other, "--local"]).code(), 0);
    let watched = coordinator.wait();
    assert_eq!(watched.code(), 0, "{watched:#?}");
    assert_eq!(yard.ok(&["artifact", "cat", &other, "out", "--local"]), "ended\n");
    yard.nothing_is_left();
}

#[test]
fn a_cluster_is_upgraded_to_the_next_release_which_raises_its_version_last() {
    let next = built(NEXT);
    let mut fleet = upgrading::fleet();
    upgrading::upgrade(&mut fleet, &Next { program: &next, is_release: true });
    // There is no way back: the program of before is refused, and changes nothing.
    let stopped = fleet.coordinators[1].take().map(Running::interrupt).unwrap();
    assert_eq!(stopped.code(), 0, "{stopped:#?}");
    fleet.yard.run_with(&common::program());
    let folder = fleet.at("c1");
    let words = ["the cluster was upgraded", "at version 3", "up to 2"];
    fleet.yard.refused(118, &words, &["coordinator", "run", "--folder", &folder]);
    fleet.yard.run_with(&next);
    fleet.run_coordinator(1);
    // Nor does a coordinator of the release before come in.
    let line = fleet.line("coordinator");
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    fleet.yard.run_with(&common::program());
    let places = ["--folder", &fleet.at("late"), "--address", "127.0.0.1:1", "--peer-address", "127.0.0.1:2"];
    let late = fleet.yard.run(&[&line[..], &places].concat());
    assert_eq!(late.code(), 118, "{late:#?}");
    late.says(&["the cluster is at version 3", "join with a newer release"]);
    fleet.stop();
}

#[test]
fn the_way_back_is_open_until_the_operator_lets_the_version_rise() {
    const KEPT: &str = "cluster_version_at_most = 2";
    let (old, next) = (common::program(), built(NEXT));
    let mut fleet = upgrading::fleet();
    upgrading::set_line(&fleet, 0, KEPT, true);
    for number in 0..3 {
        upgrading::upgrade_coordinator(&mut fleet, number, &next);
    }
    upgrading::until_releases(&fleet, ["0.2.0"; 3]);
    assert_eq!(upgrading::version(&fleet), 2, "one of them does not agree to the next one");
    upgrading::upgrade_coordinator(&mut fleet, 2, &old);
    upgrading::until_releases(&fleet, ["0.1.0", "0.2.0", "0.2.0"]);
    upgrading::works(&mut fleet, &old);
    upgrading::upgrade_coordinator(&mut fleet, 2, &next);
    upgrading::set_line(&fleet, 0, KEPT, false);
    upgrading::upgrade_coordinator(&mut fleet, 0, &next);
    until("the cluster's version to be raised", || upgrading::version(&fleet) == 3);
    upgrading::works(&mut fleet, &next);
    fleet.stop();
}
