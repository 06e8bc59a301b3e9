//! Runs commands in containers with image `host`, without agent or launcher, and times them: the place to look for what a
//! container start costs. `container_run COUNT PARALLEL COMMAND...`; with a count of 1 the command's output is shown.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use flowyard_agent::runtime::spec::{ContainerSpec, LaunchSpec, Limits, Network, Root, Sandbox, User};
use flowyard_agent::runtime::{End, Runtime, RuntimeError, Stage, Stages, Stdio, default_hidden, open};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getegid, geteuid};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let count: usize = args.next().ok_or("COUNT PARALLEL COMMAND...")?.parse()?;
    let parallel: usize = args.next().ok_or("COUNT PARALLEL COMMAND...")?.parse()?;
    let argv: Vec<String> = args.collect();
    let base = std::env::temp_dir().join(format!("container-run-{}", std::process::id()));
    fs::create_dir(&base)?;
    let container = container(&base);
    let mut stages = Stages::new();
    let begun = flowyard_clock::monotonic();
    let stage = stages.ready(&container)?;
    eprintln!("stage: {:?}", begun.elapsed());
    let outcome = if count == 1 {
        one(&launch(&base, 0, &argv, &container), &container, &stage, true).map(|times| eprintln!("{times:?}"))
    } else {
        many(&base, count, parallel, &argv, &container, &stage);
        Ok(())
    };
    fs::remove_dir_all(&base)?;
    Ok(outcome?)
}

fn container(base: &Path) -> ContainerSpec {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let home = std::env::var_os("HOME").map(PathBuf::from);
    ContainerSpec {
        root: Root::Host { hidden: default_hidden(home.as_deref(), base) },
        mounts: Vec::new(),
        network: Network::Host,
        devices: Vec::new(),
        user: User::itself(uid, gid),
        oci_runtime: None,
    }
}

fn launch(base: &Path, number: usize, argv: &[String], container: &ContainerSpec) -> LaunchSpec {
    LaunchSpec {
        secret_env: Vec::new(),
        name: format!("1/run/{number}#1"),
        folder: base.join(number.to_string()),
        argv: argv.to_vec(),
        env: vec![("PATH".into(), std::env::var("PATH").unwrap_or_default())],
        workdir: "/tmp".into(),
        limits: Limits { cpu_milli: 1000, memory_bytes: 1 << 30, pids: 100, shm_bytes: 0, disk_bytes: 0 },
        sandbox: Sandbox::Container(Box::new(container.clone())),
        timeout_ms: None,
        kill_grace_ms: 1000,
        stop_signal: Default::default(),
        notice_signal: None,
        log_limit_bytes: 0,
        lease_file: None,
    }
}

fn stdio(show: bool) -> Result<Stdio, RuntimeError> {
    let null = |write: bool| {
        let opened: std::io::Result<File> = OpenOptions::new().read(!write).write(write).open("/dev/null");
        opened.map(OwnedFd::from).map_err(|source| RuntimeError::Step { what: "open /dev/null", source })
    };
    let shown = |descriptor: &dyn std::os::fd::AsFd| {
        descriptor
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| RuntimeError::Step { what: "copy a descriptor", source })
    };
    if show {
        Ok(Stdio { stdin: null(false)?, stdout: shown(&std::io::stdout())?, stderr: shown(&std::io::stderr())? })
    } else {
        Ok(Stdio { stdin: null(false)?, stdout: null(true)?, stderr: null(true)? })
    }
}

/// Times of one container: created, started, ended, deleted.
type Times = [Duration; 4];

fn one(launch: &LaunchSpec, container: &ContainerSpec, stage: &Rc<Stage>, show: bool) -> Result<Times, RuntimeError> {
    let _ = fs::create_dir(&launch.folder);
    let begun = flowyard_clock::monotonic();
    let mut runtime = open(launch, container, stage, stdio(show)?)?;
    let result = lifetime(runtime.as_mut(), begun);
    let deleted = runtime.delete();
    let mut times = result?;
    deleted?;
    times[3] = begun.elapsed();
    let _ = fs::remove_dir(&launch.folder);
    Ok(times)
}

fn lifetime(runtime: &mut dyn Runtime, begun: Instant) -> Result<Times, RuntimeError> {
    let mut times = Times::default();
    runtime.create()?;
    times[0] = begun.elapsed();
    runtime.start()?;
    times[1] = begun.elapsed();
    let end = runtime.wait()?;
    times[2] = begun.elapsed();
    if end != (End::Exited { code: 0 }) {
        eprintln!("{end:?}");
    }
    Ok(times)
}

fn many(base: &Path, count: usize, parallel: usize, argv: &[String], container: &ContainerSpec, stage: &Rc<Stage>) {
    let begun = flowyard_clock::monotonic();
    let mut running = 0;
    for number in 0..count {
        if running == parallel {
            wait_one();
            running -= 1;
        }
        shim(base, number, argv, container, stage);
        running += 1;
    }
    for _ in 0..running {
        wait_one();
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    let mut all: Vec<[u64; 4]> = (0..count)
        .filter_map(|number| {
            let text = fs::read_to_string(base.join(format!("{number}.times"))).ok()?;
            let words: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            words.try_into().ok()
        })
        .collect();
    println!("{rate:.0}/s, {} of {count} succeeded", all.len());
    for (index, name) in ["created", "started", "ended", "deleted"].iter().enumerate() {
        all.sort_by_key(|times| times[index]);
        if let (Some(middle), Some(late)) = (all.get(all.len() / 2), all.get(all.len() * 9 / 10)) {
            println!("{name:8} p50 {:6} us  p90 {:6} us", middle[index], late[index]);
        }
    }
}

/// One shim per container, as the launcher does it.
fn shim(base: &Path, number: usize, argv: &[String], container: &ContainerSpec, stage: &Rc<Stage>) {
    // SAFETY: this program has one thread.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        let status = match one(&launch(base, number, argv, container), container, stage, false) {
            Ok(times) => {
                let words: Vec<String> = times.iter().map(|time| time.as_micros().to_string()).collect();
                i32::from(fs::write(base.join(format!("{number}.times")), words.join(" ")).is_err())
            }
            Err(error) => {
                eprintln!("{error}");
                1
            }
        };
        // SAFETY: ends this process without running the parent's exit code.
        unsafe { libc::_exit(status) }
    }
}

fn wait_one() {
    while !matches!(waitpid(None, None), Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_)) {}
}
