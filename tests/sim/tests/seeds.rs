//! A fixed set of seeds, the same in every run of the tests; every seed that ever failed; and a product made wrong on purpose.

use flowyard_sim::{Circumstances, Mutation, run, run_all, run_in, run_right, run_wrong};

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
    run_all((1, 16), 2, None, |_, result| {
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

/// Mutations and the seeds that notice them, as they are written down.
fn mutations() -> Vec<(Mutation, u64)> {
    let lines = MUTATIONS.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &str| {
        let (name, seed) = line.split_once(' ').expect("a name and a seed");
        let mutation = Mutation::named(name);
        let mutation = mutation.unwrap_or_else(|| panic!("there is no mutation {name}"));
        (mutation, seed.parse().expect("a seed is a number"))
    };
    lines.map(read).collect()
}

/// Runs something for each of the mutations, two at a time, and puts together what it complains of.
fn complaints(about: impl Fn(Mutation, u64) -> Option<String> + Sync) -> String {
    let (all, about) = (mutations(), &about);
    let lane = &|at: usize| {
        let own = all.iter().skip(at).step_by(2);
        own.filter_map(|(mutation, seed)| about(*mutation, *seed)).collect::<Vec<_>>()
    };
    let lanes = std::thread::scope(|scope| {
        let lanes = [0, 1].map(|at| scope.spawn(move || lane(at)));
        lanes.map(|lane| lane.join().expect("what panics is caught"))
    });
    lanes.concat().join("\n")
}

#[test]
fn what_is_made_wrong_is_noticed() {
    assert!(mutations().len() >= 18, "mutations have lost their seeds");
    let missed = complaints(|mutation, seed| {
        let wrong = std::panic::catch_unwind(|| run_wrong(seed, mutation));
        let noticed = wrong.map_or(true, |(result, _)| result.is_err());
        let again = format!("seed {seed} does not notice any more that {}; find one that does", mutation.what());
        (!noticed).then_some(again)
    });
    assert!(missed.is_empty(), "{missed}");
}

#[test]
fn what_is_right_withstands_the_circumstances_in_which_what_is_wrong_is_noticed() {
    let failed = complaints(|mutation, seed| {
        let right = mutation.is_rare().then(|| std::panic::catch_unwind(|| run_right(seed, mutation)))?;
        let failure = match right {
            Ok(ended) => ended.err()?.to_string(),
            Err(_) => "panicked; see above".to_owned(),
        };
        Some(format!("in the circumstances of {mutation:?}, seed {seed}: {failure}"))
    });
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn what_is_right_withstands_the_circumstances_of_the_changes_of_its_source() {
    let failed = |name| run_in(1, Circumstances::named(name).expect("it is a name")).err();
    let failed: Vec<_> = Circumstances::names().filter_map(|name| Some(format!("{name}: {}", failed(name)?))).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
