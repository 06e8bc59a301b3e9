//! Samples, and the lines that are printed of them.

use std::time::Duration;

/// How long things took, shortest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut each: Vec<Duration>) -> Self {
        each.sort();
        Self(each)
    }

    /// All samples of several.
    pub(crate) fn of_all(several: Vec<Self>) -> Self {
        Self::new(several.into_iter().flat_map(|times| times.0).collect())
    }

    /// The time that this share, of 1,000, stays at or under; zero of no samples.
    pub(crate) fn at(&self, permille: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * permille / 1_000).copied().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// p50, p99 and the longest, in milliseconds.
    pub(crate) fn line(&self) -> String {
        let [half, most, all] = [500, 990, 1_000].map(|share| millis(self.at(share)));
        format!("p50 {half:>8.2} ms  p99 {most:>8.2} ms  max {all:>8.2} ms  n={}", self.count())
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// The middle one of several figures; the lower where there are two.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Prints ours beside theirs; more is better.
pub(crate) fn print_ratio(name: &str, ours: f64, theirs: f64, goal: f64) {
    let ratio = ours / theirs;
    let verdict = if ratio >= goal { "reached" } else { "SHORT" };
    println!("{name:<44} {ours:>9.0} beside etcd's {theirs:>8.0} = {ratio:>5.2}  goal {goal:.2}  {verdict}");
}

/// Prints a figure that should stay under a bound.
pub(crate) fn print_bound(name: &str, ours: f64, bound: f64, unit: &str) {
    let verdict = if ours <= bound { "reached" } else { "SHORT" };
    println!("{name:<44} {ours:>9.2} {unit}  goal at most {bound:.2} {unit}  {verdict}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_sorted_samples() {
        let times = Times::new((1..=101).rev().map(Duration::from_millis).collect());
        assert_eq!([0, 500, 990, 1_000].map(|share| times.at(share).as_millis()), [1, 51, 100, 101]);
        assert_eq!(Times::default().at(500), Duration::ZERO);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
    }
}
