//! A process under measurement. It is killed with whoever holds it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a member may take to be there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// It, and the file that it writes to.
pub(crate) struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to the file.
    pub(crate) fn start(command: &mut Command, said: &Path) -> Result<Self, String> {
        let log = File::options().create(true).append(true).open(said);
        let log = log.map_err(|error| format!("{}: {error}", said.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        Ok(Self { child, said: said.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has written these words since its start at `from` bytes of its file.
    pub(crate) fn says(&mut self, words: &str, from: usize) -> Result<(), String> {
        let said = flowyard_clock::patiently(PATIENCE, || {
            let text = std::fs::read(&self.said).unwrap_or_default();
            let fresh = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
            let ended = matches!(self.child.try_wait(), Ok(Some(_)));
            if fresh.contains(words) { Some(Ok(())) } else { ended.then_some(Err(fresh)) }
        });
        match said {
            Some(Ok(())) => Ok(()),
            Some(Err(fresh)) => Err(format!("{} ended: {}", self.said.display(), fresh.trim_end())),
            None => Err(format!("{} does not say `{words}`", self.said.display())),
        }
    }

    /// Ends it as nothing can be prepared for.
    pub(crate) fn kill(mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) {
        self.end(Signal::SIGTERM);
    }

    fn end(&mut self, signal: Signal) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end by itself meanwhile.
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Signal::SIGKILL);
    }
}

/// Runs a command to its good end: what it wrote.
pub(crate) fn output_of(command: &mut Command) -> Result<String, String> {
    let out = command.stdin(Stdio::null()).output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// An address of this machine that nobody listens on now.
pub(crate) fn free_address() -> Result<String, String> {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.to_string()).map_err(|error| error.to_string())
}
