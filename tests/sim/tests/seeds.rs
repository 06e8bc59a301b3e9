//! A fixed set of seeds, the same in every run of the tests; every seed that ever failed; and a product made wrong on purpose.

use flowyard_sim::{Mutation, run, run_all, run_wrong};

/// Seeds that failed once: a number on each line, then what it showed.
const REGRESSIONS: &str = include_str!("../regressions.txt");
/// Ways of being wrong, each with a seed that notices it. `sim --mutations` finds more.
const MUTATIONS: &str = include_str!("../mutations.txt");

fn regressions() -> impl Iterator<Item = u64> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok())
}

#[test]
fn faults_lose_nothing_and_everything_ends_once_healed() {
    let mut failures = Vec::new();
    run_all(1, 16, 2, |_, result| {
        failures.extend(result.err().map(|failure| failure.to_string()));
        true
    });
    failures.extend(regressions().filter_map(|seed| run(seed, false).err()).map(|failure| failure.to_string()));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_has_one_history() {
    for seed in 1..=2 {
        assert_eq!(run(seed, true), run(seed, true));
    }
}

#[test]
fn what_is_made_wrong_is_noticed() {
    for line in MUTATIONS.lines().filter(|line| !line.starts_with('#')) {
        let (name, seed) = line.split_once(' ').expect("a name and a seed");
        let mutation = Mutation::ALL.into_iter().find(|mutation| format!("{mutation:?}") == name);
        let mutation = mutation.unwrap_or_else(|| panic!("there is no mutation {name}"));
        let seed = seed.parse().expect("a seed is a number");
        let wrong = std::panic::catch_unwind(|| run_wrong(seed, false, Some(mutation)));
        let noticed = wrong.map_or(true, |(result, _)| result.is_err());
        assert!(noticed, "seed {seed} does not notice any more that {}; find one that does", mutation.what());
    }
}
