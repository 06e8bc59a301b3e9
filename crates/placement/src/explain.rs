//! Why a shape does not fit: each node's lacks, counted.

use std::collections::BTreeMap;

use crate::fit::choose_devices;
use crate::problem::{Node, Problem, Shape};
use crate::solve::{Budget, solve};

/// Something that a node lacks for one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// It may not go there: conditions on labels, or what the agent can do.
    Eligible,
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
    /// Scratch space.
    Disk,
    /// A token, by its position.
    Token(usize),
    /// The node has no such devices, however free.
    Devices,
    /// It has them, but not free, well and linked as asked for.
    FreeDevices,
    /// Nothing: one member fits, but not all members of a gang find room at the same time.
    Gang,
    /// Nothing: it fits, but the quota it counts against is used up.
    Quota,
}

/// Where a shape stands on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Nodes in all.
    pub nodes: usize,
    /// Nodes on which one member fits now.
    pub fitting: usize,
    /// For each lack: how many nodes have it, and the first of them. A node may have several.
    pub lacks: BTreeMap<Lack, (usize, usize)>,
    /// The node with the fewest lacks (but not of eligibility) and what they are; the first among equals.
    pub nearest: Option<(usize, Vec<Lack>)>,
}

/// Looks at every node for one task of a shape, as it is now.
pub fn explain(problem: &Problem, shape: usize) -> Explanation {
    let at = shape;
    let shape = &problem.shapes[at];
    let mut result = Explanation { nodes: problem.nodes.len(), fitting: 0, lacks: BTreeMap::new(), nearest: None };
    for (index, node) in problem.nodes.iter().enumerate() {
        let lacks = lacks(problem, shape, index, node);
        result.fitting += usize::from(lacks.is_empty());
        for lack in &lacks {
            result.lacks.entry(*lack).or_insert((0, index)).0 += 1;
        }
        let nearer = result.nearest.as_ref().is_none_or(|(_, best)| lacks.len() < best.len());
        if !lacks.contains(&Lack::Eligible) && nearer {
            result.nearest = Some((index, lacks));
        }
    }
    if result.fitting > 0 && shape.quota.is_some_and(|quota| problem.quotas[quota] == 0) {
        result.lacks.insert(Lack::Quota, (result.fitting, result.nearest.as_ref().map_or(0, |nearest| nearest.0)));
    } else if result.fitting > 0 && !fits_alone(problem, at) {
        result.lacks.insert(Lack::Gang, (result.fitting, result.nearest.as_ref().map_or(0, |nearest| nearest.0)));
    }
    result
}

/// Whether one task of the shape would fit if nothing ran and all devices were well.
pub fn could_ever_fit(problem: &Problem, shape: usize) -> bool {
    fits_alone(&problem.emptied(), shape)
}

/// Whether one task of the shape fits now if nothing more urgent takes its place.
fn fits_alone(problem: &Problem, at: usize) -> bool {
    let shape = Shape { count: 1, quota: None, ..problem.shapes[at].clone() };
    let alone = Problem { shapes: vec![shape], costs: BTreeMap::new(), ..problem.clone() };
    !solve(&alone, Budget { steps: u64::MAX }, 0).placed.is_empty()
}

fn lacks(problem: &Problem, shape: &Shape, index: usize, node: &Node) -> Vec<Lack> {
    if !problem.eligible[shape.eligible].contains(index) {
        return vec![Lack::Eligible];
    }
    let (needs, free) = (&shape.needs, &node.free);
    let plain = [
        (needs.cpu_milli > free.cpu_milli, Lack::Cpu),
        (needs.memory_bytes > free.memory_bytes, Lack::Memory),
        (needs.disk_bytes > free.disk_bytes, Lack::Disk),
    ];
    let mut lacks: Vec<_> = plain.into_iter().filter(|(missing, _)| *missing).map(|(_, lack)| lack).collect();
    let tokens = needs.tokens.iter().enumerate();
    lacks.extend(tokens.filter(|(at, count)| **count > free.token(*at)).map(|(at, _)| Lack::Token(at)));
    let found =
        |devices: &[crate::Device]| shape.wishes.iter().any(|wish| choose_devices(Some(wish), devices).is_some());
    if !shape.wishes.is_empty() && !found(&node.devices) {
        let mut well = node.devices.clone();
        well.iter_mut().for_each(|device| (device.healthy, device.free_milli) = (true, 1_000));
        lacks.push(if found(&well) { Lack::FreeDevices } else { Lack::Devices });
    }
    lacks
}
