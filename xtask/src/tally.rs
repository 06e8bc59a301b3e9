//! How many things were checked, how they ended, and the sentences that say so.

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// What one gate or one suite found.
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// What is wrong and where, one line each. Empty when the program that ran already printed it.
    Failed(Vec<String>),
    /// It could not run here, and why.
    Skipped(String),
}

/// Counts over a whole run.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Verdict {
    /// Failed when there are problems, passed when there are none.
    pub(crate) fn of(problems: Vec<String>) -> Self {
        if problems.is_empty() { Self::Passed } else { Self::Failed(problems) }
    }

    /// The verdict of a program that prints its own complaints.
    pub(crate) fn of_program(ended: Result<(), String>) -> Self {
        match ended {
            Ok(()) => Self::Passed,
            Err(how) => Self::Failed(vec![how]),
        }
    }
}

impl Tally {
    /// Prints one line for one gate, then its problems, and counts it.
    pub(crate) fn record(&mut self, name: &str, verdict: &Verdict, took: Duration) {
        let seconds = took.as_secs_f32();
        match verdict {
            Verdict::Passed => {
                self.passed += 1;
                println!("{name:<10} ok      {seconds:>6.1} s");
            }
            Verdict::Failed(problems) => {
                self.failed += 1;
                println!("{name:<10} FAILED  {seconds:>6.1} s");
                problems.iter().for_each(|problem| println!("  {problem}"));
            }
            Verdict::Skipped(reason) => {
                self.skipped += 1;
                println!("{name:<10} skipped {seconds:>6.1} s  {reason}");
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// One complaint about one place in the repository, in the form that editors jump to.
pub(crate) fn problem(file: &Path, line: usize, what: impl fmt::Display) -> String {
    format!("{}:{line}: {what}", file.display())
}
