//! The figures of this process itself, under the names that Prometheus' own libraries use for them.

use std::fmt;

use crate::exposition::{Page, Source};

/// This process.
pub(crate) struct Process;

/// What `/proc/self/stat` says: CPU time in seconds, threads, start after boot in seconds, and resident bytes.
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    started_seconds: f64,
    resident_bytes: f64,
}

impl Source for Process {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let Some(stat) = parse(&text, ticks, rustix::param::page_size() as f64) {
            // A start is told after boot, and boot as a distance from now.
            let boot_seconds = (flowyard_clock::wall_ms() as f64 - flowyard_clock::boot_ms() as f64) / 1e3;
            page.seconds("process_cpu_seconds", "CPU time that this process used, user and system.", stat.cpu_seconds)?;
            page.gauge("process_resident_memory_bytes", "Memory that this process has.", stat.resident_bytes)?;
            page.gauge("process_threads", "Threads of this process.", stat.threads)?;
            let started = boot_seconds + stat.started_seconds;
            page.gauge("process_start_time_seconds", "When this process began, since the Unix epoch.", started)?;
        }
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        page.gauge("process_open_fds", "File descriptors that this process has open.", open as f64)?;
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        page.gauge("process_max_fds", "File descriptors that this process may have open.", most as f64)?;
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        page.gauges("flowyard_build_info", "Always 1; its label is the release.", [(version, 1.0)])
    }
}

/// Reads the line; what stands before its last parenthesis is the program's name, which may hold anything.
fn parse(text: &str, ticks: f64, page_bytes: f64) -> Option<Stat> {
    let fields: Vec<f64> =
        text.rsplit_once(") ")?.1.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) / ticks,
        threads: field(20)?,
        started_seconds: field(22)? / ticks,
        resident_bytes: field(24)? * page_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_is_hostile_is_read_all_the_same() {
        let line = "7 (a) b 9) S 1 7 7 0 -1 0 1 0 0 0 250 50 0 0 20 0 4 0 1000 9999 12 18446744073709551615";
        let stat = parse(line, 100.0, 4_096.0).unwrap();
        assert_eq!((stat.cpu_seconds, stat.threads), (3.0, 4.0));
        assert_eq!((stat.started_seconds, stat.resident_bytes), (10.0, 49_152.0));
        assert!(parse("nothing", 100.0, 4_096.0).is_none());
    }
}
