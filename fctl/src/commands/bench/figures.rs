//! What a bench of a fleet found, for people and for programs.

use serde::Serialize;

use super::chaos::Happened;
use super::process::Taken;
use crate::{output, text};

/// Everything that is printed; the fields are documented in `docs/json-output.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    pub nodes: u32,
    pub tasks: u64,
    pub jobs: u64,
    pub attempts: u64,
    pub failed_attempts: u64,
    pub broken_attempts: u64,
    pub failed_tasks: u64,
    pub tasks_per_second: u64,
    pub took_ms: u64,
    pub submit_ms: u64,
    pub placed_p50_ms: u64,
    pub placed_p99_ms: u64,
    pub placed_max_ms: u64,
    pub connect_ms: u64,
    pub peak_rss_bytes: Option<u64>,
    pub cpu_us_per_task: Option<u64>,
    /// Entries of the log, from the first submission to the last end.
    pub entries: u64,
    pub coordinators: Vec<Process>,
    pub agents: Process,
    pub sessions_lost: u64,
    /// From before the first agent joined.
    pub elections: u64,
    pub backlog: Option<Backlog>,
    pub chaos: Vec<Happened>,
    pub tls: bool,
    /// Of our own coordinators.
    pub fsync: Option<bool>,
    /// How often they waited for it, all together, from the first submission to the last end.
    pub fsyncs: Option<u64>,
    pub disk: Option<String>,
    pub problems: Vec<String>,
}

/// Tasks that were there before and could not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Backlog {
    pub tasks: u64,
    pub distinct: bool,
    pub submit_ms: u64,
    /// By how much the memory of the coordinator grew whose grew most.
    pub rss_bytes: u64,
    pub bytes_per_task: u64,
}

/// What one process took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Process {
    pub peak_rss_bytes: u64,
    /// From the first submission to the end of the last task.
    pub cpu_us: u64,
}

impl Process {
    /// Between two looks.
    pub(super) fn between(before: Taken, after: Taken) -> Self {
        Self { peak_rss_bytes: after.peak_rss_bytes, cpu_us: after.cpu_us.saturating_sub(before.cpu_us) }
    }
}

/// The time that this share, of 1,000, of sorted times stays at or under.
pub(super) fn at(sorted: &[u64], permille: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * permille / 1_000).copied().unwrap_or_default()
}

impl Figures {
    /// Writes them.
    pub(super) fn print(&self) {
        if output::is_json() {
            return output::json(self);
        }
        let seconds = text::duration(self.took_ms);
        output::line(format!(
            "{} tasks on {} hollow nodes in {seconds}: {} tasks per second, from the first submission to the last end",
            self.tasks, self.nodes, self.tasks_per_second
        ));
        output::line(format!(
            "  jobs {}, attempts {} ({} failed, {} broken by their node, as drawn), tasks that failed for good {}",
            self.jobs, self.attempts, self.failed_attempts, self.broken_attempts, self.failed_tasks
        ));
        output::line(format!(
            "  startable to placed first: p50 {} ms, p99 {} ms, longest {} ms (waiting for room included)",
            self.placed_p50_ms, self.placed_p99_ms, self.placed_max_ms
        ));
        output::line(format!(
            "  submitting took {}, connecting {}; sessions lost {}, elections {}",
            text::duration(self.submit_ms),
            text::duration(self.connect_ms),
            self.sessions_lost,
            self.elections
        ));
        if let Some(backlog) = &self.backlog {
            output::line(format!(
                "  before, {} were submitted that could not run, in {}: {} of memory each in a coordinator",
                text::count(backlog.tasks, "task"),
                text::duration(backlog.submit_ms),
                text::size(backlog.bytes_per_task)
            ));
        }
        self.chaos.iter().for_each(|fault| output::line(format!("  chaos: {}", fault.line())));
        for (number, process) in self.coordinators.iter().enumerate() {
            output::line(format!("  coordinator {number}: {}", process.line()));
        }
        output::line(format!("  hollow agents: {}", self.agents.line()));
        if let Some(cpu_us) = self.cpu_us_per_task {
            output::line(format!("  coordinators together: {cpu_us} us of CPU per task"));
        }
        let each = self.entries * 100 / self.tasks.max(1);
        output::line(format!("  entries of the log: {}, {each} for 100 tasks", self.entries));
        let tls = if self.tls { "with TLS" } else { "without TLS" };
        let disk = match (self.fsync, &self.disk) {
            (Some(true), Some(disk)) => {
                let fsyncs = text::count(self.fsyncs.unwrap_or_default(), "fsync");
                format!("; every entry synced to {disk}, by {fsyncs} of the coordinators together")
            }
            (Some(false), Some(disk)) => format!("; on {disk}, where nothing is synced, or syncing costs nothing"),
            _ => String::new(),
        };
        output::line(format!("  {tls}{disk}"));
        match self.problems.is_empty() {
            true => output::line("  every task ended as was drawn, none was lost and no attempt was begun twice"),
            false => self.problems.iter().for_each(|problem| output::line(format!("  WRONG: {problem}"))),
        }
    }
}

impl Process {
    fn line(&self) -> String {
        format!("peak memory {}, CPU {}", text::size(self.peak_rss_bytes), text::duration(self.cpu_us / 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_sorted_times() {
        let sorted: Vec<u64> = (1..=101).collect();
        assert_eq!([0, 500, 990, 1_000].map(|share| at(&sorted, share)), [1, 51, 100, 101]);
        assert_eq!(at(&[], 500), 0);
    }
}
