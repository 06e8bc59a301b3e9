//! Everything tried, node by node.

use std::collections::BTreeMap;

use crate::problem::{Node, Problem};

/// What the best placement is worth.
pub fn brute_force(problem: &Problem) -> f64 {
    let members: Vec<_> = problem.work.iter().map(|work| work.tasks * work.size).collect();
    let mut known = BTreeMap::new();
    best(problem, 0, &members, &mut known)
}

/// The best that comes of placing what is left on the nodes from this one on.
fn best(problem: &Problem, at: usize, left: &[u32], known: &mut BTreeMap<(usize, Vec<u32>), f64>) -> f64 {
    let Some(node) = problem.nodes.get(at) else {
        let placed = |(work, left): (&crate::Work, &u32)| (work.tasks * work.size - left) / work.size;
        return problem.worth_of(&problem.work.iter().zip(left).map(placed).collect::<Vec<_>>());
    };
    let key = (at, left.to_vec());
    if let Some(worth) = known.get(&key) {
        return *worth;
    }
    let mut worth = 0.0f64;
    for taken in ways(problem, node, left) {
        let rest: Vec<_> = left.iter().zip(&taken).map(|(left, taken)| left - taken).collect();
        worth = worth.max(best(problem, at + 1, &rest, known));
    }
    known.insert(key, worth);
    worth
}

/// All sets of members that a node holds.
fn ways(problem: &Problem, node: &Node, left: &[u32]) -> Vec<Vec<u32>> {
    let mut ways = vec![vec![]];
    for (work, left) in problem.work.iter().zip(left) {
        let most = if work.may_go_to(node) { *left } else { 0 };
        let more = |way: Vec<u32>| (0..=most).map(move |count| [way.clone(), vec![count]].concat());
        ways = ways.into_iter().flat_map(more).filter(|way| fits(problem, node, way)).collect();
    }
    ways
}

/// Whether a node holds so many of each of the first kinds of work.
fn fits(problem: &Problem, node: &Node, way: &[u32]) -> bool {
    let cpus: u32 = problem.work.iter().zip(way).map(|(work, count)| work.cpus * count).sum();
    let whole = problem.work.iter().zip(way).filter(|(work, _)| !work.is_part());
    let devices: u32 = whole.map(|(work, count)| work.gpus * count).sum();
    let parts = problem.work.iter().zip(way).filter(|(work, _)| work.is_part());
    let shares: Vec<_> =
        parts.flat_map(|(work, count)| std::iter::repeat_n(work.share_milli, *count as usize)).collect();
    cpus <= node.cpus && devices <= node.gpus && fill(&mut vec![1_000; (node.gpus - devices) as usize], &shares)
}

fn fill(free: &mut Vec<u32>, shares: &[u32]) -> bool {
    let Some((share, rest)) = shares.split_first() else { return true };
    (0..free.len()).any(|at| {
        // Of devices with equally much free one is enough to try.
        if free[at] < *share || free[..at].contains(&free[at]) {
            return false;
        }
        free[at] -= share;
        let fits = fill(free, rest);
        free[at] += share;
        fits
    })
}
