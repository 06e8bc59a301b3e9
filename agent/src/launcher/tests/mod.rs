//! The launcher as a process of its own, with real attempts.

mod containers;
mod ends;
mod limits;
mod output;
mod survival;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::protocol::{Event, Request, Running, Stopping, encode};
use super::{LauncherClient, StartCommand, socket};
use crate::cgroup::{Enforced, Enforcement};
use crate::logs::STDOUT_LOG;
use crate::runtime::spec::{ExitCause, ExitRecord, LaunchSpec, Limits, Sandbox};
use flowyard_logs::{Frames, Line, Lines};

const FOLDER_VARIABLE: &str = "FLOWYARD_TEST_LAUNCHER_FOLDER";
const ORDINARY_VARIABLE: &str = "FLOWYARD_TEST_LAUNCHER_IS_ORDINARY";
/// An ordinary user for tests that run as root; needs no entry in the user database.
const ORDINARY: u32 = 61_235;
const PATIENCE: Duration = Duration::from_secs(30);

/// Not a test: the process that the tests start as their launcher. One test thread means it runs on the main thread.
#[test]
fn becomes_a_launcher() {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        if std::env::var_os(ORDINARY_VARIABLE).is_some() {
            let (uid, gid) = (nix::unistd::Uid::from_raw(ORDINARY), nix::unistd::Gid::from_raw(ORDINARY));
            nix::unistd::setgroups(&[]).expect("groups");
            nix::unistd::setresgid(gid, gid, gid).expect("group");
            nix::unistd::setresuid(uid, uid, uid).expect("user");
        }
        super::main(Path::new(&folder));
    }
}

/// A launcher in a folder of its own, and the connection of an agent to it.
struct Yard {
    folder: TempDir,
    client: LauncherClient,
    events: mpsc::Receiver<Event>,
    enforcement: Enforcement,
    running: Vec<Running>,
    /// Events read while waiting for others.
    ended: HashMap<PathBuf, ExitRecord>,
    started: HashMap<PathBuf, u32>,
    made: usize,
    ordinary: bool,
}

pub(crate) fn start_command(folder: &Path, ordinary: bool) -> StartCommand {
    let arguments = ["launcher::tests::becomes_a_launcher", "--exact", "--nocapture", "--test-threads=1", "-q"];
    StartCommand {
        program: std::env::current_exe().expect("own path"),
        arguments: arguments.map(Into::into).to_vec(),
        env: [(FOLDER_VARIABLE.into(), folder.as_os_str().to_owned())]
            .into_iter()
            .chain(ordinary.then(|| (ORDINARY_VARIABLE.into(), "1".into())))
            .collect(),
    }
}

impl Yard {
    async fn open() -> Self {
        Self::open_as(false).await
    }

    /// With a launcher that is not root, and so has no cgroup of v1.
    async fn open_as_ordinary() -> Self {
        Self::open_as(nix::unistd::geteuid().is_root()).await
    }

    async fn open_as(ordinary: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("launcher-test-").tempdir().expect("folder");
        if ordinary {
            std::os::unix::fs::chown(folder.path(), Some(ORDINARY), Some(ORDINARY)).expect("an own folder");
        }
        let (client, events, enforcement, running) = connect(&home(folder.path()), ordinary).await;
        let (ended, started) = (HashMap::new(), HashMap::new());
        Self { folder, client, events, enforcement, running, ended, started, made: 0, ordinary }
    }

    /// As an agent that was killed and started again.
    async fn reconnect(&mut self) {
        let (client, events, _, running) = connect(&home(self.folder.path()), self.ordinary).await;
        (self.client, self.events, self.running) = (client, events, running);
    }

    /// A spec that runs `script` in a shell.
    fn shell(&mut self, script: &str) -> LaunchSpec {
        self.spec(&["/bin/sh", "-c", script])
    }

    fn spec(&mut self, argv: &[&str]) -> LaunchSpec {
        self.made += 1;
        let folder = self.folder.path().join(format!("attempt-{}", self.made));
        std::fs::create_dir(&folder).expect("attempt folder");
        if self.ordinary {
            std::os::unix::fs::chown(&folder, Some(ORDINARY), Some(ORDINARY)).expect("an own folder");
        }
        LaunchSpec {
            secret_env: Vec::new(),
            name: format!("1/test/{}#0", self.made),
            workdir: folder.clone(),
            folder,
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            limits: Limits { cpu_milli: 0, memory_bytes: 0, pids: 0, shm_bytes: 0, disk_bytes: 0 },
            sandbox: Sandbox::Process,
            timeout_ms: None,
            kill_grace_ms: 5_000,
            stop_signal: Default::default(),
            notice_signal: None,
            log_limit_bytes: 64 << 20,
            lease_file: None,
        }
    }

    async fn run(&mut self, spec: LaunchSpec) -> ExitRecord {
        let folder = spec.folder.clone();
        self.client.start(spec).await.expect("launcher");
        self.end_of(&folder).await
    }

    async fn end_of(&mut self, folder: &Path) -> ExitRecord {
        while !self.ended.contains_key(folder) {
            self.read_event().await;
        }
        self.ended[folder].clone()
    }

    /// How it ended, also if that was told to an agent that is gone.
    async fn ended_in(&self, folder: &Path) -> ExitCause {
        loop {
            if let Ok(Some(record)) = super::read_exit(folder) {
                return record.cause;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts `spec` and gives its pid once it runs.
    async fn start(&mut self, spec: LaunchSpec) -> u32 {
        let folder = spec.folder.clone();
        self.client.start(spec).await.expect("launcher");
        while !self.started.contains_key(&folder) {
            self.read_event().await;
        }
        self.started[&folder]
    }

    async fn read_event(&mut self) {
        match tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("a launcher") {
            Event::Ended { folder, record } => drop(self.ended.insert(folder, record)),
            Event::Started { folder, pid, .. } => drop(self.started.insert(folder, pid)),
            Event::Running { attempts, .. } => self.running = attempts,
            Event::ShutdownRefused { .. } => {}
        }
    }
}

/// A connection of an agent that is going to die, over which it sends what it still can.
pub(crate) fn dying_agent(home: &Path) -> std::os::unix::net::UnixStream {
    socket::connect(home).expect("launcher")
}

fn home(folder: &Path) -> PathBuf {
    folder.join("home")
}

async fn connect(folder: &Path, ordinary: bool) -> (LauncherClient, mpsc::Receiver<Event>, Enforcement, Vec<Running>) {
    let (client, mut events) =
        LauncherClient::connect_or_start(folder, start_command(folder, ordinary)).await.expect("a launcher");
    match events.recv().await.expect("first event") {
        Event::Running { enforcement, attempts, .. } => (client, events, enforcement, attempts),
        other => panic!("the first event was {other:?}"),
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let Ok(mut stream) = socket::connect(&home(self.folder.path())) else { return };
        let mut bytes = Vec::new();
        encode(&Request::Shutdown { kill: true }, &mut bytes);
        if stream.write_all(&bytes).is_ok() {
            // Reads on until the launcher has gone, so that its folder can be removed.
            let _ = stream.read_to_end(&mut bytes);
        }
    }
}

/// The launcher's process id, as the kernel knows the other end of a connection to it.
fn launcher_pid(yard: &Yard) -> u32 {
    let stream = socket::connect(&home(yard.folder.path())).expect("launcher");
    let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials).expect("peer");
    peer.pid() as u32
}

fn lines(path: &Path) -> Vec<Line> {
    match std::fs::File::open(path) {
        Ok(file) => Lines::new(Frames::new(file)).map(|line| line.expect("line")).collect(),
        Err(_) => Vec::new(),
    }
}

fn stdout_of(folder: &Path) -> String {
    let text = |line: Line| String::from_utf8_lossy(&line.bytes).into_owned();
    lines(&folder.join(STDOUT_LOG)).into_iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Says why a test proves nothing here; the line is counted.
fn skipped(reason: &str) {
    // Standard error, because a passing test's standard output is not shown.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

fn exited(code: i32) -> ExitCause {
    ExitCause::Exited { code }
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
