//! Ended children: seen first, reaped second, so that whoever needs the pid to be still theirs can act in between.

use std::io;

use super::ending::WaitStatus;
use super::process::Reaped;

/// A child that has ended and was not reaped; `None` if there is none.
pub(super) fn next_ended() -> io::Result<Option<u32>> {
    // SAFETY: an all-zero siginfo_t is valid, and the call fills it.
    let mut seen: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `seen` is a valid siginfo_t.
    if unsafe { libc::waitid(libc::P_ALL, 0, &mut seen, flags) } != 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    // SAFETY: waitid set the fields of an ended child, or left the pid zero.
    let pid = unsafe { seen.si_pid() };
    Ok((pid > 0).then_some(pid as u32))
}

/// Reaps a child that [`next_ended`] gave.
pub(super) fn reap(pid: u32) -> io::Result<Reaped> {
    let mut word = 0;
    // SAFETY: an all-zero rusage is valid, and the call fills it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type.
    if unsafe { libc::wait4(pid as i32, &mut word, libc::WNOHANG, &mut usage) } != pid as i32 {
        return Err(io::Error::last_os_error());
    }
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Ok(Reaped {
        status: WaitStatus::from_word(word),
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        peak_memory_bytes: usage.ru_maxrss as u64 * 1024,
    })
}
