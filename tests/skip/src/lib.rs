//! How a test says that it cannot run on this machine.
//!
//! A test that needs what the machine lacks calls [`skip`] with the reason and returns. The line is printed, and appended
//! to the file that `FLOWYARD_SKIPS` names, by which `cargo xtask test` counts the test as skipped and not as passed. One
//! call per test: every line counts as one test.
//!
//! ```no_run
//! # fn find(_: &str) -> Option<()> { None }
//! let Some(crun) = find("crun") else {
//!     return flowyard_skip::skip("crun is not installed");
//! };
//! ```

use std::fs::OpenOptions;
use std::io::Write;

/// Says that the running test is skipped, and why. The reason is one line and names what is missing.
///
/// # Panics
///
/// When `FLOWYARD_SKIPS` names a file that cannot be written: a skip nobody counts would look like a passed test.
#[allow(clippy::print_stdout, reason = "the test runner shows what a test prints")]
pub fn skip(reason: &str) {
    assert!(!reason.contains('\n'), "a reason is one line");
    let line = format!("skipped: {}: {reason}\n", test_name());
    print!("{line}");
    let Some(file) = std::env::var_os("FLOWYARD_SKIPS") else {
        return;
    };
    // One write to a file opened for appending: lines of tests that run at once do not mix.
    let written =
        OpenOptions::new().append(true).create(true).open(&file).and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("cannot note the skipped test in {}: {error}", file.to_string_lossy()));
}

/// The test binary and the test, as in `tracker::a_job_is_found`. The runner names each test's thread after the test.
fn test_name() -> String {
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(|path| path.file_stem()).unwrap_or_default().to_string_lossy();
    // Cargo ends the name of a test binary with a dash and a hash.
    let binary = stem.rsplit_once('-').map_or(&*stem, |(name, _)| name).to_owned();
    let test = std::env::var("NEXTEST_TEST_NAME").ok();
    let test = test.or_else(|| std::thread::current().name().map(str::to_owned));
    format!("{binary}::{}", test.as_deref().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_is_named_by_its_binary_and_its_path() {
        assert_eq!(super::test_name(), "flowyard_skip::tests::a_test_is_named_by_its_binary_and_its_path");
    }
}
