//! The shim: the process that stands between the launcher and one container. It makes the container, keeps its logs and its
//! limits in time, and writes down how it ended, whether or not a launcher still lives.
//!
//! Forked from the launcher, so it has one thread and shares most of its memory. Stopping it gently means stopping the
//! container: SIGTERM, where a queued signal's value is the grace and the notice in milliseconds.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use nix::sys::socket::{MsgFlags, send};
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use super::ending::{Act, Ending, Reason, WaitStatus, lease_to_begin, read_lease};
use super::identity::Identity;
use super::memory_look::MemoryLook;
use super::reactor::{Reactor, Source};
use super::reap;
use super::record::write_exit;
use super::shim_record::ShimRecord;
use super::stream::{READ_BYTES, Stream};
use crate::cgroup::{Slot, Usage};
use crate::logs::{STDERR_LOG, STDOUT_LOG};
use crate::runtime::spec::{ContainerSpec, ExitCause, ExitRecord, LaunchSpec, Network};
use crate::runtime::{End, Runtime, RuntimeError, Stage, Stdio, open, wire};

/// Between tries to leave the exit record, when neither the disk nor a launcher takes it.
const RECORD_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// What a shim tells its launcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ShimReport {
    /// The user's process runs.
    Started { pid: u32, at_ms: u64 },
    /// The container is gone.
    Ended { record: ExitRecord },
}

/// What the launcher hands to a shim.
#[derive(Debug)]
pub(super) struct ShimTask {
    pub(super) home: PathBuf,
    pub(super) spec: Box<LaunchSpec>,
    pub(super) container: Box<ContainerSpec>,
    pub(super) stage: Rc<Stage>,
    pub(super) slot: Option<Slot>,
    pub(super) launcher: OwnedFd,
}

/// A running container and what is needed to watch it.
struct Shim {
    task: ShimTask,
    record: ShimRecord,
    reactor: Reactor,
    runtime: Box<dyn Runtime>,
    stdout: Stream,
    stderr: Stream,
    ending: Ending,
    look: Option<MemoryLook>,
    buffer: Vec<u8>,
}

/// Runs the task to its end; gives the process's exit code.
pub(super) fn run(mut task: ShimTask) -> i32 {
    let own = match become_shim(&task) {
        Ok(own) => own,
        Err(error) => {
            let cause = failed("prepare the shim", &error);
            let record = super::never_started(cause);
            leave_record(&task, &record);
            return 1;
        }
    };
    let outcome = match Shim::start(&mut task) {
        Ok(parts) => parts.into_shim(task, own).watch(),
        Err(cause) => Outcome { record: super::never_started(cause), task, shim_record: own },
    };
    leave_record(&outcome.task, &outcome.record);
    ShimRecord::forget(&outcome.task.home, outcome.shim_record.identity.pid);
    0
}

/// How it went, with what is needed to say so.
struct Outcome {
    record: ExitRecord,
    task: ShimTask,
    shim_record: ShimRecord,
}

fn become_shim(task: &ShimTask) -> io::Result<ShimRecord> {
    setsid()?;
    // SAFETY: plain values. The attribute is not inherited from the launcher.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let identity = Identity::own().ok_or(io::ErrorKind::NotFound)?;
    let slot = task.slot.as_ref().map(|slot| slot.name().to_owned());
    let record = ShimRecord { identity, folder: task.spec.folder.clone(), slot, started_at_ms: None };
    record.write(&task.home)?;
    Ok(record)
}

fn failed(action: &str, error: &dyn std::fmt::Display) -> ExitCause {
    ExitCause::StartFailed { message: format!("cannot {action}: {error}") }
}

/// Leaves the record in the attempt's folder and tells the launcher; one of the two must know before we go.
fn leave_record(task: &ShimTask, record: &ExitRecord) {
    loop {
        let written = write_exit(&task.spec.folder, record).is_ok();
        let told = tell(&task.launcher, &ShimReport::Ended { record: record.clone() });
        if written || told {
            return;
        }
        std::thread::sleep(RECORD_AGAIN);
    }
}

fn tell(launcher: &OwnedFd, report: &ShimReport) -> bool {
    let bytes = serde_json::to_vec(report).expect("reports have string keys only");
    send(launcher.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).is_ok()
}

/// A container that runs, before it is watched.
struct Begun {
    reactor: Reactor,
    runtime: Box<dyn Runtime>,
    stdout: Stream,
    stderr: Stream,
    lease_until: u64,
}

impl Begun {
    fn into_shim(self, task: ShimTask, mut record: ShimRecord) -> Shim {
        let now = flowyard_clock::boot_ms();
        let at_ms = flowyard_clock::wall_ms();
        let pid = self.runtime.init_pid().map_or(0, |pid| pid.as_raw() as u32);
        record.started_at_ms = Some(at_ms);
        tell(&task.launcher, &ShimReport::Started { pid, at_ms });
        // The start time is lost with the launcher if this fails; the container runs all the same.
        let _ = record.write(&task.home);
        let limit_bytes = task.spec.limits.memory_bytes;
        let bounded = limit_bytes == 0 || task.slot.as_ref().is_some_and(Slot::bounds_memory);
        Shim {
            ending: Ending::new(&task.spec, now, self.lease_until),
            look: (!bounded).then(|| MemoryLook::new(limit_bytes, now)),
            buffer: vec![0; READ_BYTES],
            task,
            record,
            reactor: self.reactor,
            runtime: self.runtime,
            stdout: self.stdout,
            stderr: self.stderr,
        }
    }
}

impl Shim {
    fn start(task: &mut ShimTask) -> Result<Begun, ExitCause> {
        let spec = &task.spec;
        let lease_until = lease_to_begin(spec, flowyard_clock::boot_ms(), read_lease)?;
        let reactor = Reactor::new().map_err(|error| failed("watch the container", &error))?;
        let open_stream = |name: &str| Stream::open(&spec.folder.join(name), spec.log_limit_bytes);
        let (stdout, out) = open_stream(STDOUT_LOG).map_err(|error| failed("make a log pipe", &error))?;
        let (stderr, err) = open_stream(STDERR_LOG).map_err(|error| failed("make a log pipe", &error))?;
        for (stream, source) in [(&stdout, Source::Stdout(0)), (&stderr, Source::Stderr(0))] {
            let watched = stream.fd().map_or(Ok(()), |fd| reactor.add(fd, source));
            watched.map_err(|error| failed("watch a log pipe", &error))?;
        }
        let null = File::open("/dev/null").map_err(|error| failed("open the null device", &error))?;
        let stdio = Stdio { stdin: null.into(), stdout: out, stderr: err };
        let mut runtime = open(spec, &task.container, &task.stage, stdio).map_err(RuntimeError::into_exit_cause)?;
        match make(runtime.as_mut(), task.slot.as_ref(), &task.container.network) {
            Ok(()) => Ok(Begun { reactor, runtime, stdout, stderr, lease_until }),
            Err(cause) => {
                // Why it could not be made says more than why it could not be removed.
                let _ = runtime.delete();
                Err(cause)
            }
        }
    }

    fn watch(mut self) -> Outcome {
        let mut sources = Vec::new();
        let status = loop {
            match self.turn(&mut sources) {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                // Nothing can be watched any more, so nothing may run any more.
                Err(_) => {
                    let _ = self.runtime.kill_all();
                    break self.runtime.wait().map_or(WaitStatus::Signalled(libc::SIGKILL), status_of);
                }
            }
        };
        self.finish(status)
    }

    /// Sleeps until something happens and deals with it; gives the user's program's end.
    fn turn(&mut self, sources: &mut Vec<Source>) -> io::Result<Option<WaitStatus>> {
        let deadline = self.ending.next_deadline().into_iter().chain(self.look.as_ref().map(MemoryLook::at)).min();
        self.reactor.arm(deadline)?;
        self.reactor.wait(false, sources)?;
        for source in &*sources {
            match source {
                Source::Stdout(_) => drop(self.stdout.pump(&mut self.buffer, &self.reactor)),
                Source::Stderr(_) => drop(self.stderr.pump(&mut self.buffer, &self.reactor)),
                Source::Signal => {
                    if let Some(stopping) = self.reactor.take_signals() {
                        let act = self.ending.stop(stopping, flowyard_clock::boot_ms());
                        self.act(act);
                    }
                    if let Some(end) = self.ended()? {
                        return Ok(Some(end));
                    }
                }
                Source::Deadline | Source::Listener | Source::Agent | Source::Shim(_) => {}
            }
        }
        self.meet_deadline();
        Ok(None)
    }

    fn ended(&mut self) -> io::Result<Option<WaitStatus>> {
        match self.runtime.try_wait() {
            Ok(Some(end)) => return Ok(Some(status_of(end))),
            Ok(None) => {}
            Err(_) => return Ok(Some(WaitStatus::Signalled(libc::SIGKILL))),
        }
        let init = self.runtime.init_pid().map(|pid| pid.as_raw() as u32);
        // Orphans are reaped here; init is the runtime's.
        while let Some(pid) = reap::next_ended()?.filter(|pid| Some(*pid) != init) {
            reap::reap(pid)?;
        }
        Ok(None)
    }

    fn meet_deadline(&mut self) {
        let now = flowyard_clock::boot_ms();
        let act = self.ending.due(now, read_lease);
        self.act(act);
        if let Some(look) = self.look.as_mut().filter(|look| look.at() <= now) {
            let begun = flowyard_clock::monotonic();
            let used_bytes = self.runtime.stats().map_or(0, |stats| stats.resident_bytes);
            if let Some(limit_bytes) = look.seen(used_bytes, flowyard_clock::elapsed(begun), now) {
                let act = self.ending.end(Reason::OutOfMemory { limit_bytes }, Some(0), now);
                self.act(act);
            }
        }
    }

    fn act(&mut self, act: Act) {
        // What cannot be signalled has ended, or is killed at the end of the grace.
        let _ = match act {
            Act::Nothing => Ok(()),
            Act::Terminate(signal) => self.runtime.kill(signal),
            Act::Kill => self.runtime.kill_all(),
        };
    }

    fn finish(mut self, status: WaitStatus) -> Outcome {
        let cpu_us = self.runtime.stats().map_or(0, |stats| stats.cpu_us);
        // What is left of the container is in namespaces that end with it; the next delete would find nothing else.
        let _ = self.runtime.delete();
        for stream in [&mut self.stdout, &mut self.stderr] {
            // What could not be written is counted in the spool's own note, if even that can be written.
            let _ = stream.finish(&mut self.buffer, &self.reactor);
        }
        let usage: Usage = self.task.slot.as_ref().map(Slot::usage).unwrap_or_default();
        let seen = self.look.as_ref().map_or(0, MemoryLook::peak_bytes);
        let record = ExitRecord {
            cause: self.ending.cause(status, usage.oom_killed, self.task.spec.limits.memory_bytes),
            started_at_ms: self.record.started_at_ms,
            ended_at_ms: flowyard_clock::wall_ms(),
            peak_memory_bytes: usage.peak_memory_bytes.max(seen),
            cpu_us: usage.cpu_us.max(cpu_us),
        };
        Outcome { record, task: self.task, shim_record: self.record }
    }
}

/// Makes the container and starts the program. Its first process enters the cgroups while nothing of the user runs, so all
/// that comes after it is inside and the shim is not.
fn make(runtime: &mut dyn Runtime, slot: Option<&Slot>, network: &Network) -> Result<(), ExitCause> {
    runtime.create().map_err(RuntimeError::into_exit_cause)?;
    if let (Some(slot), Some(init)) = (slot, runtime.init_pid()) {
        let entered = slot.enter(init.as_raw() as u32);
        entered.map_err(|error| ExitCause::StartFailed { message: error.chain() })?;
    }
    if let (Network::Private(wire), Some(init)) = (network, runtime.init_pid()) {
        wire::connect(init, wire).map_err(RuntimeError::into_exit_cause)?;
    }
    runtime.start().map_err(RuntimeError::into_exit_cause)
}

fn status_of(end: End) -> WaitStatus {
    match end {
        End::Exited { code } => WaitStatus::Exited(code),
        End::Signalled { signal } => WaitStatus::Signalled(signal),
    }
}
