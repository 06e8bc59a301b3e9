//! What wakes the launcher or a shim: file descriptors, signals, and one deadline. Nothing here ticks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

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

    /// Takes the signals that arrived. If SIGTERM was among them: the grace in milliseconds, if it was queued with one.
    pub(crate) fn take_signals(&mut self) -> Option<Option<u64>> {
        let mut terminate = None;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == libc::SIGTERM as u32 {
                terminate =
                    Some((signal.ssi_code == libc::SI_QUEUE).then_some(u64::from(signal.ssi_int.unsigned_abs())));
            }
        }
        terminate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_their_word() {
        for source in [Source::Signal, Source::Agent, Source::Stdout(0), Source::Stderr(70_000), Source::Shim(3)] {
            assert_eq!(Source::from_word(source.to_word()), source);
        }
    }
}
