//! Becoming a launcher: leaving the process that started us, dropping what it had open, taking the folder's lock.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

/// Goes on in a process of its own session that nobody waits for. The calling process stays until that one says how it went
/// ([`Ready::tell`]) and exits with 0, or prints what it said and exits with 1.
pub(super) fn detach() -> io::Result<Ready> {
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: called before any thread exists, so the child may do everything.
    if let ForkResult::Parent { .. } = unsafe { fork()? } {
        drop(writing);
        wait_and_exit(reading);
    }
    drop(reading);
    setsid()?;
    // SAFETY: as above. Not being a session's leader, the process can never get a controlling terminal.
    if let ForkResult::Parent { .. } = unsafe { fork()? } {
        // SAFETY: leaves without running what the first process will run when it exits.
        unsafe { libc::_exit(0) };
    }
    Ok(Ready { pipe: File::from(writing) })
}

fn wait_and_exit(reading: OwnedFd) -> ! {
    let mut said = String::new();
    let heard = File::from(reading).read_to_string(&mut said);
    let code = match (heard, said.strip_prefix("ready")) {
        (Ok(_), Some(_)) => 0,
        _ => {
            let reason = if said.is_empty() { "the launcher died while it started" } else { &said };
            // There is nobody to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "{reason}");
            1
        }
    };
    std::process::exit(code)
}

/// Tells the process that started us how it went.
#[derive(Debug)]
pub(super) struct Ready {
    pipe: File,
}

impl Ready {
    /// Says `ready`, or why not.
    pub(super) fn tell(mut self, outcome: Result<(), &str>) {
        // If it does not wait any more, it does not need to know.
        let _ = self.pipe.write_all(outcome.err().unwrap_or("ready").as_bytes());
    }

    /// Closes every descriptor that we did not open, and gives the standard ones to the null device and `log`.
    pub(super) fn close_all_else(&self, log: &File) -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(log)?;
        dup2_stderr(log)?;
        let mut kept = [self.pipe.as_raw_fd() as u32, log.as_raw_fd() as u32, null.as_raw_fd() as u32];
        kept.sort_unstable();
        let mut first = 3;
        for fd in kept.into_iter().chain([u32::MAX]) {
            if first < fd {
                // SAFETY: descriptors that no value of this process owns: it was just started, and these three are kept.
                unsafe { libc::close_range(first, fd - 1, 0) };
            }
            first = fd.saturating_add(1);
        }
        Ok(())
    }
}

/// Sets what every child shall inherit: default signals, no core files, the usual mask; and what only we need: orphans, and as
/// many files as we may open. Gives the limit of open files that children shall have.
pub(super) fn settle() -> io::Result<libc::rlimit> {
    reset_signals();
    umask(Mode::from_bits_truncate(0o022));
    std::env::set_current_dir("/")?;
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let mut files = none;
    // SAFETY: plain values and pointers to live ones.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0
            || libc::getrlimit(libc::RLIMIT_NOFILE, &mut files) != 0
        {
            return Err(io::Error::last_os_error());
        }
        let raised = libc::rlimit { rlim_cur: files.rlim_max, rlim_max: files.rlim_max };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raised);
    }
    Ok(files)
}

/// Gives every signal its default action. Output goes out with MSG_NOSIGNAL, so a SIGPIPE cannot end us.
fn reset_signals() {
    const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
    /// Handler, flags, restorer and mask, all zero: the default action.
    static DEFAULT_ACTION: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    for signal in SIGNALS {
        // SAFETY: the kernel reads a zeroed action of this size. The C library would refuse the two signals it keeps for
        // itself, but those too may have been inherited as ignored; this process has one thread, so nothing uses them.
        // SIGKILL and SIGSTOP are refused, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const DEFAULT_ACTION,
                std::ptr::null_mut::<u64>(),
                MASK_BYTES,
            )
        };
    }
}

/// The folder's lock, if nobody else has it. It is held until the descriptor is closed here and in every process forked from us;
/// so a shim closes it first of all. (A value that unlocks when dropped would unlock it for the launcher, too.)
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("launcher.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
