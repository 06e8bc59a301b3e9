//! Disasters, with real processes and running tasks: a cluster is backed up and restored, its majority is lost and one coordinator goes
//! on alone; and what is no backup is refused.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::fleet::Fleet;
use common::store::Store;
use common::{Ran, Yard, until};
use nix::sys::signal::Signal;

/// A task that waits for a file in its /tmp, and says when it began and ended.
const WAITS: &str = "echo begun; while [ ! -e /tmp/gate ]; do sleep 0.1; done; echo ended > out.txt; echo ended";

fn submit_waiting(fleet: &Fleet, name: &str) {
    let submit = [
        "submit",
        &fleet.owner(0),
        "--name",
        name,
        "--cpu",
        "0.1",
        "--network",
        "host",
        "--output",
        "out=out.txt",
        "--",
    ];
    fleet.yard.ok(&[&submit[..], &["sh", "-c", &format!(": {}; {WAITS}", mark(fleet, name))]].concat());
}

/// What is in the command line of a job's process and in no other.
fn mark(fleet: &Fleet, name: &str) -> String {
    format!("{}/{name}", fleet.yard.folder().display())
}

fn runs(fleet: &Fleet, name: &str) -> bool {
    let script = format!(": {}; echo begun", mark(fleet, name));
    fleet.yard.processes().iter().any(|(_, line)| line.starts_with("sh -c") && line.contains(&script))
}

/// Lets a job's task end, without asking a coordinator.
fn open_gate(fleet: &Fleet, name: &str) {
    let script = format!(": {}; echo begun", mark(fleet, name));
    let found =
        fleet.yard.processes().into_iter().find(|(_, line)| line.starts_with("sh -c") && line.contains(&script));
    let (pid, _) = found.expect("its task runs");
    std::fs::write(format!("/proc/{pid}/root/tmp/gate"), "").expect("its /tmp is reached");
}

fn wait_running(fleet: &Fleet, job: &str) {
    fleet.yard.wait_running(job, &[&fleet.owner(0)]);
}

/// How the attempts of the only task of a job ended, or where they are.
fn attempts(fleet: &Fleet, job: &str) -> Vec<String> {
    let shown = fleet.yard.json(&["show", job, &fleet.owner(0)]);
    let attempts = shown["tasks_shown"][0]["attempts"].as_array().unwrap().clone();
    let word = |attempt: &serde_json::Value| {
        let word = attempt["outcome"].as_str().or(attempt["phase"].as_str());
        word.unwrap_or_else(|| panic!("{attempt}")).to_owned()
    };
    attempts.iter().map(word).collect()
}

fn connected(fleet: &Fleet, name: &str) -> bool {
    let nodes = fleet.yard.json(&["nodes", &fleet.owner(0)])["nodes"].as_array().unwrap().clone();
    nodes.iter().any(|node| node["name"] == name && node["connected"] == true)
}

fn backup(fleet: &Fleet, file: &str, more: &[&str]) -> Ran {
    fleet.yard.run(&[&["-o", "json", "cluster", "backup", file, &fleet.owner(0)], more].concat())
}

/// Takes the coordinators away, and makes the first host's folder anew from a backup.
fn restore(fleet: &mut Fleet, file: &str) -> Ran {
    restore_with(fleet, Yard::run, file)
}

/// The same, where something else runs the command.
fn restore_with(fleet: &mut Fleet, run: impl FnOnce(&Yard, &[&str]) -> Ran, file: &str) -> Ran {
    let folder = PathBuf::from(fleet.at("c0"));
    let settings = std::fs::read_to_string(folder.join("coordinator.toml")).unwrap();
    let place = |section: &str| {
        let section = settings.split(&format!("[{section}]")).nth(1).unwrap().to_owned();
        section.split('"').nth(3).unwrap().to_owned()
    };
    let (api, peers) = (place("api"), place("peers"));
    std::fs::rename(&folder, folder.with_extension("lost")).unwrap();
    let at = fleet.at("c0");
    let places = ["--address", &api, "--listen", &api, "--peer-address", &peers, "--peer-listen", &peers];
    run(&fleet.yard, &[&["coordinator", "restore", file, "--folder", &at], &places[..]].concat())
}

#[test]
fn a_backup_made_under_load_is_restored_and_what_ran_is_adopted_or_stopped() {
    let mut fleet = Fleet::formed(None);
    fleet.add_agent("n1");
    until("the node", || connected(&fleet, "n1"));
    submit_waiting(&fleet, "kept");
    submit_waiting(&fleet, "ends");
    wait_running(&fleet, "1");
    wait_running(&fleet, "2");
    let file = fleet.yard.path("lab.fybackup").display().to_string();
    let load = "submit --array 0-29 --cpu 0.1 --network host --name load";
    let owner = fleet.owner(0);
    let load: Vec<&str> = load.split(' ').chain([owner.as_str(), "--", "true"]).collect();
    fleet.yard.ok(&load);
    let made = backup(&fleet, &file, &["--with-keys"]);
    assert_eq!(made.code(), 0, "{made:#?}");
    made.says(&["the key of the cluster's authority"]);
    let told: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!((told["name"].as_str(), told["keys"].as_u64(), told["epoch"].as_u64()), (Some("lab"), Some(1), Some(0)));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = backup(&fleet, &file, &[]);
    assert_eq!(again.code(), 110, "{again:#?}");
    again.says(&["exists", "--overwrite"]);

    // What comes after the backup is lost: a job that runs, and one that is about to end.
    submit_waiting(&fleet, "lost");
    wait_running(&fleet, "4");
    assert!(runs(&fleet, "lost"));
    fleet.coordinators[0].take().expect("it runs").kill();
    // One task ends while there is nobody to tell.
    open_gate(&fleet, "ends");
    until("it to end", || !runs(&fleet, "ends"));
    let restored = restore(&mut fleet, &file);
    assert_eq!(restored.code(), 0, "{restored:#?}");
    restored.says(&["what happened after the backup", "is lost", "never start a coordinator of the cluster as it was"]);
    assert!(restored.stdout.contains("cluster lab is restored from revision"), "{restored:#?}");
    let refused = restore_again(&fleet, &file);
    assert_eq!(refused.code(), 118, "{refused:#?}");
    refused.says(&["is not empty"]);
    fleet.run_coordinator(0);
    // The same number is another job now; the process of the lost one is not taken for it.
    submit_waiting(&fleet, "new");
    until("the node to come back by itself", || connected(&fleet, "n1"));
    wait_running(&fleet, "4");
    assert_eq!(fleet.yard.json(&["show", "4", &fleet.owner(0)])["name"], "new");
    until("the lost one to be stopped", || !runs(&fleet, "lost"));
    assert!(runs(&fleet, "kept") && runs(&fleet, "new"));
    for (job, name) in [("1", "kept"), ("2", "ends"), ("4", "new")] {
        if name != "ends" {
            open_gate(&fleet, name);
        }
        assert_eq!(fleet.yard.run(&["wait", job, &fleet.owner(0)]).code(), 0);
        assert_eq!(fleet.yard.ok(&["logs", job, &fleet.owner(0)]), "begun\nended\n");
        assert_eq!(attempts(&fleet, job), ["succeeded"], "{job} has exactly one result");
        assert_eq!(fleet.yard.ok(&["artifact", "cat", job, "out", &fleet.owner(0)]), "ended\n");
    }
    assert_eq!(fleet.yard.run(&["wait", "3", &fleet.owner(0)]).code(), 0);
    let status = fleet.yard.json(&["cluster", "status", &fleet.owner(0)]);
    assert_eq!((status["epoch"].as_u64(), status["name"].as_str()), (Some(1), Some("lab")));
    fleet.grow();
    fleet.stop();
}

fn restore_again(fleet: &Fleet, file: &str) -> Ran {
    let at = fleet.at("c0");
    fleet.yard.run(&["coordinator", "restore", file, "--folder", &at, "--address", "127.0.0.1:1"])
}

#[test]
fn what_ended_after_the_backup_runs_again_at_no_cost() {
    let mut fleet = Fleet::formed(None);
    fleet.add_agent("n1");
    until("the node", || connected(&fleet, "n1"));
    submit_waiting(&fleet, "one");
    wait_running(&fleet, "1");
    let file = fleet.yard.path("lab.fybackup").display().to_string();
    assert_eq!(backup(&fleet, &file, &["--with-keys"]).code(), 0);
    // Its end, its output and its log reach a coordinator that is lost afterwards.
    fleet.yard.run(&["exec", "1", &fleet.owner(0), "--", "touch", "/tmp/gate"]).has_opened();
    assert_eq!(fleet.yard.run(&["wait", "1", &fleet.owner(0)]).code(), 0);
    fleet.coordinators[0].take().expect("it runs").kill();
    assert_eq!(restore(&mut fleet, &file).code(), 0);
    fleet.run_coordinator(0);
    until("the node to come back", || connected(&fleet, "n1"));
    // The agent has let go of it, so it is lost with the history that had its end, and tried again at no cost.
    until("the second try", || attempts(&fleet, "1").len() == 2);
    wait_running(&fleet, "1");
    fleet.yard.run(&["exec", "1", &fleet.owner(0), "--", "touch", "/tmp/gate"]).has_opened();
    assert_eq!(fleet.yard.run(&["wait", "1", &fleet.owner(0)]).code(), 0);
    assert_eq!(attempts(&fleet, "1"), ["lost", "succeeded"]);
    assert_eq!(fleet.yard.ok(&["artifact", "cat", "1", "out", &fleet.owner(0)]), "ended\n");
    fleet.stop();
}

/// Two flows in one call, through a coordinator that may follow; one asks for what no node has.
fn batch_is_taken_job_by_job(fleet: &Fleet) {
    let flow = |name: &str, cpu: &str| format!("name = \"{name}\"\n\n[steps.only]\nrun = [\"true\"]\ncpu = {cpu}\n");
    fleet.yard.write("good.toml", flow("good", "0.1"));
    fleet.yard.write("huge.toml", flow("huge", "64"));
    let batch = ["-o", "json", "submit", &fleet.owner(1), "--batch", "good.toml", "huge.toml"];
    let ran = fleet.yard.run(&batch);
    assert_eq!(ran.code(), 112, "{ran:#?}");
    let lines: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["file"].as_str(), lines[0]["job"].as_u64()), (Some("good.toml"), Some(2)), "{lines:?}");
    assert_eq!(lines[1]["file"], "huge.toml");
    assert!(lines[1]["error"].is_string() && lines[1]["job"].is_null(), "{lines:?}");
    assert_eq!(fleet.yard.run(&["wait", "2", &fleet.owner(0)]).code(), 0);
}

#[test]
fn one_of_three_coordinators_goes_on_alone_when_it_is_told_so() {
    let mut fleet = Fleet::formed(None);
    fleet.grow();
    fleet.grow();
    fleet.add_agent("n1");
    until("the node", || connected(&fleet, "n1"));
    submit_waiting(&fleet, "kept");
    wait_running(&fleet, "1");
    let folder = fleet.at("c0");
    let recover = |fleet: &Fleet, more: &[&str]| {
        let recover = ["coordinator", "recover", "--force-new-cluster", "--folder", &folder];
        fleet.yard.run(&[&recover[..], more].concat())
    };
    let running = recover(&fleet, &["--yes"]);
    assert_eq!(running.code(), 118, "{running:#?}");
    running.says(&["in use by another process"]);
    batch_is_taken_job_by_job(&fleet);
    // With two of three gone nobody agrees on anything; what the last one knows is told to who asks for that, and labelled.
    let [one, two] = [1, 2].map(|number| fleet.coordinators[number].take().expect("it runs"));
    one.signal(Signal::SIGSTOP);
    two.signal(Signal::SIGSTOP);
    until("nobody to lead", || fleet.yard.run(&["jobs", &fleet.owner(0)]).code() != 0);
    let stale = fleet.yard.json(&["jobs", "--stale", &fleet.owner(0)]);
    assert!(stale["stale"]["revision"].as_u64() > Some(0) && stale["stale"]["age_ms"].is_u64(), "{stale}");
    let shown = fleet.yard.ok(&["show", "1", "--stale", &fleet.owner(0)]);
    assert!(shown.starts_with("stale: as of revision ") && shown.contains("kept"), "{shown}");
    one.signal(Signal::SIGCONT);
    two.signal(Signal::SIGCONT);
    fleet.coordinators[1] = Some(one);
    fleet.coordinators[2] = Some(two);
    until("a leader", || fleet.yard.run(&["jobs", &fleet.owner(0)]).code() == 0);
    assert!(fleet.yard.json(&["jobs", &fleet.owner(0)])["stale"].is_null());
    drop(fleet.coordinators[0].take().expect("it runs").interrupt());
    let answers = recover(&fleet, &["--yes"]);
    assert_eq!(answers.code(), 118, "{answers:#?}");
    answers.says(&["answers at", "start the other coordinators"]);
    for number in [1, 2] {
        fleet.coordinators[number].take().expect("it runs").kill();
    }
    let asked = recover(&fleet, &[]);
    assert_eq!(asked.code(), 110, "{asked:#?}");
    asked.says(&["goes on alone from revision", "is lost", "never be started again", "--yes"]);
    let recovered = recover(&fleet, &["--yes"]);
    assert_eq!(recovered.code(), 0, "{recovered:#?}");
    assert!(recovered.stdout.contains("is the only one, in epoch 1"), "{recovered:#?}");
    fleet.run_coordinator(0);
    until("the node to come back by itself", || connected(&fleet, "n1"));
    fleet.yard.run(&["exec", "1", &fleet.owner(0), "--", "touch", "/tmp/gate"]).has_opened();
    assert_eq!(fleet.yard.run(&["wait", "1", &fleet.owner(0)]).code(), 0);
    assert_eq!(attempts(&fleet, "1"), ["succeeded"], "it was adopted");
    // Those left behind come back in spite of all, and lead nobody: not the node, and not the one that went on.
    let members = fleet.members();
    assert_eq!(members.len(), 1, "{members:?}");
    fleet.run_coordinator(1);
    fleet.run_coordinator(2);
    submit_waiting(&fleet, "next");
    wait_running(&fleet, "3");
    assert_eq!(fleet.yard.json(&["cluster", "status", &fleet.owner(0)])["members"].as_array().unwrap().len(), 1);
    until("those left behind to say that the node is not theirs", || {
        let listed = fleet.yard.run(&["-o", "json", "nodes", &fleet.owner(1)]).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap_or_default();
        listed["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(|node| node["connected"] == false))
    });
    assert!(connected(&fleet, "n1"));
    fleet.yard.ok(&["cancel", "3", &fleet.owner(0)]);
    fleet.stop();
}

#[test]
fn what_is_no_backup_is_refused_with_what_is_wrong_with_it() {
    let mut fleet = Fleet::formed(None);
    let file = fleet.yard.path("good").display().to_string();
    assert_eq!(backup(&fleet, &file, &["--without-blobs"]).code(), 0);
    let good = std::fs::read(&file).unwrap();
    let checked = fleet.yard.json(&["cluster", "verify-backup", &file]);
    assert_eq!((checked["with_blobs"].as_bool(), checked["keys"].as_u64()), (Some(false), Some(0)));
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut newer = good.clone();
    newer[6] = b'9';
    let cases: [(&str, &[u8], &str); 5] = [
        ("cut", &good[..good.len() - 9], "was cut off at byte"),
        ("flipped", &flipped, "is damaged"),
        ("foreign", b"PK\x03\x04 something else", "is no backup of a Flowyard cluster"),
        ("empty", b"", "is no backup of a Flowyard cluster"),
        ("newer", &newer, "a newer release of Flowyard wrote this backup (format 9"),
    ];
    let empty = fleet.at("empty");
    for (name, bytes, told) in cases {
        let path = fleet.yard.write(name, bytes).display().to_string();
        fleet.yard.refused(110, &[told], &["cluster", "verify-backup", &path]);
        let restore = ["coordinator", "restore", &path, "--folder", &empty, "--address", "127.0.0.1:7400"];
        fleet.yard.refused(110, &[told], &restore);
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "{name}: something was written");
    }
    let missing = fleet.yard.path("missing").display().to_string();
    for asked in
        [&["verify-backup", &missing][..], &["restore", &missing, "--folder", &empty, "--address", "127.0.0.1:1"]]
    {
        let part = if asked[0] == "restore" { "coordinator" } else { "cluster" };
        fleet.yard.refused(117, &[&missing, "No such file"], &[&[part], asked].concat());
    }
    let vic = fleet.token(&["--role", "operator", "--name", "vic"]);
    fleet.log_in(&vic);
    let other = fleet.yard.path("other").display().to_string();
    fleet.yard.refused(
        112,
        &["vic (operator) may not read everything", "an admin may"],
        &["cluster", "backup", &other],
    );
    assert_eq!(std::fs::read_dir(fleet.yard.path("")).unwrap().count(), 6, "nothing half-made is left");
    fleet.yard.refused(
        110,
        &["files of this machine, objects at s3://", "fctl cluster backup - | gsutil cp - gs://b/k"],
        &["cluster", "backup", "gs://b/k", &fleet.owner(0)],
    );
    // Without keys: a new authority, which the old node does not believe.
    fleet.coordinators[0].take().expect("it runs").kill();
    let restored = restore(&mut fleet, &file);
    assert_eq!(restored.code(), 0, "{restored:#?}");
    restored.says(&["must be let in anew", "has no blobs"]);
    fleet.run_coordinator(0);
    let refused = fleet.yard.run(&["jobs"]);
    assert_ne!(refused.code(), 0, "a token of the old authority is good for nothing: {refused:#?}");
    fleet.add_agent("n2");
    until("a node that was let in anew", || connected(&fleet, "n2"));
    fleet.stop();
}

/// What a backup in an object store must do when the store does not do what it should.
fn a_store_that_misbehaves_leaves_no_half_backup(fleet: &Fleet, store: &Store, object: &str, backup: &[&str]) {
    let file = store.path("objects/backups/lab/one.fybackup");
    let denied = store.run_with(&fleet.yard, "another secret", backup);
    assert_eq!(denied.code(), 117, "{denied:#?}");
    denied.says(&["SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"]);
    std::fs::write(store.path("damage"), "1").unwrap();
    let damaged = store.run(&fleet.yard, backup);
    assert_eq!(damaged.code(), 110, "{damaged:#?}");
    damaged.says(&[object, "does not read back whole", "it is removed"]);
    assert!(!file.exists(), "what is damaged is not left there");
    // It takes no part, whatever is tried.
    std::fs::write(store.path("busy"), "1000").unwrap();
    let busy = store.run(&fleet.yard, backup);
    assert_eq!(busy.code(), 117, "{busy:#?}");
    busy.says(&[object, "cannot write it"]);
    assert_eq!(std::fs::read_dir(store.path("uploads")).unwrap().count(), 0, "what was begun is taken back");
    std::fs::write(store.path("busy"), "0").unwrap();
    let none = store.run(&fleet.yard, &["cluster", "verify-backup", object]);
    assert_eq!(none.code(), 117, "{none:#?}");
    none.says(&[object, "no such object"]);
}

fn a_backup_that_is_interrupted_or_refused_leaves_nothing(fleet: &Fleet, store: &Store, owner: &str) {
    let (object, asked) =
        ("s3://backups/lab/two.fybackup", ["cluster", "backup", "s3://backups/lab/two.fybackup", owner]);
    let left = || std::fs::read_dir(store.path("uploads")).unwrap().count();
    // All of it was read, and the last part is on its way.
    std::fs::write(store.path("stuck"), "2").unwrap();
    let making = store.start(&fleet.yard, &asked);
    until("the last part to be sent", || store.path("stuck-now").exists());
    let ended = making.interrupt();
    assert_eq!(ended.code(), 130, "{ended:#?}");
    ended.says(&[object, "interrupted"]);
    assert_eq!(left(), 0, "what was begun is taken back");
    std::fs::write(store.path("stuck"), "0").unwrap();
    std::fs::write(store.path("unwilling"), "1").unwrap();
    let refused = store.run(&fleet.yard, &asked);
    assert_eq!(refused.code(), 117, "{refused:#?}");
    refused.says(&[object, "cannot write it"]);
    assert_eq!(left(), 0, "what was sent is taken back");
    assert!(!store.path("objects/backups/lab/two.fybackup").exists());
}

#[test]
fn a_store_that_cannot_be_is_refused() {
    let yard = Yard::new();
    for address in ["localhost:9000", "127.0.0.1", "", "ftp://a", "http://a b"] {
        let mut command = yard.command(&["cluster", "verify-backup", "s3://backups/one"]);
        command.env("AWS_ENDPOINT_URL", address);
        let ran = yard.start_command(command).wait();
        assert_eq!(ran.code(), 110, "{address}: {ran:#?}");
        ran.says(&["AWS_ENDPOINT_URL", "https://HOST[:PORT]"]);
    }
}

#[test]
fn a_backup_goes_to_an_object_store_in_parts_is_read_back_and_restored_from_there() {
    let mut fleet = Fleet::formed(None);
    let Some(store) = Store::open(&fleet.yard) else { return fleet.stop() };
    fleet.add_agent("n1");
    until("the node", || connected(&fleet, "n1"));
    let mut large = vec![0; 40 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut large).unwrap();
    fleet.yard.write("large", &large);
    fleet.yard.ok(&["submit", &fleet.owner(0), "--input", "large=./large", "--", "true"]);
    let (object, owner) = ("s3://backups/lab/one.fybackup", fleet.owner(0));
    let asked = ["-o", "json", "cluster", "backup", object, "--with-keys", &owner];

    // It is busy at first, and asked again.
    std::fs::write(store.path("busy"), "2").unwrap();
    let made = store.run(&fleet.yard, &asked);
    assert_eq!(made.code(), 0, "{made:#?}");
    let told: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert!(told["blob_bytes"].as_u64().unwrap() > 40 << 20 && told["keys"] == 1, "{told}");
    assert_eq!(std::fs::read_to_string(store.path("parts")).unwrap(), "2");
    let file = store.path("objects/backups/lab/one.fybackup");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), told["bytes"].as_u64().unwrap());
    let again = store.run(&fleet.yard, &asked);
    assert_eq!(again.code(), 110, "{again:#?}");
    again.says(&["s3://backups/lab/one.fybackup exists", "--overwrite"]);
    let overwrite = [&asked[..], &["--overwrite"]].concat();
    a_store_that_misbehaves_leaves_no_half_backup(&fleet, &store, object, &overwrite);
    assert_eq!(store.run(&fleet.yard, &overwrite).code(), 0);
    assert_eq!(std::fs::read_dir(store.path("uploads")).unwrap().count(), 0, "no parts are left");
    a_backup_that_is_interrupted_or_refused_leaves_nothing(&fleet, &store, &owner);
    // An answer that breaks off is asked for from there.
    std::fs::write(store.path("broken"), "1").unwrap();
    let checked = store.run(&fleet.yard, &["cluster", "verify-backup", object]);
    let [broken, asked] = ["broken-at", "asked-from"].map(|name| std::fs::read_to_string(store.path(name)).unwrap());
    assert_eq!(broken, asked, "it is not read from its beginning");
    assert!(checked.code() == 0 && checked.stdout.contains("is whole"), "{checked:#?}");

    fleet.coordinators[0].take().expect("it runs").kill();
    let restored = restore_with(&mut fleet, |yard, args| store.run(yard, args), object);
    assert_eq!(restored.code(), 0, "{restored:#?}");
    let left = std::fs::read_dir(fleet.yard.home()).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("partial")).collect();
    assert!(left.is_empty(), "the copy is gone: {left:?}");
    fleet.run_coordinator(0);
    let status = fleet.yard.json(&["cluster", "status", &fleet.owner(0)]);
    assert_eq!((status["epoch"].as_u64(), status["name"].as_str()), (Some(1), Some("lab")));
    let again = fleet.yard.path("again").display().to_string();
    let told: serde_json::Value = serde_json::from_str(&backup(&fleet, &again, &[]).stdout).unwrap();
    assert!(told["blob_bytes"].as_u64().unwrap() > 40 << 20 && told["lost_blobs"] == 0, "{told}");
    fleet.stop();
}

#[test]
fn what_ends_while_no_majority_is_there_is_kept_until_one_is() {
    let mut fleet = Fleet::formed(None);
    fleet.grow();
    fleet.grow();
    fleet.add_agent("n1");
    until("the node", || connected(&fleet, "n1"));
    submit_waiting(&fleet, "long");
    wait_running(&fleet, "1");
    // One of the three is left: it answers, and can store nothing.
    for number in [1, 2] {
        fleet.coordinators[number].take().expect("it runs").kill();
    }
    open_gate(&fleet, "long");
    until("it to end", || !runs(&fleet, "long"));
    std::thread::sleep(std::time::Duration::from_secs(3));
    for number in [1, 2] {
        fleet.run_coordinator(number);
    }
    until("one to lead", || fleet.yard.run(&["jobs", &fleet.owner(0)]).code() == 0);
    assert_eq!(fleet.yard.run(&["wait", "1", &fleet.owner(0)]).code(), 0);
    assert_eq!(attempts(&fleet, "1"), ["succeeded"], "nothing was computed twice");
    assert_eq!(fleet.yard.ok(&["artifact", "cat", "1", "out", &fleet.owner(0)]), "ended\n");
    fleet.stop();
}
