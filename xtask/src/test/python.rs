//! The Python suites: those beside the example flows, run by the standard library's own runner.

use super::skips::Skips;
use crate::program::find;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// Folders whose `tests` hold unittest cases.
const SUITES: &[&str] = &["examples/iris"];

/// Runs every suite; without an interpreter each counts as skipped.
pub(super) fn run(workspace: &Workspace, skips: &Skips) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for suite in SUITES {
        if find("python3").is_none() {
            println!("skipped: {suite}: there is no python3");
            tally.skipped += 1;
            continue;
        }
        let mut command = workspace.command("python3");
        command.current_dir(workspace.root.join(suite)).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["-m", "unittest", "discover", "--start-directory", "tests", "--top-level-directory", "."]);
        skips.tell(&mut command);
        let output = command.output().map_err(|error| format!("cannot run python3: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        print!("{suite}: {}{said}", String::from_utf8_lossy(&output.stdout));
        tally.add(count(&said, output.status.success()));
    }
    Ok(tally)
}

/// Reads `Ran 3 tests in 0.2s` and `FAILED (failures=1, errors=1, skipped=1)`.
fn count(said: &str, success: bool) -> Tally {
    let after = |word: &str| said.rsplit_once(word).map_or(0, |(_, rest)| leading_number(rest));
    let (run, skipped) = (after("Ran "), after("skipped="));
    let named = after("failures=") + after("errors=");
    let failed = if success { 0 } else { named.max(1) };
    Tally { passed: run.saturating_sub(failed + skipped), failed, skipped }
}

fn leading_number(text: &str) -> u64 {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_unittest_is_read() {
        let fine = count("...\nRan 3 tests in 0.1s\n\nOK (skipped=1)\n", true);
        assert_eq!(fine, Tally { passed: 2, failed: 0, skipped: 1 });
        let broken = count("Ran 5 tests in 0.1s\n\nFAILED (failures=1, errors=2)\n", false);
        assert_eq!(broken, Tally { passed: 2, failed: 3, skipped: 0 });
    }

    #[test]
    fn a_suite_that_dies_without_a_summary_has_failed() {
        assert_eq!(count("Segmentation fault", false).failed, 1);
    }
}
