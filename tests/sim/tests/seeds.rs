//! A fixed set of seeds, the same in every run of the tests; and every seed that ever failed.

use flowyard_sim::{run, run_all};

/// Seeds that failed once, with what they showed.
const REGRESSIONS: [u64; 2] = [
    // An acknowledgement that was lost without its session ended all reports of it: the pretended link had to say it again.
    11_018, 15_632,
];

#[test]
fn faults_lose_nothing_and_everything_ends_once_healed() {
    let fixed = run_all(1, 200).into_iter().map(|(_, result)| result);
    let failures = fixed.chain(REGRESSIONS.map(run)).filter_map(Result::err);
    let failures: Vec<_> = failures.map(|failure| failure.to_string()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_has_one_history() {
    for seed in 1..=10 {
        assert_eq!(run(seed), run(seed));
    }
}
