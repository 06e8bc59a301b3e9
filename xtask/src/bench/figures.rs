//! Samples, their median, and the lines a bench prints.

use std::time::Duration;

/// How long each repetition of one thing took, and the wall time of them all.
pub(crate) struct Samples {
    sorted: Vec<Duration>,
    wall: Duration,
}

impl Samples {
    /// Takes the repetitions in any order. `wall` is shorter than their sum when they ran side by side.
    pub(crate) fn new(mut each: Vec<Duration>, wall: Duration) -> Self {
        assert!(!each.is_empty(), "a figure needs at least one sample");
        each.sort();
        Self { sorted: each, wall }
    }

    /// The lower median.
    pub(crate) fn p50(&self) -> Duration {
        self.sorted[(self.sorted.len() - 1) / 2]
    }

    /// The time that nine of ten stay under.
    pub(crate) fn p90(&self) -> Duration {
        self.sorted[(self.sorted.len() - 1) * 9 / 10]
    }

    /// Repetitions per second of wall time.
    pub(crate) fn per_second(&self) -> f64 {
        self.sorted.len() as f64 / self.wall.as_secs_f64()
    }

    /// Prints one line: p50, p90, rate and how many samples stand behind them.
    pub(crate) fn print(&self, name: &str) {
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let (p50, p90, rate) = (millis(self.p50()), millis(self.p90()), self.per_second());
        println!("{name:<34} p50 {p50:>8.2} ms  p90 {p90:>8.2} ms  {rate:>9.0} /s  n={}", self.sorted.len());
    }
}

/// Prints how `ours` stands to `floor`, and whether that reaches `goal`. More is better.
pub(crate) fn print_ratio(name: &str, ours: f64, floor: f64, goal: f64) -> bool {
    let ratio = ours / floor;
    let reached = ratio >= goal;
    let verdict = if reached { "reached" } else { "SHORT" };
    println!("{name:<34} {ours:.0} of {floor:.0} = {ratio:.2}  goal {goal:.2}  {verdict}");
    reached
}

/// Prints how `ours` stands to a bound that it should stay under.
pub(crate) fn print_bound(name: &str, ours: f64, bound: f64, unit: &str) -> bool {
    let reached = ours <= bound;
    let verdict = if reached { "reached" } else { "SHORT" };
    println!("{name:<34} {ours:.2} {unit}  goal at most {bound:.2} {unit}  {verdict}");
    reached
}

/// Runs `once` `count` times on each of `threads` threads and times every repetition.
pub(crate) fn sample(
    threads: usize,
    count: usize,
    once: impl Fn(usize, usize) -> Result<(), String> + Sync,
) -> Result<Samples, String> {
    let start = flowyard_clock::monotonic();
    let one_thread = |thread: usize| {
        let timed = |repetition: usize| {
            let start = flowyard_clock::monotonic();
            once(thread, repetition).map(|()| flowyard_clock::elapsed(start))
        };
        (0..count).map(timed).collect::<Result<Vec<_>, String>>()
    };
    let each = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one_thread(thread))).collect();
        running.into_iter().map(|thread| thread.join().expect("a sampled function does not panic")).collect::<Vec<_>>()
    });
    let wall = flowyard_clock::elapsed(start);
    let each = each.into_iter().collect::<Result<Vec<_>, String>>()?;
    Ok(Samples::new(each.concat(), wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_rate_are_those_of_the_samples() {
        let millis = Duration::from_millis;
        let samples = Samples::new(vec![millis(5), millis(1), millis(3)], millis(6));
        assert_eq!(samples.p50(), millis(3));
        assert!((samples.per_second() - 500.0).abs() < 1e-6);
    }

    #[test]
    fn every_repetition_of_every_thread_is_sampled() {
        let samples = sample(3, 4, |_, _| Ok(())).unwrap();
        assert_eq!(samples.sorted.len(), 12);
        assert!(sample(1, 1, |_, _| Err("no".to_owned())).is_err());
    }
}
