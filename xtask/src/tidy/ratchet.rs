//! The exceptions that were granted, read from `xtask/tidy-ratchet.toml`.
//!
//! Invariant: an exception excuses one finding of exactly its size. One that has become too large must be lowered in the
//! change that made it so, and one that excuses nothing must go. So the file can only shrink, unless a review lets it grow.

use std::path::Path;

use serde::Deserialize;

use super::Finding;
use crate::workspace::Workspace;

const FILE: &str = "xtask/tidy-ratchet.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    rule: String,
    at: String,
    size: u64,
    reason: String,
    #[serde(skip)]
    used: bool,
}

/// The exceptions, and which of them were needed so far.
pub(super) struct Ratchet {
    exceptions: Vec<Exception>,
}

impl Ratchet {
    pub(super) fn load(workspace: &Workspace) -> Result<Self, String> {
        Self::parse(&workspace.read(Path::new(FILE))?)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: Exceptions = toml::from_str(text).map_err(|error| format!("{FILE}: {error}"))?;
        if let Some(mute) = file.exception.iter().find(|exception| exception.reason.trim().is_empty()) {
            return Err(format!("{FILE}: the exception for {} gives no reason", mute.at));
        }
        Ok(Self { exceptions: file.exception })
    }

    /// Whether an exception covers `finding`; remembers that it was needed.
    pub(super) fn excuses(&mut self, finding: &Finding) -> bool {
        debug_assert!(finding.size > finding.limit, "a finding is beyond its limit");
        let covers = |exception: &&mut Exception| {
            exception.rule == finding.rule && exception.at == finding.at && exception.size >= finding.size
        };
        let Some(exception) = self.exceptions.iter_mut().find(covers) else {
            return false;
        };
        exception.used |= exception.size == finding.size;
        true
    }

    /// Exceptions that must be lowered or removed.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let unused = self.exceptions.iter().filter(|exception| !exception.used);
        let line = |exception: &Exception| {
            format!("{FILE}: {} at {} allows more than is there; lower or remove it", exception.rule, exception.at)
        };
        unused.map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[exception]]\nrule = \"r\"\nat = \"a.rs\"\nsize = 80\nreason = \"because\"\n";

    fn finding(size: u64) -> Finding {
        Finding { rule: "r", at: "a.rs".into(), line: 1, size, limit: 70, what: String::new() }
    }

    #[test]
    fn an_exception_excuses_its_size_and_no_more() {
        let mut ratchet = Ratchet::parse(ONE).unwrap();
        assert!(!ratchet.excuses(&finding(81)));
        assert!(ratchet.excuses(&finding(80)));
        assert_eq!(ratchet.leftovers(), [""; 0]);
    }

    #[test]
    fn an_exception_larger_than_its_finding_must_be_lowered() {
        let mut ratchet = Ratchet::parse(ONE).unwrap();
        assert!(ratchet.excuses(&finding(75)));
        assert_eq!(ratchet.leftovers().len(), 1);
    }

    #[test]
    fn an_exception_that_excuses_nothing_must_go() {
        assert_eq!(Ratchet::parse(ONE).unwrap().leftovers().len(), 1);
    }

    #[test]
    fn an_exception_without_a_reason_is_refused() {
        assert!(Ratchet::parse(&ONE.replace("because", " ")).is_err());
    }
}
