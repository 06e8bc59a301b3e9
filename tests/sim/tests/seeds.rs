//! A fixed set of seeds, the same in every run of the tests; every seed that ever failed; and a product made wrong on purpose.

use flowyard_sim::{Mutation, run, run_all, run_wrong};

/// Seeds that failed once: a number on each line, then what it showed.
const REGRESSIONS: &str = include_str!("../regressions.txt");
/// Seeds within which a wrong product must be noticed.
const NOTICED_WITHIN: u64 = 40;

fn regressions() -> impl Iterator<Item = u64> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

#[test]
fn faults_lose_nothing_and_everything_ends_once_healed() {
    let mut failures = Vec::new();
    run_all(1, 40, 2, |_, result| {
        failures.extend(result.err().map(|failure| failure.to_string()));
        true
    });
    failures.extend(regressions().filter_map(|seed| run(seed, false).err()).map(|failure| failure.to_string()));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_has_one_history() {
    for seed in 1..=3 {
        assert_eq!(run(seed, true), run(seed, true));
    }
}

#[test]
fn whatever_is_made_wrong_is_noticed() {
    let unnoticed = |mutation: &Mutation| {
        !(1..=NOTICED_WITHIN).any(|seed| {
            let wrong = std::panic::catch_unwind(|| run_wrong(seed, false, Some(*mutation)));
            wrong.map_or(true, |(result, _)| result.is_err())
        })
    };
    let unnoticed: Vec<_> = Mutation::ALL.into_iter().filter(unnoticed).map(Mutation::what).collect();
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}
