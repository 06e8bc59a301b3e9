//! Bad input as its user meets it: on the command line, with the exit code and the words that help. And nothing is lost: what
//! is refused leaves no trace, and what fails leaves a cluster that goes on.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use std::os::unix::net::UnixListener;
use std::path::Path;

use common::{Yard, is_root, until};

const USAGE: i32 = 110;
const UNREADABLE: i32 = 117;
const NO_CLUSTER: i32 = 111;
const REFUSED: i32 = 112;
const NOT_FOUND: i32 = 113;
const JOB_FAILED: i32 = 114;
const JOB_CANCELLED: i32 = 115;
const DETACHED: i32 = 116;
const HOME: i32 = 118;

/// Copies a flow into the working directory.
fn flow(yard: &Yard, name: &str) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_input").join(name);
    yard.write("flow.toml", fs::read(source).unwrap());
    "flow.toml".to_owned()
}

/// `submit --local --isolation process` with these flags.
fn process<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["submit", "--local", "--isolation", "process"], args].concat()
}

/// Every flow that is wrong as it is written, with flags and what is said.
const WRONG_FLOWS: &[(&str, &[&str], &[&str])] = &[
    ("unknown-key.toml", &[], &["flow.toml:4:1", "unknown key `memroy`", "did you mean `memory`?"]),
    ("syntax.toml", &[], &["flow.toml:2:"]),
    ("cycle.toml", &[], &["flow.toml:2:", "in a circle: a -> b -> a"]),
    ("unknown-step.toml", &[], &["there is no step `splt`", "did you mean `split`?"]),
    ("unknown-artifact.toml", &[], &["flow.toml:7:", "fold", "did you mean `folds`?"]),
    ("both.toml", &[], &["`data/iris` is both an output of a step and a file or folder", "write ./data/iris"]),
    ("foreach-number.toml", &[], &["flow.toml:4:11", "a list", "found the number 5"]),
    (
        "quantities.toml",
        &[],
        &[
            "flow.toml:4:7: `0` is zero",
            "`-1GiB` is negative",
            "has no unit",
            "write \"256MiB\"",
            "write \"10s\"",
            "too much",
        ],
    ),
    ("param.toml", &[], &["parameter `folds`", "-P folds="]),
    ("param.toml", &["-P", "folds=many"], &["-P folds=many: expected a whole number"]),
    ("param.toml", &["-P", "fold=3"], &["`fold`", "did you mean `folds`?"]),
    ("param.toml", &["-P", "folds"], &["NAME=VALUE"]),
    ("climbs.toml", &[], &["`../secret` climbs out", "there is no file or folder `./missing`", "is a socket"]),
    ("names.toml", &[], &["a name must not be empty", "a\\u{1b}[31mb", "a name has at most 63 bytes"]),
];

#[test]
fn a_flow_that_is_wrong_is_refused_before_anything_begins() {
    let yard = Yard::new();
    yard.write("data/iris", "");
    let _socket = UnixListener::bind(yard.path("socket")).unwrap();
    for (name, flags, words) in WRONG_FLOWS {
        let file = flow(&yard, name);
        yard.refused(USAGE, words, &[&["submit", "--local", &file], *flags].concat());
        // Without values the rest of a flow with parameters can still be checked.
        if (*name, *flags) != ("param.toml", &[]) {
            yard.refused(USAGE, words, &[&["validate", &file], *flags].concat());
        }
    }
    assert!(!yard.home().exists(), "something was begun");
}

#[test]
fn a_flow_that_cannot_be_read_says_why() {
    let yard = Yard::new();
    let words = ["missing.toml: cannot read the flow file", "No such file"];
    yard.refused(UNREADABLE, &words, &["submit", "--local", "missing.toml"]);
    yard.refused(UNREADABLE, &words, &["validate", "missing.toml"]);
    yard.write("flow.toml", b"name = \"a\"\n[steps.\xff\x1b[31m]\n");
    yard.refused(USAGE, &["flow.toml:2:8", "not UTF-8"], &["submit", "--local", "flow.toml"]);
    let long = "x".repeat(400_000);
    yard.write("flow.toml", format!("name = \"a\"\n[steps.a]\nrun = [\"x\", \"{long}\", \"{long}\"]\n"));
    yard.refused(USAGE, &["the flow is too large", "at most 512 KiB", "`a`"], &["submit", "--local", "flow.toml"]);
    assert!(!yard.home().exists(), "something was begun");
}

/// Flags that are wrong, and what is said.
const WRONG_FLAGS: &[(&[&str], &[&str])] = &[
    (&["--memory", "256"], &["--memory", "has no unit", "256MiB"]),
    (&["--memory=-1GiB"], &["negative"]),
    (&["--memory", "9999999TiB"], &["too much"]),
    (&["--cpu", "0"], &["--cpu", "is zero"]),
    (&["--cpu", "inf"], &["not a quantity"]),
    (&["--timeout", "10"], &["--timeout", "10s"]),
    (&["--array", "5-1"], &["FIRST-LAST"]),
    (&["--array", "0-99999999999"], &["at most 10000000"]),
    (&["--name", ""], &["must not be empty"]),
    (&["--name", "a\u{1b}[31mb\u{9b}2J\u{202e}"], &["\\u{1b}"]),
    (&["--env", "FLOWYARD_JOB=1"], &["FLOWYARD_"]),
    (&["--output", "o=../o"], &["`../o` cannot be an output"]),
    (&["--isolation", "procss"], &["a similar value exists: 'process'"]),
    (&["--memroy", "1GiB"], &["a similar argument exists: '--memory'"]),
    (&["--input", "x=./missing"], &["--input x: there is no file or folder `./missing`"]),
    (&["--input", "x=../secret"], &["climbs out"]),
    (&["--input", "x=./socket"], &["is a socket"]),
    (&["--network", "privat"], &["--network", "did you mean `private`?", "none for loopback only"]),
    (&["--constraint", "zone ~ z1"], &["--constraint", "is not a constraint", "the forms are"]),
    (&["--kill-grace", "30"], &["--kill-grace", "30s"]),
    (&["--on-disconnect", "die"], &["--on-disconnect", "keep", "stop"]),
    (&["--image", "python:3.12"], &["is not a path", "registry"]),
];

#[test]
fn a_flag_that_is_wrong_is_refused_before_anything_begins() {
    let yard = Yard::new();
    let _socket = UnixListener::bind(yard.path("socket")).unwrap();
    for (flags, words) in WRONG_FLAGS {
        yard.refused(USAGE, words, &[&["submit", "--local"], *flags, &["--", "true"]].concat());
    }
    let huge = "x".repeat(200);
    yard.refused(USAGE, &["at most 63 bytes"], &["submit", "--local", "--name", &huge, "--", "true"]);
    let mut command = yard.command(&["submit", "--local", "--name"]);
    command.arg(OsStr::from_bytes(b"a\xff\x1b[31m")).args(["--", "true"]);
    let ran = yard.start_command(command).wait();
    assert_eq!(ran.code(), USAGE);
    ran.says(&["invalid UTF-8"]);
    let ran = yard.run(&["-o", "json", "submit", "--local", "--memroy", "1GiB", "--", "true"]);
    let said: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one object");
    assert_eq!(said["error"], "unexpected argument '--memroy' found");
    assert!(!yard.home().exists(), "something was begun");
}

#[test]
fn an_output_that_is_no_list_fails_its_task_and_says_what_it_is() {
    let yard = Yard::new();
    let file = flow(&yard, "not-a-list.toml");
    let words = ["output `grid`, which a foreach names", "grid.json", "list", "blame: user", "reason: output"];
    yard.refused(JOB_FAILED, &words, &["submit", "--local", &file]);
    let shown = yard.json(&["show", "1", "--local"]);
    assert_eq!(shown["steps"][1]["tasks"]["succeeded"], 0, "{shown}");
    yard.nothing_is_left();
}

#[test]
fn an_empty_list_skips_its_step_and_the_join_gets_nothing() {
    let yard = Yard::new();
    let file = flow(&yard, "empty-list.toml");
    let ran = yard.run(&["submit", "--local", &file]);
    assert_eq!(ran.code(), 0, "{ran:#?}");
    ran.says(&["train: skipped: nothing to do"]);
    assert_eq!(yard.ok(&["artifact", "cat", "1/pick", "count", "--local"]).trim(), "0");
    let shown = yard.json(&["show", "1", "--local"]);
    assert_eq!((&shown["outcome"], &shown["steps"][1]["count"]), (&"succeeded".into(), &0.into()), "{shown}");
}

#[test]
fn a_million_tasks_are_taken_and_can_be_cancelled() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    let array = ["submit", "--array", "0-999999", "--isolation", "process", "--", "sleep", "1000"];
    assert_eq!(yard.json(&array)["job"], 1);
    assert_eq!(yard.json(&["show", "1"])["steps"][0]["tasks"]["total"], 1_000_000);
    yard.ok(&["cancel", "1"]);
    assert_eq!(yard.run(&["wait", "1"]).code(), JOB_CANCELLED);
    let file = flow(&yard, "million-items.toml");
    assert_eq!(yard.json(&["submit", &file])["job"], 2);
    until("the list to be known", || yard.json(&["show", "2"])["steps"][1]["count"] == 1_000_000);
    yard.wait_running("2/train/0", &[]);
    yard.ok(&["cancel", "2"]);
    assert_eq!(yard.run(&["wait", "2"]).code(), JOB_CANCELLED);
    assert_eq!(yard.json(&["show", "2"])["steps"][1]["tasks"]["cancelled"], 1_000_000);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_request_that_no_node_could_meet_is_refused_with_what_exists_also_by_a_cluster_that_just_began() {
    let yard = Yard::new();
    let words =
        ["step `true` asks for 4000 CPU", "no node could ever give", "node local has", "CPU", "of memory, no GPU"];
    yard.refused(REFUSED, &words, &["submit", "--local", "--cpu", "4000", "--", "true"]);
    yard.refused(REFUSED, &["8 GPU"], &["submit", "--local", "--gpu", "8", "--", "true"]);
    let words = ["labels with `rack == r1`", "no GPU, no label rack"];
    yard.refused(REFUSED, &words, &["submit", "--local", "--label", "rack=r1", "--", "true"]);
    let words = ["labels with `zone not in [a, b]`, labels with `!host`"];
    let zone = ["--constraint", "zone not in [a, b]", "--constraint", "!host", "--cpu", "4000"];
    yard.refused(REFUSED, &words, &[&["submit", "--local"], &zone[..], &["--", "true"]].concat());
    assert_eq!(yard.json(&["jobs", "--local"])["jobs"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_command_that_is_not_found_exits_with_127_and_says_where_was_looked() {
    let yard = Yard::new();
    for isolation in ["process", "container"] {
        let mut command = yard.command(&["submit", "--local", "--isolation", isolation, "--", "nosuchprogram"]);
        command.env("PATH", "/usr/bin:/bin:/seen");
        let ran = yard.start_command(command).wait();
        assert_eq!(ran.code(), 127, "{ran:#?}");
        ran.says(&["nosuchprogram", "not found", "/usr/bin:/bin:/seen", "reason: command, blame: user"]);
    }
}

#[test]
fn an_output_that_cannot_be_kept_fails_its_task_with_the_reason() {
    let yard = Yard::new();
    let cases: &[(&str, &[&str])] = &[
        ("true", &["output `o` was not written", "there is no `o`", "$FLOWYARD_OUTPUT_O"]),
        ("ln -s /etc/passwd o", &["output `o`", "is a symbolic link to `/etc/passwd`"]),
        ("mkdir o; ln -s ../../x o/l", &["o/l` is a symbolic link to `../../x`", "outside of the tree"]),
        ("mkfifo o", &["is a named pipe"]),
    ];
    for (script, words) in cases {
        let ran = yard.refused(JOB_FAILED, words, &process(&["--output", "o=o", "--", "sh", "-c", script]));
        ran.says(&["reason: output, blame: user"]);
    }
    if is_root() {
        yard.refused(JOB_FAILED, &["is a device"], &process(&["--output", "o=o", "--", "mknod", "o", "c", "1", "3"]));
    }
    yard.nothing_is_left();
}

#[test]
fn the_same_key_gives_the_same_job_and_never_another_one() {
    let yard = Yard::new();
    let submit = |command: &str| yard.run(&process(&["--key", "k1", "-o", "json", "--", "sh", "-c", command]));
    let first = submit("echo 1");
    assert_eq!((first.code(), first.stdout.lines().next()), (0, Some(r#"{"job":1,"existing":false}"#)), "{first:#?}");
    let again = submit("echo 1");
    assert_eq!((again.code(), again.stdout.lines().next()), (0, Some(r#"{"job":1,"existing":true}"#)), "{again:#?}");
    let other = submit("echo 2");
    assert_eq!(other.code(), REFUSED, "{other:#?}");
    other.says(&["k1", "another spec"]);
    assert_eq!(yard.json(&["jobs", "--local"])["jobs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_interrupt_while_waiting_detaches_unless_told_to_cancel() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    let wait = ["submit", "--wait", "--isolation", "process", "--", "sleep", "1000"];
    let submit = yard.start(&wait);
    yard.wait_running("1", &[]);
    let ran = submit.interrupt();
    assert_eq!(ran.code(), DETACHED, "{ran:#?}");
    ran.says(&["detached: job 1 goes on", "fctl cancel 1", "fctl wait 1"]);
    assert_eq!(yard.json(&["show", "1"])["state"], "active");
    let waiting = yard.start(&["wait", "1", "--cancel-on-interrupt"]);
    yard.wait_running("1", &[]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let ran = waiting.interrupt();
    assert_eq!(ran.code(), JOB_CANCELLED, "{ran:#?}");
    ran.says(&["cancelling job 1", "job 1 cancelled"]);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn an_interrupt_of_a_local_submit_without_terminal_cancels() {
    let yard = Yard::new();
    let mut submit = yard.start(&["submit", "--local", "--", "sleep", "1000"]);
    submit.wait_until("its task to run", |submit| submit.stderr().contains("1 active"));
    let ran = submit.interrupt();
    assert_eq!(ran.code(), JOB_CANCELLED, "{ran:#?}");
    ran.says(&["cancelling job 1"]);
    assert_eq!(yard.json(&["show", "1", "--local"])["outcome"], "cancelled");
    yard.nothing_is_left();
}

#[test]
fn a_second_dev_on_the_same_home_names_the_first() {
    let yard = Yard::new();
    let dev = yard.dev(&[]);
    let pid = format!("(pid {})", dev.pid());
    yard.refused(HOME, &["is already up", &pid, "FLOWYARD_HOME"], &["dev"]);
    assert_eq!(yard.run(&["submit", "--wait", "--isolation", "process", "--", "true"]).code(), 0);
    assert_eq!(dev.interrupt().code(), 0);
    yard.nothing_is_left();
}

#[test]
fn a_home_that_is_not_ours_is_left_alone() {
    let yard = Yard::new();
    fs::create_dir(yard.home()).unwrap();
    let file = yard.home().join("home");
    fs::write(&file, "flowyard-home 99\n").unwrap();
    let newer = ["newer version", "format 99", "reads up to 1", "FLOWYARD_HOME"];
    yard.refused(HOME, &newer, &process(&["--", "true"]));
    yard.refused(HOME, &newer, &["dev"]);
    yard.refused(HOME, &newer, &["jobs", "--local"]);
    fs::write(&file, "something else\n").unwrap();
    yard.refused(HOME, &["is no home of Flowyard"], &process(&["--", "true"]));
    assert_eq!(fs::read_dir(yard.home()).unwrap().count(), 1, "something was written there");
}

#[test]
fn without_a_cluster_both_ways_to_one_are_said() {
    let yard = Yard::new();
    let words = ["no cluster was named", "--local", "fctl dev", "--endpoint"];
    yard.refused(NO_CLUSTER, &words, &["submit", "--", "true"]);
    yard.refused(NO_CLUSTER, &words, &["jobs"]);
    yard.refused(NO_CLUSTER, &["nothing was ever run in"], &["jobs", "--local"]);
    let absent = format!("unix://{}", yard.path("absent.sock").display());
    yard.refused(NO_CLUSTER, &["absent.sock"], &["jobs", "--endpoint", &absent]);
    yard.refused(USAGE, &["gopher", "unix://"], &["jobs", "--endpoint", "gopher://x"]);
}

#[test]
fn references_that_mean_nothing_say_what_there_is() {
    let yard = Yard::new();
    assert_eq!(yard.run(&process(&["--", "true"])).code(), 0);
    for command in ["show", "logs", "why"] {
        yard.refused(USAGE, &["JOB/STEP/TASK#ATTEMPT"], &[command, "nonsense", "--local"]);
        yard.refused(NOT_FOUND, &["there is no job 99"], &[command, "99", "--local"]);
        yard.refused(NOT_FOUND, &["has no step `tru`", "true"], &[command, "1/tru", "--local"]);
        yard.refused(NOT_FOUND, &["there is no task 7"], &[command, "1/true/7", "--local"]);
    }
    yard.refused(NOT_FOUND, &["there is no attempt 1/true/0#7; the last is #1"], &["logs", "1/true/0#7", "--local"]);
    yard.refused(
        NOT_FOUND,
        &["step 1/true has one task, 1/true/0; there is no task 7"],
        &["why", "1/true/7", "--local"],
    );
    yard.refused(NOT_FOUND, &["there is no job 99"], &["cancel", "99", "--local"]);
    yard.refused(NOT_FOUND, &["there is no job 99"], &["wait", "99", "--local"]);
    yard.refused(NOT_FOUND, &["there is no job 99"], &["watch", "99", "--local"]);
    yard.refused(USAGE, &["number of a job"], &["cancel", "1/true", "--local"]);
    yard.refused(NOT_FOUND, &["99"], &["submit", "--local", "--after", "99", "--", "true"]);
    yard.refused(NOT_FOUND, &["model"], &["artifact", "cat", "1", "model", "--local"]);
}

/// A small disk of its own, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn at(path: &Path, size: &str) -> Self {
        fs::create_dir(path).unwrap();
        let options = format!("size={size}");
        let none: Option<&str> = None;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(none, path, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Self(path.to_owned())
    }
}

impl SmallDisk {
    fn resize(&self, size: &str) {
        let none: Option<&str> = None;
        let options = format!("size={size}");
        let flags = nix::mount::MsFlags::MS_REMOUNT;
        nix::mount::mount(none, &self.0, none, flags, Some(options.as_str())).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost_when_there_is_room_again() {
    if !is_root() {
        return flowyard_skip::skip("only root may mount a small disk");
    }
    let yard = Yard::new();
    let disk = SmallDisk::at(&yard.home(), "48m");
    assert_eq!(yard.run(&process(&["--name", "before", "--", "true"])).code(), 0);
    // There is room for the file, and none for storing it: that is tried again, and succeeds once there is room.
    let script = "head -c 30000000 /dev/urandom > big";
    let mut submit = yard.start(&process(&["--output", "big=big", "--", "sh", "-c", script]));
    submit.wait_until("its first end", |submit| submit.stderr().contains("to be tried again, see `fctl why 2/sh`"));
    let why = yard.ok(&["why", "2/sh"]);
    assert!(why.contains("No space left on device"), "{why}");
    disk.resize("200m");
    let ran = submit.wait();
    assert_eq!(ran.code(), 0, "{ran:#?}");
    let first = &yard.json(&["show", "2", "--local"])["tasks_shown"][0]["attempts"][0];
    assert_eq!((&first["reason"], &first["blame"]), (&"disk".into(), &"platform".into()));
    // There is no room for the file, nor for the words of the program that says so.
    let script = "head -c 300000000 /dev/zero > big";
    let ran = yard.run(&process(&["--", "sh", "-c", script]));
    match ran.code() {
        1 => {
            ran.says(&["exited with code 1", "disk", "full"]);
            let left = fs::read_dir(yard.home().join("agent/attempts")).unwrap().count();
            assert_eq!(left, 0, "what ended takes no room any more, or nothing could be begun again");
        }
        // The log itself had something to write at that moment. It stops rather than forget, and goes on when there is room.
        code => {
            assert_eq!(code, HOME, "{ran:#?}");
            ran.says(&["stopped", "No space left on device", "free space"]);
            disk.resize("700m");
            let found = yard.run(&["wait", "3", "--local"]);
            assert!([0, 1, JOB_FAILED].contains(&found.code()), "what runs is taken up: {found:#?}");
        }
    }
    let free = nix::sys::statvfs::statvfs(&yard.home()).unwrap();
    let filler = vec![0_u8; usize::try_from(free.blocks_available() * free.fragment_size()).unwrap()];
    let _ = fs::write(yard.home().join("filler"), filler);
    let full = yard.run(&process(&["--name", "during", "--", "true"]));
    assert!(full.code() != 0 && full.stderr.to_lowercase().contains("no space left"), "{full:#?}");
    fs::remove_file(yard.home().join("filler")).unwrap();
    let after = yard.run(&process(&["--name", "after", "--", "true"]));
    assert_eq!(after.code(), 0, "{after:#?}\nafter\n{full:#?}");
    let jobs = yard.ok(&["jobs", "--local"]);
    assert!(jobs.contains("before") && jobs.contains("after"), "{jobs}");
    yard.until_nothing_runs();
    drop(disk);
    yard.nothing_is_left();
}

#[test]
fn settings_that_are_wrong_say_where() {
    let yard = Yard::new();
    yard.settings("storage_budget = \"20\"\n");
    yard.refused(USAGE, &["config.toml", "storage_budget", "has no unit"], &process(&["--", "true"]));
    yard.settings("[agnt]\nfake_gpus = 1\n");
    yard.refused(USAGE, &["config.toml", "unknown field `agnt`"], &process(&["--", "true"]));
}
