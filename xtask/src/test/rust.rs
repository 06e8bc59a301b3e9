//! The Rust suites, by cargo-nextest where it is installed (one process per test, hung tests ended), else by cargo test.
//!
//! Both runners' summaries are read from what they print while it passes through to the terminal.

use std::io::{BufRead, BufReader};
use std::process::Command;

use super::skips::Skips;
use crate::program::find_tool;
use crate::tally::Tally;
use crate::workspace::Workspace;

/// Reads one line of a runner's output; a summary line gives counts.
type Count = fn(&str) -> Option<Tally>;

/// Runs unit, integration and documentation tests of the whole workspace.
pub(super) fn run(workspace: &Workspace, skips: &Skips) -> Result<Tally, String> {
    let (arguments, count): (&[&str], Count) = match find_tool(workspace, "cargo-nextest") {
        Some(_) => (&["nextest", "run", "--no-tests=pass"], nextest_summary),
        None => (&["test", "--all-targets"], libtest_summary),
    };
    let documents: &[&str] = &["test", "--doc", "--quiet"];
    let mut tally = Tally::default();
    for (arguments, count) in [(arguments, count), (documents, libtest_summary)] {
        let mut command = workspace.cargo(arguments);
        command.args(["--locked", "--workspace", "--no-fail-fast"]);
        skips.tell(&mut command);
        tally.add(run_and_count(command, count)?);
    }
    Ok(tally)
}

/// Runs a command that is `cargo test` and counts what it ran.
pub(crate) fn run_cargo_test(command: Command) -> Result<Tally, String> {
    run_and_count(command, libtest_summary)
}

/// Passes the runner's output on line by line and adds up its summaries. A runner that ends badly without naming a
/// failed test (it did not build, or it was killed) counts as one failure.
fn run_and_count(mut command: Command, count: Count) -> Result<Tally, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    let errors = writer.try_clone().map_err(|error| format!("no pipe: {error}"))?;
    let mut child =
        command.stdout(writer).stderr(errors).spawn().map_err(|error| format!("cannot run cargo: {error}"))?;
    // The command still holds the writing ends; without this the pipe would never end.
    drop(command);
    let mut tally = Tally::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read what the tests print: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(counts) = count(&line) {
            tally.add(counts);
        }
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    if !status.success() && tally.failed == 0 {
        println!("the test runner ended with {status}");
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads `test result: ok. 3 passed; 1 failed; 0 ignored; ...`.
fn libtest_summary(line: &str) -> Option<Tally> {
    let rest = line.split_once("test result: ")?.1;
    Some(Tally {
        passed: number_before(rest, " passed")?,
        failed: number_before(rest, " failed")?,
        skipped: number_before(rest, " ignored")?,
    })
}

/// Reads `Summary [ 1.2s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped`. Whatever ran and did not
/// pass has failed, whichever word nextest has for it.
fn nextest_summary(line: &str) -> Option<Tally> {
    let rest = line.trim_start().strip_prefix("Summary [")?.split_once(']')?.1;
    let run = number_before(rest, " tests run").or_else(|| number_before(rest, " test run"))?;
    let passed = number_before(rest, " passed")?;
    Some(Tally { passed, failed: run.saturating_sub(passed), skipped: number_before(rest, " skipped").unwrap_or(0) })
}

/// The whole number directly in front of the first `word`. After an interruption nextest writes `2/5 tests run`.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let before = &text[..text.find(word)?];
    let start = before.rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |index| index + 1);
    before[start..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_cargo_test_is_read() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(libtest_summary(line), Some(Tally { passed: 3, failed: 1, skipped: 2 }));
        assert_eq!(libtest_summary("test the_result ... ok"), None);
    }

    #[test]
    fn the_summary_of_nextest_is_read() {
        let line = "     Summary [   2.067s] 12 tests run: 9 passed (2 slow), 1 failed, 2 timed out, 4 skipped";
        assert_eq!(nextest_summary(line), Some(Tally { passed: 9, failed: 3, skipped: 4 }));
        let one = "     Summary [   0.013s] 1 test run: 1 passed, 0 skipped";
        assert_eq!(nextest_summary(one), Some(Tally { passed: 1, failed: 0, skipped: 0 }));
    }
}
