//! A runtime without containers, for tests and simulation: it does what its script says, in no time and without processes.

use nix::unistd::Pid;

use super::{End, Runtime, RuntimeError, Stats};

/// What a fake container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FakeScript {
    /// Whether it can be made.
    pub create: bool,
    /// Whether the program is found.
    pub start: bool,
    /// How often [`Runtime::try_wait`] says "still running" before the end; `None` for a program that never ends by itself.
    pub polls: Option<u32>,
    /// How it ends by itself.
    pub end: End,
    /// Whether it goes on after SIGTERM.
    pub ignores_term: bool,
}

impl FakeScript {
    /// Ends at once with this exit code.
    pub fn exits(code: i32) -> Self {
        Self { create: true, start: true, polls: Some(0), end: End::Exited { code }, ignores_term: false }
    }

    /// Runs until it is stopped.
    pub fn runs() -> Self {
        Self { polls: None, ..Self::exits(0) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Created,
    Running,
    Ended(End),
    Deleted,
}

/// A container that does what it is told and exists nowhere.
#[derive(Debug)]
pub struct FakeRuntime {
    script: FakeScript,
    phase: Phase,
    polls: u32,
}

impl FakeRuntime {
    /// A container with this script.
    pub fn new(script: FakeScript) -> Self {
        Self { script, phase: Phase::Fresh, polls: 0 }
    }
}

impl Runtime for FakeRuntime {
    fn create(&mut self) -> Result<(), RuntimeError> {
        if self.phase != Phase::Fresh {
            return Err(RuntimeError::Refused("a container is created once".to_owned()));
        }
        self.phase = if self.script.create { Phase::Created } else { Phase::Deleted };
        if self.script.create { Ok(()) } else { Err(RuntimeError::Refused("the script says so".to_owned())) }
    }

    fn start(&mut self) -> Result<(), RuntimeError> {
        if self.phase != Phase::Created {
            return Err(RuntimeError::Refused("a container is started once, after it was created".to_owned()));
        }
        if !self.script.start {
            self.phase = Phase::Ended(End::Exited { code: 127 });
            return Err(RuntimeError::Command { code: 127, message: "the script says so: not found".to_owned() });
        }
        self.phase = Phase::Running;
        Ok(())
    }

    fn init_pid(&self) -> Option<Pid> {
        None
    }

    fn kill(&mut self, signal: i32) -> Result<(), RuntimeError> {
        let fatal = signal == libc::SIGKILL || (signal == libc::SIGTERM && !self.script.ignores_term);
        if fatal && matches!(self.phase, Phase::Created | Phase::Running) {
            self.phase = Phase::Ended(End::Signalled { signal });
        }
        Ok(())
    }

    fn kill_all(&mut self) -> Result<(), RuntimeError> {
        self.kill(libc::SIGKILL)
    }

    fn try_wait(&mut self) -> Result<Option<End>, RuntimeError> {
        match (self.phase, self.script.polls) {
            (Phase::Ended(end), _) => Ok(Some(end)),
            (Phase::Running, Some(polls)) if self.polls >= polls => {
                self.phase = Phase::Ended(self.script.end);
                Ok(Some(self.script.end))
            }
            (Phase::Running, _) => {
                self.polls = self.polls.saturating_add(1);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn wait(&mut self) -> Result<End, RuntimeError> {
        match (self.phase, self.script.polls) {
            (Phase::Ended(end), _) => Ok(end),
            (Phase::Running, Some(_)) => {
                self.phase = Phase::Ended(self.script.end);
                Ok(self.script.end)
            }
            // Nobody else can end it while the caller waits.
            _ => Err(RuntimeError::Died(None)),
        }
    }

    fn stats(&mut self) -> Result<Stats, RuntimeError> {
        let running = u64::from(self.phase == Phase::Running);
        Ok(Stats { processes: running, resident_bytes: running << 20, cpu_us: u64::from(self.polls) * 1000 })
    }

    fn delete(&mut self) -> Result<(), RuntimeError> {
        self.phase = Phase::Deleted;
        Ok(())
    }
}
