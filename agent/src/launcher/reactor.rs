//! What wakes the launcher or a shim: file descriptors, signals, and one deadline. Nothing here ticks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::protocol::Stopping;

/// Events taken from the kernel at once.
const BATCH: usize = 128;

/// Who woke us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A signal arrived; see [`Reactor::take_signals`].
    Signal,
    /// The deadline has come.
    Deadline,
    /// Somebody connects.
    Listener,
    /// The agent sent something, or can take more.
    Agent,
    /// Standard output of the attempt with this key.
    Stdout(usize),
    /// Standard error of the attempt with this key.
    Stderr(usize),
    /// The shim of the attempt with this key.
    Shim(usize),
}

impl Source {
    fn to_word(self) -> u64 {
        let (kind, key) = match self {
            Self::Signal => (0, 0),
            Self::Deadline => (1, 0),
            Self::Listener => (2, 0),
            Self::Agent => (3, 0),
            Self::Stdout(key) => (4, key),
            Self::Stderr(key) => (5, key),
            Self::Shim(key) => (6, key),
        };
        kind | (key as u64) << 3
    }

    fn from_word(word: u64) -> Self {
        let key = (word >> 3) as usize;
        match word & 7 {
            0 => Self::Signal,
            1 => Self::Deadline,
            2 => Self::Listener,
            3 => Self::Agent,
            4 => Self::Stdout(key),
            5 => Self::Stderr(key),
            _ => Self::Shim(key),
        }
    }
}

/// The one place where the process sleeps.
#[derive(Debug)]
pub(crate) struct Reactor {
    epoll: Epoll,
    signals: SignalFd,
    timer: OwnedFd,
    armed: Option<u64>,
}

impl Reactor {
    /// Blocks SIGCHLD and SIGTERM for this thread and takes them as events.
    pub(crate) fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.add(Signal::SIGTERM);
        set.thread_set_mask()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // SAFETY: the call takes no pointers.
        let timer = unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if timer < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let timer = unsafe { OwnedFd::from_raw_fd(timer) };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let reactor = Self { epoll, signals, timer, armed: None };
        reactor.add(&reactor.signals, Source::Signal)?;
        reactor.add(&reactor.timer, Source::Deadline)?;
        Ok(reactor)
    }

    /// Watches `fd` for input.
    pub(crate) fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, source.to_word()))?)
    }

    /// Ends the watch of `fd`, which is about to be closed. Closing alone would not do: a child that has not yet executed its
    /// program has the same file open, and as long as it has, we would be woken for it over and over.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // One that could not be added cannot be removed.
        let _ = self.epoll.delete(fd);
    }

    /// Watches `fd` for what is asked instead of what was.
    pub(crate) fn change(&self, fd: impl AsFd, source: Source, input: bool, output: bool) -> io::Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, input);
        flags.set(EpollFlags::EPOLLOUT, output);
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, source.to_word()))?)
    }

    /// Wakes at `deadline` (boot-clock milliseconds), and no more at the one before.
    pub(crate) fn arm(&mut self, deadline: Option<u64>) -> io::Result<()> {
        if self.armed == deadline {
            return Ok(());
        }
        // A zero would disarm the timer; a deadline in the past must fire.
        let at = deadline.map_or(0, |at| at.max(1));
        let value = libc::timespec { tv_sec: (at / 1_000) as i64, tv_nsec: (at % 1_000 * 1_000_000) as i64 };
        let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: `spec` is a valid itimerspec, and no old value is asked for.
        let failed = unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &spec, std::ptr::null_mut())
        };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        self.armed = deadline;
        Ok(())
    }

    /// Sleeps until something happens, or not at all if there is `more` to do already.
    pub(crate) fn wait(&mut self, more: bool, sources: &mut Vec<Source>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); BATCH];
        let timeout = if more { EpollTimeout::ZERO } else { EpollTimeout::NONE };
        let count = match self.epoll.wait(&mut events, timeout) {
            Err(nix::Error::EINTR) => 0,
            other => other?,
        };
        sources.clear();
        sources.extend(events[..count].iter().map(|event| Source::from_word(event.data())));
        if sources.contains(&Source::Deadline) {
            // The timer stays readable until it is set again.
            self.armed = None;
            self.arm(None)?;
            let _ = nix::unistd::read(&self.timer, &mut [0; 8]);
        }
        Ok(())
    }

    /// Takes the signals that arrived. If SIGTERM was among them: how to stop, as far as it was queued with that.
    pub(crate) fn take_signals(&mut self) -> Option<Stopping> {
        let mut terminate = None;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == libc::SIGTERM as u32 {
                let queued = signal.ssi_code == libc::SI_QUEUE;
                terminate = Some(if queued { of_value(signal.ssi_ptr) } else { Stopping::default() });
            }
        }
        terminate
    }
}

/// What a SIGTERM is queued with: the grace in the lower half, where a shim of the release before looks for it, and the notice in
/// the upper; nothing for a stop as the spec has it.
pub(crate) fn to_value(stopping: Stopping) -> Option<u64> {
    let Stopping { notice_ms, grace_ms } = stopping;
    if notice_ms.is_none() && grace_ms.is_none() {
        return None;
    }
    let grace_ms = grace_ms.map_or(LONGEST_GRACE_MS, |ms| ms.min(LONGEST_GRACE_MS));
    let notice_ms = notice_ms.map_or(0, |ms| ms.min(u64::from(u32::MAX)));
    Some(notice_ms << 32 | grace_ms)
}

/// The same, read back.
fn of_value(value: u64) -> Stopping {
    let notice_ms = Some(value >> 32).filter(|ms| *ms > 0);
    Stopping { notice_ms, grace_ms: Some(value & LONGEST_GRACE_MS) }
}

/// Longest grace that a signal is queued with.
const LONGEST_GRACE_MS: u64 = i32::MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_to_stop_survives_its_signal() {
        assert_eq!(to_value(Stopping::default()), None);
        for (notice_ms, grace_ms) in [(None, 0), (None, 50), (Some(1), 0), (Some(3_600_000), 60_000)] {
            let stopping = Stopping { notice_ms, grace_ms: Some(grace_ms) };
            let value = to_value(stopping).unwrap();
            assert_eq!(of_value(value), stopping);
            assert_eq!(u64::from((value as u32 as i32).unsigned_abs()), grace_ms, "as the release before reads it");
        }
    }

    #[test]
    fn sources_survive_their_word() {
        for source in [Source::Signal, Source::Agent, Source::Stdout(0), Source::Stderr(70_000), Source::Shim(3)] {
            assert_eq!(Source::from_word(source.to_word()), source);
        }
    }
}
