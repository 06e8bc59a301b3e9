//! The file to which tests write why they could not run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tally::Tally;

/// The variable that names the file; crate `flowyard-skip` reads it.
const VARIABLE: &str = "FLOWYARD_SKIPS";

/// What tests may say they lack on a machine that has everything else: no registry of packages that the suites use offers these
/// programs. Each is the whole reason.
const MAY_LACK: &[&str] = &["terraform is not installed"];

/// Whether a line tells of a skip that is no failure anywhere.
pub(crate) fn is_allowed(line: &str) -> bool {
    MAY_LACK.iter().any(|reason| line.ends_with(&format!(": {reason}")))
}

/// An empty file of this run, removed at the end.
pub(crate) struct Skips {
    file: PathBuf,
}

impl Skips {
    pub(crate) fn create(target: &Path) -> Result<Self, String> {
        let file = target.join(format!("skips-{}.txt", std::process::id()));
        File::create(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Self { file })
    }

    /// Tells a test runner, and through it every test, where to write.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env(VARIABLE, &self.file);
    }

    /// Counts what was told as skipped: a test that told why it could not run ended well for its runner. Its lines, once each.
    pub(crate) fn count(&self, tally: &mut Tally) -> Result<Vec<String>, String> {
        let text = std::fs::read_to_string(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines.dedup();
        tally.passed = tally.passed.saturating_sub(lines.len() as u64);
        tally.skipped += lines.len() as u64;
        Ok(lines)
    }
}

impl Drop for Skips {
    fn drop(&mut self) {
        // The file lies in the build folder; one left behind harms nobody.
        let _ = std::fs::remove_file(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_registry_offers_may_be_lacking() {
        assert!(is_allowed("skipped: terraform::a_cluster_is_formed: terraform is not installed"));
        assert!(!is_allowed("skipped: terraform::a_cluster_is_formed: sshd is not installed"));
        assert!(!is_allowed("skipped: terraform::a_cluster_is_formed: no hosts: terraform is not installed, nor ip"));
    }
}
