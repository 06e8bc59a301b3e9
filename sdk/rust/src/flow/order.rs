//! An order of the steps in which each comes after all it needs: the order of the file wherever that allows a choice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::links::Links;
use super::problem::Problems;
use super::spec::Flow;

/// Names of a cycle that are written out.
const MOST_NAMED: usize = 12;

/// The order, as positions in the flow. Cycles are reported, each by its steps.
pub(crate) fn order(flow: &Flow, links: &[Links], problems: &mut Problems<'_>) -> Vec<usize> {
    let mut placed = vec![false; links.len()];
    let mut order = place_all(links, &mut placed);
    while let Some(start) = placed.iter().position(|placed| !placed) {
        let cycle = cycle_from(start, links, &placed);
        report(flow, &cycle, problems);
        for at in cycle {
            placed[at] = true;
        }
        order.extend(place_all(links, &mut placed));
    }
    order
}

/// Places every step whose needs are placed, the earliest in the file first.
fn place_all(links: &[Links], placed: &mut [bool]) -> Vec<usize> {
    let mut waiting_for = vec![0_usize; links.len()];
    let mut followers = vec![Vec::new(); links.len()];
    for (at, step) in links.iter().enumerate().filter(|(at, _)| !placed[*at]) {
        for need in step.needs.keys().filter(|need| !placed[**need]) {
            waiting_for[at] += 1;
            followers[*need].push(at);
        }
    }
    let ready = |at: &usize| !placed[*at] && waiting_for[*at] == 0;
    let mut heap: BinaryHeap<_> = (0..links.len()).filter(ready).map(Reverse).collect();
    let mut order = Vec::new();
    while let Some(Reverse(at)) = heap.pop() {
        placed[at] = true;
        order.push(at);
        for follower in &followers[at] {
            waiting_for[*follower] -= 1;
            if waiting_for[*follower] == 0 {
                heap.push(Reverse(*follower));
            }
        }
    }
    order
}

/// Steps that wait for each other in a circle, starting from one that is stuck.
fn cycle_from(start: usize, links: &[Links], placed: &[bool]) -> Vec<usize> {
    let mut path = vec![start];
    loop {
        let last = path[path.len() - 1];
        let next = links[last].needs.keys().copied().find(|need| !placed[*need]);
        let next = next.expect("a step that cannot be placed waits for one that is not placed");
        if let Some(at) = path.iter().position(|known| *known == next) {
            return path.split_off(at);
        }
        path.push(next);
    }
}

fn report(flow: &Flow, cycle: &[usize], problems: &mut Problems<'_>) {
    let name = |at: &usize| flow.steps[*at].0.as_str();
    let first = cycle.iter().enumerate().min_by_key(|(_, at)| **at).map_or(0, |(index, _)| index);
    let turned: Vec<_> = cycle[first..].iter().chain(&cycle[..first]).collect();
    let mut names: Vec<_> = turned.iter().take(MOST_NAMED).map(|at| name(at).to_owned()).collect();
    if turned.len() > MOST_NAMED {
        names.push(format!("({} more)", turned.len() - MOST_NAMED));
    }
    names.push(name(turned[0]).to_owned());
    let message = match turned.len() {
        1 => format!("step `{}` needs itself", names[0]),
        _ => format!("the steps need each other in a circle: {}", names.join(" -> ")),
    };
    let path = format!("steps.{}", name(turned[0]));
    problems.at_path(&path, message).help("take one of these needs out: an input, `foreach`, `each` or `needs`");
}
