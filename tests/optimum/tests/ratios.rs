//! How close placement comes to the best there is. The bounds leave room below what was measured (docs/decisions/0018-no-solver-library.md).

use flowyard_optimum::*;
use flowyard_placement::Fit;

const NEARLY: f64 = 1e-6;

#[test]
fn the_solver_finds_what_trying_everything_finds() {
    for (seed, kind) in (0..60).flat_map(|seed| [(seed, Kind::Single), (seed, Kind::Gangs)]) {
        let problem = tiny(seed, kind);
        let told = optimum(&problem).expect("it is solved");
        let best = brute_force(&problem);
        assert!(told.proven && (told.worth - best).abs() < NEARLY, "{seed} {kind:?}: {told:?}, {best} of {problem:?}");
    }
}

#[test]
fn tasks_of_one_member_come_to_most_of_what_is_possible() {
    let ratios = ratios(40, Kind::Single);
    assert_at_least(&ratios, 0.60, 0.87);
}

#[test]
fn gangs_come_to_most_of_what_is_possible() {
    let ratios = ratios(40, Kind::Gangs);
    assert_at_least(&ratios, 0.60, 0.87);
}

#[test]
fn a_large_fleet_comes_close_to_what_none_can_be_better_than() {
    let ratios: Vec<_> = (0..4)
        .map(|seed| {
            let problem = large(seed, 1_000, 20, Kind::Single);
            problem.worth_of(&ours(&problem, Fit::Fragmentation, Order::Shares)) / bound(&problem)
        })
        .collect();
    assert_at_least(&ratios, 0.82, 0.90);
}

#[test]
fn work_that_fits_as_a_whole_is_placed_nearly_as_a_whole() {
    for (nodes, percent, worst, mean) in
        [(6, 100, 0.70, 0.80), (6, 90, 0.70, 0.85), (300, 100, 0.78, 0.82), (300, 90, 0.80, 0.85)]
    {
        let ratio = |seed: u64| {
            let problem = fitting(seed, nodes, 6, percent);
            let all: Vec<_> = problem.work.iter().map(|work| work.tasks).collect();
            problem.worth_of(&ours(&problem, Fit::Fragmentation, Order::Shares)) / problem.worth_of(&all)
        };
        assert_at_least(&(0..if nodes > 100 { 2 } else { 40 }).map(ratio).collect::<Vec<_>>(), worst, mean);
    }
}

#[test]
fn what_is_said_to_fit_does() {
    for seed in 0..30 {
        let problem = fitting(seed, 3, 4, 100);
        let all: Vec<_> = problem.work.iter().map(|work| work.tasks).collect();
        let best = optimum(&problem).expect("it is solved");
        assert!((best.worth - problem.worth_of(&all)).abs() < NEARLY, "{seed}: {best:?}");
    }
}

#[test]
fn a_gang_is_seated_on_the_fewest_nodes_there_are() {
    let mut seated = 0;
    for seed in 0..2_000 {
        let gang = one_gang(seed);
        assert_eq!(gang.nodes_of_ours(), fewest_nodes(&gang), "{gang:?}");
        seated += u32::from(fewest_nodes(&gang).is_some());
    }
    assert!((500..1_900).contains(&seated), "{seated} of 2,000 fit: both cases are looked at");
}

/// What ours, as the product does it, is worth of the best, for problems of which that is known.
fn ratios(seeds: u64, kind: Kind) -> Vec<f64> {
    let ratio = |seed: u64| {
        let problem = small(seed, kind);
        let best = optimum(&problem).filter(|best| best.proven)?;
        let ours = problem.worth_of(&ours(&problem, Fit::Fragmentation, Order::Shares));
        assert!(ours <= best.worth + NEARLY, "nothing is better than the best: {ours} {best:?} {problem:?}");
        assert!(best.worth <= bound(&problem) + NEARLY, "nor the best than the bound: {best:?} {problem:?}");
        Some(ours / best.worth)
    };
    let ratios: Vec<_> = (0..seeds).filter_map(ratio).collect();
    assert!(ratios.len() as u64 > seeds * 7 / 10, "{} of {seeds} are solved", ratios.len());
    ratios
}

fn assert_at_least(ratios: &[f64], worst: f64, mean: f64) {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let all = ratios.iter().sum::<f64>() / ratios.len() as f64;
    assert!(least >= worst && all >= mean, "worst {least:.3}, mean {all:.3}");
}
