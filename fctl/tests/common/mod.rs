//! A cluster of one test: its own home, working directory and processes, all gone with it.
//!
//! Invariant: whatever carries the test's folder in its command line or environment was started by the test, so that what is
//! left running is found, named, and ended by its process id.
#![allow(unreachable_pub, reason = "it is a part of each test binary")]
#![allow(clippy::print_stdout, reason = "a failed test tells what went on")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod fleet;
pub mod network;
pub mod store;
pub mod upgrading;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use flowyard_clock::{elapsed, monotonic};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take before a test gives up; far above what it takes, since the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_fctl"))
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: PathBuf,
}

/// The cluster of one test.
#[derive(Debug)]
pub struct Yard {
    folder: tempfile::TempDir,
    program: PathBuf,
    commands: std::cell::Cell<u32>,
}

impl Yard {
    /// An empty one.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("flowyard-e2e-").tempdir().unwrap();
        let yard = Self { folder, program: program(), commands: std::cell::Cell::new(0) };
        for name in ["work", "config", "said"] {
            fs::create_dir(yard.folder.path().join(name)).unwrap();
        }
        yard
    }

    /// Runs this copy of the program from now on.
    pub fn run_with(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The home of its cluster.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A path in the working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// Writes a file in the working directory.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes the settings of its home.
    pub fn settings(&self, text: &str) {
        fs::create_dir_all(self.home()).unwrap();
        fs::write(self.home().join("config.toml"), text).unwrap();
    }

    /// A command of it, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(self.path(""));
        command.env("FLOWYARD_HOME", self.home()).env("XDG_CONFIG_HOME", self.folder.path().join("config"));
        command.env_remove("FLOWYARD_ENDPOINT").env_remove("FLOWYARD_LOG").env_remove("NO_COLOR");
        command.stdin(Stdio::null());
        command
    }

    /// Starts a command.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_command(self.command(args))
    }

    /// Starts a command that was made with [`Self::command`].
    pub fn start_command(&self, mut command: Command) -> Running {
        let said = self.folder.path().join("said").join(self.commands.replace(self.commands.get() + 1).to_string());
        let file = |end: &str| File::create(said.with_extension(end)).unwrap();
        let child = command.stdout(file("out")).stderr(file("err")).spawn().unwrap();
        Running { child, said }
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.start(args).wait()
    }

    /// Runs a command that must succeed, and gives what it wrote to standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code(), 0, "{args:?}: {ran:#?}");
        ran.stdout
    }

    /// Runs a command that must end with `code` and say every one of `words` on standard error.
    pub fn refused(&self, code: i32, words: &[&str], args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code(), code, "{args:?}: {ran:#?}");
        ran.says(words);
        ran
    }

    /// The answer of `-o json`, of which there is one line.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let args: Vec<&str> = [&["-o", "json"], args].concat();
        let said = self.ok(&args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{args:?}: {error}: {said}"))
    }

    /// Keeps a cluster up.
    pub fn dev(&self, args: &[&str]) -> Running {
        let mut dev = self.start(&[&["dev"], args].concat());
        dev.wait_until("its cluster to be up", |dev| dev.stderr().contains(" is up; endpoint"));
        dev
    }

    /// Waits until the only task of `reference` runs a process.
    pub fn wait_running(&self, reference: &str, local: &[&str]) {
        until(&format!("{reference} to run"), || {
            let shown = self.run(&[&["show", reference, "-o", "json"], local].concat());
            shown.stdout.contains("\"phase\":\"running\"")
        });
    }

    /// Processes that belong to this test and are not its children's: launchers, shims, tasks.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let needle = self.folder.path().to_str().unwrap().to_owned();
        let me = std::process::id();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let environment = String::from_utf8_lossy(&read("environ")).into_owned();
            if pid.cast_unsigned() != me && (line.contains(&needle) || environment.contains(&needle)) {
                found.push((pid, line));
            }
        }
        found
    }

    /// Kills all that belongs to this test, by its process id, as a power cut would.
    pub fn kill_everything(&self) {
        until_or(
            "everything to be killed",
            || format!("{:#?}", self.processes()),
            || {
                let left = self.processes();
                for (pid, _) in &left {
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
                left.is_empty()
            },
        );
    }

    /// Waits until nothing of this test runs.
    pub fn until_nothing_runs(&self) {
        until_or("nothing to be left running", || format!("{:#?}", self.processes()), || self.processes().is_empty());
    }

    /// A launcher that was killed leaves its cgroups to the next one of its home, which is not to come.
    fn remove_cgroups(&self) {
        let folders = fs::read_dir(self.home()).into_iter().flatten().flatten().map(|folder| folder.path());
        // An agent's own folder, or that of a host with one.
        let agents = folders.flat_map(|folder| [folder.join("agent"), folder]);
        let records = agents.filter_map(|agent| fs::read_to_string(agent.join("launcher/cgroups")).ok());
        records.for_each(|record| remove_cgroups(&record));
    }

    /// For whoever reads of a failed test: where its jobs stand, and what its launcher said.
    fn tell_what_went_on(&self) {
        for job in 1..=4 {
            let why = self.command(&["why", &job.to_string(), "--local"]).output();
            println!(
                "{}",
                why.map_or_else(|error| error.to_string(), |why| String::from_utf8_lossy(&why.stdout).into_owned())
            );
        }
        println!("{}", fs::read_to_string(self.home().join("agent/launcher/launcher.log")).unwrap_or_default());
    }

    /// Waits until nothing of this test runs, and sees that nothing is mounted.
    pub fn nothing_is_left(&self) {
        self.until_nothing_runs();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let folder = self.folder.path().to_str().unwrap();
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(folder)).collect();
        assert!(left.is_empty(), "still mounted: {left:#?}");
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_what_went_on();
        }
        for (pid, _) in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.remove_cgroups();
    }
}

impl Ran {
    /// Its exit code; 128 and the signal if it was killed.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Asserts that a command inside a task made what the task waited for: it may be killed with the task, which ends at once.
    pub fn has_opened(&self) {
        assert!([0, 137].contains(&self.code()), "{self:#?}");
    }

    /// Asserts that standard error has all these words, and nothing that moves a terminal's cursor.
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in {self:#?}");
        }
        let hostile = self.stderr.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(hostile, None, "hostile to a terminal: {self:#?}");
    }
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.said.with_extension("out")).unwrap()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.said.with_extension("err")).unwrap()).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Interrupts it as Ctrl-C does, and waits for its end.
    pub fn interrupt(self) -> Ran {
        self.signal(Signal::SIGINT);
        self.wait()
    }

    /// Kills it as nothing can be prepared for, and waits for its end.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Waits until something holds; its early end is a failure.
    pub fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = monotonic();
        while !holds(self) {
            let ended = self.child.try_wait().unwrap();
            let told = || format!("{what}: {}{}", self.stdout(), self.stderr());
            assert!(ended.is_none() || holds(self), "ended while waited for {}: {ended:?}", told());
            assert!(elapsed(start) < PATIENCE, "waited in vain for {}", told());
            std::thread::sleep(LOOK);
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ran {
        let start = monotonic();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(elapsed(start) < PATIENCE, "does not end: {}{}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        };
        Ran { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Takes away the cgroups that a launcher has written down, when it has been killed.
pub fn remove_cgroups(record: &str) {
    const TRIES: u32 = 50;
    for place in record.lines().map(Path::new).filter(|place| place.starts_with("/sys/fs/cgroup")) {
        for _ in 0..TRIES {
            for slot in fs::read_dir(place).into_iter().flatten().flatten() {
                // Files of the kernel among them refuse, and what has not died yet.
                let _ = fs::remove_dir(slot.path());
            }
            if !place.exists() || fs::remove_dir(place).is_ok() {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or(what, String::new, holds);
}

fn until_or(what: &str, told: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let start = monotonic();
    while !holds() {
        assert!(elapsed(start) < PATIENCE, "waited in vain for {what} {}", told());
        std::thread::sleep(LOOK);
    }
}

/// Whether this test may do what only the machine's owner may.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
