//! What the launcher watches: a process it runs itself, or the shim of a container.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::process::ProcessAttempt;
use super::protocol::{Event, Stopping};
use super::reactor::Source;
use super::shim_attempt::ShimAttempt;

/// One attempt that runs.
#[derive(Debug)]
pub(super) enum Attempt {
    Process(Box<ProcessAttempt>),
    Shim(Box<ShimAttempt>),
}

impl Attempt {
    /// The attempt's folder, its name between us and the agent.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Process(process) => &process.spec.folder,
            Self::Shim(shim) => &shim.folder,
        }
    }

    /// The process on the host that stands for it.
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Process(process) => process.pid,
            Self::Shim(shim) => shim.pid,
        }
    }

    /// When the user's process started, wall clock in milliseconds.
    pub(super) fn started_at_ms(&self) -> Option<u64> {
        match self {
            Self::Process(process) => Some(process.started_at_ms),
            Self::Shim(shim) => shim.started_at_ms,
        }
    }

    /// The event that tells of the start, if the user's process runs.
    pub(super) fn started(&self) -> Option<Event> {
        let at_ms = self.started_at_ms()?;
        Some(Event::Started { folder: self.folder().to_owned(), pid: self.pid(), at_ms })
    }

    /// What to watch for it.
    pub(super) fn sources(&self, key: usize) -> Vec<(BorrowedFd<'_>, Source)> {
        match self {
            Self::Process(process) => {
                let streams = [(&process.stdout, Source::Stdout(key)), (&process.stderr, Source::Stderr(key))];
                streams.into_iter().filter_map(|(stream, source)| Some((stream.fd()?, source))).collect()
            }
            Self::Shim(shim) => vec![(shim.fd(), Source::Shim(key))],
        }
    }

    /// When [`Attempt::due`] must be called. A shim keeps its own time.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        match self {
            Self::Process(process) => process.next_deadline(),
            Self::Shim(_) => None,
        }
    }

    /// Does what the clock demands.
    pub(super) fn due(&mut self, now: u64) {
        if let Self::Process(process) = self {
            process.due(now);
        }
    }

    /// Ends it because somebody asked.
    pub(super) fn stop(&mut self, stopping: Stopping) {
        match self {
            Self::Process(process) => process.stop(stopping),
            Self::Shim(shim) => shim.stop(stopping),
        }
    }
}
