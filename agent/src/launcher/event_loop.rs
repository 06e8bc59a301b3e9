//! The launcher's one loop: takes requests, starts and watches attempts, tells the agent. Everything it does is bounded per
//! turn, so no attempt and no agent can keep it from the others.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::mem::take;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{ForkResult, fork};

use super::agent_link::AgentLink;
use super::attempt::Attempt;
use super::deadlines::Deadlines;
use super::process::{Means, ProcessAttempt, Reaped};
use super::protocol::{Event, Request, Running, Stopping};
use super::reactor::{Reactor, Source};
use super::reap::{self, next_ended};
use super::record::{EXIT_RECORD, write_exit};
use super::roster::Roster;
use super::shim::ShimTask;
use super::shim_attempt::{self, ShimAttempt};
use super::shim_record::ShimRecord;
use super::spawn::Spawner;
use super::stream::READ_BYTES;
use crate::cgroup::Pool;
use crate::runtime::Stages;
use crate::runtime::spec::{ExitCause, ExitRecord, LaunchSpec, Sandbox};

/// Requests taken before pipes, clocks and ended processes have their turn.
const REQUESTS_PER_TURN: usize = 32;
/// How long a launcher without agent and without attempts waits for either.
const LINGER_MS: u64 = 60_000;
/// The deadline key of the lingering; attempts count from zero.
const LINGER: usize = usize::MAX;

/// How the loop was left.
#[derive(Debug)]
pub(super) enum Leave {
    /// Nothing runs and nobody needs us.
    Done,
    /// This process is a shim that was just forked; nothing of the launcher is left in it.
    AsShim(Box<ShimTask>),
}

/// The launcher.
#[derive(Debug)]
pub(super) struct Launcher {
    home: PathBuf,
    /// Like no other launcher's.
    id: String,
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
    roster: Roster,
    stages: Stages,
    /// Container attempts to be started at the end of the turn: forking in the middle of one would copy what is half done.
    containers: VecDeque<Box<LaunchSpec>>,
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
    attempt: Attempt,
    deadline: Option<u64>,
}

impl Launcher {
    /// A launcher for a folder whose socket is `listener`.
    pub(super) fn new(home: &Path, listener: UnixListener, pool: Pool, files: libc::rlimit) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        reactor.add(&listener, Source::Listener)?;
        Ok(Self {
            home: home.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
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
            roster: Roster::open(home)?,
            stages: Stages::new(),
            containers: VecDeque::new(),
            spawner: Spawner::new(files),
            null: File::open("/dev/null")?,
            buffer: vec![0; READ_BYTES],
            unrecorded: Vec::new(),
            leaving: false,
        })
    }

    /// Runs until it was told to end and nothing runs any more.
    pub(super) fn run(mut self) -> io::Result<Leave> {
        let mut sources = Vec::new();
        let mut more = false;
        loop {
            self.flush_agent(more)?;
            self.linger();
            if self.leaving && self.by_folder.is_empty() {
                self.pool.close();
                return Ok(Leave::Done);
            }
            self.reactor.arm(self.deadlines.first())?;
            self.reactor.wait(more, &mut sources)?;
            for source in &sources {
                self.serve(*source)?;
            }
            self.meet_deadlines();
            more = self.take_requests();
            while let Some(spec) = self.containers.pop_front() {
                if let Some(task) = self.start_shim(spec)? {
                    return Ok(Leave::AsShim(Box::new(task)));
                }
            }
            self.free.append(&mut self.retired);
        }
    }

    fn serve(&mut self, source: Source) -> io::Result<()> {
        match source {
            Source::Signal => {
                if let Some(stopping) = self.reactor.take_signals() {
                    self.leave(Stopping::within(stopping.grace_ms));
                }
                self.reap()?;
            }
            // The deadlines are looked at in every turn.
            Source::Deadline => {}
            Source::Shim(key) => self.hear_shim(key),
            Source::Listener => self.accept()?,
            Source::Agent => drop(self.agent.as_mut().map(AgentLink::receive)),
            Source::Stdout(key) | Source::Stderr(key) => {
                if let Some(Some(Watched { attempt: Attempt::Process(attempt), .. })) = self.attempts.get_mut(key) {
                    let is_stdout = source == Source::Stdout(key);
                    let stream = if is_stdout { &mut attempt.stdout } else { &mut attempt.stderr };
                    stream.pump(&mut self.buffer, &self.reactor);
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
            before.unwatch(&self.reactor);
            before.hang_up();
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
            Request::Stop { folder, grace_ms, notice_ms } => match self.by_folder.get(&folder).copied() {
                Some(key) => self.with(key, |attempt| attempt.stop(Stopping { notice_ms, grace_ms })),
                None => self.stop_queued(&folder),
            },
            Request::List => {
                let running = self.running();
                self.tell(&running);
            }
            Request::Shutdown { kill: false } if !self.by_folder.is_empty() || !self.containers.is_empty() => {
                let running = self.by_folder.len() + self.containers.len();
                self.tell(&Event::ShutdownRefused { running });
            }
            Request::Shutdown { .. } => self.leave(Stopping::within(Some(0))),
        }
    }

    fn start(&mut self, spec: Box<LaunchSpec>) {
        if let Some(key) = self.by_folder.get(&spec.folder) {
            let event = self.attempts.get(*key).and_then(Option::as_ref).and_then(|watched| watched.attempt.started());
            event.iter().for_each(|event| self.tell(event));
        } else if let Some((folder, record)) = self.unrecorded.iter().find(|(folder, _)| *folder == spec.folder) {
            let event = Event::Ended { folder: folder.clone(), record: record.clone() };
            self.tell(&event);
        } else if spec.folder.join(EXIT_RECORD).exists() {
            self.tell_earlier_end(&spec.folder);
        } else if self.leaving {
            self.tell_end(spec.folder, super::never_started(ExitCause::Stopped));
        } else if spec.sandbox == Sandbox::Process {
            self.start_process(spec);
        } else {
            self.containers.push_back(spec);
        }
    }

    /// A container that was asked for in this turn, and has no shim yet, need not get one.
    fn stop_queued(&mut self, folder: &Path) {
        if let Some(at) = self.containers.iter().position(|spec| spec.folder == folder) {
            self.containers.remove(at);
            self.tell_end(folder.to_owned(), super::never_started(ExitCause::Stopped));
        }
    }

    fn start_process(&mut self, spec: Box<LaunchSpec>) {
        let folder = spec.folder.clone();
        let means = Means { spawner: &mut self.spawner, pool: &mut self.pool, null: &self.null };
        match ProcessAttempt::start(spec, means) {
            Ok(attempt) => {
                if attempt.is_unheld() {
                    // Without the entry the process would only outlive our own death.
                    let _ = self.roster.add(&self.home, attempt.pid);
                }
                self.watch(Attempt::Process(Box::new(attempt)));
            }
            Err(cause) => self.tell_end(folder, super::never_started(cause)),
        }
    }

    /// Forks a shim. In the shim itself: gives its task, after which the launcher must be left and dropped.
    fn start_shim(&mut self, mut spec: Box<LaunchSpec>) -> io::Result<Option<ShimTask>> {
        let folder = spec.folder.clone();
        let container = match std::mem::replace(&mut spec.sandbox, Sandbox::Process) {
            // A second request for the same attempt in one turn.
            Sandbox::Container(container) if !self.by_folder.contains_key(&folder) => container,
            _ => return Ok(None),
        };
        let prepared = shim_attempt::prepare(&self.home, spec, container, &mut self.stages, &mut self.pool);
        let (task, mut attempt) = match prepared {
            Ok(prepared) => prepared,
            Err(cause) => {
                self.tell_end(folder, super::never_started(cause));
                return Ok(None);
            }
        };
        // SAFETY: this process has one thread, so the child may do everything.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => return Ok(Some(ShimTask { slot: attempt.into_slot(), ..task })),
            Ok(ForkResult::Parent { child }) => {
                attempt.pid = child.as_raw() as u32;
                self.watch(Attempt::Shim(Box::new(attempt)));
            }
            Err(error) => {
                attempt.into_slot().into_iter().for_each(|slot| self.pool.release(slot));
                let message = format!("cannot make a process: {error}");
                self.tell_end(folder, super::never_started(ExitCause::StartFailed { message }));
            }
        }
        Ok(None)
    }

    /// Takes over the shims of an earlier launcher.
    pub(super) fn adopt(&mut self, shims: Vec<ShimRecord>) {
        for shim in shims {
            // One that has ended meanwhile has left its exit record.
            if let Ok(attempt) = ShimAttempt::adopt(shim) {
                self.watch(Attempt::Shim(Box::new(attempt)));
            }
        }
    }

    fn hear_shim(&mut self, key: usize) {
        let Some(Some(Watched { attempt: Attempt::Shim(shim), .. })) = self.attempts.get_mut(key) else { return };
        let (started, ended) = shim.hear();
        if let Some((pid, at_ms)) = started {
            let folder = shim.folder.clone();
            self.tell(&Event::Started { folder, pid, at_ms });
        }
        if ended && let Some(attempt) = self.unwatch(key) {
            self.end(attempt, None);
        }
    }

    fn watch(&mut self, attempt: Attempt) {
        let key = self.free.pop().unwrap_or_else(|| {
            self.attempts.push(None);
            self.attempts.len() - 1
        });
        for (fd, source) in attempt.sources(key) {
            // A pipe that cannot be watched is read when the process ends; the kernel refuses only without memory.
            let _ = self.reactor.add(fd, source);
        }
        self.by_pid.insert(attempt.pid(), key);
        self.by_folder.insert(attempt.folder().to_owned(), key);
        let deadline = attempt.next_deadline();
        self.deadlines.set(key, None, deadline);
        attempt.started().iter().for_each(|event| self.tell(event));
        self.attempts[key] = Some(Watched { attempt, deadline });
    }

    /// Stops watching the attempt `key`, which has ended.
    fn unwatch(&mut self, key: usize) -> Option<Attempt> {
        let watched = self.attempts.get_mut(key)?.take()?;
        self.deadlines.set(key, watched.deadline, None);
        self.by_pid.remove(&watched.attempt.pid());
        self.by_folder.remove(watched.attempt.folder());
        self.retired.push(key);
        if self.by_folder.is_empty() {
            // A list that cannot be emptied names processes that have ended.
            let _ = self.roster.clear();
        }
        Some(watched.attempt)
    }

    /// Does something to an attempt that may move its deadline.
    fn with(&mut self, key: usize, action: impl FnOnce(&mut Attempt)) {
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
            let key = self.by_pid.get(&pid).copied();
            // Without a key it is an orphan of some attempt: we are its subreaper.
            let attempt = key.and_then(|key| self.unwatch(key));
            if let Some(Attempt::Process(attempt)) = &attempt {
                attempt.before_reap();
            }
            let reaped = reap::reap(pid)?;
            if let Some(attempt) = attempt {
                self.end(attempt, Some(reaped));
            }
        }
        Ok(())
    }

    fn end(&mut self, attempt: Attempt, reaped: Option<Reaped>) {
        match (attempt, reaped) {
            (Attempt::Process(attempt), Some(reaped)) => {
                let stuck = self.spawner.stuck(attempt.pid);
                let (spec, record) = attempt.finish(reaped, stuck, &mut self.pool, &mut self.buffer, &self.reactor);
                self.tell_end(spec.folder, record);
            }
            (Attempt::Shim(shim), _) => {
                self.reactor.remove(shim.fd());
                let (folder, record) = shim.finish(&self.home, &mut self.pool);
                match folder.join(EXIT_RECORD).exists() {
                    true => self.tell(&Event::Ended { folder, record }),
                    false => self.tell_end(folder, record),
                }
            }
            (Attempt::Process(_), None) => unreachable!("a process attempt ends by being reaped"),
        }
    }

    fn tell_end(&mut self, folder: PathBuf, record: ExitRecord) {
        // A folder that is gone was taken away by an agent that knew the end.
        if write_exit(&folder, &record).is_err() && folder.exists() {
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
            folder: watched.attempt.folder().to_owned(),
            pid: watched.attempt.pid(),
            started_at_ms: watched.attempt.started_at_ms(),
        });
        let queued =
            self.containers.iter().map(|spec| Running { folder: spec.folder.clone(), pid: 0, started_at_ms: None });
        let (enforcement, attempts) = (self.pool.enforcement(), attempts.chain(queued).collect());
        Event::Running { enforcement, attempts, launcher: Some(self.id.clone()) }
    }

    /// Sends what was queued; lets go of an agent that went and of which nothing more waits.
    fn flush_agent(&mut self, more: bool) -> io::Result<()> {
        if let Some(agent) = &mut self.agent {
            agent.flush(&self.reactor)?;
            if agent.is_gone() && !more {
                agent.unwatch(&self.reactor);
                self.agent = None;
            }
        }
        Ok(())
    }

    /// Ends all attempts, and then ourselves.
    fn leave(&mut self, stopping: Stopping) {
        self.leaving = true;
        for spec in std::mem::take(&mut self.containers) {
            self.tell_end(spec.folder, super::never_started(ExitCause::Stopped));
        }
        for key in 0..self.attempts.len() {
            self.with(key, |attempt| attempt.stop(stopping));
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
