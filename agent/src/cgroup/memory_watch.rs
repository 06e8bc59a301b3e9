//! Memory by looking, where no cgroup bounds it: the resident memory of a task's processes, read from `/proc`.
//!
//! Looks only while something runs, and the more rarely the more room is left: a task needs time to fill memory.

use std::collections::HashMap;

/// No look comes earlier after the last one.
const SHORTEST_MS: u64 = 20;
/// No look comes later.
const LONGEST_MS: u64 = 1_000;
/// About what one thread can touch in a millisecond.
const BYTES_PER_MS: u64 = 1 << 20;

/// One process as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    session: u32,
    resident_pages: u64,
}

/// All processes of the host at one moment.
#[derive(Debug)]
pub struct Snapshot {
    processes: Vec<Process>,
}

impl Snapshot {
    /// Reads `/proc`.
    pub fn take() -> Self {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let stat = |pid: u32| parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
        Self { processes: pids.filter_map(stat).collect() }
    }

    /// Resident bytes of the session that `leader` began and of everything its processes started, wherever that went.
    pub fn resident_bytes(&self, leader: u32) -> u64 {
        let by_pid: HashMap<u32, &Process> = self.processes.iter().map(|process| (process.pid, process)).collect();
        let belongs = |process: &&Process| {
            let mut at = Some(*process);
            // A parent chain is short; the bound is for one that changes while it is read.
            for _ in 0..64 {
                match at {
                    Some(one) if one.pid == leader || one.session == leader => return true,
                    Some(one) => at = by_pid.get(&one.parent).copied(),
                    None => return false,
                }
            }
            false
        };
        let pages: u64 = self.processes.iter().filter(belongs).map(|process| process.resident_pages).sum();
        pages * page_bytes()
    }
}

/// When to look again, in milliseconds, at a task that uses `used_bytes` of `limit_bytes`.
pub fn next_look_ms(used_bytes: u64, limit_bytes: u64) -> u64 {
    (limit_bytes.saturating_sub(used_bytes) / BYTES_PER_MS).clamp(SHORTEST_MS, LONGEST_MS)
}

fn page_bytes() -> u64 {
    // SAFETY: sysconf has no memory effects.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as u64
}

/// Reads a line of `/proc/PID/stat`; the name in parentheses may contain anything.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(' ')?;
    let fields: Vec<&str> = rest.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        resident_pages: fields.get(21)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_shift_the_fields() {
        let stat = "7 (a) 9 (b) S 3 7 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 42 18446744073709551615";
        assert_eq!(parse(stat), Some(Process { pid: 7, parent: 3, session: 5, resident_pages: 42 }));
    }

    #[test]
    fn children_count_also_in_another_session_and_strangers_do_not() {
        let process = |pid, parent, session, resident_pages| Process { pid, parent, session, resident_pages };
        let processes =
            vec![process(10, 1, 10, 1), process(11, 10, 11, 2), process(12, 1, 10, 4), process(13, 1, 13, 8)];
        assert_eq!(Snapshot { processes }.resident_bytes(10), 7 * page_bytes());
    }

    #[test]
    fn looks_come_sooner_when_room_gets_short() {
        assert_eq!(next_look_ms(0, 64 << 30), 1_000);
        assert_eq!(next_look_ms(0, 100 << 20), 100);
        assert_eq!(next_look_ms(99 << 20, 100 << 20), 20);
        assert_eq!(next_look_ms(200 << 20, 100 << 20), 20);
    }
}
