//! What is said of a run, in whole numbers: milliseconds, and parts of a million.

use crate::fragmented::Fragmented;

/// A million, of which the parts are.
pub(crate) const WHOLE: u64 = 1_000_000;

/// Some durations, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many there are.
    pub count: u64,
    /// Their mean.
    pub mean_ms: u64,
    /// The one that half of them are not above.
    pub p50_ms: u64,
    /// The one that 99 of 100 are not above.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

impl Spread {
    pub(crate) fn of(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        let Some(max_ms) = all.last().copied() else { return Self::default() };
        let sum: u128 = all.iter().map(|one| u128::from(*one)).sum();
        // The nearest rank: a figure that there was.
        let at = |percent: usize| all[(all.len() * percent).div_ceil(100).max(1) - 1];
        let mean_ms = (sum / all.len() as u128) as u64;
        Self { count: all.len() as u64, mean_ms, p50_ms: at(50), p99_ms: at(99), max_ms }
    }
}

/// What was held of what there was, over the whole run, in parts of a million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Utilisation {
    /// CPU.
    pub cpu: u64,
    /// Memory.
    pub memory: u64,
    /// GPUs; `None` if there were none.
    pub gpu: Option<u64>,
}

/// What was measured of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measures {
    /// From when a task could start to when it was placed; each attempt counts.
    pub waits: Spread,
    /// The same of tasks that ask for several GPUs.
    pub waits_of_several: Spread,
    /// From when a job was submitted to its end.
    pub turnaround: Spread,
    /// Tasks that could start and had not been placed at the end.
    pub waiting: u64,
    /// Tasks that were placed and had not ended.
    pub running: u64,
    /// Jobs that were submitted.
    pub jobs: u64,
    /// Jobs that ended, however.
    pub finished: u64,
    /// Of these, jobs that succeeded.
    pub succeeded: u64,
    /// Attempts that were stopped to make room, or for a drain.
    pub preemptions: u64,
    /// What those had run since they were last seen to save their work, or since they were placed, in milliseconds.
    pub lost_ms: u64,
    /// From the first submission to the end of the last job that ended.
    pub makespan_ms: u64,
    /// What was held of what there was.
    pub utilisation: Utilisation,
    /// What was free of GPUs, and of no use; `None` if nobody asked for any.
    pub fragmented: Option<Fragmented>,
    /// Jain's index over people, of the part of their tasks' time in which they ran rather than waited: a million if it was the same for
    /// all of them, and a millionth of that over their number if one alone ran.
    pub jain: u64,
    /// People who had a task to start.
    pub people: u64,
}

/// Jain's index of some values, in parts of a million: the square of their sum by their number times the sum of their squares.
pub(crate) fn jain(values: impl IntoIterator<Item = u64>) -> u64 {
    let (mut count, mut sum, mut squares) = (0_u128, 0_u128, 0_u128);
    for value in values {
        count += 1;
        sum += u128::from(value);
        squares += u128::from(value) * u128::from(value);
    }
    if squares == 0 { WHOLE } else { (sum * sum * u128::from(WHOLE) / (count * squares)) as u64 }
}

/// A part of a whole, in parts of a million.
pub(crate) fn part(of: u128, whole: u128) -> u64 {
    (of * u128::from(WHOLE)).checked_div(whole).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_is_one_when_all_have_the_same_and_one_of_many_when_one_has_all() {
        assert_eq!(jain([5, 5, 5, 5]), WHOLE);
        assert_eq!(jain([8, 0, 0, 0]), WHOLE / 4);
        assert_eq!(jain([1, 2, 3]), 36 * WHOLE / (3 * 14));
        assert_eq!(jain([]), WHOLE);
    }

    #[test]
    fn a_spread_names_figures_that_there_were() {
        assert_eq!(Spread::of(vec![]), Spread::default());
        let spread = Spread::of((1..=200).rev().collect());
        assert_eq!(spread, Spread { count: 200, mean_ms: 100, p50_ms: 100, p99_ms: 198, max_ms: 200 });
    }
}
