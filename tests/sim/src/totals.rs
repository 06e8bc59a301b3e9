//! What came of many runs; kept in a file as text, so that runs of hours are made of many short ones.

use std::fmt::Write;

use crate::coverage::Coverage;
use crate::summary::Summary;

/// Sums over runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Those that broke a rule.
    pub failed: u64,
    /// Jobs.
    pub jobs: u64,
    /// Attempts that were remembered at the end.
    pub attempts: u64,
    /// Tasks that succeeded.
    pub succeeded: u64,
    /// Attempts that were evicted.
    pub evictions: u64,
    /// Members of gangs whose place others took.
    pub replaced: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// The fewest faults of a run that went well.
    pub least_faults: u64,
    /// Milliseconds that the runs took.
    pub took_ms: u64,
    /// What was hit by what.
    pub coverage: Coverage,
}

impl Totals {
    /// Counts a run that went well.
    pub fn add(&mut self, summary: &Summary) {
        let went_well = self.runs - self.failed;
        self.least_faults = if went_well == 0 { summary.faults } else { self.least_faults.min(summary.faults) };
        self.runs += 1;
        self.jobs += summary.jobs;
        self.attempts += summary.attempts;
        self.succeeded += summary.succeeded;
        self.evictions += summary.evictions;
        self.replaced += summary.replaced;
        self.entries += summary.entries;
        self.simulated_ms += summary.simulated_ms;
        self.coverage.merge(&summary.coverage);
    }

    /// Counts a run that broke a rule.
    pub fn fail(&mut self) {
        self.runs += 1;
        self.failed += 1;
    }

    /// Adds the sums over other runs.
    pub fn merge(&mut self, other: &Self) {
        let least = [&*self, other].into_iter().filter(|one| one.runs > one.failed).map(|one| one.least_faults).min();
        self.least_faults = least.unwrap_or(0);
        self.numbers_mut().into_iter().zip(other.numbers()).for_each(|(sum, (_, more))| *sum += more);
        self.coverage.merge(&other.coverage);
    }

    fn numbers(&self) -> [(&'static str, u64); 10] {
        [
            ("runs", self.runs),
            ("failed", self.failed),
            ("jobs", self.jobs),
            ("attempts", self.attempts),
            ("succeeded", self.succeeded),
            ("evictions", self.evictions),
            ("replaced", self.replaced),
            ("entries", self.entries),
            ("simulated_ms", self.simulated_ms),
            ("took_ms", self.took_ms),
        ]
    }

    fn numbers_mut(&mut self) -> [&mut u64; 10] {
        [
            &mut self.runs,
            &mut self.failed,
            &mut self.jobs,
            &mut self.attempts,
            &mut self.succeeded,
            &mut self.evictions,
            &mut self.replaced,
            &mut self.entries,
            &mut self.simulated_ms,
            &mut self.took_ms,
        ]
    }

    /// As [`Self::from_text`] reads it: one number on each line, after a tab and what it counts.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, number) in self.numbers().into_iter().chain([("least_faults", self.least_faults)]) {
            writeln!(text, "{name}\t{number}").expect("text can be written");
        }
        text + &self.coverage.to_text()
    }

    /// What [`Self::to_text`] wrote; `None` if it did not write this.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut totals = Self::default();
        for line in text.lines() {
            let (name, number) = line.rsplit_once('\t')?;
            let number = number.parse().ok()?;
            let known = totals.numbers().iter().position(|(known, _)| *known == name);
            match (known, name) {
                (Some(at), _) => *totals.numbers_mut()[at] = number,
                (None, "least_faults") => totals.least_faults = number,
                (None, name) => totals.coverage.take(name, number)?,
            }
        }
        Some(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run;

    #[test]
    fn sums_come_back_from_their_text_and_add_up() {
        let (mut one, mut other) = (Totals::default(), Totals::default());
        one.add(&run(1, false).expect("seed 1 goes well"));
        other.fail();
        let whole = Totals::from_text(&one.to_text()).expect("it was just written");
        assert_eq!(whole, one);
        other.merge(&whole);
        assert_eq!((other.runs, other.failed, other.least_faults), (2, 1, one.least_faults));
        assert_eq!(other.coverage, one.coverage);
        assert_eq!(Totals::from_text("what\t3\n"), None);
    }
}
