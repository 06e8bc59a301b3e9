//! Problems that look random and are the same for each seed.

use crate::gang::OneGang;
use crate::problem::{Node, Problem, Work};

/// Numbers that look random and are the same each time.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

/// What kinds of work there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Single tasks.
    Single,
    /// Gangs among them.
    Gangs,
}

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % u64::from(end)) as u32
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u32) as usize]
    }
}

/// 4 to 8 nodes of 1 to 8 GPUs, and 2 to 6 kinds of work: somewhat less to twice as much as there is room for.
pub fn small(seed: u64, kind: Kind) -> Problem {
    let mut random = Random(seed);
    let count = 4 + random.below(5);
    let nodes = (0..count).map(|_| node(&mut random, &[1, 2, 4, 4, 6, 8, 8])).collect();
    let kinds = 2 + random.below(5);
    filled(nodes, kinds, kind, &mut random)
}

/// 1 to 3 nodes of 1 to 3 GPUs and 1 to 3 kinds of work.
pub fn tiny(seed: u64, kind: Kind) -> Problem {
    let mut random = Random(seed);
    let count = 1 + random.below(3);
    let nodes = (0..count).map(|_| node(&mut random, &[1, 2, 3])).collect();
    let kinds = 1 + random.below(3);
    filled(nodes, kinds, kind, &mut random)
}

/// So many nodes of ten kinds, and so many kinds of work.
pub fn large(seed: u64, nodes: u32, kinds: u32, kind: Kind) -> Problem {
    let mut random = Random(seed);
    let classes: Vec<_> = (0..10).map(|_| node(&mut random, &[4, 8, 8, 8])).collect();
    let nodes = (0..nodes).map(|_| random.one_of(&classes)).collect();
    filled(nodes, kinds, kind, &mut random)
}

/// Single tasks that all fit: as many as fill the nodes one way, and so many percent of them. So the best placement is all of them,
/// however large the fleet.
pub fn fitting(seed: u64, nodes: u32, kinds: u32, percent: u32) -> Problem {
    let mut random = Random(seed);
    let nodes: Vec<_> = (0..nodes).map(|_| node(&mut random, &[2, 4, 8, 8])).collect();
    let mut work: Vec<_> = (0..kinds).map(|_| work(Kind::Single, &mut random)).collect();
    for node in &nodes {
        let (mut cpus, mut free) = (node.cpus, vec![1_000; node.gpus as usize]);
        loop {
            let fits: Vec<_> = (0..work.len())
                .filter(|at| work[*at].may_go_to(node) && takes(&work[*at], cpus, &mut free.clone()))
                .collect();
            if fits.is_empty() {
                break;
            }
            let at = random.one_of(&fits);
            takes(&work[at], cpus, &mut free);
            cpus -= work[at].cpus;
            work[at].tasks += u32::from(random.below(100) < percent);
        }
    }
    Problem { nodes, work }
}

/// Takes the devices for one member; whether there were enough of all.
fn takes(work: &Work, cpus: u32, free: &mut [u32]) -> bool {
    let mut left = work.gpus;
    // Those that are shared out already come first.
    free.sort_unstable();
    for free in free.iter_mut().filter(|free| **free >= work.share_milli) {
        if left > 0 {
            *free -= work.share_milli;
            left -= 1;
        }
    }
    left == 0 && work.cpus <= cpus
}

/// A gang, and nodes of which some is in use.
pub fn one_gang(seed: u64) -> OneGang {
    let mut random = Random(seed);
    let count = 3 + random.below(6);
    let nodes: Vec<_> = (0..count).map(|_| (random.below(33), random.below(9))).collect();
    let gpus = random.one_of(&[0, 1, 1, 2, 2, 4]);
    OneGang { nodes, cpus: 1 + random.below(6), gpus, size: 2 + random.below(15) }
}

fn node(random: &mut Random, gpus: &[u32]) -> Node {
    let gpus = random.one_of(gpus);
    Node { gpus, cpus: gpus * random.one_of(&[4, 8, 8, 12]), model: random.one_of(&[0, 0, 1]) }
}

fn filled(nodes: Vec<Node>, kinds: u32, kind: Kind, random: &mut Random) -> Problem {
    let mut problem = Problem { nodes, work: Vec::new() };
    problem.work = (0..kinds).map(|_| work(kind, random)).collect();
    // Together they are worth as much as all there is, times 0.8 to 2.
    let load = f64::from(8 + random.below(13)) / 10.0 * 2.0;
    let weights: Vec<_> = (0..kinds).map(|_| 1 + random.below(4)).collect();
    let sum: u32 = weights.iter().sum();
    for (at, weight) in weights.into_iter().enumerate() {
        let worth = problem.worth(&problem.work[at]);
        let tasks = load * f64::from(weight) / f64::from(sum) / worth;
        problem.work[at].tasks = (tasks.round() as u32).max(1);
    }
    problem
}

fn work(kind: Kind, random: &mut Random) -> Work {
    let (gpus, share_milli) = random.one_of(&[
        (0, 1_000),
        (1, 100),
        (1, 250),
        (1, 300),
        (1, 500),
        (1, 1_000),
        (1, 1_000),
        (1, 1_000),
        (2, 1_000),
        (2, 1_000),
        (4, 1_000),
        (8, 1_000),
    ]);
    let cpus = if gpus == 0 {
        1 + random.below(8)
    } else {
        gpus * (1 + random.below(if share_milli < 1_000 { 3 } else { 9 }))
    };
    let model = random.one_of(&[None, None, None, Some(0), Some(1)]);
    let size = if kind == Kind::Gangs && random.below(2) == 0 { 2 + random.below(5) } else { 1 };
    Work { cpus, gpus, share_milli, model, size, tasks: 0 }
}
