//! One type per controller: its files, kept open, and what is read from and written to them, for both interfaces.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::detect::Version;

const NO_LIMIT_V1: &str = "-1";
const NO_LIMIT_V2: &str = "max";

pub(super) fn write(directory: &Path, file: &str, text: &str) -> io::Result<()> {
    std::fs::write(directory.join(file), text)
}

fn read_open(file: &File) -> io::Result<String> {
    let mut bytes = [0; 1024];
    let count = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn read_number(file: &File) -> io::Result<u64> {
    read_open(file)?.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// The number behind `key` in a file of lines `key number`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Memory: the limit, the peak, and how often the kernel killed for it.
#[derive(Debug)]
pub(super) struct Memory {
    version: Version,
    peak: Option<File>,
    events: File,
    usage: File,
    kills_before: u64,
}

impl Memory {
    pub(super) fn open(directory: &Path, version: Version) -> io::Result<Self> {
        let (peak, events, usage) = match version {
            Version::V1 => ("memory.max_usage_in_bytes", "memory.oom_control", "memory.usage_in_bytes"),
            Version::V2 => ("memory.peak", "memory.events", "memory.current"),
        };
        let peak = OpenOptions::new().read(true).write(true).open(directory.join(peak));
        Ok(Self {
            version,
            // Kernels before 6.12 cannot forget a v2 peak; without write access there is no use in the file.
            peak: peak.ok(),
            events: File::open(directory.join(events))?,
            usage: File::open(directory.join(usage))?,
            kills_before: 0,
        })
    }

    pub(super) fn limit(&self, directory: &Path, bytes: u64) -> io::Result<()> {
        match self.version {
            Version::V2 => {
                let text = if bytes == 0 { NO_LIMIT_V2.to_owned() } else { bytes.to_string() };
                write(directory, "memory.max", &text)?;
                // Absent where the kernel has no swap accounting.
                ignore_missing(write(directory, "memory.swap.max", if bytes == 0 { NO_LIMIT_V2 } else { "0" }))
            }
            Version::V1 => {
                let text = if bytes == 0 { NO_LIMIT_V1.to_owned() } else { bytes.to_string() };
                // Memory with swap may never be below memory: it is lifted first and set last.
                ignore_missing(write(directory, "memory.memsw.limit_in_bytes", NO_LIMIT_V1))?;
                write(directory, "memory.limit_in_bytes", &text)?;
                ignore_missing(write(directory, "memory.memsw.limit_in_bytes", &text))
            }
        }
    }

    /// Forgets what an earlier attempt did.
    pub(super) fn rewind(&mut self) -> io::Result<()> {
        if let Some(peak) = &self.peak {
            peak.write_at(b"0", 0)?;
        }
        self.kills_before = self.kills()?;
        Ok(())
    }

    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak.as_ref().and_then(|peak| read_number(peak).ok()).unwrap_or(0)
    }

    pub(super) fn usage_bytes(&self) -> io::Result<u64> {
        read_number(&self.usage)
    }

    pub(super) fn was_oom_killed(&self) -> bool {
        self.kills().is_ok_and(|kills| kills > self.kills_before)
    }

    fn kills(&self) -> io::Result<u64> {
        Ok(value_of(&read_open(&self.events)?, "oom_kill").unwrap_or(0))
    }
}

/// The number of processes and threads.
#[derive(Debug)]
pub(super) struct Pids {
    current: File,
    max: File,
}

impl Pids {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let max = OpenOptions::new().write(true).open(directory.join("pids.max"))?;
        Ok(Self { current: File::open(directory.join("pids.current"))?, max })
    }

    pub(super) fn limit(&self, count: u64) -> io::Result<()> {
        let text = if count == 0 { NO_LIMIT_V2.to_owned() } else { count.to_string() };
        self.max.write_at(text.as_bytes(), 0).map(drop)
    }

    /// Lets nothing fork any more.
    pub(super) fn freeze(&self) -> io::Result<()> {
        self.max.write_at(b"0", 0).map(drop)
    }

    pub(super) fn current(&self) -> io::Result<u64> {
        read_number(&self.current)
    }
}

/// The quota of CPU time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    pub(super) version: Version,
}

impl Cpu {
    /// Sets the quota, and the weight in proportion to it for when the node is busy.
    pub(super) fn limit(self, directory: &Path, milli: u64) -> io::Result<()> {
        self.weigh(directory, milli)?;
        let quota = quota_us(milli);
        match self.version {
            Version::V2 => match quota {
                Some((quota, period)) => write(directory, "cpu.max", &format!("{quota} {period}")),
                None => write(directory, "cpu.max", NO_LIMIT_V2),
            },
            Version::V1 => match quota {
                Some((quota, period)) => {
                    // Lifted first, or an old quota could exceed the bounds for the new period.
                    write(directory, "cpu.cfs_quota_us", NO_LIMIT_V1)?;
                    write(directory, "cpu.cfs_period_us", &period.to_string())?;
                    write(directory, "cpu.cfs_quota_us", &quota.to_string())
                }
                None => write(directory, "cpu.cfs_quota_us", NO_LIMIT_V1),
            },
        }
    }
}

impl Cpu {
    /// Gives the group the weight of as many ordinary processes as it has CPUs; 0 is one.
    pub(super) fn weigh(self, directory: &Path, milli: u64) -> io::Result<()> {
        let milli = if milli == 0 { 1_000 } else { milli };
        match self.version {
            Version::V1 => write(directory, "cpu.shares", &(milli * 1_024 / 1_000).clamp(2, 262_144).to_string()),
            Version::V2 => write(directory, "cpu.weight", &(milli / 10).clamp(1, 10_000).to_string()),
        }
    }
}

/// Quota and period in microseconds; the kernel takes no quota under a millisecond and no period over a second.
fn quota_us(milli: u64) -> Option<(u64, u64)> {
    match milli {
        0 => None,
        1..10 => Some((milli * 1_000, 1_000_000)),
        _ => Some((milli * 100, 100_000)),
    }
}

/// The CPU time used.
#[derive(Debug)]
pub(super) struct CpuTime {
    version: Version,
    file: File,
    before_us: u64,
}

impl CpuTime {
    pub(super) fn open(directory: &Path, version: Version) -> io::Result<Self> {
        let name = match version {
            Version::V1 => "cpuacct.usage",
            Version::V2 => "cpu.stat",
        };
        Ok(Self { version, file: File::open(directory.join(name))?, before_us: 0 })
    }

    pub(super) fn rewind(&mut self) -> io::Result<()> {
        self.before_us = self.total_us()?;
        Ok(())
    }

    pub(super) fn used_us(&self) -> u64 {
        self.total_us().unwrap_or(0).saturating_sub(self.before_us)
    }

    fn total_us(&self) -> io::Result<u64> {
        match self.version {
            Version::V1 => Ok(read_number(&self.file)? / 1_000),
            Version::V2 => Ok(value_of(&read_open(&self.file)?, "usage_usec").unwrap_or(0)),
        }
    }
}

/// Which device nodes may be opened (v1 only; v2 takes a program, which is the container runtime's to load).
pub(super) mod devices {
    use super::{Path, io, write};

    /// Denies all but `allowed` (rules such as `c 1:3 rwm`).
    pub(in crate::cgroup) fn allow_only(directory: &Path, allowed: &[String]) -> io::Result<()> {
        write(directory, "devices.deny", "a")?;
        allowed.iter().try_for_each(|rule| write(directory, "devices.allow", rule))
    }

    /// Lifts all rules again.
    pub(in crate::cgroup) fn allow_all(directory: &Path) -> io::Result<()> {
        write(directory, "devices.allow", "a")
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_stay_within_what_the_kernel_takes() {
        for milli in [1, 9, 10, 999, 1_000, 64_000] {
            let (quota, period) = quota_us(milli).expect("a quota");
            assert!(quota >= 1_000 && period <= 1_000_000);
            assert_eq!(quota * 1_000 / period, milli);
        }
        assert_eq!(quota_us(0), None);
    }

    #[test]
    fn a_key_is_not_mistaken_for_a_longer_one() {
        let text = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "oom"), Some(3));
        assert_eq!(value_of(text, "nothing"), None);
    }
}
