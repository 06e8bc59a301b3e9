//! How long tasks of a step took, as far as it is remembered: a small histogram for each step of each flow of each person.

use serde::{Deserialize, Serialize};

use crate::{Name, TimeMs};

/// Buckets of a histogram. Each is half an octave wide: the first ends at a second, the last has all beyond six days.
const BUCKETS: usize = 40;
/// Runs that a histogram counts before what it knows is halved: so the last ones weigh more.
const RUNS: u32 = 128;
/// With fewer runs nothing is said.
const FEWEST: u32 = 5;

/// Whose durations are remembered together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DurationKey {
    /// Who submitted it.
    pub owner: String,
    /// The name of its job.
    pub flow: Name,
    /// The name of its step.
    pub step: Name,
}

/// How long successful attempts ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// Runs by bucket, up to the last that has any.
    pub counts: Vec<u16>,
    /// When it was learned from last, by the hour.
    pub last_at: TimeMs,
}

impl Default for Durations {
    /// Nothing was learned yet.
    fn default() -> Self {
        Self { counts: Vec::new(), last_at: TimeMs(0) }
    }
}

impl Durations {
    /// One more run of so many milliseconds.
    pub fn learn(&mut self, ms: u64) {
        if self.runs() >= RUNS {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        let bucket = (0..BUCKETS - 1).find(|bucket| ms <= longest_ms(*bucket)).unwrap_or(BUCKETS - 1);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        let last = self.counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.counts.truncate(last);
    }

    /// How many runs it knows.
    pub fn runs(&self) -> u32 {
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }

    /// So many of a hundred runs were no longer than this, in milliseconds; nothing where too few are known. It is the end of a bucket,
    /// so up to half as much again as it was.
    pub fn within(&self, percent: u32) -> Option<u64> {
        let runs = self.runs();
        let needed = (runs * percent.min(100)).div_ceil(100);
        let mut seen = 0;
        let reached = |count: &u16| {
            seen += u32::from(*count);
            seen >= needed
        };
        let bucket = self.counts.iter().position(reached).filter(|_| runs >= FEWEST)?;
        Some(longest_ms(bucket))
    }

    /// Whether it is one that [`Durations::learn`] makes.
    pub fn is_sound(&self) -> bool {
        let ends = self.counts.last().is_some_and(|last| *last > 0);
        ends && self.counts.len() <= BUCKETS && self.runs() <= RUNS
    }
}

/// The longest run in a bucket: a second, times the square root of two for each one before.
fn longest_ms(bucket: usize) -> u64 {
    let octave = 1_000_u64 << (bucket / 2);
    if bucket.is_multiple_of(2) { octave } else { octave * 1_414_214 / 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_runs_are_within_what_is_told_and_that_is_not_much_more() {
        let mut known = Durations::default();
        for run in 1..=4 {
            known.learn(run * 60_000);
            assert_eq!(known.within(90), None, "four runs say nothing");
        }
        (5..=10).for_each(|run| known.learn(run * 60_000));
        let (half, most) = (known.within(50).unwrap(), known.within(90).unwrap());
        assert!((300_000..=300_000 * 3 / 2).contains(&half), "{half}");
        assert!((540_000..=540_000 * 3 / 2).contains(&most), "{most}");
        assert_eq!(known.runs(), 10);
    }

    #[test]
    fn what_changed_is_learned_and_what_is_long_is_kept() {
        let mut known = Durations::default();
        (0..1_000).for_each(|_| known.learn(0));
        assert_eq!((known.within(100), known.runs() <= RUNS, known.is_sound()), (Some(1_000), true, true));
        (0..300).for_each(|_| known.learn(u64::MAX));
        assert!(known.within(50).unwrap() > 6 * 86_400_000 && known.is_sound(), "{known:?}");
    }

    #[test]
    fn buckets_are_half_octaves() {
        let ends: Vec<_> = (0..5).map(longest_ms).collect();
        assert_eq!(ends, [1_000, 1_414, 2_000, 2_828, 4_000]);
    }
}
