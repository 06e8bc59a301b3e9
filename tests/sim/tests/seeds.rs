//! A fixed set of seeds, the same in every run of the tests; and every seed that ever failed.

use flowyard_sim::run;

/// Seeds that showed a bug once.
const REGRESSIONS: [u64; 0] = [];

#[test]
fn faults_lose_nothing_and_everything_ends_once_healed() {
    for seed in (1..=200).chain(REGRESSIONS) {
        if let Err(failure) = run(seed) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_seed_has_one_history() {
    for seed in 1..=20 {
        assert_eq!(run(seed), run(seed));
    }
}
