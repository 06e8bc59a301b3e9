//! The upgrade that there is: a home that the release 0.1.0 wrote, with tasks that run, is taken over by this program.
//!
//! `cargo xtask upgrade-test` builds that release from the history and says where it is; the test is run by it alone.

mod common;

use std::path::PathBuf;

use common::{Yard, until};

/// Names the program of the release 0.1.0.
const OLD: &str = "FLOWYARD_OLD_PROGRAM";

fn submit(yard: &Yard, isolation: &str) -> String {
    let gate = yard.path("gate").display().to_string();
    let script = format!("echo begun; until [ -e {gate} ]; do sleep 0.1; done; echo ended > out.txt; echo ended");
    let work = yard.path("").display().to_string();
    let mount: &[&str] = if isolation == "container" { &["--mount", work.trim_end_matches('/')] } else { &[] };
    let submit = ["submit", "--isolation", isolation, "--cpu", "0.1", "--output", "out=out.txt"];
    yard.json(&[&submit[..], mount, &["--", "sh", "-c", &script]].concat())["job"].to_string()
}

#[test]
fn a_home_of_the_release_before_is_taken_over_with_what_runs_in_it() {
    let old =
        std::env::var_os(OLD).map(PathBuf::from).expect("`cargo xtask upgrade-test` builds it and says where it is");
    let mut yard = Yard::new();
    yard.settings(&format!("[agent]\nallow_mounts = [{:?}]\n", yard.path("")));
    yard.run_with(&old);
    let dev = yard.dev(&[]);
    let done = yard.json(&["submit", "--cpu", "0.1", "--", "echo", "done before"])["job"].to_string();
    assert_eq!(yard.run(&["wait", &done]).code(), 0);
    let jobs = ["container", "process"].map(|isolation| submit(&yard, isolation));
    jobs.iter().for_each(|job| yard.wait_running(job, &[]));
    // Its agent and coordinator go; what runs goes on under its launcher.
    dev.kill();
    yard.run_with(&common::program());
    let dev = yard.dev(&[]);
    assert_eq!(yard.ok(&["logs", &done]), "done before\n", "what it kept is kept");
    yard.write("gate", "");
    for job in &jobs {
        assert_eq!(yard.run(&["wait", job]).code(), 0, "job {job}");
        assert_eq!(yard.ok(&["logs", job]), "begun\nended\n");
        assert_eq!(yard.ok(&["artifact", "cat", job, "out"]), "ended\n");
        let attempts = yard.json(&["show", job])["tasks_shown"][0]["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, 1, "job {job} was adopted");
    }
    // Until something new is asked for, the release before could take it back.
    let version = |yard: &Yard| yard.json(&["cluster", "status"])["version"].clone();
    assert_eq!(version(&yard), 1);
    let new = yard.json(&["submit", "--cpu", "0.1", "--", "echo", "done after"])["job"].to_string();
    assert_eq!(yard.run(&["wait", &new]).code(), 0);
    assert_eq!(version(&yard), 1, "what both know needs no newer version");
    assert_eq!(dev.interrupt().code(), 0);
    until("nothing to run", || yard.processes().is_empty());
}
