//! Ours beside the best there is: `cargo bench -p flowyard-optimum -- [--quick]`. What is compared is the same on any machine; times are not.
#![allow(clippy::print_stdout, reason = "it is a program that prints figures")]
#![allow(clippy::disallowed_methods, reason = "it measures how long things take")]
#![allow(missing_docs, reason = "it is no library")]

use std::time::{Duration, Instant};

use flowyard_optimum::*;
use flowyard_placement::Fit;

const FITS: [(&str, Fit); 3] =
    [("fragmentation", Fit::Fragmentation), ("best fit", Fit::Best), ("first fit", Fit::First)];

fn main() {
    let quick = std::env::args().any(|word| word == "--quick");
    for kind in [Kind::Single, Kind::Gangs] {
        small_problems(kind, if quick { 50 } else { 500 });
    }
    for (nodes, percent) in [(6, 100), (6, 90), (1_000, 100), (1_000, 90)] {
        fitting_problems(nodes, percent, if nodes > 100 { 3 } else { 300 });
    }
    one_gangs(if quick { 500 } else { 5_000 });
    for kind in [Kind::Single, Kind::Gangs] {
        large_problems(kind, if quick { 2 } else { 10 });
    }
    println!("\nThe solver, as problems grow (10 kinds of work, single tasks; it stops at 2,000 nodes of its search):");
    for nodes in if quick { vec![8, 16] } else { vec![8, 16, 32, 64] } {
        grown(nodes);
    }
}

fn small_problems(kind: Kind, seeds: u64) {
    let mut solver = Duration::ZERO;
    let mut solved = Vec::new();
    for problem in (0..seeds).map(|seed| small(seed, kind)) {
        let (best, took) = timed(|| optimum(&problem));
        solver += took;
        solved.extend(best.filter(|best| best.proven).map(|best| (problem, best.worth)));
    }
    println!("\n{kind:?}: 4 to 8 nodes, 2 to 6 kinds of work; {} of {seeds} problems solved to the end", solved.len());
    println!("  {:<16} {:<14} {:>6} {:>6} {:>10}", "nodes by", "work by", "mean", "worst", "us each");
    println!("  {:<31} {:>6} {:>6} {:>10}", "the solver", "1.000", "1.000", solver.as_micros() / u128::from(seeds));
    for (name, fit) in FITS {
        for order in Order::ALL {
            let (ratios, took) = timed(|| {
                let ratio = |(problem, best): &(Problem, f64)| problem.worth_of(&ours(problem, fit, order)) / best;
                solved.iter().map(ratio).collect::<Vec<_>>()
            });
            told(name, order, &ratios, took);
        }
    }
}

fn fitting_problems(nodes: u32, percent: u32, seeds: u64) {
    let problems: Vec<_> = (0..seeds).map(|seed| fitting(seed, nodes, 6, percent)).collect();
    println!(
        "\nSingle tasks that all fit on {nodes} nodes and fill {percent} % of them, 6 kinds, {seeds} problems: what is placed of all"
    );
    for (name, fit) in FITS {
        for order in Order::ALL {
            let (ratios, took) = timed(|| {
                let all = |problem: &Problem| problem.work.iter().map(|work| work.tasks).collect::<Vec<_>>();
                let ratio =
                    |problem: &Problem| problem.worth_of(&ours(problem, fit, order)) / problem.worth_of(&all(problem));
                problems.iter().map(ratio).collect::<Vec<_>>()
            });
            told(name, order, &ratios, took);
        }
    }
}

fn told(name: &str, order: Order, ratios: &[f64], took: Duration) {
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    let worst = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let each = took.as_micros() / ratios.len() as u128;
    println!("  {name:<16} {:<14} {mean:>6.3} {worst:>6.3} {each:>10}", format!("{order:?}"));
}

fn one_gangs(seeds: u64) {
    let gangs: Vec<_> = (0..seeds).map(one_gang).collect();
    let alike = gangs.iter().filter(|gang| gang.nodes_of_ours() == fewest_nodes(gang)).count();
    println!("\nOne gang on nodes partly in use: {alike} of {seeds} on as few nodes as there are, or rightly refused");
}

fn large_problems(kind: Kind, seeds: u64) {
    let problems: Vec<_> = (0..seeds).map(|seed| large(seed, 1_000, 20, kind)).collect();
    let (bounds, took) = timed(|| problems.iter().map(bound).collect::<Vec<_>>());
    println!("\n{kind:?}: 1,000 nodes, 20 kinds of work, {seeds} problems, against a bound that none reaches for sure");
    println!("  {:<16} {:<14} {:>6} {:>6} {:>10}", "nodes by", "work by", "mean", "worst", "us each");
    println!("  {:<31} {:>6} {:>6} {:>10}", "the linear bound", "1.000", "1.000", took.as_micros() / u128::from(seeds));
    for (name, fit) in FITS {
        for order in Order::ALL {
            let (ratios, took) = timed(|| {
                let ratio = |(problem, bound): (&Problem, &f64)| problem.worth_of(&ours(problem, fit, order)) / bound;
                problems.iter().zip(&bounds).map(ratio).collect::<Vec<_>>()
            });
            told(name, order, &ratios, took);
        }
    }
}

fn grown(nodes: u32) {
    let problem = large(1, nodes, 10, Kind::Single);
    let (best, took) = timed(|| optimum(&problem));
    let (placed, ours_took) = timed(|| ours(&problem, Fit::Fragmentation, Order::Shares));
    let (ours, bound) = (problem.worth_of(&placed), bound(&problem));
    let found = best.map_or("nothing".to_string(), |best| {
        format!("{:.4} of the bound{}", best.worth / bound, if best.proven { ", proven" } else { ", not proven" })
    });
    println!(
        "  {nodes:>4} nodes: solver {found} in {} ms; ours {:.4} in {} us",
        took.as_millis(),
        ours / bound,
        ours_took.as_micros()
    );
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = Instant::now();
    let result = work();
    (result, before.elapsed())
}
