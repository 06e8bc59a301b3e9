//! Which fault hit while an attempt was in which phase, and which reasons ends had.

use std::collections::BTreeMap;

use flowyard_model::{Phase, Reason};

use crate::faults::FaultKind;

/// The phases, as columns.
pub(crate) const PHASES: [Phase; 6] =
    [Phase::Placed, Phase::Accepted, Phase::Fetching, Phase::Running, Phase::Storing, Phase::Ended];

/// Counts of a run, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Attempts that were in a phase when a fault hit what they depend on.
    hits: BTreeMap<(FaultKind, usize), u64>,
    /// How often each kind of fault happened.
    faults: BTreeMap<FaultKind, u64>,
    /// Ends that were not by the task itself, by their reason.
    reasons: BTreeMap<String, u64>,
}

impl Coverage {
    pub(crate) fn fault(&mut self, kind: FaultKind, phases: impl Iterator<Item = Phase>) {
        *self.faults.entry(kind).or_insert(0) += 1;
        for phase in phases {
            let column = PHASES.iter().position(|other| *other == phase).expect("all phases are columns");
            *self.hits.entry((kind, column)).or_insert(0) += 1;
        }
    }

    pub(crate) fn ended(&mut self, reason: Reason) {
        *self.reasons.entry(format!("{reason:?}")).or_insert(0) += 1;
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        other.hits.iter().for_each(|(cell, count)| *self.hits.entry(*cell).or_insert(0) += count);
        other.faults.iter().for_each(|(kind, count)| *self.faults.entry(*kind).or_insert(0) += count);
        other.reasons.iter().for_each(|(reason, count)| *self.reasons.entry(reason.clone()).or_insert(0) += count);
    }

    /// One number on each line, after what it counts.
    pub(crate) fn to_text(&self) -> String {
        let hits = self.hits.iter().map(|((kind, column), count)| format!("{}\t{column}\t{count}\n", kind.name()));
        let faults = self.faults.iter().map(|(kind, count)| format!("{}\t{count}\n", kind.name()));
        let reasons = self.reasons.iter().map(|(reason, count)| format!("ended\t{reason}\t{count}\n"));
        hits.chain(faults).chain(reasons).collect()
    }

    /// Takes one line of what [`Self::to_text`] wrote; `None` if it is none.
    pub(crate) fn take(&mut self, name: &str, count: u64) -> Option<()> {
        let kind = |name: &str| FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
        match name.split_once('\t') {
            None => drop(self.faults.insert(kind(name)?, count)),
            Some(("ended", reason)) => drop(self.reasons.insert(reason.to_owned(), count)),
            Some((name, column)) => {
                let column = column.parse().ok().filter(|column| *column < PHASES.len())?;
                self.hits.insert((kind(name)?, column), count);
            }
        }
        Some(())
    }

    /// How many faults happened.
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Kinds of fault that never met an attempt in some phase.
    pub fn empty_cells(&self) -> Vec<(FaultKind, Phase)> {
        let cells = FaultKind::ALL.into_iter().flat_map(|kind| (0..PHASES.len()).map(move |column| (kind, column)));
        cells.filter(|cell| !self.hits.contains_key(cell)).map(|(kind, column)| (kind, PHASES[column])).collect()
    }

    /// As a table, one line per kind of fault, as Markdown reads it.
    pub fn table(&self) -> String {
        let mut text = String::from("| Fault | Times |");
        PHASES.iter().for_each(|phase| text += &format!(" {} |", format!("{phase:?}").to_lowercase()));
        text += "\n|---|---|---|---|---|---|---|---|\n";
        for kind in FaultKind::ALL {
            text += &format!("| {} | {} |", kind.name(), self.faults.get(&kind).copied().unwrap_or(0));
            for column in 0..PHASES.len() {
                text += &format!(" {} |", self.hits.get(&(kind, column)).copied().unwrap_or(0));
            }
            text.push('\n');
        }
        text
    }

    /// The reasons of ends, with how often each was given.
    pub fn reasons(&self) -> String {
        let counted = self.reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
        counted.collect::<Vec<_>>().join(", ")
    }
}
