//! A process attempt: a child of the launcher itself, with its pipes, its cgroup slot and its limits in time.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::command::Command;
use super::ending::{Act, Ending, Reason, WaitStatus, lease_to_begin, read_lease};
use super::memory_look::MemoryLook;
use super::protocol::Stopping;
use super::reactor::Reactor;
use super::spawn::{Spawner, Step, Stuck, Surroundings};
use super::stream::Stream;
use crate::cgroup::memory_watch::Snapshot;
use crate::cgroup::{Pool, Slot};
use crate::logs::{STDERR_LOG, STDOUT_LOG};
use crate::runtime::spec::{ExitCause, ExitRecord, LaunchSpec};

/// What starting a process attempt takes from the launcher.
pub(super) struct Means<'a> {
    pub(super) spawner: &'a mut Spawner,
    pub(super) pool: &'a mut Pool,
    pub(super) null: &'a File,
}

/// A running process attempt.
#[derive(Debug)]
pub(super) struct ProcessAttempt {
    pub(super) spec: Box<LaunchSpec>,
    pub(super) pid: u32,
    pub(super) started_at_ms: u64,
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
    slot: Option<Slot>,
    ending: Ending,
    /// Where no cgroup bounds its memory.
    look: Option<MemoryLook>,
}

/// How the kernel says that a process ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reaped {
    pub(super) status: WaitStatus,
    /// CPU time of the process and the children it waited for.
    pub(super) cpu_us: u64,
    pub(super) peak_memory_bytes: u64,
}

impl ProcessAttempt {
    /// Starts `spec`, or says why nothing runs.
    pub(super) fn start(spec: Box<LaunchSpec>, means: Means<'_>) -> Result<Self, ExitCause> {
        let lease_until = lease_to_begin(&spec, flowyard_clock::boot_ms(), read_lease)?;
        let secrets = spec.secret_variables().map_err(|error| failed(error.to_string()))?;
        let command =
            Command::new(&spec, secrets).map_err(|_| failed("a NUL byte in the command or its environment".into()))?;
        let open = |name: &str| Stream::open(&spec.folder.join(name), spec.log_limit_bytes);
        let (stdout, out) = open(STDOUT_LOG).map_err(|error| failed(format!("cannot make a log pipe: {error}")))?;
        let (stderr, err) = open(STDERR_LOG).map_err(|error| failed(format!("cannot make a log pipe: {error}")))?;
        let slot = means.pool.acquire(&spec.limits).map_err(|error| failed(error.chain()))?;
        let surroundings = Surroundings {
            stdin: means.null.as_raw_fd(),
            stdout: out.as_raw_fd(),
            stderr: err.as_raw_fd(),
            enter: slot.iter().flat_map(Slot::enter_fds).collect(),
        };
        let pid = match means.spawner.spawn(command, surroundings) {
            Ok(pid) => pid,
            Err(error) => {
                if let Some(slot) = slot {
                    means.pool.release(slot);
                }
                return Err(failed(format!("cannot make a process: {error}")));
            }
        };
        let now = flowyard_clock::boot_ms();
        let bounded = slot.as_ref().is_some_and(Slot::bounds_memory) || spec.limits.memory_bytes == 0;
        let look = (!bounded).then(|| MemoryLook::new(spec.limits.memory_bytes, now));
        let ending = Ending::new(&spec, now, lease_until);
        let started_at_ms = flowyard_clock::wall_ms();
        Ok(Self { spec, pid, started_at_ms, stdout, stderr, slot, ending, look })
    }

    /// Whether it runs without any cgroup.
    pub(super) fn is_unheld(&self) -> bool {
        self.slot.is_none()
    }

    /// When [`ProcessAttempt::due`] must be called.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.ending.next_deadline().into_iter().chain(self.look.as_ref().map(MemoryLook::at)).min()
    }

    /// Does what the clock demands.
    pub(super) fn due(&mut self, now: u64) {
        let act = self.ending.due(now, read_lease);
        self.act(act);
        self.look(now);
    }

    /// Ends it because somebody asked.
    pub(super) fn stop(&mut self, stopping: Stopping) {
        let act = self.ending.stop(stopping, flowyard_clock::boot_ms());
        self.act(act);
    }

    fn look(&mut self, now: u64) {
        let Some(look) = self.look.as_mut().filter(|look| look.at() <= now) else { return };
        let begun = flowyard_clock::monotonic();
        let used_bytes = Snapshot::take().resident_bytes(self.pid);
        if let Some(limit_bytes) = look.seen(used_bytes, flowyard_clock::elapsed(begun), now) {
            let act = self.ending.end(Reason::OutOfMemory { limit_bytes }, Some(0), now);
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Nothing => {}
            Act::Terminate(signal) => self.signal_group(signal),
            Act::Kill => self.kill_all(),
        }
    }

    fn signal_group(&self, signal: i32) {
        let pid = self.pid as i32;
        // SAFETY: kill has no memory effects. The group is our child's own: it cannot be another's before we have reaped the
        // child. Without a group the child has not begun its session yet, and is alone.
        unsafe {
            if libc::kill(-pid, signal) != 0 {
                libc::kill(pid, signal);
            }
        }
    }

    fn kill_all(&mut self) {
        self.signal_group(libc::SIGKILL);
        if let Some(slot) = &mut self.slot {
            slot.kill_all();
        }
    }

    /// Kills what the main process left in its group; called when it has ended and its pid cannot yet be another's.
    pub(super) fn before_reap(&self) {
        if self.slot.is_none() {
            self.signal_group(libc::SIGKILL);
        }
    }

    /// Closes everything after the main process was reaped: whatever it left in its cgroup is killed.
    pub(super) fn finish(
        mut self,
        reaped: Reaped,
        stuck: Option<Stuck>,
        pool: &mut Pool,
        buffer: &mut [u8],
        reactor: &Reactor,
    ) -> (Box<LaunchSpec>, ExitRecord) {
        if let Some(slot) = self.slot.as_mut().filter(|slot| !slot.is_empty()) {
            slot.kill_all();
        }
        for stream in [&mut self.stdout, &mut self.stderr] {
            // What could not be written is counted in the spool's own note, if even that can be written.
            let _ = stream.finish(buffer, reactor);
        }
        let usage = self.slot.as_ref().map(Slot::usage).unwrap_or_default();
        let limit_bytes = self.spec.limits.memory_bytes;
        let record = ExitRecord {
            started_at_ms: stuck.is_none().then_some(self.started_at_ms),
            cause: match stuck {
                Some(stuck) => explain(&stuck, &self.spec),
                None => self.ending.cause(reaped.status, usage.oom_killed, limit_bytes),
            },
            ended_at_ms: flowyard_clock::wall_ms(),
            peak_memory_bytes: match usage.peak_memory_bytes {
                0 => reaped.peak_memory_bytes.max(self.look.as_ref().map_or(0, MemoryLook::peak_bytes)),
                peak => peak,
            },
            cpu_us: usage.cpu_us.max(reaped.cpu_us),
        };
        if let Some(slot) = self.slot.take() {
            pool.release(slot);
        }
        (self.spec, record)
    }
}

fn failed(message: String) -> ExitCause {
    ExitCause::StartFailed { message }
}

fn explain(stuck: &Stuck, spec: &LaunchSpec) -> ExitCause {
    let what = match stuck.step {
        Step::Execute => return stuck.command.failure(spec, stuck.errno),
        Step::EnterCgroup => "enter its cgroup".to_owned(),
        Step::Redirect => "connect its log".to_owned(),
        Step::Restrict => "restrict it".to_owned(),
        Step::EnterWorkdir => format!("enter its working directory {}", spec.workdir.display()),
    };
    failed(format!("cannot {what}: {}", std::io::Error::from_raw_os_error(stuck.errno)))
}
