//! A process named so that its pid, used again by another, is not taken for it.

use serde::{Deserialize, Serialize};

/// A process id with the time at which that process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// As `/proc/PID/stat` has it: clock ticks since boot.
    pub(crate) start_ticks: u64,
}

impl Identity {
    /// The process that has `pid` now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start_ticks: start_ticks(&stat)? })
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// The 22nd field; the second, a name in parentheses, may contain anything.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_start_time_is_another_process() {
        let own = Identity::own().expect("own identity");
        assert!(own.is_alive());
        assert!(!Identity { start_ticks: own.start_ticks + 1, ..own }.is_alive());
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "7 (a) 1 (b) S 3 7 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 42";
        assert_eq!(start_ticks(stat), Some(99));
    }
}
