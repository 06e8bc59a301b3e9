//! What a run did, in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::account;

/// The figures of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    pub(crate) seed: Option<u64>,
    pub(crate) lasted: Duration,
    pub(crate) faults: BTreeMap<&'static str, u32>,
    pub(crate) left_out: Vec<String>,
    /// Processes that ended by themselves where they may, and were started again.
    pub(crate) fell: u32,
    pub(crate) replaced: u32,
    /// The cluster's version at first and at the end.
    pub(crate) versions: [u32; 2],
    pub(crate) calls: usize,
    pub(crate) unanswered: usize,
    pub(crate) jobs: BTreeMap<&'static str, u32>,
    pub(crate) attempts: u32,
    pub(crate) lost_attempts: u32,
    pub(crate) artifacts: usize,
    pub(crate) objects: usize,
    pub(crate) compared: usize,
    pub(crate) traced: usize,
    pub(crate) looked: account::Looked,
}

fn list<V: fmt::Display>(counts: &BTreeMap<&'static str, V>) -> String {
    counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.seed.map_or_else(|| "the short plan".to_owned(), |seed| format!("seed {seed}"));
        let (faults, jobs) = (self.faults.values().sum::<u32>(), self.jobs.values().sum::<u32>());
        writeln!(f, "chaos, {plan}: {:.0?}", self.lasted)?;
        writeln!(f, "  faults      {faults}: {}", list(&self.faults))?;
        for what in &self.left_out {
            writeln!(f, "  left out    {what}")?;
        }
        writeln!(
            f,
            "  processes   {} ended by themselves on a full disk, {} coordinators replaced",
            self.fell, self.replaced
        )?;
        let [first, last] = self.versions;
        writeln!(f, "  cluster     version {first} at first, {last} at the end")?;
        writeln!(f, "  calls       {}, {} of them without an answer", self.calls, self.unanswered)?;
        writeln!(f, "  jobs        {jobs}: {}", list(&self.jobs))?;
        writeln!(f, "  attempts    {}, {} of them lost", self.attempts, self.lost_attempts)?;
        writeln!(f, "  checked     the order of the answers about {} jobs and keys;", self.objects)?;
        writeln!(f, "              {} artifacts, read from every coordinator;", self.artifacts)?;
        writeln!(f, "              {} jobs as each coordinator tells them;", self.compared)?;
        writeln!(f, "              {} tasks that must not run twice;", self.traced)?;
        let account::Looked { hosts, processes, cgroups } = self.looked;
        write!(
            f,
            "              what is left on {hosts} hosts of {processes} processes besides agents, and {cgroups} cgroups"
        )
    }
}
