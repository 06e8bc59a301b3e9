//! When a running attempt must be signalled, and what its end is called. Pure: time comes in, actions come out.
//!
//! Used by the launcher for process attempts and by the shim for a container, so both enforce the same rules.
//!
//! Invariant: the first reason to end an attempt is the one recorded, whatever it then does with the signal.

use std::path::{Path, PathBuf};

use flowyard_model::StopSignal;

use super::protocol::Stopping;
use crate::runtime::spec::{ExitCause, LaunchSpec};

/// The end of the lease under which a spec may begin at `now`; 0 for one that needs none.
///
/// # Errors
/// When the lease is over: what must never run twice is not begun for a moment either.
pub fn lease_to_begin(
    spec: &LaunchSpec,
    now: u64,
    read_lease: impl Fn(&Path) -> Option<u64>,
) -> Result<u64, ExitCause> {
    let Some(file) = &spec.lease_file else { return Ok(0) };
    match read_lease(file) {
        Some(until) if until > now => Ok(until),
        Some(_) => Err(ExitCause::LeaseExpired),
        None => {
            let message = format!("cannot read the lease {}: no coordinator was heard from yet", file.display());
            Err(ExitCause::StartFailed { message })
        }
    }
}

/// After SIGKILL the kill is repeated at this distance until the process is gone: something may have been forked meanwhile.
const KILL_AGAIN_MS: u64 = 1_000;

/// Why an attempt is being ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked.
    Stopped,
    /// It ran too long.
    TimedOut {
        /// Its limit.
        limit_ms: u64,
    },
    /// Nobody renewed the lease.
    LeaseExpired,
    /// It was seen to use too much memory where no cgroup bounds it.
    OutOfMemory {
        /// Its limit.
        limit_bytes: u64,
    },
}

/// What has to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Wait on.
    Nothing,
    /// Send the stop signal, or that of a notice, by its number.
    Terminate(i32),
    /// Send SIGKILL to everything that belongs to it.
    Kill,
}

/// How a process ended, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

impl WaitStatus {
    /// Reads the status word of `wait4`.
    pub(crate) fn from_word(word: i32) -> Self {
        if libc::WIFSIGNALED(word) {
            Self::Signalled(libc::WTERMSIG(word))
        } else {
            Self::Exited(libc::WEXITSTATUS(word))
        }
    }
}

/// The limits in time of one running attempt. All times are boot-clock milliseconds.
#[derive(Debug)]
pub struct Ending {
    grace_ms: u64,
    stop_signal: i32,
    timeout: Option<(u64, u64)>,
    lease: Option<(PathBuf, u64)>,
    reason: Option<Reason>,
    kill_at: Option<u64>,
    notice_signal: Option<i32>,
    /// Of one that was given notice: when it is stopped, and with which grace.
    noticed: Option<(u64, u64)>,
}

impl Ending {
    /// Begins to count at `now`. `lease_until` is what the spec's lease file says.
    pub fn new(spec: &LaunchSpec, now: u64, lease_until: u64) -> Self {
        Self {
            grace_ms: spec.kill_grace_ms,
            stop_signal: number(spec.stop_signal),
            // `now` was cut to whole milliseconds; one more, so that the limit is never met early.
            timeout: spec.timeout_ms.map(|limit_ms| (now.saturating_add(limit_ms).saturating_add(1), limit_ms)),
            lease: spec.lease_file.clone().map(|file| (file, lease_until)),
            reason: None,
            kill_at: None,
            notice_signal: spec.notice_signal.map(number),
            noticed: None,
        }
    }

    /// When [`Ending::due`] must be called.
    pub fn next_deadline(&self) -> Option<u64> {
        match self.reason {
            Some(_) => self.kill_at,
            None => {
                let timeout = self.timeout.map(|(at, _)| at);
                let lease = self.lease.as_ref().map(|(_, until)| *until);
                let noticed = self.noticed.map(|(at, _)| at);
                timeout.into_iter().chain(lease).chain(noticed).min()
            }
        }
    }

    /// What the clock demands. `read_lease` gives the deadline that the lease file holds now.
    pub fn due(&mut self, now: u64, read_lease: impl Fn(&Path) -> Option<u64>) -> Act {
        if self.reason.is_some() {
            return match self.kill_at {
                Some(at) if at <= now => {
                    self.kill_at = Some(now + KILL_AGAIN_MS);
                    Act::Kill
                }
                _ => Act::Nothing,
            };
        }
        if let Some((at, limit_ms)) = self.timeout
            && at <= now
        {
            return self.end(Reason::TimedOut { limit_ms }, None, now);
        }
        if let Some((file, until)) = &mut self.lease
            && *until <= now
        {
            // A lease that cannot be read is not held: the step must never run twice.
            *until = read_lease(file).unwrap_or(0);
            if *until <= now {
                return self.end(Reason::LeaseExpired, None, now);
            }
        }
        if let Some((at, grace_ms)) = self.noticed
            && at <= now
        {
            return self.end(Reason::Stopped, Some(grace_ms), now);
        }
        Act::Nothing
    }

    /// Ends the attempt because somebody asked: after a notice, if it is given one and its spec says by which signal. A second call
    /// can only bring its end nearer.
    pub fn stop(&mut self, stopping: Stopping, now: u64) -> Act {
        let Stopping { notice_ms, grace_ms } = stopping;
        let (Some(notice_ms @ 1..), Some(signal), None) = (notice_ms, self.notice_signal, self.reason) else {
            return self.end(Reason::Stopped, grace_ms, now);
        };
        let grace_ms = grace_ms.map_or(self.grace_ms, |ms| ms.min(self.grace_ms));
        let at = now.saturating_add(notice_ms);
        match self.noticed {
            Some((before, grace_before)) => {
                self.noticed = Some((before.min(at), grace_before.min(grace_ms)));
                Act::Nothing
            }
            None => {
                self.noticed = Some((at, grace_ms));
                Act::Terminate(signal)
            }
        }
    }

    /// Ends the attempt for `reason`. A second call can only shorten the grace.
    pub fn end(&mut self, reason: Reason, grace_ms: Option<u64>, now: u64) -> Act {
        let already = self.reason.is_some();
        self.reason.get_or_insert(reason);
        let grace_ms = match reason {
            Reason::OutOfMemory { .. } => 0,
            // Whoever was given notice is bound by its contract, whatever else ends it.
            _ => self.noticed.map_or(u64::MAX, |(_, bound)| bound).min(grace_ms.unwrap_or(self.grace_ms)),
        };
        let kill_at = now.saturating_add(grace_ms);
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
        match (grace_ms, already) {
            (0, _) => {
                self.kill_at = Some(now + KILL_AGAIN_MS);
                Act::Kill
            }
            (_, true) => Act::Nothing,
            (_, false) => Act::Terminate(self.stop_signal),
        }
    }

    /// What the end is called. `oom_killed`: the kernel killed something of this attempt for its memory limit.
    pub fn cause(&self, status: WaitStatus, oom_killed: bool, limit_bytes: u64) -> ExitCause {
        match (self.reason, status) {
            (Some(Reason::OutOfMemory { limit_bytes }), _) => ExitCause::OutOfMemory { limit_bytes },
            (_, WaitStatus::Exited(1..) | WaitStatus::Signalled(libc::SIGKILL))
                if oom_killed && self.reason.is_none() =>
            {
                ExitCause::OutOfMemory { limit_bytes }
            }
            // One that was given notice and goes by itself does what it was asked to.
            (None, _) if self.noticed.is_some() => ExitCause::Stopped,
            (Some(Reason::Stopped), _) => ExitCause::Stopped,
            (Some(Reason::TimedOut { limit_ms }), _) => ExitCause::TimedOut { limit_ms },
            (Some(Reason::LeaseExpired), _) => ExitCause::LeaseExpired,
            (None, WaitStatus::Exited(code)) => ExitCause::Exited { code },
            (None, WaitStatus::Signalled(signal)) => ExitCause::Signalled { signal },
        }
    }
}

/// A stop signal as the kernel knows it.
fn number(signal: StopSignal) -> i32 {
    match signal {
        StopSignal::Term => libc::SIGTERM,
        StopSignal::Int => libc::SIGINT,
        StopSignal::Hup => libc::SIGHUP,
        StopSignal::Quit => libc::SIGQUIT,
        StopSignal::Usr1 => libc::SIGUSR1,
        StopSignal::Usr2 => libc::SIGUSR2,
    }
}

/// The deadline in a lease file.
pub(crate) fn read_lease(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::spec::{Limits, Sandbox};

    fn spec(timeout_ms: Option<u64>, lease: bool) -> LaunchSpec {
        LaunchSpec {
            secret_env: Vec::new(),
            name: "1/a/0#0".into(),
            folder: "/attempt".into(),
            argv: vec!["true".into()],
            env: Vec::new(),
            workdir: "/".into(),
            limits: Limits { cpu_milli: 0, memory_bytes: 0, pids: 0, shm_bytes: 0, disk_bytes: 0 },
            sandbox: Sandbox::Process,
            timeout_ms,
            kill_grace_ms: 50,
            stop_signal: Default::default(),
            notice_signal: None,
            log_limit_bytes: 0,
            lease_file: lease.then(|| "/lease".into()),
        }
    }

    #[test]
    fn a_timeout_terminates_and_after_the_grace_kills() {
        let mut ending = Ending::new(&spec(Some(100), false), 1_000, 0);
        assert_eq!(ending.next_deadline(), Some(1_101));
        assert_eq!(ending.due(1_100, |_| None), Act::Nothing);
        assert_eq!(ending.due(1_101, |_| None), Act::Terminate(libc::SIGTERM));
        assert_eq!(ending.next_deadline(), Some(1_151));
        assert_eq!(ending.due(1_151, |_| None), Act::Kill);
        assert_eq!(ending.cause(WaitStatus::Exited(0), false, 0), ExitCause::TimedOut { limit_ms: 100 });
    }

    #[test]
    fn the_stop_signal_is_the_one_that_was_asked_for() {
        let spec = LaunchSpec { stop_signal: StopSignal::Int, ..spec(None, false) };
        assert_eq!(Ending::new(&spec, 0, 0).end(Reason::Stopped, None, 10), Act::Terminate(libc::SIGINT));
        assert_eq!(Ending::new(&spec, 0, 0).end(Reason::Stopped, Some(0), 10), Act::Kill);
    }

    #[test]
    fn a_notice_comes_first_then_the_stop_signal_and_the_kill_within_the_shorter_grace() {
        let spec = LaunchSpec { notice_signal: Some(StopSignal::Usr1), ..spec(Some(10_000), false) };
        let mut ending = Ending::new(&spec, 1_000, 0);
        let evicted = Stopping { notice_ms: Some(300), grace_ms: Some(20) };
        assert_eq!(ending.stop(evicted, 1_000), Act::Terminate(libc::SIGUSR1));
        // Said again, as by the next agent, it changes nothing.
        assert_eq!(ending.stop(evicted, 1_200), Act::Nothing);
        assert_eq!((ending.next_deadline(), ending.due(1_299, |_| None)), (Some(1_300), Act::Nothing));
        assert_eq!(ending.cause(WaitStatus::Exited(0), false, 0), ExitCause::Stopped, "it went as it was asked to");
        assert_eq!(ending.due(1_300, |_| None), Act::Terminate(libc::SIGTERM));
        assert_eq!((ending.next_deadline(), ending.due(1_320, |_| None)), (Some(1_320), Act::Kill));
        // Its own grace is the longest.
        let mut slow = Ending::new(&spec, 0, 0);
        assert_eq!(slow.stop(Stopping { notice_ms: Some(1), grace_ms: Some(5_000) }, 0), Act::Terminate(libc::SIGUSR1));
        assert_eq!((slow.due(1, |_| None), slow.next_deadline()), (Act::Terminate(libc::SIGTERM), Some(51)));
        // Whoever cancels it does not wait for the notice.
        let mut cancelled = Ending::new(&spec, 0, 0);
        assert_eq!(cancelled.stop(evicted, 0), Act::Terminate(libc::SIGUSR1));
        assert_eq!(cancelled.stop(Stopping::default(), 10), Act::Terminate(libc::SIGTERM));
        assert_eq!(cancelled.next_deadline(), Some(30), "its contract bounds it, not its own grace");
    }

    #[test]
    fn without_a_notice_signal_an_evicted_task_is_stopped_at_once() {
        let mut ending = Ending::new(&spec(None, false), 0, 0);
        let evicted = Stopping { notice_ms: Some(300), grace_ms: Some(20) };
        assert_eq!((ending.stop(evicted, 5), ending.next_deadline()), (Act::Terminate(libc::SIGTERM), Some(25)));
    }

    #[test]
    fn nothing_is_begun_under_a_lease_that_is_over() {
        let begin = |lease: bool, until| lease_to_begin(&spec(None, lease), 1_000, move |_| until);
        assert_eq!(begin(true, Some(1_001)), Ok(1_001));
        assert_eq!(begin(true, Some(1_000)), Err(ExitCause::LeaseExpired));
        assert!(matches!(begin(true, None), Err(ExitCause::StartFailed { .. })));
        assert_eq!(begin(false, None), Ok(0));
    }

    #[test]
    fn a_renewed_lease_is_kept_and_an_unreadable_one_is_not() {
        let mut ending = Ending::new(&spec(None, true), 1_000, 1_100);
        assert_eq!(ending.due(1_100, |_| Some(1_200)), Act::Nothing);
        assert_eq!(ending.next_deadline(), Some(1_200));
        assert_eq!(ending.due(1_200, |_| None), Act::Terminate(libc::SIGTERM));
        assert_eq!(ending.cause(WaitStatus::Signalled(15), false, 0), ExitCause::LeaseExpired);
    }

    #[test]
    fn the_first_reason_is_recorded_and_a_second_stop_only_shortens() {
        let mut ending = Ending::new(&spec(Some(100), false), 1_000, 0);
        assert_eq!(ending.end(Reason::Stopped, Some(500), 1_010), Act::Terminate(libc::SIGTERM));
        assert_eq!(ending.next_deadline(), Some(1_510));
        assert_eq!(ending.end(Reason::Stopped, Some(10), 1_020), Act::Nothing);
        assert_eq!(ending.next_deadline(), Some(1_030));
        assert_eq!(ending.end(Reason::Stopped, Some(0), 1_021), Act::Kill);
        assert_eq!(ending.cause(WaitStatus::Signalled(9), true, 0), ExitCause::Stopped);
    }

    #[test]
    fn an_oom_kill_names_the_end_unless_the_task_succeeded() {
        let ending = Ending::new(&spec(None, false), 0, 0);
        let oom = ExitCause::OutOfMemory { limit_bytes: 64 };
        assert_eq!(ending.cause(WaitStatus::Signalled(9), true, 64), oom);
        assert_eq!(ending.cause(WaitStatus::Exited(1), true, 64), oom);
        assert_eq!(ending.cause(WaitStatus::Exited(137), true, 64), oom);
        assert_eq!(ending.cause(WaitStatus::Exited(0), true, 64), ExitCause::Exited { code: 0 });
        assert_eq!(ending.cause(WaitStatus::Signalled(9), false, 64), ExitCause::Signalled { signal: 9 });
    }
}
