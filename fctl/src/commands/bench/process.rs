//! Processes that a bench starts, what they take, and their end. They are killed with whoever holds them.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// How long one may take to stop when asked to.
const STOP: Duration = Duration::from_secs(10);
/// How often it is looked whether something is there.
const LOOK: Duration = Duration::from_millis(20);

/// This program with these words, seeing nothing of whoever runs the bench.
pub(super) fn ourselves(folder: &Path, words: &[&str]) -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(Failure::local("this program"))?;
    let mut command = Command::new(program);
    command.args(words).env("XDG_CONFIG_HOME", folder.join("config")).env("HOME", folder);
    command.env_remove("FLOWYARD_ENDPOINT").env_remove("FLOWYARD_HOME").env_remove("FLOWYARD_OTLP");
    // A Ctrl-C at the terminal is for the bench, which ends the others in their order.
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    Ok(command)
}

/// Runs a command to its good end: what it wrote.
pub(super) async fn output_of(mut command: Command) -> Result<String, Failure> {
    let out = command.output().await.map_err(Failure::local("this program"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => {
            let words: Vec<_> = command.as_std().get_args().take(2).map(|word| word.to_string_lossy()).collect();
            let said = String::from_utf8_lossy(&out.stderr);
            Err(Failure::Home(format!("fctl {}: {}", words.join(" "), said.trim().trim_start_matches("error: "))))
        }
    }
}

/// What a process has taken so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// The memory that it has, and the most it had.
    pub rss_bytes: u64,
    pub peak_rss_bytes: u64,
}

/// What a process takes; nothing if it is gone.
pub(super) fn taken(pid: u32) -> Option<Taken> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything, so what follows it is looked at.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name: &str| -> Option<u64> {
        let told = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(told.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    let cpu_us = ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1);
    Some(Taken { cpu_us, rss_bytes: bytes("VmRSS:")?, peak_rss_bytes: bytes("VmHWM:")? })
}

/// A process that goes on in the background, and the file that it writes to.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    pid: u32,
    name: String,
}

impl Process {
    /// Starts it; what it says goes to a file of the folder.
    pub(super) fn start(mut command: Command, name: &str, folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path).map_err(Failure::local(path.display()))?;
        command.stderr(log);
        if name != super::agents::NAME {
            command.stdout(Stdio::null());
        }
        let child = command.spawn().map_err(Failure::local("this program"))?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, name: name.to_owned() })
    }

    /// What it has taken so far.
    pub(super) fn taken(&self) -> Taken {
        taken(self.pid).unwrap_or_default()
    }

    /// Why it is over, if it is.
    pub(super) fn fault(&mut self, folder: &Path) -> Option<Failure> {
        let status = self.child.try_wait().ok().flatten()?;
        let path = folder.join(format!("{}.log", self.name));
        let said = std::fs::read_to_string(path).unwrap_or_default();
        let last = said.trim_end().lines().last().unwrap_or("it said nothing").trim_start_matches("error: ").to_owned();
        Some(Failure::Home(format!("{} ended ({status}): {last}", self.name)))
    }

    /// Waits until it has written these words.
    pub(super) async fn says(&mut self, words: &str, folder: &Path, patience: Duration) -> Result<(), Failure> {
        let (path, start) = (folder.join(format!("{}.log", self.name)), flowyard_clock::monotonic());
        while flowyard_clock::elapsed(start) < patience {
            if std::fs::read_to_string(&path).unwrap_or_default().contains(words) {
                return Ok(());
            }
            if let Some(fault) = self.fault(folder) {
                return Err(fault);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Failure::Home(format!("{} does not say `{words}`; see {}", self.name, path.display())))
    }

    /// Ends it without a warning.
    pub(super) async fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }

    /// Asks it to stop.
    pub(super) fn ask(&self) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may end by itself meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits for its end, for a while; then ends it.
    pub(super) async fn end(mut self) {
        if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
            // It is reaped by whoever drops it.
            let _ = self.child.kill().await;
        }
    }
}

/// An address of this machine that nobody listens on now.
pub(super) fn free_address() -> Result<String, Failure> {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.to_string()).map_err(Failure::local("a port of this machine"))
}
