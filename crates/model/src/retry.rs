//! When a failed attempt is tried again: what a user may ask for. Attempts that end through the platform's or the hardware's
//! fault do not count, and no rule is asked about them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{End, Reason};

/// When a failed attempt is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retry {
    /// Tries beside the first.
    pub times: u32,
    /// Wait before the next try, in milliseconds.
    pub backoff_ms: u64,
    /// How the wait grows from one try to the next.
    #[serde(default)]
    pub growth: Growth,
    /// Which ends are tried again, where no rule says otherwise.
    pub on: BTreeSet<RetryOn>,
    /// What holds for some ends; the first that an end falls under decides about it.
    #[serde(default)]
    pub rules: Vec<RetryRule>,
}

impl Retry {
    /// A rule whose waits double and that makes no exceptions.
    pub fn plain(times: u32, backoff_ms: u64, on: impl IntoIterator<Item = RetryOn>) -> Self {
        Self { times, backoff_ms, growth: Growth::DOUBLING, on: on.into_iter().collect(), rules: Vec::new() }
    }

    /// The exception that an end falls under, by its position.
    pub fn rule_for(&self, end: &End) -> Option<usize> {
        self.rules.iter().position(|rule| rule.covers(end))
    }

    /// Whether it says what cluster version 1 did not know.
    pub fn is_newer(&self) -> bool {
        self.growth != Growth::DOUBLING || !self.rules.is_empty()
    }
}

/// How waits grow from one try to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Growth {
    /// Each wait is the one before times this; 1 for always the same.
    pub factor: u32,
    /// Longest wait, in milliseconds; 64 times the first if `None`.
    pub max_ms: Option<u64>,
    /// Whether up to half of each wait is left out, so that tasks that failed together do not come back together.
    pub jitter: bool,
}

impl Growth {
    /// Doubled each time, up to 64-fold.
    pub const DOUBLING: Self = Self { factor: 2, max_ms: None, jitter: false };
}

impl Default for Growth {
    fn default() -> Self {
        Self::DOUBLING
    }
}

/// What holds for some ends. An end falls under it when it has one of its reasons and one of its exit codes; an empty set asks
/// for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryRule {
    /// Reasons.
    pub reasons: BTreeSet<Reason>,
    /// Exit codes.
    pub exit_codes: BTreeSet<i32>,
    /// Tries after such ends, within those of all; as many as all if `None`.
    pub times: Option<u32>,
    /// Wait before the next try; as without a rule if `None`.
    pub backoff: Option<Backoff>,
}

/// A wait that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backoff {
    /// The first, in milliseconds.
    pub first_ms: u64,
    /// How it grows from one try to the next.
    #[serde(flatten)]
    pub growth: Growth,
}

impl RetryRule {
    /// The reasons that can be the user's fault.
    pub const REASONS: [Reason; 8] = [
        Reason::Exit,
        Reason::Signal,
        Reason::Oom,
        Reason::Timeout,
        Reason::Command,
        Reason::Output,
        Reason::Image,
        Reason::Refused,
    ];

    /// Whether an end falls under it.
    pub fn covers(&self, end: &End) -> bool {
        let reason = self.reasons.is_empty() || self.reasons.contains(&end.reason);
        // The code that a signal or a limit left behind is not one that the command chose.
        let chosen = end.exit_code.filter(|_| matches!(end.reason, Reason::Exit | Reason::Command));
        reason && (self.exit_codes.is_empty() || chosen.is_some_and(|code| self.exit_codes.contains(&code)))
    }
}

/// A kind of end that a retry rule can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// A non-zero exit code or a signal.
    Failed,
    /// Killed for its memory use.
    Oom,
    /// Ran longer than allowed.
    Timeout,
}
