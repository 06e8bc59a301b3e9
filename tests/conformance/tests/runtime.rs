//! The runtime suite on every runtime there is here.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flowyard_agent::runtime::spec::{ContainerSpec, LaunchSpec, Limits, Network, Root, Sandbox, User};
use flowyard_agent::runtime::{FakeRuntime, FakeScript, Runtime, Stage, Stages, Stdio, default_hidden, open};
use flowyard_conformance::runtime::{Behaviour, runtime};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getegid, geteuid};

#[test]
fn the_fake_keeps_the_contract() {
    runtime(&mut |behaviour| {
        Box::new(FakeRuntime::new(match behaviour {
            Behaviour::Exits(code) => FakeScript::exits(code),
            Behaviour::Runs => FakeScript::runs(),
            Behaviour::NotFound => FakeScript { start: false, ..FakeScript::runs() },
        }))
    });
}

#[test]
fn the_linked_in_library_keeps_the_contract() {
    in_own_process(|| suite(None));
}

#[test]
fn crun_keeps_the_contract() {
    with_binary("crun");
}

#[test]
fn runc_keeps_the_contract() {
    eprintln!(
        "skipped: runc insists on managing cgroups, which are the launcher's business and not to be seen in a stage"
    );
}

fn with_binary(name: &str) {
    let folders = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin"];
    let Some(binary) = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists()) else {
        eprintln!("skipped: no {name} on this machine");
        return;
    };
    in_own_process(|| suite(Some(binary)));
}

/// Runtimes fork and wait for any child, so each suite gets a process with one thread.
fn in_own_process(suite: impl FnOnce()) {
    // SAFETY: the child only runs the suite and ends; glibc's allocator survives a fork from a process with threads.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(suite)).is_ok();
            std::process::exit(i32::from(!passed))
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("the child's end");
            assert_eq!(status, WaitStatus::Exited(child, 0), "the suite failed; its words are above");
        }
    }
}

fn suite(oci_runtime: Option<PathBuf>) {
    let base = tempfile::tempdir().expect("a folder");
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let container = ContainerSpec {
        root: Root::Host { hidden: default_hidden(None, base.path()) },
        mounts: Vec::new(),
        network: Network::Host,
        devices: Vec::new(),
        user: User::itself(uid, gid),
        oci_runtime,
    };
    let mut stages = Stages::new();
    let stage = stages.ready(&container).expect("a stage");
    let mut count = 0;
    runtime(&mut |behaviour| {
        count += 1;
        one(base.path(), count, behaviour, &container, &stage)
    });
    let left: Vec<_> = (1..=count).filter(|n| base.path().join(n.to_string()).join("scratch").exists()).collect();
    assert!(left.is_empty(), "scratch folders are left over: {left:?}");
}

fn one(
    base: &Path,
    count: u32,
    behaviour: Behaviour,
    container: &ContainerSpec,
    stage: &Rc<Stage>,
) -> Box<dyn Runtime> {
    let folder = base.join(count.to_string());
    fs::create_dir(&folder).expect("a folder");
    // Under a runtime binary the program is process 1, for which the kernel ignores a SIGTERM that it does not catch.
    let script = match behaviour {
        Behaviour::Exits(code) => format!("exit {code}"),
        _ => "trap 'exit 143' TERM; while :; do sleep 0.05; done".to_owned(),
    };
    let argv = match behaviour {
        Behaviour::NotFound => vec!["no-such-program".to_owned()],
        _ => vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
    };
    let launch = LaunchSpec {
        name: format!("1/suite/{count}#1"),
        folder,
        argv,
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        secret_env: Vec::new(),
        workdir: "/tmp".into(),
        limits: Limits { cpu_milli: 1000, memory_bytes: 256 << 20, pids: 64, shm_bytes: 0, disk_bytes: 0 },
        sandbox: Sandbox::Container(Box::new(container.clone())),
        timeout_ms: None,
        kill_grace_ms: 1000,
        stop_signal: Default::default(),
        notice_signal: None,
        log_limit_bytes: 0,
        lease_file: None,
    };
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").expect("/dev/null"));
    let stdio = Stdio { stdin: null(), stdout: null(), stderr: null() };
    open(&launch, container, stage, stdio).expect("a runtime")
}
