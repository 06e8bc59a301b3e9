//! The best placement there is, by a mixed-integer program, and a bound of it by a linear one.
//!
//! A variable is how many members of a kind of work a node has. Devices of a node are alike, so they are no variables of their own; those that are
//! shared out are counted by the pattern of shares on them, as in cutting stock.

use std::collections::BTreeMap;

use microlp::{ComparisonOp, LinearExpr, OptimizationDirection, Problem as Program, SolveOptions, Variable};

use crate::problem::{Node, Problem, Work};

/// Nodes of the search tree after which it is given up; the same on any machine.
const SEARCH: u64 = 2_000;

/// What the solver says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimum {
    /// What the best placement that was found is worth.
    pub worth: f64,
    /// Whether it is proven that none is better.
    pub proven: bool,
}

/// The best placement; `None` if the solver finds none at all within its bound, or fails.
pub fn optimum(problem: &Problem) -> Option<Optimum> {
    let mut model = Model::new(problem);
    for node in &problem.nodes {
        model.add_node(node);
    }
    model.demand();
    let mut options = SolveOptions::default();
    options.node_limit = Some(SEARCH);
    let outcome = model.program.solve_with(options).ok()?;
    let proven = outcome.is_optimal();
    outcome.solution().map(|solution| Optimum { worth: solution.objective(), proven })
}

/// What no placement is better than: tasks and devices may be split, and nodes that are alike lend each other room.
pub fn bound(problem: &Problem) -> f64 {
    let mut program = Program::new(OptimizationDirection::Maximize);
    let mut classes: BTreeMap<Node, u32> = BTreeMap::new();
    problem.nodes.iter().for_each(|node| *classes.entry(*node).or_default() += 1);
    let mut placed = vec![LinearExpr::empty(); problem.work.len()];
    for (node, count) in classes {
        let (mut cpus, mut milli) = (LinearExpr::empty(), LinearExpr::empty());
        for (work, placed) in problem.work.iter().zip(&mut placed).filter(|(work, _)| work.may_go_to(&node)) {
            let most = f64::from(most_on(work, &node) * count);
            let members = program.add_var(problem.worth(work) / f64::from(work.size), (0.0, most));
            placed.add(members, 1.0);
            cpus.add(members, f64::from(work.cpus));
            milli.add(members, f64::from(work.milli()) / 1_000.0);
        }
        program.add_constraint(cpus, ComparisonOp::Le, f64::from(node.cpus * count));
        program.add_constraint(milli, ComparisonOp::Le, f64::from(node.gpus * count));
    }
    for (work, placed) in problem.work.iter().zip(placed) {
        program.add_constraint(placed, ComparisonOp::Le, f64::from(work.tasks * work.size));
    }
    let solved = program.solve().expect("it has a bounded optimum, and nothing is a placement");
    solved.solution().expect("no limit was set").objective()
}

/// Members that an empty node holds.
fn most_on(work: &Work, node: &Node) -> u32 {
    let by_cpus = node.cpus.checked_div(work.cpus).unwrap_or(u32::MAX);
    let by_gpus = if work.is_part() {
        node.gpus * (1_000 / work.share_milli)
    } else {
        node.gpus.checked_div(work.gpus).unwrap_or(u32::MAX)
    };
    by_cpus.min(by_gpus)
}

struct Model<'a> {
    problem: &'a Problem,
    program: Program,
    /// By kind of work, the sum of its members on all nodes.
    placed: Vec<LinearExpr>,
}

impl<'a> Model<'a> {
    fn new(problem: &'a Problem) -> Self {
        let program = Program::new(OptimizationDirection::Maximize);
        Self { problem, program, placed: vec![LinearExpr::empty(); problem.work.len()] }
    }

    fn add_node(&mut self, node: &Node) {
        let (mut cpus, mut devices) = (LinearExpr::empty(), LinearExpr::empty());
        let mut parts: Vec<(Work, Variable)> = Vec::new();
        for (work, placed) in self.problem.work.iter().zip(&mut self.placed).filter(|(work, _)| work.may_go_to(node)) {
            let most = most_on(work, node).min(work.tasks * work.size);
            // A gang is worth something as a whole only.
            let worth = if work.size == 1 { self.problem.worth(work) } else { 0.0 };
            let members = self.program.add_integer_var(worth, (0, most as i32));
            placed.add(members, 1.0);
            cpus.add(members, f64::from(work.cpus));
            if work.is_part() {
                parts.push((*work, members));
            } else if work.gpus > 0 {
                devices.add(members, f64::from(work.gpus));
            }
        }
        self.share_out(&parts, node, &mut devices);
        self.program.add_constraint(cpus, ComparisonOp::Le, f64::from(node.cpus));
        self.program.add_constraint(devices, ComparisonOp::Le, f64::from(node.gpus));
    }

    /// Devices that are shared out: so many by each pattern.
    fn share_out(&mut self, parts: &[(Work, Variable)], node: &Node, devices: &mut LinearExpr) {
        if parts.is_empty() {
            return;
        }
        let shares: Vec<_> = parts.iter().map(|(work, _)| work.share_milli).collect();
        let patterns = patterns(&shares, 1_000);
        let counts: Vec<_> =
            patterns.iter().map(|_| self.program.add_integer_var(0.0, (0, node.gpus as i32))).collect();
        counts.iter().for_each(|count| devices.add(*count, 1.0));
        for (at, (_, members)) in parts.iter().enumerate() {
            let mut room = LinearExpr::empty();
            room.add(*members, 1.0);
            for (pattern, count) in patterns.iter().zip(&counts) {
                room.add(*count, -f64::from(pattern[at]));
            }
            self.program.add_constraint(room, ComparisonOp::Le, 0.0);
        }
    }

    fn demand(&mut self) {
        for (work, mut placed) in self.problem.work.iter().zip(std::mem::take(&mut self.placed)) {
            if work.size == 1 {
                self.program.add_constraint(placed, ComparisonOp::Le, f64::from(work.tasks));
                continue;
            }
            let gangs = self.program.add_integer_var(self.problem.worth(work), (0, work.tasks as i32));
            placed.add(gangs, -f64::from(work.size));
            self.program.add_constraint(placed, ComparisonOp::Eq, 0.0);
        }
    }
}

/// All ways of giving a device out in these shares, to which none could be added.
fn patterns(shares: &[u32], free: u32) -> Vec<Vec<u32>> {
    let Some((first, rest)) = shares.split_first() else { return vec![vec![]] };
    let with = |count: u32| {
        let rest = patterns(rest, free - count * first);
        rest.into_iter().map(move |rest| [vec![count], rest].concat())
    };
    let all = (0..=free / first).flat_map(with);
    let used = |pattern: &[u32]| -> u32 { pattern.iter().zip(shares).map(|(count, share)| count * share).sum() };
    all.filter(|pattern| shares.iter().all(|share| used(pattern) + share > free)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_all_that_are_full() {
        assert_eq!(patterns(&[500, 250], 1_000), [[0, 4], [1, 2], [2, 0]]);
        assert_eq!(patterns(&[300], 1_000), [[3]]);
    }
}
