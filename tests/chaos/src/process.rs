//! A coordinator or an agent: one process on one host, and what it says.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::system::{PATIENCE, children, waited};

/// A process that was started on a host. Entering a host costs one process between the suite and it.
#[derive(Debug)]
pub(crate) struct Process {
    entered: Child,
    /// Unless it ended before anybody could see it.
    pid: Option<i32>,
    said: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to the files `said`.out and `said`.err.
    pub(crate) fn start(mut command: Command, said: PathBuf) -> std::io::Result<Self> {
        command.stdout(File::create(said.with_extension("out"))?).stderr(File::create(said.with_extension("err"))?);
        let mut entered = command.spawn()?;
        let mut pid = None;
        let came = waited(PATIENCE, || {
            pid = children(entered.id()).first().copied();
            pid.is_some() || matches!(entered.try_wait(), Ok(Some(_)))
        });
        match came {
            true => Ok(Self { entered, pid, said }),
            false => Err(std::io::Error::other(format!("{command:?} does not start"))),
        }
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.said.with_extension("err")).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.entered.try_wait().ok().flatten()
    }

    /// Waits until it says these words, or ends, or the patience is over: whether it has said them.
    pub(crate) fn says(&mut self, words: &str, patience: Duration) -> bool {
        let mut said = false;
        waited(patience, || {
            said = self.stderr().contains(words);
            said || self.ended().is_some()
        });
        said
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on; the process between stops with it, and is to go on too.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
        let between = i32::try_from(self.entered.id()).expect("process ids are small");
        // It may have ended.
        let _ = kill(Pid::from_raw(between), Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = self.pid.map(|pid| kill(Pid::from_raw(pid), signal));
    }

    /// Ends it as nothing can be prepared for.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        // A process between that is stopped would not notice.
        self.resume();
        let _ = self.entered.wait();
    }

    /// Asks it to stop, as a service manager does. How it ended, or that it does not.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        self.signal(Signal::SIGTERM);
        let mut status = None;
        waited(PATIENCE, || {
            status = self.ended();
            status.is_some()
        });
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{} ended with {status}: {}", self.name(), tail(&self.stderr()))),
            None => Err(format!("{} does not stop: {}", self.name(), tail(&self.stderr()))),
        }
    }

    /// How it ended by itself, in words, if it has.
    pub(crate) fn fell(&mut self) -> Option<String> {
        let status = self.ended()?;
        let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
        Some(format!("{} ended by itself ({how}): {}", self.name(), tail(&self.stderr())))
    }

    fn name(&self) -> String {
        self.said.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL);
            self.resume();
            let _ = self.entered.wait();
        }
    }
}

/// The last lines of what something said.
pub(crate) fn tail(said: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
