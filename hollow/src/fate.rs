//! How a pretended attempt ends: drawn from a seed, the same for everybody who asks.

use flowyard_model::{AttemptNumber, TaskKey};
use serde::{Deserialize, Serialize};

const MILLION: u64 = 1_000_000;

/// What an attempt comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its command exits with 0.
    Succeeds,
    /// Its command exits with 1: the user's fault.
    Fails,
    /// Its node cannot run it: the platform's fault.
    Breaks,
}

/// The fates of all attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// Of the draw.
    pub seed: u64,
    /// Attempts of a million that fail.
    pub failures_ppm: u32,
    /// Attempts of a million that their node breaks.
    pub faults_ppm: u32,
}

impl Fates {
    /// The fate of one attempt.
    pub fn of(&self, task: TaskKey, attempt: AttemptNumber) -> Fate {
        let place = u64::from(task.step.0) << 32 | u64::from(task.task.0);
        let mixed =
            [task.job.0, place, u64::from(attempt.0)].into_iter().fold(self.seed, |mixed, part| mix(mixed ^ mix(part)));
        // The upper bits as a fraction of a million.
        let drawn = ((u128::from(mixed) * u128::from(MILLION)) >> 64) as u64;
        match drawn {
            drawn if drawn < u64::from(self.failures_ppm) => Fate::Fails,
            drawn if drawn < u64::from(self.failures_ppm) + u64::from(self.faults_ppm) => Fate::Breaks,
            _ => Fate::Succeeds,
        }
    }
}

/// The mixer of splitmix64.
fn mix(text: u64) -> u64 {
    let mut x = text.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use flowyard_model::{JobId, StepIndex, TaskIndex};

    use super::*;

    fn count(fates: Fates, wanted: Fate) -> usize {
        let drawn = (0..100_000).map(|at| {
            let task = TaskKey { job: JobId(1 + at / 1_000), step: StepIndex(0), task: TaskIndex((at % 1_000) as u32) };
            fates.of(task, AttemptNumber(1))
        });
        drawn.filter(|fate| *fate == wanted).count()
    }

    #[test]
    fn as_many_fail_as_were_asked_for_and_the_same_ones_each_time() {
        let fates = Fates { seed: 7, failures_ppm: 50_000, faults_ppm: 10_000 };
        assert!((4_700..5_300).contains(&count(fates, Fate::Fails)), "{}", count(fates, Fate::Fails));
        assert!((850..1_150).contains(&count(fates, Fate::Breaks)), "{}", count(fates, Fate::Breaks));
        assert_eq!(count(fates, Fate::Fails), count(fates, Fate::Fails));
        let none = Fates { seed: 7, failures_ppm: 0, faults_ppm: 0 };
        assert_eq!(count(none, Fate::Succeeds), 100_000);
        let all = Fates { seed: 7, failures_ppm: 1_000_000, faults_ppm: 0 };
        assert_eq!(count(all, Fate::Fails), 100_000);
    }

    #[test]
    fn the_next_attempt_has_a_fate_of_its_own() {
        let fates = Fates { seed: 7, failures_ppm: 500_000, faults_ppm: 0 };
        let task = TaskKey { job: JobId(1), step: StepIndex(0), task: TaskIndex(0) };
        let drawn: Vec<_> = (1..64).map(|number| fates.of(task, AttemptNumber(number))).collect();
        assert!(drawn.contains(&Fate::Fails) && drawn.contains(&Fate::Succeeds), "{drawn:?}");
    }
}
