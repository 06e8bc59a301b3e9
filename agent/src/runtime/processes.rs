//! The processes of a container, seen from outside by way of procfs.

use std::fs;
use std::io;

use nix::unistd::Pid;

use super::{RuntimeError, Stats};

/// Most processes looked at; a container with more is over any sensible limit anyway.
const PROCESSES_MAX: usize = 65_536;

/// Sends a signal to a process that may be gone.
pub(crate) fn signal(pid: Option<Pid>, signal: i32) -> Result<(), RuntimeError> {
    let Some(pid) = pid else { return Ok(()) };
    // SAFETY: sends a signal; touches no memory. The caller has not collected `pid`, so the number is still its own.
    if unsafe { libc::kill(pid.as_raw(), signal) } != 0 {
        let source = io::Error::last_os_error();
        if source.raw_os_error() != Some(libc::ESRCH) {
            return Err(RuntimeError::Step { what: "signal the container", source });
        }
    }
    Ok(())
}

/// Sums up a process and all below it. Orphans of a container become children of its init, so none is missed.
pub(crate) fn stats(init: Pid) -> Result<Stats, RuntimeError> {
    let mut total = Stats::default();
    let mut open = vec![init.as_raw()];
    while let Some(pid) = open.pop() {
        let Some((resident_bytes, cpu_us)) = usage(pid) else { continue };
        total.processes += 1;
        total.resident_bytes += resident_bytes;
        total.cpu_us += cpu_us;
        if total.processes as usize + open.len() < PROCESSES_MAX {
            open.extend(children(pid));
        }
    }
    Ok(total)
}

/// Anonymous and shared resident bytes and CPU time of one process; `None` when it is gone.
fn usage(pid: i32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let resident = (kib("RssAnon:").unwrap_or(0) + kib("RssShmem:").unwrap_or(0)) * 1024;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may contain anything; times are fields 14 to 17.
    let rest = stat.rsplit_once(')')?.1;
    let ticks: u64 = rest.split_whitespace().skip(11).take(4).filter_map(|word| word.parse::<u64>().ok()).sum();
    // SAFETY: asks for a constant.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    Some((resident, ticks * 1_000_000 / per_second))
}

fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()).collect()
}
