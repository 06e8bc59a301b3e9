//! The launcher's one loop: takes requests, starts and watches attempts, tells the agent. Everything it does is bounded per
//! turn, so no attempt and no agent can keep it from the others.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::mem::take;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::agent_link::AgentLink;
use super::deadlines::Deadlines;
use super::process::{Means, ProcessAttempt, Reaped};
use super::protocol::{Event, Request, Running};
use super::reactor::{Reactor, Source};
use super::reap::{self, next_ended};
use super::record::{EXIT_RECORD, write_exit};
use super::spawn::Spawner;
use super::stream::READ_BYTES;
use crate::cgroup::Pool;
use crate::runtime::spec::{ExitCause, ExitRecord, LaunchSpec, Sandbox};

/// Requests taken before pipes, clocks and ended processes have their turn.
const REQUESTS_PER_TURN: usize = 32;
/// How long a launcher without agent and without attempts waits for either.
const LINGER_MS: u64 = 60_000;
/// The deadline key of the lingering; attempts count from zero.
const LINGER: usize = usize::MAX;

/// The launcher.
#[derive(Debug)]
pub(super) struct Launcher {
    reactor: Reactor,
    listener: UnixListener,
    agent: Option<AgentLink>,
    attempts: Vec<Option<Watched>>,
    free: Vec<usize>,
    /// Keys that ended in this turn: events for them may still be in the batch, so they are not given out before the next.
    retired: Vec<usize>,
    by_pid: HashMap<u32, usize>,
    by_folder: HashMap<PathBuf, usize>,
    deadlines: Deadlines,
    linger: Option<u64>,
    pool: Pool,
    spawner: Spawner,
    null: File,
    buffer: Vec<u8>,
    /// Records that could not be written (a full disk); told and tried again when an agent connects.
    unrecorded: Vec<(PathBuf, ExitRecord)>,
    leaving: bool,
}

/// An attempt and the deadline that is set for it.
#[derive(Debug)]
struct Watched {
    attempt: ProcessAttempt,
    deadline: Option<u64>,
}

impl Launcher {
    /// A launcher for a folder whose socket is `listener`.
    pub(super) fn new(listener: UnixListener, pool: Pool, files: libc::rlimit) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        reactor.add(&listener, Source::Listener)?;
        Ok(Self {
            reactor,
            listener,
            agent: None,
            attempts: Vec::new(),
            free: Vec::new(),
            retired: Vec::new(),
            by_pid: HashMap::new(),
            by_folder: HashMap::new(),
            deadlines: Deadlines::default(),
            linger: None,
            pool,
            spawner: Spawner::new(files)?,
            null: File::open("/dev/null")?,
            buffer: vec![0; READ_BYTES],
            unrecorded: Vec::new(),
            leaving: false,
        })
    }

    /// Runs until it was told to end and nothing runs any more.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut sources = Vec::new();
        let mut more = false;
        loop {
            self.flush_agent(more)?;
            self.linger();
            if self.leaving && self.by_folder.is_empty() {
                self.pool.close();
                return Ok(());
            }
            self.reactor.arm(self.deadlines.first())?;
            self.reactor.wait(more, &mut sources)?;
            for source in &sources {
                self.serve(*source)?;
            }
            self.meet_deadlines();
            more = self.take_requests();
            self.free.append(&mut self.retired);
        }
    }

    fn serve(&mut self, source: Source) -> io::Result<()> {
        match source {
            Source::Signal => {
                if self.reactor.take_signals() {
                    self.leave(None);
                }
                self.reap()?;
            }
            // The deadlines are looked at in every turn.
            Source::Deadline | Source::Shim(_) => {}
            Source::Listener => self.accept()?,
            Source::Agent => drop(self.agent.as_mut().map(AgentLink::receive)),
            Source::Stdout(key) | Source::Stderr(key) => {
                if let Some(Some(watched)) = self.attempts.get_mut(key) {
                    let attempt = &mut watched.attempt;
                    let is_stdout = source == Source::Stdout(key);
                    let stream = if is_stdout { &mut attempt.stdout } else { &mut attempt.stderr };
                    stream.pump(&mut self.buffer);
                }
            }
        }
        Ok(())
    }

    /// Takes the newest connection; what the one before had asked for is still done.
    fn accept(&mut self) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(mut agent) = AgentLink::accept(stream, &self.reactor)? else { return Ok(()) };
        if let Some(mut before) = self.agent.take() {
            loop {
                while let Some(request) = before.next_request() {
                    self.obey(request);
                }
                if before.receive() == 0 {
                    break;
                }
            }
        }
        agent.queue(&self.running());
        self.agent = Some(agent);
        for (folder, record) in take(&mut self.unrecorded) {
            self.tell_end(folder, record);
        }
        Ok(())
    }

    /// Obeys some of what has arrived; true if there is more.
    fn take_requests(&mut self) -> bool {
        for _ in 0..REQUESTS_PER_TURN {
            match self.agent.as_mut().and_then(AgentLink::next_request) {
                Some(request) => self.obey(request),
                None => return false,
            }
        }
        true
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Start(spec) => self.start(spec),
            Request::Stop { folder, grace_ms } => {
                if let Some(key) = self.by_folder.get(&folder).copied() {
                    self.with(key, |attempt| attempt.stop(grace_ms));
                }
            }
            Request::List => {
                let running = self.running();
                self.tell(&running);
            }
            Request::Shutdown { kill: false } if !self.by_folder.is_empty() => {
                let running = self.by_folder.len();
                self.tell(&Event::ShutdownRefused { running });
            }
            Request::Shutdown { .. } => self.leave(Some(0)),
        }
    }

    fn start(&mut self, spec: Box<LaunchSpec>) {
        if let Some(key) = self.by_folder.get(&spec.folder) {
            if let Some(Some(watched)) = self.attempts.get(*key) {
                let event = started(&watched.attempt);
                self.tell(&event);
            }
            return;
        }
        if spec.folder.join(EXIT_RECORD).exists() {
            return self.tell_earlier_end(&spec.folder);
        }
        let folder = spec.folder.clone();
        match self.launch(spec) {
            Ok(attempt) => self.watch(attempt),
            Err(cause) => self.tell_end(folder, never_started(cause)),
        }
    }

    fn launch(&mut self, spec: Box<LaunchSpec>) -> Result<ProcessAttempt, ExitCause> {
        if self.leaving {
            return Err(ExitCause::Stopped);
        }
        match spec.sandbox {
            Sandbox::Process => {
                let means = Means { spawner: &mut self.spawner, pool: &mut self.pool, null: &self.null };
                ProcessAttempt::start(spec, means)
            }
            Sandbox::Container(_) => {
                Err(ExitCause::StartFailed { message: "this launcher runs process attempts only".to_owned() })
            }
        }
    }

    fn watch(&mut self, attempt: ProcessAttempt) {
        let event = started(&attempt);
        let key = self.free.pop().unwrap_or_else(|| {
            self.attempts.push(None);
            self.attempts.len() - 1
        });
        for (stream, source) in [(&attempt.stdout, Source::Stdout(key)), (&attempt.stderr, Source::Stderr(key))] {
            // A pipe that cannot be watched is read when the process ends; the kernel refuses only without memory.
            stream.fd().map(|fd| self.reactor.add(fd, source));
        }
        self.by_pid.insert(attempt.pid, key);
        self.by_folder.insert(attempt.spec.folder.clone(), key);
        let deadline = attempt.next_deadline();
        self.deadlines.set(key, None, deadline);
        self.attempts[key] = Some(Watched { attempt, deadline });
        self.tell(&event);
    }

    /// Does something to an attempt that may move its deadline.
    fn with(&mut self, key: usize, action: impl FnOnce(&mut ProcessAttempt)) {
        let Some(Some(watched)) = self.attempts.get_mut(key) else { return };
        action(&mut watched.attempt);
        let deadline = watched.attempt.next_deadline();
        self.deadlines.set(key, watched.deadline, deadline);
        watched.deadline = deadline;
    }

    fn meet_deadlines(&mut self) {
        let now = flowyard_clock::boot_ms();
        while let Some(key) = self.deadlines.due(now) {
            if key == LINGER {
                self.leaving = true;
                self.deadlines.set(LINGER, self.linger.take(), None);
            } else {
                self.with(key, |attempt| attempt.due(now));
            }
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Some(pid) = next_ended()? {
            let key = self.by_pid.remove(&pid);
            let watched = key.and_then(|key| self.attempts.get_mut(key)?.take().map(|watched| (key, watched)));
            let Some((key, watched)) = watched else {
                // An orphan of some attempt: we are its subreaper.
                reap::reap(pid)?;
                continue;
            };
            self.deadlines.set(key, watched.deadline, None);
            self.retired.push(key);
            watched.attempt.before_reap();
            let reaped = reap::reap(pid)?;
            self.end(watched.attempt, reaped);
        }
        Ok(())
    }

    fn end(&mut self, attempt: ProcessAttempt, reaped: Reaped) {
        let (spec, record) = attempt.finish(reaped, &mut self.pool, &mut self.buffer);
        self.by_folder.remove(&spec.folder);
        self.tell_end(spec.folder, record);
    }

    fn tell_end(&mut self, folder: PathBuf, record: ExitRecord) {
        if write_exit(&folder, &record).is_err() {
            self.unrecorded.push((folder.clone(), record.clone()));
        }
        self.tell(&Event::Ended { folder, record });
    }

    fn tell_earlier_end(&mut self, folder: &Path) {
        if let Ok(Some(record)) = super::record::read_exit(folder) {
            self.tell(&Event::Ended { folder: folder.to_owned(), record });
        }
    }

    fn tell(&mut self, event: &Event) {
        self.agent.iter_mut().for_each(|agent| agent.queue(event));
    }

    fn running(&self) -> Event {
        let attempts = self.attempts.iter().flatten().map(|watched| Running {
            folder: watched.attempt.spec.folder.clone(),
            pid: watched.attempt.pid,
            started_at_ms: Some(watched.attempt.started_at_ms),
        });
        Event::Running { enforcement: self.pool.enforcement(), attempts: attempts.collect() }
    }

    /// Sends what was queued; lets go of an agent that went and of which nothing more waits.
    fn flush_agent(&mut self, more: bool) -> io::Result<()> {
        if let Some(agent) = &mut self.agent {
            agent.flush(&self.reactor)?;
            if agent.is_gone() && !more {
                self.agent = None;
            }
        }
        Ok(())
    }

    /// Ends all attempts, and then ourselves.
    fn leave(&mut self, grace_ms: Option<u64>) {
        self.leaving = true;
        for key in 0..self.attempts.len() {
            self.with(key, |attempt| attempt.stop(grace_ms));
        }
    }

    /// Sets or lifts the deadline after which a launcher that nobody needs goes away.
    fn linger(&mut self) {
        let needed = self.agent.is_some() || !self.by_folder.is_empty();
        let linger = match (needed, self.linger) {
            (true, _) => None,
            (false, None) => Some(flowyard_clock::boot_ms() + LINGER_MS),
            (false, set) => set,
        };
        self.deadlines.set(LINGER, self.linger, linger);
        self.linger = linger;
    }
}

fn started(attempt: &ProcessAttempt) -> Event {
    Event::Started { folder: attempt.spec.folder.clone(), pid: attempt.pid, at_ms: attempt.started_at_ms }
}

fn never_started(cause: ExitCause) -> ExitRecord {
    let ended_at_ms = flowyard_clock::wall_ms();
    ExitRecord { cause, started_at_ms: None, ended_at_ms, peak_memory_bytes: 0, cpu_us: 0 }
}
